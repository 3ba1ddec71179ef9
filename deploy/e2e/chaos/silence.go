package main

import (
	"fmt"
	"io"
	"math"
	"sort"
	"time"
)

const (
	// silent is from when on a pause of the pulse is noted.
	silent = 200 * time.Millisecond
	// lookBack is how long before a strike that ended the output the last of it may have been heard, by a viewer that is late.
	lookBack = time.Second
	// writesOn is for how long the pulse must go on after a strike by which anybody is judged.
	writesOn = 5 * time.Second
)

// goals are for p95 of the longest silence, of our own client and the page.
var goals = map[string]time.Duration{
	"kill gateway": time.Second, "kill ingest": time.Second, "kill token": time.Second, "kill nats-follower": 2 * time.Second,
}

// outlasts is how long a deed goes on to hold up others than its own target when its own time is over: the leader's and NATS's the whole log, a stopped
// gateway's or ingest's whom it served. Until then others are not judged by silences.
func outlasts(d deed) (others time.Duration, all bool) {
	switch {
	case d.Target == "nats-leader":
		return 10 * time.Second, true
	case d.Kind == "blackout":
		return 20 * time.Second, true
	case d.Kind == "stop" && d.role() == "nats":
		return 5 * time.Second, true
	case d.Kind == "stop" && d.Target != "tt":
		return 5 * time.Second, false
	}
	return 0, false
}

// polluted tells whether an earlier deed still holds up more than its own target. What stalls the log itself is judged beside a stopped gateway.
func polluted(did []done, i int) bool {
	_, stalls := outlasts(did[i].deed)
	for _, e := range did[:i] {
		o, all := outlasts(e.deed)
		if o > 0 && (all || !stalls) && did[i].when.Sub(e.when) < e.For+o {
			return true
		}
	}
	return false
}

// spoken is how much of the silence [from, to] output was being written in: pauses of the writer itself are taken out. Times in ms, writes in order.
func spoken(from, to int64, writes []int64) time.Duration {
	n := to - from
	prev := from
	for i := sort.Search(len(writes), func(i int) bool { return writes[i] > from }); ; i++ {
		at := to
		if i < len(writes) {
			at = min(to, writes[i])
		}
		n -= max(0, at-prev-silent.Milliseconds())
		if at == to {
			return time.Duration(n) * time.Millisecond
		}
		prev = at
	}
}

// silences prints, for each kind of strike and of viewer, the longest pause of the pulse that began with the strike and before the next one.
func silences(w io.Writer, specs []spec, all map[string]status, did []done, writes []int64) {
	type row struct{ deed, viewer string }
	longest := map[row][]time.Duration{}
	var strikes []done
	for _, d := range did {
		if d.strike() {
			strikes = append(strikes, d)
		}
	}
	for i, d := range strikes {
		if polluted(strikes, i) || len(writes) == 0 || d.when.UnixMilli() > writes[len(writes)-1]-writesOn.Milliseconds() {
			continue
		}
		from := d.when.Add(-lookBack).UnixMilli() // a silence begins with the last that was heard before the deed
		if i > 0 {
			from = max(from, strikes[i-1].when.Add(silent).UnixMilli())
		}
		to := d.when.Add(3*time.Second + d.For).UnixMilli()
		if i+1 < len(strikes) {
			to = min(to, strikes[i+1].when.Add(-silent).UnixMilli())
		}
		for _, s := range specs {
			if !s.V2 {
				continue
			}
			var worst time.Duration
			for _, g := range all[s.ID].Gaps {
				if g[0] >= from && g[0] < to && g[1] > d.when.UnixMilli() {
					worst = max(worst, spoken(g[0], g[1], writes))
				}
			}
			if worst < silent {
				worst = 0
			}
			r := row{d.Kind + " " + d.Target, kindOf(s)}
			longest[r] = append(longest[r], worst)
		}
	}
	rows := make([]row, 0, len(longest))
	for r := range longest {
		rows = append(rows, r)
	}
	sort.Slice(rows, func(i, j int) bool {
		return rows[i].deed < rows[j].deed || rows[i].deed == rows[j].deed && rows[i].viewer < rows[j].viewer
	})
	fmt.Fprintf(w, "longest silence that a viewer saw while output was being written (0: less than %v; n: strikes × viewers)\n%-20s %-14s %5s %8s %8s %8s  %s\n", silent, "", "", "n", "p50", "p95", "worst", "goal, p95")
	for _, r := range rows {
		l := longest[r]
		sort.Slice(l, func(i, j int) bool { return l[i] < l[j] })
		at := func(q float64) time.Duration { return l[max(int(math.Ceil(q*float64(len(l))))-1, 0)] }
		goal := ""
		if g, ok := goals[r.deed]; ok && r.viewer != stock {
			goal = fmt.Sprintf("%.0fs", g.Seconds())
			if at(0.95) > g {
				goal += ", missed"
			}
		}
		fmt.Fprintf(w, "%-20s %-14s %5d %7.2fs %7.2fs %7.2fs  %s\n", r.deed, r.viewer, len(l), at(0.5).Seconds(), at(0.95).Seconds(), at(1).Seconds(), goal)
	}
}

const stock = "npm 1.4.8, 4.8"

func kindOf(s spec) string {
	switch s.Alias {
	case "go":
		return "our client"
	case "page":
		return "our page"
	}
	return stock
}
