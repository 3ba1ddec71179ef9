package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"tasktracer/deploy/e2e/clients"
)

func TestSchedule(t *testing.T) {
	for seed := range uint64(50) {
		deeds := schedule(seed, 62, 130*time.Second)
		if d := cmp.Diff(deeds, schedule(seed, 62, 130*time.Second)); d != "" {
			t.Fatalf("seed %d gives two schedules:\n%s", seed, d)
		}
		leaders, strikes, last := 0, 0, -time.Hour
		kinds := map[string]int{}
		away := map[string]time.Duration{}
		for i, d := range deeds {
			if i > 0 && d.At < deeds[i-1].At {
				t.Errorf("seed %d: deed %d comes before the one before it", seed, i)
			}
			if r := d.role(); r != "" {
				if away[r] > d.At {
					t.Errorf("seed %d: at %v two of %s would be away", seed, d.At, r)
				}
				away[r] = d.At + d.For
			}
			if d.strike() {
				strikes++
				kinds[d.Kind+" "+d.Target]++
			}
			if d.Kind == "stop" && (d.For < time.Second || d.For > 20*time.Second) {
				t.Errorf("seed %d: stopped for %v", seed, d.For)
			}
			if d.Target != "nats-leader" {
				continue
			}
			if leaders++; d.At-last < leaderApart || leaders > 10 {
				t.Errorf("seed %d: leader struck %v after the last time, %d times", seed, d.At-last, leaders)
			}
			last = d.At
		}
		if end := deeds[len(deeds)-1].At; strikes < 62 || end > 170*time.Second {
			t.Errorf("seed %d: %d strikes, the last deed at %v", seed, strikes, end)
		}
		for _, c := range append(calm, rough...) {
			if kinds[c.kind+" "+c.target] == 0 {
				t.Errorf("seed %d: no %s %s", seed, c.kind, c.target)
			}
		}
	}
	strikes := 0
	for _, d := range schedule(1, 600, 30*time.Minute) {
		if d.strike() {
			strikes++
		}
	}
	if strikes < 600 {
		t.Errorf("a long run has %d strikes, want 600 and more", strikes)
	}
}

// TestLeftOut: a deed that cannot be done holds up none of those after it.
func TestLeftOut(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m := &monkey{w: &world{clients: &proxy{}}, log: t.Logf, rng: rand.New(rand.NewPCG(1, 2))}
	did, err := m.run(ctx, []deed{{Kind: "kill", Target: "tt"}, {At: time.Millisecond, Kind: "cut", Target: "clients"}})
	if err != nil || len(did) != 1 || did[0].Kind != "cut" {
		t.Errorf("did %v (%v), want the cut alone", did, err)
	}
}

