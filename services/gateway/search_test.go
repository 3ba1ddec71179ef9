package gateway

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"time"

	"tasktracer/pkg/frame"
)

// hostile makes the whole of a line be looked at for each of its matches, by many threads at once.
const hostile = `a(?:(?:[ab]*[ab]){100}z)?`

// Nobody keeps a processor for longer than a search may take, and the time for one piece of a line.
func TestSearchIsBounded(t *testing.T) {
	line := bytes.Repeat([]byte("ab"), 2048)
	for expr, want := range map[string]int{hostile: matchesOf(line, steps(hostile)), "ab?": maxMatches} {
		find, _, err := finder(expr, true, true)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(find(line, maxMatches)); n != want || want > maxMatches {
			t.Errorf("%d matches of an expression of %d steps in a line of %d, want %d", n, steps(expr), len(line), want)
		}
	}

	r := newRig(t)
	w := r.run(key("c")).out("first\n")
	for range 16 {
		w.records(frame.Record{Kind: frame.Stdout, Data: bytes.Repeat([]byte("ab"), frame.MaxRecord/2)}) // 4 MB, one line: a tenth of a second at the very least, and minutes without the bound on matches
	}
	w.sync()
	for name, within := range map[string]time.Duration{"soon": 20 * time.Millisecond, "at once": time.Nanosecond} {
		g := r.gateway(func(c *Config) { c.SearchTime = within })
		w.known(g, "is there", known)
		a := g.get(r.browser("ns"), "/api/v1/runs/"+w.key.Run+"/search?regex=1&case=1&q="+url.QueryEscape(hostile))
		if a.status != 200 || !strings.Contains(a.body, `"more":true,"reason":"time","nextLine":`) {
			t.Errorf("a search that is to end %s = %d …%s", name, a.status, a.body[max(0, len(a.body)-300):])
		}
	}
}
