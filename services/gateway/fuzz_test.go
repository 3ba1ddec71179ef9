package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"tasktracer/pkg/frame"
)

func FuzzParseHello(f *testing.F) {
	for _, s := range []string{
		``, `null`, `7`, `{}`, `{"token":"x","v":2,"type":"client","watch":{"task":"t","from":["a",null,7],"history":{"tail":3},"after":{"a":["AQEBcg",1]},"batch":true}}`,
		`{"watch":{"task":"t","from":[null]}}`, `{"watch":{"from":{}}}`, `{"watch":{"task":"t","from":["a"],"history":{"run":"r"},"after":[]}}`, `{"from":["a"]}`, `{"v":1e99}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) && len(data) > 0 {
			return // the transport refuses it
		}
		h, err := parseHello(data)
		if err != nil && !errors.Is(err, errBrowserData) {
			t.Fatalf("parseHello(%q) = %v", data, err)
		}
		if err == nil && (h.task == "" || h.from == nil) {
			t.Errorf("parseHello(%q) accepts a watch without task or list", data)
		}
		ids, w, ok := parseFrom(data)
		if !ok && (ids != nil || w.given) {
			t.Errorf("parseFrom(%q) ignores and takes", data)
		}
		for _, ids := range [][]string{h.ids, ids} {
			seen := map[string]bool{}
			for _, id := range ids {
				if seen[id] {
					t.Errorf("id %q twice", id)
				}
				seen[id] = true
			}
		}
		for _, raw := range h.from {
			if isNull(raw) {
				t.Errorf("a null stays in from: %q", data)
			}
		}
	})
}

// What callers of the read API write into addresses and headers.
func FuzzLogQuery(f *testing.F) {
	for _, s := range [][3]string{
		{"bytes=0-4", "1-2", "a.*b"}, {"bytes=-5", "-3", "(?:a{10}){10}"}, {"bytes=7-", "4-", "[^"}, {"bytes=0-1,3-4", "0-1", "\x00"}, {"lines=1-2", "2-1", ""}, {"bytes=-0", "-0", "(?i:é)"},
	} {
		f.Add(s[0], s[1], s[2], uint64(9), []byte("one\ntwo\n\nthree"))
	}
	f.Fuzz(func(t *testing.T, header, lines, expr string, size uint64, data []byte) {
		from, to, ok, err := parseRange(header, size)
		if ok && (err != nil || from >= to || to > size) {
			t.Errorf("parseRange(%q, %d) = %d, %d, %v", header, size, from, to, err)
		}
		if rg, err := parseLines(lines); err == nil {
			if rg.last == 0 && (rg.from == 0 || rg.to < rg.from) {
				t.Errorf("parseLines(%q) = %+v", lines, rg)
			}
			if rg.last == 0 {
				if begin, end := cutLines(data, 0, rg.from-1, rg.to); begin > end || end > len(data) || begin > 0 && data[begin-1] != '\n' && begin < len(data) {
					t.Errorf("cutLines(%q, %+v) = %d, %d", data, rg, begin, end)
				}
			}
		}
		if len(expr) > maxQuery || expr == "" {
			return // refused before
		}
		for _, isRegex := range []bool{false, true} {
			find, _, err := finder(expr, isRegex, false)
			if err != nil {
				continue
			}
			found := find(data, maxMatches)
			if len(found) == 0 {
				continue
			}
			text, matches := excerpt(data, found)
			if !utf8.ValidString(text) || len(matches) > maxMatches {
				t.Errorf("excerpt of %q: %q, %v", data, text, matches)
			}
		}
	})
}

func FuzzAppendText(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\\n\r\t\x00\x1f\x7f", "ü€😀", "\xff\xc3", "\xed\xa0\x80", "<&>\u2028"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := appendText(nil, b)
		var s string
		if err := json.Unmarshal(got, &s); err != nil {
			t.Fatalf("appendText(%q) = %s: %v", b, got, err)
		}
		want := strings.Builder{}
		for _, r := range string(b) { // an invalid byte counts as one U+FFFD
			want.WriteRune(r)
		}
		if s != want.String() {
			t.Errorf("appendText(%q) reads as %q, want %q", b, s, want.String())
		}
		if string(appendText(nil, string(b))) != string(got) {
			t.Errorf("text and bytes differ for %q", b)
		}
	})
}

// What is split over records is, joined, what it would be whole.
func FuzzCarry(f *testing.F) {
	f.Add([]byte("a€😀"), 2, 5)
	f.Add([]byte("\xe2\x82"), 1, 1)
	f.Add([]byte("\xf0\x9f\xf0\x9f\x98\x80\xff"), 1, 3)
	f.Fuzz(func(t *testing.T, b []byte, i, j int) {
		i = min(max(i, 0), len(b))
		j = min(max(j, i), len(b))
		var c carry
		var got string
		for _, part := range [][]byte{b[:i], b[i:j], b[j:]} {
			got += toText(c.take(frame.Stdout, part))
			if len(c.out) > utf8.UTFMax-1 {
				t.Fatalf("%d bytes are held back", len(c.out))
			}
		}
		got += toText([]byte(c.flush(frame.Stdout)))
		if want := toText(b); got != want {
			t.Errorf("%q split at %d and %d: %q, want %q", b, i, j, got, want)
		}
	})
}

func toText(b []byte) string {
	var s string
	_ = json.Unmarshal(appendText(nil, b), &s)
	return s
}

func FuzzStrip(f *testing.F) {
	for _, s := range []string{"a\x1b[31mred\x1b[0m\n", "\x1b]0;title\x07x", "\x1b]8;;http://x\x1b\\y", "\x1b(Bz", "\x1b[", "\x1bP\n1", "\r\x08\x7f\t"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		at = min(max(at, 0), len(b))
		var whole, parts stripper
		want := whole.strip(nil, b)
		got := parts.strip(parts.strip(nil, b[:at]), b[at:])
		if !bytes.Equal(got, want) {
			t.Errorf("%q in two parts: %q, want %q", b, got, want)
		}
		if bytes.Count(want, []byte{'\n'}) != bytes.Count(b, []byte{'\n'}) {
			t.Errorf("%q: line feeds were taken out: %q", b, want)
		}
		for _, c := range want {
			if c < ' ' && c != '\t' && c != '\n' || c == 0x7f {
				t.Errorf("%q: %q is left", b, c)
			}
		}
		if s := string(want); utf8.ValidString(s) && strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 && r < 0xa0 }) {
			t.Errorf("%q: a control character is left: %q", b, want)
		}
	})
}

// TestStrip reads what the page's own parser is held to as well.
func TestStrip(t *testing.T) {
	text, err := os.ReadFile("testdata/strip.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Name, In, Want string }
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if got := string(new(stripper).strip(nil, []byte(c.In))); got != c.Want {
				t.Errorf("strip(%q) = %q, want %q", c.In, got, c.Want)
			}
		})
	}
}

func TestStripOfWhatIsNoPlainText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"10%\r20%", "10%20%"},
		{"abc\b\bX", "abcX"},
		{"a\x1b]0;" + strings.Repeat("t", 40_000) + "\ab", "ab"},
		{"a\x1bP" + strings.Repeat("t", 40_000) + "\x1b\\b", "ab"},
		{"a\x1b]1337;File=:" + strings.Repeat("QUJD", 10_000) + "\nb", "a\nb"},
		{"\xc2", ""},
		{"\xc2\n", "\xc2\n"},
	} {
		if got := string(new(stripper).strip(nil, []byte(c.in))); got != c.want {
			t.Errorf("strip(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}
