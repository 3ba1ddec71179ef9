package gateway

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/frame"
)

func late(run *frame.Run) { run.Late = true }

// without gives the events' short forms, but states and live.
func without(t testing.TB, all []ev) (some []string) {
	t.Helper()
	for _, s := range short(t, all) {
		if !strings.HasPrefix(s, "state") && s != "live" {
			some = append(some, s)
		}
	}
	return some
}

// What a process left is delivered after its end: it is history. Who waits for what runs must neither get it nor hear that somebody came in.
func TestLateRunIsHistory(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	token := r.browser("ns")
	views := map[string]*eye{
		"an older viewer":               g.watch(token, "t", []string{"c"}, "", false),
		"a viewer of what runs":         g.watch(token, "t", []string{"c"}, "", true),
		"a viewer of what comes":        g.watch(token, "t", []string{"c"}, `,"history":"none"`, true),
		"a viewer of tails":             g.watch(token, "t", []string{"c"}, `,"history":{"tail":5}`, true),
		"a viewer of history":           g.watch(token, "t", []string{"c"}, `,"history":"all"`, true),
		"a viewer that is not attached": g.watch(token, "t", []string{"x"}, "", false),
	}
	for _, e := range views {
		e.await("authenticated", 1)
	}
	w := r.run(key("c"), late).out("left\n").sync().known(g, "is there", known)
	views["an older viewer that comes meanwhile"] = g.watch(token, "t", []string{"c"}, "", false)
	views["a viewer of what runs that comes meanwhile"] = g.watch(token, "t", []string{"c"}, "", true)
	views["a viewer of history that comes meanwhile"] = g.watch(token, "t", []string{"c"}, `,"history":"all"`, true)
	views["a viewer of history that comes meanwhile"].await("data", 1)
	for _, e := range views {
		e.await("authenticated", 1)
	}
	w.out("behind\n").exit("3").leave().known(g, "has ended", func(r frame.Run) bool { return r.Phase == frame.Exited && !r.Connected })
	r.run(key("c")).out("now").exit("0").leave() // what must not come would have come before
	live := []string{"workerIn", "start", "data now", "eof 0", "workerOut"}
	past := append([]string{"start", "data left\n", "data behind\n", "eof 3"}, live...)
	for name, e := range views {
		want := live
		switch {
		case strings.Contains(name, "history"):
			want = past
		case strings.Contains(name, "not attached"):
			want = []string{"workerIn", "workerOut"}
		}
		if d := cmp.Diff(want, without(t, e.await("workerOut", 1))); d != "" {
			t.Errorf("%s: events differ (-want +got):\n%s", name, d)
		}
	}
	states := map[string]bool{}
	for _, e := range named(views["a viewer of what runs"].await("workerOut", 1), "state") {
		if e.get("run") == w.key.Run {
			states[e.get("state")] = true
		}
	}
	if !states["exited"] || states["running"] {
		t.Errorf("a viewer that does not get the run heard of states %v, want exited, and never running", states)
	}
}

// A run that viewers followed, and whose rest is delivered late, goes on for them, and for nobody else.
func TestFollowedRunIsEndedLate(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	token := r.browser("ns")
	w := r.run(key("c")).out("1").sync().known(g, "is there", known)
	old, e := g.watch(token, "t", []string{"c"}, "", false), g.watch(token, "t", []string{"c"}, "", true)
	old.await("data", 1)
	e.await("data", 1)
	w.leave()
	old.await("workerOut", 1)
	e.await("workerOut", 1)
	back, err := r.bus.Take(within(t), "ingest-2", frame.Run{Key: w.key, Late: true})
	if err != nil {
		t.Fatal(err)
	}
	w.known(g, "is delivered late", func(r frame.Run) bool { return r.Late && r.Connected })
	newcomer := g.watch(token, "t", []string{"c"}, "", false)
	newcomer.await("authenticated", 1)
	w.a = back
	w.out("2").sync()
	w.out("3").exit("0").leave()
	want := []string{"workerIn", "start", "data 1", "workerOut", "workerIn", "data 2", "data 3", "eof 0", "workerOut"}
	for name, e := range map[string]*eye{"older": old, "newer": e} {
		if d := cmp.Diff(want, without(t, e.await("workerOut", 2))); d != "" {
			t.Errorf("the %s viewer's events differ (-want +got):\n%s", name, d)
		}
	}
	w.known(g, "has ended", gone)
	r.run(key("c")).out("now").exit("0").leave()
	if d := cmp.Diff([]string{"workerIn", "start", "data now", "eof 0", "workerOut"}, without(t, newcomer.await("workerOut", 1))); d != "" {
		t.Errorf("the newcomer's events differ (-want +got):\n%s", d)
	}
}
