package redact

import (
	"bytes"
	"strings"
)

// texts finds any of several texts at once (Wu and Manber's way, blocks of two bytes): a look at one block in which no text has a part lets it leap by
// nearly the length of the shortest text, so ordinary output is passed over at memory speed.
type texts struct {
	all      [][]byte
	shortest int
	longest  int
	leap     [1 << 16]uint8
	byBlock  map[uint16][]int // texts by the block that ends their first shortest bytes
}

func newTexts(secrets []string) *texts {
	t := &texts{byBlock: map[uint16][]int{}}
	seen := map[string]bool{}
	add := func(s string) {
		if len(s) >= MinText && !seen[s] {
			seen[s] = true
			t.all = append(t.all, []byte(s))
		}
	}
	for _, s := range secrets {
		add(s)
		if strings.ContainsAny(s, "\r\n") {
			for line := range strings.Lines(s) {
				if line = strings.TrimRight(line, "\r\n"); len(line) >= 2*MinText {
					add(line)
				}
			}
		}
	}
	if len(t.all) == 0 {
		return nil
	}
	t.shortest = len(t.all[0])
	for _, s := range t.all {
		t.shortest, t.longest = min(t.shortest, len(s)), max(t.longest, len(s))
	}
	t.shortest = min(t.shortest, 255)
	for i := range t.leap {
		t.leap[i] = uint8(t.shortest - 1)
	}
	for n, s := range t.all {
		for i := 1; i < t.shortest; i++ {
			b := block(s, i)
			t.leap[b] = min(t.leap[b], uint8(t.shortest-1-i))
		}
		b := block(s, t.shortest-1)
		t.byBlock[b] = append(t.byBlock[b], n)
	}
	return t
}

// block is the two bytes of s that end at i.
func block(s []byte, i int) uint16 { return uint16(s[i-1])<<8 | uint16(s[i]) }

// find appends where texts stand in b; spans may overlap.
func (t *texts) find(b []byte, spans []span) []span {
	for i := t.shortest - 1; i < len(b); {
		bl := block(b, i)
		if n := t.leap[bl]; n > 0 {
			i += int(n)
			continue
		}
		start := i - t.shortest + 1
		for _, n := range t.byBlock[bl] {
			if bytes.HasPrefix(b[start:], t.all[n]) {
				spans = append(spans, span{start, start + len(t.all[n])})
			}
		}
		i++
	}
	return spans
}

// partial is where at the end of b a text may have begun; len(b) where none has.
func (t *texts) partial(b []byte) int {
	if t == nil {
		return len(b)
	}
	for from := max(0, len(b)-t.longest+1); from < len(b); from++ {
		tail := b[from:]
		for _, s := range t.all {
			if s[0] == tail[0] && len(s) > len(tail) && bytes.HasPrefix(s, tail) {
				return from
			}
		}
	}
	return len(b)
}
