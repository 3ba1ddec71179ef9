package main

import (
	"fmt"
	"strings"
)

// truth is what is known of a command when all is over.
type truth struct {
	want map[string]*expected
	// until is when the command wrote last, or its tt was killed, in ms.
	until int64
	// cut: tt was killed. shown is how much of stdout it had shown; read it had at least that.
	cut   bool
	shown int
}

// judge compares what viewers got with what the commands wrote.
type judge struct {
	truths map[string]*truth
	// read is, of the commands whose tt was killed, how much of each stream the first viewer has: all must have the same.
	read map[string]map[string]int
}

func newJudge(truths map[string]*truth) *judge {
	return &judge{truths: truths, read: map[string]map[string]int{}}
}

// faults are what is wrong with what a viewer has, when all is over.
func (j *judge) faults(s spec, st status) (bad []string) {
	complain := func(format string, args ...any) {
		bad = append(bad, fmt.Sprintf("%s (%s, v2 %v): ", s.ID, s.Alias, s.V2)+fmt.Sprintf(format, args...))
	}
	for _, t := range st.Trouble {
		complain("%s", t)
	}
	got := map[string]runStatus{}
	for _, r := range st.Runs {
		if _, twice := got[r.From]; twice {
			complain("two runs of %s", r.From)
		}
		got[r.From] = r
	}
	for _, from := range s.From {
		r, seen := got[from]
		t := j.truths[from]
		if !seen && !s.V2 {
			if st.Attached > 0 && st.Attached < t.until {
				complain("nothing of %s, which wrote until %d ms after the last attach", from, t.until-st.Attached)
			}
			continue
		}
		j.end(r, from, complain)
		for name, w := range t.want {
			j.stream(s.V2, r.Streams[name], from, name, w, complain)
		}
	}
	return bad
}

// end judges how a run came to its end: once, and with the command's code, or 999 and a note if tt was killed.
func (j *judge) end(r runStatus, from string, complain func(string, ...any)) {
	code, notes := "0", 0
	if j.truths[from].cut {
		code, notes = "999", 1
	}
	if got := strings.Join(r.Ends, " "); got != code {
		complain("ends of %s: %q, want %q", from, got, code)
	}
	if r.Notes != notes {
		complain("%d notes of %s, want %d", r.Notes, from, notes)
	}
}

// stream judges one stream of a run, all of which must be there: byte for byte with the extension, else as text. Where tt was killed, it is what tt had read.
func (j *judge) stream(v2 bool, got sum, from, name string, w *expected, complain func(string, ...any)) {
	want := w.all
	if !v2 {
		want = w.text
	}
	t := j.truths[from]
	if t.cut {
		if got.Bytes > len(want) {
			complain("%s of %s: %d bytes, and all there ever was are %d", name, from, got.Bytes, len(want))
			return
		}
		want = want[:got.Bytes]
		if v2 && name == "STDOUT" && got.Bytes < t.shown {
			complain("%s of %s: %d bytes, and tt had shown %d", name, from, got.Bytes, t.shown)
		}
		j.same(v2, got.Bytes, from, name, complain)
	}
	if got.Bytes != len(want) {
		complain("%s of %s: %d bytes, want %d", name, from, got.Bytes, len(want))
		return
	}
	sha := w.raw.SHA
	if !v2 || t.cut {
		sha = sumOf(want).SHA
	}
	if len(want) > 0 && got.SHA != sha {
		complain("%s of %s: %d bytes as there should be, but other ones", name, from, got.Bytes)
	}
}

// same holds viewers against each other.
func (j *judge) same(v2 bool, n int, from, name string, complain func(string, ...any)) {
	key := fmt.Sprintf("%s %v", from, v2)
	if j.read[key] == nil {
		j.read[key] = map[string]int{}
	}
	if was, known := j.read[key][name]; known && was != n {
		complain("%s of %s: %d bytes, and another viewer has %d", name, from, n, was)
	}
	j.read[key][name] = n
}

// over tells whether a viewer has seen the end of all that it must.
func (j *judge) over(s spec, st status) bool {
	ended := map[string]bool{}
	for _, r := range st.Runs {
		ended[r.From] = len(r.Ends) > 0
	}
	for _, from := range s.From {
		e, seen := ended[from]
		if seen && !e || !seen && (s.V2 || st.Attached == 0 || st.Attached < j.truths[from].until) {
			return false
		}
	}
	return true
}