func TestSpoken(t *testing.T) {
	steady := make([]int64, 0, 100)
	for at := int64(0); at < 5000; at += 50 {
		steady = append(steady, at)
	}
	for name, tc := range map[string]struct {
		from, to int64
		writes   []int64
		want     time.Duration
	}{
		"written all the time":           {1000, 3000, steady, 2 * time.Second},
		"nothing written at all":         {1000, 3000, nil, silent},
		"the writer paused in between":   {1000, 3000, []int64{900, 1000, 1050, 2550, 2600, 2800, 2950}, 700 * time.Millisecond},
		"the writer had ended meanwhile": {4900, 6000, steady, 50*time.Millisecond + silent},
	} {
		if got := spoken(tc.from, tc.to, tc.writes); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// heard is one event of a viewer.
type heard struct {
	Name string
	Arg  map[string]any
}

// story is a run of "h" as a viewer hears it whose connection never failed.
func story(p profile, seed uint64, v2 bool, code int) []heard {
	var events []heard
	seq := 1
	for _, b := range recordsOf(p, seed) {
		seq++
		rec := map[string]any{"seq": seq, "type": b.stream}
		switch {
		case !v2:
			rec = map[string]any{"type": b.stream, "data": strings.ToValidUTF8(string(b.data), "\uFFFD")}
		case utf8.Valid(b.data):
			rec["data"] = string(b.data)
		default:
			rec["b64"] = base64.StdEncoding.EncodeToString(b.data)
		}
		if v2 {
			events = append(events, heard{"data", map[string]any{"from": "h", "run": "r", "cursor": fmt.Sprint(seq), "data": []any{rec}}})
		} else {
			events = append(events, heard{"data", map[string]any{"from": "h", "data": rec}})
		}
	}
	return append(events, eof(v2, code))
}

func eof(v2 bool, code int) heard {
	arg := map[string]any{"from": "h", "code": code}
	if v2 {
		arg["run"], arg["cursor"] = "r", "end"
	}
	return heard{"eof", arg}
}

type record struct {
	stream string
	data   []byte
}

type recorder struct {
	to     *[]record
	stream string
}

func (r recorder) Write(b []byte) (int, error) {
	*r.to = append(*r.to, record{r.stream, append([]byte(nil), b...)})
	return len(b), nil
}

func recordsOf(p profile, seed uint64) (all []record) {
	_ = write(p, seed, recorder{&all, "STDOUT"}, recorder{&all, "STDERR"}, false, nil) // a recorder never fails
	return all
}

// at is the first of a stream's records behind a place.
func at(events []heard, from int, v2 bool) int {
	for i := from; ; i++ {
		if text, ok := textOf(events[i], v2); ok && len(text) > 20 {
			return i
		}
	}
}

func textOf(e heard, v2 bool) (string, bool) {
	if e.Name != "data" {
		return "", false
	}
	rec, _ := e.Arg["data"].(map[string]any)
	if v2 {
		rec = e.Arg["data"].([]any)[0].(map[string]any)
	}
	s, ok := rec["data"].(string)
	return s, ok && rec["type"] == "STDOUT"
}

// renumber has the numbers go on without a hole, as if the log itself were wrong.
func renumber(events []heard) []heard {
	out := make([]heard, len(events))
	for i, e := range events {
		out[i] = e
		if e.Name != "data" {
			continue
		}
		arg, rec := map[string]any{}, map[string]any{}
		for k, v := range e.Arg {
			arg[k] = v
		}
		for k, v := range e.Arg["data"].([]any)[0].(map[string]any) {
			rec[k] = v
		}
		rec["seq"] = i + 2
		arg["data"] = []any{rec}
		out[i].Arg = arg
	}
	return out
}

// TestVerdict: real viewers, ours and the script's, hear a run whole, and with something wrong; the judge must tell these from each other.
func TestVerdict(t *testing.T) {
	clients.Install(t)
	p := profile{Bytes: 60_000, Block: 300}
	const seed = 7
	without := func(all []heard, i int) []heard { return append(append([]heard(nil), all[:i]...), all[i+1:]...) }
	again := func(all []heard, i int) []heard {
		return append(append([]heard(nil), all[:i+1]...), all[i:]...)
	}
	swapped := func(all []heard, i, k int) []heard {
		out := append([]heard(nil), all...)
		out[i], out[k] = out[k], out[i]
		return out
	}
	whole := &truth{want: expect(p, seed), until: 1 << 50}
	for _, v2 := range []bool{true, false} {
		all := story(p, seed, v2, 0)
		i := at(all, 40, v2)
		k := at(all, i+1, v2)
		cases := map[string]struct {
			events []heard
			truth  *truth
			good   bool
		}{
			"all":                {all, whole, true},
			"nothing":            {nil, whole, false},
			"one dropped":        {without(all, i), whole, false},
			"the last dropped":   {without(all, len(all)-2), whole, false},
			"one twice":          {again(all, i), whole, false},
			"two swapped":        {swapped(all, i, k), whole, false},
			"no end":             {all[:len(all)-1], whole, false},
			"two ends":           {again(all, len(all)-1), whole, false},
			"another code":       {story(p, seed, v2, 999), whole, false},
			"a byte changed":     {changed(all, i, v2), whole, false},
			"a note in the text": {append([]heard{note(v2)}, all...), whole, false},
		}
		if v2 {
			cases["one dropped, numbered anew"] = cases["all"]
			for name, events := range map[string][]heard{"one dropped": without(all, i), "one twice": again(all, i), "two swapped": swapped(all, i, k)} {
				tc := cases[name]
				tc.events = renumber(events)
				cases[name+", numbered anew"] = tc
			}
			gap := heard{"gap", map[string]any{"from": "h", "run": "r", "cursor": "9", "fromSeq": 3, "toSeq": 4}}
			tc := cases["all"]
			tc.events, tc.good = append([]heard{gap}, all...), false
			cases["a gap"] = tc
		}
		// Of a command whose tt was killed, what tt had read.
		shown, l := 0, at(all, k+20, v2)
		for _, b := range recordsOf(p, seed)[:l] {
			if b.stream == "STDOUT" {
				shown += len(b.data)
			}
		}
		cutOff := &truth{want: whole.want, until: 1 << 50, cut: true, shown: shown}
		end := []heard{note(v2), eof(v2, 999)}
		part := append(append([]heard(nil), all[:l]...), end...)
		for name, tc := range map[string]struct {
			events []heard
			good   bool
		}{
			"tt killed":                            {part, true},
			"tt killed, one dropped":               {without(part, i), false},
			"tt killed, one twice":                 {again(part, i), false},
			"tt killed, two ends":                  {again(part, len(part)-1), false},
			"tt killed, no note":                   {without(part, len(part)-2), false},
			"tt killed, a command's code":          {append(append([]heard(nil), part[:len(part)-1]...), all[len(all)-1]), false},
			"tt killed, less than it had shown":    {append(append([]heard(nil), all[:i]...), end...), !v2}, // as text the length is not known; see TestEqual
			"tt killed, more than was ever there":  {append(append(append([]heard(nil), all[:len(all)-1]...), all[i]), end...), false},
			"tt killed, and everything was read":   {append(append([]heard(nil), all[:len(all)-1]...), end...), true},
			"tt killed, other text than its start": {append(append([]heard(nil), all[i:l]...), end...), false},
		} {
			cases[name] = struct {
				events []heard
				truth  *truth
				good   bool
			}{tc.events, cutOff, tc.good}
		}
		for name, tc := range cases {
			for _, alias := range []string{"go", "sio1"} {
				if alias == "go" && !v2 {
					continue
				}
				s := spec{ID: "v", Alias: alias, From: []string{"h"}, V2: v2}
				st := hear(t, s, tc.events)
				if bad := newJudge(map[string]*truth{"h": tc.truth}).faults(s, st); (len(bad) == 0) != tc.good && !(name == "nothing" && !v2) {
					t.Errorf("%s, %s, v2 %v: faults %q, want none: %v", name, alias, v2, bad, tc.good)
				}
			}
		}
	}
}

func note(v2 bool) heard {
	if v2 {
		return heard{"data", map[string]any{"from": "h", "run": "r", "cursor": "y", "data": []any{map[string]any{"seq": 100_000, "type": "NOTE", "data": "tt was killed"}}}}
	}
	return heard{"data", map[string]any{"from": "h", "data": map[string]any{"type": "NOTE", "data": "tt was killed"}}}
}

// changed changes one byte of one record.
func changed(all []heard, i int, v2 bool) []heard {
	text, _ := textOf(all[i], v2)
	rec := map[string]any{"type": "STDOUT", "data": "X" + text[1:]}
	e := heard{"data", map[string]any{"from": "h", "data": rec}}
	if v2 {
		rec["seq"] = i + 2
		e.Arg = map[string]any{"from": "h", "run": "r", "cursor": "c", "data": []any{rec}}
	}
	out := append([]heard(nil), all...)
	out[i] = e
	return out
}

// hear has a viewer hear events, without a connection.
func hear(t *testing.T, s spec, events []heard) status {
	t.Helper()
	if s.Alias == "go" {
		v := newViewer(s)
		for _, e := range events {
			arg, err := json.Marshal(e.Arg)
			if err != nil {
				t.Fatal(err)
			}
			v.event(e.Name, arg)
		}
		return v.status()
	}
	c, err := newCrowd(context.Background(), []spec{s})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, e := range events {
		name := e.Name
		if err := c.tell(map[string]any{"op": "event", "id": s.ID, "name": name, "arg": e.Arg}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.status()
	if err != nil {
		t.Fatal(err)
	}
	return all[s.ID]
}

// TestAbsent: who asks for nothing new may have missed runs that had ended when it came, and no others.
func TestAbsent(t *testing.T) {
	s := spec{ID: "v", Alias: "sio1", From: []string{"h"}}
	j := newJudge(map[string]*truth{"h": {want: expect(profile{Bytes: 100, Block: 10}, 1), until: 1000}})
	for name, tc := range map[string]struct {
		attached int64
		good     bool
	}{"came later": {1001, true}, "was there": {999, false}} {
		st := status{Attached: tc.attached}
		if bad := j.faults(s, st); (len(bad) == 0) != tc.good {
			t.Errorf("%s: faults %q, want none: %v", name, bad, tc.good)
		}
		if over := j.over(s, st); over != tc.good {
			t.Errorf("%s: over %v, want %v", name, over, tc.good)
		}
	}
}

// TestEqual: all viewers of a command whose tt was killed have the same of it.
func TestEqual(t *testing.T) {
	want := expect(profile{Bytes: 5000, Block: 100}, 1)
	j := newJudge(map[string]*truth{"h": {want: want, until: 1000, cut: true}})
	have := func(n int) status {
		return status{Attached: 1, Runs: []runStatus{{From: "h", Ends: []string{"999"}, Notes: 1, Streams: map[string]sum{"STDOUT": sumOf(want["STDOUT"].text[:n]), "STDERR": {}}}}}
	}
	s := spec{ID: "v", Alias: "sio1", From: []string{"h"}}
	for i, tc := range []struct {
		n    int
		good bool
	}{{1000, true}, {1000, true}, {999, false}} {
		if bad := j.faults(s, have(tc.n)); (len(bad) == 0) != tc.good {
			t.Errorf("viewer %d: faults %q, want none: %v", i, bad, tc.good)
		}
	}
}
