package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// table collects figures: a row for each measure, a column for each peer.
type table struct {
	order []string
	rows  map[string]map[string][]float64
	last  string
}

// add notes a figure. A row that begins with two spaces belongs to the one noted before it.
func (t *table) add(row, peer string, v float64) {
	if strings.HasPrefix(row, " ") {
		row = t.last + "\n" + row
	} else {
		t.last = row
	}
	if t.rows[row] == nil {
		t.rows[row] = map[string][]float64{}
		t.order = append(t.order, row)
	}
	t.rows[row][peer] = append(t.rows[row][peer], v)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// print writes the medians as a Markdown table, those of the main rows with their ratio to pkg/socketio: how many times as much ours is.
func (t *table) print(w io.Writer, peers []peer) {
	fmt.Fprint(w, "| |")
	for _, p := range peers {
		fmt.Fprintf(w, " %s |", p.name)
	}
	fmt.Fprint(w, "\n|---|"+strings.Repeat("---:|", len(peers))+"\n")
	for _, row := range t.order {
		_, name, sub := strings.Cut(row, "\n")
		if !sub {
			name = row
		}
		fmt.Fprintf(w, "| %s |", strings.TrimSpace(name))
		ours := 0.0
		if v := t.rows[row][peers[0].name]; v != nil {
			ours = median(v)
		}
		for i, p := range peers {
			v := t.rows[row][p.name]
			switch {
			case v == nil:
				fmt.Fprint(w, " – |")
			case i == 0 || sub || median(v) == 0 || math.IsInf(median(v), 0) || ours == 0:
				fmt.Fprintf(w, " %s |", figure(median(v)))
			default:
				fmt.Fprintf(w, " %s (%.2f×) |", figure(median(v)), ours/median(v))
			}
		}
		fmt.Fprintln(w)
	}
}

func figure(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "stands still"
	case v >= 1000:
		return fmt.Sprintf("%.0f k", v/1000)
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
