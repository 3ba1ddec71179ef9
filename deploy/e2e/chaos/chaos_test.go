package main

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSchedule(t *testing.T) {
	for seed := range uint64(50) {
		deeds := schedule(seed, 60, 150*time.Second)
		if d := cmp.Diff(deeds, schedule(seed, 60, 150*time.Second)); d != "" {
			t.Fatalf("seed %d gives two schedules:\n%s", seed, d)
		}
		leaders, last := 0, -time.Hour
		for i, d := range deeds {
			if i > 0 && d.At < deeds[i-1].At {
				t.Errorf("seed %d: deed %d comes before the one before it", seed, i)
			}
			if d.Target != "nats-leader" {
				continue
			}
			if leaders++; d.At-last < leaderApart || leaders > maxLeaderDeeds {
				t.Errorf("seed %d: leader struck %v after the last time, %d times", seed, d.At-last, leaders)
			}
			last = d.At
		}
		if len(deeds) != 60 || deeds[59].At > 150*time.Second {
			t.Errorf("seed %d: %d deeds, the last at %v", seed, len(deeds), deeds[len(deeds)-1].At)
		}
	}
}

// TestFaults: the judge must be able to find fault.
func TestFaults(t *testing.T) {
	p := profile{Bytes: 50_000, Block: 500}
	want := map[string]map[string]*expected{"h": expect(p, 7)}
	out, errs := want["h"]["STDOUT"], want["h"]["STDERR"]
	sha := func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }
	whole := map[string]sum{"STDOUT": out.raw, "STDERR": errs.raw}
	text := map[string]sum{"STDOUT": {sha(out.text), len(out.text)}, "STDERR": {sha(errs.text), len(errs.text)}}
	part := map[string]sum{"STDOUT": {sha(out.text[:999]), 999}, "STDERR": {sha(nil), 0}}
	swapped := append([]byte(nil), out.text[:999]...)
	swapped[0], swapped[1] = swapped[1]+1, swapped[0]
	for name, tc := range map[string]struct {
		v2   bool
		runs []runStatus
		more []string
		good bool
	}{
		"all":                             {true, []runStatus{{"h", true, whole}}, nil, true},
		"nothing":                         {true, nil, nil, false},
		"no end":                          {true, []runStatus{{"h", false, whole}}, nil, false},
		"less":                            {true, []runStatus{{"h", true, part}}, nil, false},
		"other bytes":                     {true, []runStatus{{"h", true, map[string]sum{"STDOUT": {sha(nil), out.raw.Bytes}, "STDERR": errs.raw}}}, nil, false},
		"a record twice":                  {true, []runStatus{{"h", true, whole}}, []string{"twice h 3 after 3"}, false},
		"older, all":                      {false, []runStatus{{"h", true, text}}, nil, true},
		"older, came too late":            {false, nil, nil, true},
		"older, still at it":              {false, []runStatus{{"h", false, part}}, nil, true},
		"older, saw the end but not all":  {false, []runStatus{{"h", true, part}}, nil, false},
		"older, out of order":             {false, []runStatus{{"h", false, map[string]sum{"STDOUT": {sha(swapped), 999}, "STDERR": {}}}}, nil, false},
		"older, more than there ever was": {false, []runStatus{{"h", false, map[string]sum{"STDOUT": {sha(nil), 1 << 20}, "STDERR": {}}}}, nil, false},
	} {
		s := spec{ID: "v", Alias: "sio1", From: []string{"h"}, V2: tc.v2}
		if bad := faults(s, status{Runs: tc.runs, Trouble: tc.more}, want, true); (len(bad) == 0) != tc.good {
			t.Errorf("%s: faults %q, want none: %v", name, bad, tc.good)
		}
	}
}
