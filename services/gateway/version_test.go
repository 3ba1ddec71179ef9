package gateway

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"tasktracer/pkg/frame"
	pb "tasktracer/proto/tasktracer/v1"
)

// While servers are upgraded a run's log may go on in a form that this gateway does not know. Viewers get all that lies before, and are told; with their
// cursors they go on at a gateway that knows it.
func TestUnreadable(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	token := r.browser("ns")
	w := r.run(key("c")).out("1\n").sync().out("2\n").sync().known(g, "has two lines", func(r frame.Run) bool { return r.Checkpoint.Line == 2 })
	got := func(e *eye) (some []string) {
		for _, x := range e.events() {
			switch x.name {
			case "live":
				some = append(some, x.name)
			case "problem":
				some = append(some, x.name+" "+x.get("code")+" "+x.get("from"))
			default:
				for _, s := range short(t, []ev{x}) {
					if strings.HasPrefix(s, "start") || strings.HasPrefix(s, "data") {
						some = append(some, s)
					}
				}
			}
		}
		return some
	}
	early := g.watch(token, "t", []string{"c"}, "", true)
	early.await("live", 1)

	later, err := proto.Marshal(&pb.Chunk{Version: 2, Epoch: 2, Owner: "ingest-2", FirstSeq: 4, LastSrc: 2})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.bus.Request(within(t), "tt.in.ns.t.c."+w.key.Run, later) // what JetStream answers is none of a service's; whether it is stored is looked at
	if _, err := r.bus.Tail(within(t), w.key); !errors.Is(err, frame.ErrVersion) {
		t.Fatalf("Tail = %v, want %v", err, frame.ErrVersion)
	}

	at := func(seq uint64) string {
		return `,"after":{"c":["` + frame.Cursor{Run: w.key.Run, Seq: seq}.String() + `"]}`
	}
	for name, c := range map[string]struct {
		eye  *eye
		want []string
	}{
		"that was there":    {early, []string{"start", "data 1\n", "data 2\n", "live"}},
		"from the start":    {g.watch(token, "t", []string{"c"}, "", true), []string{"start", "data 1\n", "data 2\n"}},
		"by its cursor":     {g.watch(token, "t", []string{"c"}, at(2), true), []string{"data 2\n"}},
		"that knows it all": {g.watch(token, "t", []string{"c"}, at(3), true), nil},
		"that comes from a gateway which knows more": {g.watch(token, "t", []string{"c"}, at(9), true), nil},
		"of the last line":                           {g.watch(token, "t", []string{"c"}, `,"history":{"tail":1}`, true), []string{"start", "data 2\n"}},
	} {
		c.eye.await("problem", 1)
		if d := cmp.Diff(append(c.want, "problem unreadable c"), got(c.eye)); d != "" {
			t.Errorf("a viewer %s: events differ (-want +got):\n%s", name, d)
		}
	}

	run := "/api/v1/runs/" + w.key.Run
	if a := g.get(token, run+"/log"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, `"unreadable"`) {
		t.Errorf("the log = %d %s, want %d", a.status, a.body, http.StatusServiceUnavailable)
	}
	if a := g.get(token, run+"/search?q=2"); a.status != http.StatusOK || !strings.Contains(a.body, `"line":2`) || !strings.Contains(a.body, `"reason":"error"`) {
		t.Errorf("a search = %d %s, want a hit, and that it is not over", a.status, a.body)
	}
	if a := g.get(token, run); a.status != http.StatusOK || !strings.Contains(a.body, `"state":"running"`) {
		t.Errorf("the run = %d %s", a.status, a.body)
	}
}
