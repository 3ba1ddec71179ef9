package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"time"
)

// faults compares what a viewer got with what its runs wrote. final says that everything is over.
func faults(s spec, st status, want map[string]map[string]*expected, final bool) (bad []string) {
	for _, t := range st.Trouble {
		bad = append(bad, s.ID+" ("+s.Alias+"): "+t)
	}
	got := map[string]runStatus{}
	for _, r := range st.Runs {
		if _, twice := got[r.From]; twice {
			bad = append(bad, fmt.Sprintf("%s: two runs of %s", s.ID, r.From))
		}
		got[r.From] = r
	}
	for _, from := range s.From {
		r, seen := got[from]
		switch {
		case s.V2:
			bad = append(bad, whole(s, from, r, want[from], final)...)
		case seen:
			bad = append(bad, sinceAttach(s, from, r, want[from])...)
		}
	}
	return bad
}

// whole is for viewers that resume: everything, byte for byte.
func whole(s spec, from string, r runStatus, want map[string]*expected, final bool) (bad []string) {
	if final && !r.Ended {
		bad = append(bad, fmt.Sprintf("%s (%s): saw no end of %s", s.ID, s.Alias, from))
	}
	for name, w := range want {
		if got := r.Streams[name]; r.Ended && got != w.raw {
			bad = append(bad, fmt.Sprintf("%s (%s): %s of %s: %d bytes %.12s, want %d bytes %.12s", s.ID, s.Alias, name, from, got.Bytes, got.SHA, w.raw.Bytes, w.raw.SHA))
		}
	}
	return bad
}

// sinceAttach is for viewers that ask for nothing new: what came since their last attach is the run's beginning, as text, and all of it if they saw the end.
func sinceAttach(s spec, from string, r runStatus, want map[string]*expected) (bad []string) {
	for name, w := range want {
		got := r.Streams[name]
		if got.Bytes > len(w.text) || r.Ended && got.Bytes != len(w.text) {
			bad = append(bad, fmt.Sprintf("%s (%s, older): %s of %s: %d bytes, want %d, ended %v", s.ID, s.Alias, name, from, got.Bytes, len(w.text), r.Ended))
			continue
		}
		if h := sha256.Sum256(w.text[:got.Bytes]); got.Bytes > 0 && hex.EncodeToString(h[:]) != got.SHA {
			bad = append(bad, fmt.Sprintf("%s (%s, older): %s of %s: the first %d bytes differ", s.ID, s.Alias, name, from, got.Bytes))
		}
	}
	return bad
}

// pollution is how long after a deed that stalls the whole log others are not judged by silences.
const pollution = 14 * time.Second

// silences prints, for each kind of deed and viewer, the longest pause of the pulse that began with the deed and before the next one.
func silences(w io.Writer, specs []spec, all map[string]status, did []done) {
	type row struct{ deed, viewer string }
	longest := map[row][]time.Duration{}
	for i, d := range did {
		if polluted(did, i) {
			continue
		}
		from := d.when.Add(-silent).UnixMilli()
		to := d.when.Add(3 * time.Second).UnixMilli()
		if i+1 < len(did) {
			to = min(to, did[i+1].when.Add(-silent).UnixMilli()) // a silence counts from the last that was heard before the deed
		}
		for _, s := range specs {
			if !s.V2 {
				continue
			}
			var worst int64
			for _, g := range all[s.ID].Gaps {
				if g[0] >= from && g[0] < to {
					worst = max(worst, g[1]-g[0])
				}
			}
			kind := "npm 1.4.8, 4.8"
			if s.Alias == "go" {
				kind = "our client"
			}
			r := row{d.Kind + " " + d.Target, kind}
			longest[r] = append(longest[r], time.Duration(worst)*time.Millisecond)
		}
	}
	rows := make([]row, 0, len(longest))
	for r := range longest {
		rows = append(rows, r)
	}
	sort.Slice(rows, func(i, j int) bool {
		return rows[i].deed < rows[j].deed || rows[i].deed == rows[j].deed && rows[i].viewer < rows[j].viewer
	})
	fmt.Fprintf(w, "\nlongest silence that a viewer saw while output was being written (0: less than %v)\n%-24s %-16s %6s %9s %9s %9s\n", silent, "", "", "n", "p50", "p95", "worst")
	for _, r := range rows {
		l := longest[r]
		sort.Slice(l, func(i, j int) bool { return l[i] < l[j] })
		at := func(q float64) string { return fmt.Sprintf("%.2fs", l[int(q*float64(len(l)-1))].Seconds()) }
		fmt.Fprintf(w, "%-24s %-16s %6d %9s %9s %9s\n", r.deed, r.viewer, len(l), at(0.5), at(0.95), at(1))
	}
}

// polluted tells whether an earlier deed still stalls the log.
func polluted(did []done, i int) bool {
	for _, e := range did[:i] {
		stalls := e.Target == "nats-leader" || e.Kind == "blackout" || e.Kind == "stop"
		if stalls && did[i].when.Sub(e.when) < pollution+e.For {
			return true
		}
	}
	return false
}
