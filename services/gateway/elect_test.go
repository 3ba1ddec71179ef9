package gateway

import (
	"bytes"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// electing is a NATS connection on which questions to the log's leader find nobody while the log elects one.
type electing struct {
	from interface{ InProcessConn() (net.Conn, error) }
	on   *atomic.Bool
}

func (e electing) InProcessConn() (net.Conn, error) {
	c, err := e.from.InProcessConn()
	return electingConn{c, e.on}, err
}

type electingConn struct {
	net.Conn
	on *atomic.Bool
}

func (c electingConn) Write(b []byte) (int, error) {
	if c.on.Load() {
		b = bytes.ReplaceAll(b, []byte("$JS.API.STREAM.MSG.GET.TT_OUTPUT"), []byte("$JS.API.STREAM.MSG.GET.TT_ABSENT"))
		b = bytes.ReplaceAll(b, []byte("$JS.API.STREAM.INFO.TT_OUTPUT"), []byte("$JS.API.STREAM.INFO.TT_ABSENT"))
	}
	return c.Conn.Write(b)
}

// While the log is without a leader an attach gets what the replicas have; only that it has all of it must wait.
func TestAttachWhileTheLogElects(t *testing.T) {
	elects := &atomic.Bool{}
	r := newRig(t)
	r.conf = append(r.conf, func(c *bus.Config) { c.InProcess = electing{r.nats, elects} })
	g := r.gateway()
	ended := r.run(key("ended")).out("a\nb\n").exit("2").leave().known(g, "is gone", gone)
	running := r.run(key("runs")).out("1\n").sync().out("2\n").sync().out("3\n").sync().known(g, "is there", known)
	token := r.browser("ns")
	elects.Store(true)
	views := map[string]struct {
		from, extra string
		before      []string // the leader is there again
		after       []string
	}{
		"from the first byte": {"runs", "", []string{"start", "data 1\n", "data 2\n", "data 3\n"}, []string{"live"}},
		"all of what ended":   {"ended", `,"history":"all"`, []string{"start", "data a\nb\n", "eof 2", "live"}, nil},
		"behind a cursor":     {"runs", `,"after":{"runs":["` + frame.Cursor{Run: running.key.Run, Seq: 3}.String() + `"]}`, []string{"data 3\n"}, []string{"live"}},
		"the last line":       {"runs", `,"history":{"tail":1}`, []string{"start", "data 3\n"}, []string{"live"}},
		"behind the end":      {"ended", `,"history":"none","after":{"ended":["` + frame.Cursor{Run: ended.key.Run, Seq: 3}.String() + `"]}`, []string{"live"}, nil},
		"from now on":         {"runs", `,"history":"none"`, nil, []string{"live"}},
	}
	eyes := map[string]*eye{}
	got := func(e *eye) (some []string) {
		for _, x := range e.events() {
			if x.name == "live" {
				some = append(some, x.name)
				continue
			}
			for _, s := range short(t, []ev{x}) {
				if !strings.HasPrefix(s, "state") && !strings.HasPrefix(s, "worker") {
					some = append(some, s)
				}
			}
		}
		return some
	}
	for name, v := range views {
		eyes[name] = g.watch(token, "t", []string{v.from}, v.extra, true)
		eyes[name].await("authenticated", 1)
	}
	for name, v := range views {
		eventually(t, name+": what the replicas have", func() bool { return len(got(eyes[name])) >= len(v.before) })
		if d := cmp.Diff(v.before, got(eyes[name])); d != "" {
			t.Errorf("%s: events without a leader differ (-want +got):\n%s", name, d)
		}
	}
	elects.Store(false)
	for name, v := range views {
		eyes[name].await("live", 1)
		if d := cmp.Diff(append(v.before, v.after...), got(eyes[name])); d != "" {
			t.Errorf("%s: events differ (-want +got):\n%s", name, d)
		}
	}
	running.out("4\n").sync()
	eyes["from now on"].await("data", 1)
	if d := cmp.Diff([]string{"live", "data 4\n"}, got(eyes["from now on"])); d != "" {
		t.Errorf("from now on: events differ (-want +got):\n%s", d)
	}
}

// While the log is without a leader everything can be read that the replicas have, and the gateway takes in viewers.
func TestReadWhileTheLogElects(t *testing.T) {
	elects := &atomic.Bool{}
	r := newRig(t)
	r.conf = append(r.conf, func(c *bus.Config) { c.InProcess = electing{r.nats, elects} })
	g := r.gateway()
	r.run(key("ended")).out("a\nb\n").exit("2").leave().known(g, "is gone", gone)
	running := r.run(key("runs")).out("1\n").sync().out("2\n").sync().out("3\n").sync().known(g, "is there", known)
	ended := g.s.roster.ofClient(bus.Client{Namespace: "ns", Task: "t", Client: "ended"})[0].run.Key.Run
	token := r.browser("ns")
	elects.Store(true)
	runs, over := "/api/v1/runs/"+running.key.Run, "/api/v1/runs/"+ended
	for _, c := range []struct{ name, path, rng, want string }{
		{"whole", runs + "/log", "", "1\n2\n3\n"},
		{"a range", runs + "/log", "bytes=2-", "2\n3\n"},
		{"the last bytes", runs + "/log", "bytes=-2", "3\n"},
		{"lines", runs + "/log?lines=2-2", "", "2\n"},
		{"the last line", runs + "/log?lines=-1", "", "3\n"},
		{"records", runs + "/log?format=ndjson", "", `"data":"3\n"}`},
		{"a search", runs + "/search?q=3", "", `"line":3`},
		{"its extent", runs, "", `"bytes":6,"lines":3`},
		{"whole, of what ended", over + "/log", "", "a\nb\n"},
		{"a search in what ended", over + "/search?q=b", "", `"more":false`},
		{"the extent of what ended", over, "", `"bytes":4,"lines":2`},
		{"tasks", "/api/v1/tasks", "", `"runs":2`},
		{"clients", "/api/v1/tasks/t/clients", "", `"client":"ended"`},
		{"runs", "/api/v1/tasks/t/runs", "", ended},
	} {
		var h []string
		if c.rng != "" {
			h = []string{"Range", c.rng}
		}
		if a := g.get(token, c.path, h...); a.status >= 300 || !strings.Contains(a.body, c.want) {
			t.Errorf("%s = %d %q, want %q", c.name, a.status, a.body, c.want)
		}
	}
	if err := g.s.bus.Ready(within(t)); err == nil {
		t.Error("there is a leader: this test shows nothing")
	}
	if err := g.s.bus.Readable(within(t)); err != nil {
		t.Errorf("viewers are sent away: %v", err)
	}
}
