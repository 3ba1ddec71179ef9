package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
	"tasktracer/pkg/socketio"
)

func value(t testing.TB, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

// short is events in few words: what tests of order compare.
func short(t testing.TB, all []ev) (s []string) {
	for _, e := range all {
		switch e.name {
		case "data":
			s = append(s, "data "+string(bytesOf(t, []ev{e}, "")))
		case "eof":
			s = append(s, "eof "+e.get("code"))
		case "state":
			s = append(s, "state "+e.get("state"))
		case "authenticated", "live":
		default:
			s = append(s, e.name)
		}
	}
	return s
}

// flood writes n bytes of lines in records of 32 KiB, and gives them.
func (w *writer) flood(n int) []byte {
	w.r.t.Helper()
	var all bytes.Buffer
	for i := 0; all.Len() < n; {
		from := all.Len()
		for all.Len()-from < 32<<10 {
			fmt.Fprintf(&all, "%d %s\n", i, strings.Repeat("x", i%100))
			i++
		}
		w.records(frame.Record{Kind: frame.Stdout, Data: bytes.Clone(all.Bytes()[from:])})
	}
	w.sync()
	return all.Bytes()
}

// stream writes n bytes, keeps none of them, and gives their hash.
func (w *writer) stream(n int) (sum [sha256.Size]byte) {
	w.r.t.Helper()
	h := sha256.New()
	for i := 0; i < n; {
		b := make([]byte, 0, 32<<10)
		for len(b) < 32<<10 {
			b = fmt.Appendf(b, "%d %s\n", i+len(b), strings.Repeat("x", i%100))
		}
		h.Write(b)
		i += len(b)
		w.records(frame.Record{Kind: frame.Stdout, Data: b})
	}
	w.sync()
	return [sha256.Size]byte(h.Sum(nil))
}

func TestSlowViewerGetsEveryByteAndMemoryStaysBounded(t *testing.T) {
	r := newRig(t)
	g := r.gateway(func(c *Config) { c.HistoryCache = 4 << 20 })
	w := r.run(key("c")).sync().known(g, "is there", known)
	slow := g.watch(r.browser("ns"), "t", []string{"c"}, `,"batch":true`, true)
	slow.await("start", 1)
	slow.held.Lock()
	before := heap()
	want := w.stream(24 << 20)
	grown := heap() - before
	// The feed's ring, the cache, one pump's hands and the sockets' buffers; the log itself is in files.
	if most := int64(8 << 20); grown > most {
		t.Errorf("a stalled viewer of 24 MiB cost %d bytes of memory, want at most %d", grown, most)
	}
	if n := value(t, g.s.m.ringBytes); n > 1<<20 {
		t.Errorf("the ring is charged with %v bytes, want at most 1 MiB", n)
	}
	slow.held.Unlock()
	w.exit("0").leave()
	all := slow.await("workerOut", 1)
	if got := bytesOf(t, all, ""); sha256.Sum256(got) != want {
		t.Errorf("%d bytes, not those that were written", len(got))
	}
	if n := value(t, g.s.m.cacheBytes); n > 4<<20 {
		t.Errorf("the cache is charged with %v bytes, want at most 4 MiB", n)
	}
}

// heap is what is in use, by the heap profile, but for the embedded server, which has caches of its own.
func heap() (n int64) {
	runtime.GC()
	runtime.GC() // the profile is of the cycle before the last one
	records := make([]runtime.MemProfileRecord, 10_000)
	count, ok := runtime.MemProfile(records, false)
	if !ok {
		return -1
	}
next:
	for i := range records[:count] {
		frames := runtime.CallersFrames(records[i].Stack())
		for f, more := frames.Next(); ; f, more = frames.Next() {
			if strings.Contains(f.Function, "nats-server") {
				continue next
			}
			if !more {
				break
			}
		}
		n += records[i].InUseBytes()
	}
	return n
}

func TestCursorGoesOnAtAnotherGateway(t *testing.T) {
	for _, batch := range []string{"", `,"batch":true`} {
		r := newRig(t)
		a, b := r.gateway(), r.gateway()
		w := r.run(key("c"))
		want := w.flood(1 << 20)
		w.known(a, "is there", known).known(b, "is there", known)
		e := a.watch(r.browser("ns"), "t", []string{"c"}, batch, true)
		e.await("live", 1)
		a.stop()
		e.end()
		had := e.events()
		last := named(had, "data")
		want = append(want, w.flood(1<<20)...)
		w.exit("0").leave()
		cursor := last[len(last)-1].get("cursor")
		e = b.watch(r.browser("ns"), "t", []string{"c"}, batch+`,"after":{"c":["`+cursor+`"]}`, true)
		e.await("live", 1)
		all := e.await("eof", 1)
		if got := append(bytesOf(t, had, ""), bytesOf(t, all, "")...); !bytes.Equal(got, want) {
			t.Errorf("batch %q: %d bytes, want %d: not the same", batch, len(got), len(want))
		}
		if n := len(named(all, "start")); n != 0 {
			t.Errorf("batch %q: %d starts behind a cursor, want none", batch, n)
		}
		// Once more, behind the end: nothing comes but live.
		eof := named(all, "eof")[0].get("cursor")
		e = b.watch(r.browser("ns"), "t", []string{"c"}, `,"after":{"c":["`+eof+`"]}`, true)
		if got := short(t, e.await("live", 1)); len(got) > 1 {
			t.Errorf("batch %q: behind the end came %q", batch, got)
		}
	}
}

func TestDetachedAndAttachedAgainGoesOn(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	w := r.run(key("c")).out("1").sync().known(g, "is there", known)
	other := r.run(key("d")).known(g, "is there", known)
	e := g.watch(r.browser("ns"), "t", []string{"c"}, "", false)
	e.await("data", 1)
	e.emit("detach", `{"from":["c","unknown"]}`)
	e.emit("attach", `{"from":["d"]}`)
	e.await("start", 2)
	w.out("2").sync()
	other.out("other").sync()
	e.await("data", 2)
	e.emit("attach", `{"from":["c"]}`)
	e.emit("attach", `{"from":["c"]}`)
	e.await("data", 3)
	w.out("3").exit("0").leave()
	got := short(t, e.await("workerOut", 1))
	want := []string{"workerIn", "workerIn", "start", "data 1", "start", "data other", "data 2", "data 3", "eof 0", "workerOut"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events differ (-want +got):\n%s", d)
	}
	if n := value(t, g.s.m.feeds); n != 2 {
		t.Errorf("%v feeds, want 2", n)
	}
	e.c.Close()
	eventually(t, "the last viewer has gone and the feeds are closed", func() bool { return value(t, g.s.m.feeds) == 0 && value(t, g.s.m.viewers) == 0 })
}

func TestHistory(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	older := r.run(key("c")).out("older\n").exit("1").leave()
	ended := r.run(key("c")).out("a\nb\nc\n").exit("2").leave().known(g, "is gone", gone)
	running := r.run(key("r")).out("1\n2\n").sync().out("3\n4\n").sync().known(g, "is there", known)
	cursor := frame.Cursor{Run: older.key.Run, Seq: 1}.String()
	for _, c := range []struct {
		name, from, extra string
		want              []string
	}{
		{"live, of what runs", "r", "", []string{"start", "data 1\n2\n", "data 3\n4\n", "live"}},
		{"live, of what ended: nothing", "c", "", []string{"quiet"}},
		{"all: the latest", "c", `,"history":"all"`, []string{"start", "data a\nb\nc\n", "eof 2", "live"}},
		{"all, with a cursor of an older one", "c", `,"history":"all","after":{"c":["` + cursor + `"]}`,
			[]string{"data older\n", "eof 1", "start", "data a\nb\nc\n", "eof 2", "live", "live"}},
		{"none", "r", `,"history":"none"`, []string{"live"}},
		{"tail", "r", `,"history":{"tail":1}`, []string{"start", "data 3\n4\n", "live"}},
		{"tail, longer than all", "r", `,"history":{"tail":9}`, []string{"start", "data 1\n2\n", "data 3\n4\n", "live"}},
		{"tail of what ended", "c", `,"history":{"tail":2}`, []string{"start", "data a\nb\nc\n", "eof 2", "live"}},
		{"a run", "c", `,"history":{"run":"` + older.key.Run + `"}`, []string{"start", "data older\n", "eof 1", "live"}},
		{"rubbish for a cursor", "r", `,"history":"none","after":{"r":["rubbish"]}`, []string{"problem", "live"}},
		{"a cursor ahead of the log", "r", `,"after":{"r":["` + frame.Cursor{Run: running.key.Run, Seq: 99}.String() + `"]}`,
			[]string{"problem", "start", "data 1\n2\n", "data 3\n4\n", "live"}},
		{"rubbish for a history", "r", `,"history":7`, []string{"problem", "start", "data 1\n2\n", "data 3\n4\n", "live"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := g.watch(r.browser("ns"), "t", []string{c.from}, c.extra, true)
			lives := 0
			for _, w := range c.want {
				if w == "live" {
					lives++
				}
			}
			e.await("live", lives)
			e.await("authenticated", 1)
			if lives == 0 { // what must not come would have come before what is asked for now
				e.emit("attach", `{"from":["r"],"history":"none"}`)
				e.await("live", 1)
			}
			var got []string
			for _, x := range e.events() {
				switch {
				case x.name == "live" && lives > 0:
					got = append(got, "live")
				case x.get("from") == c.from || x.name == "problem":
					for _, s := range short(t, []ev{x}) {
						if !strings.HasPrefix(s, "state") && !strings.HasPrefix(s, "worker") {
							got = append(got, s)
						}
					}
				}
			}
			if lives == 0 && len(got) == 0 {
				got = []string{"quiet"}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("events differ (-want +got):\n%s", d)
			}
		})
	}
	if ended.key.Run == "" {
		t.Fatal("no run")
	}
}

func TestSeveralRunsOfOneClient(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	a := r.run(key("c")).out("a1").sync()
	b := r.run(key("c")).out("b1").sync().known(g, "is there", known)
	a.known(g, "is there", known)
	e := g.watch(r.browser("ns"), "t", []string{"c"}, "", true)
	old := g.watch(r.browser("ns"), "t", []string{"c"}, "", false)
	old.await("data", 2)
	e.await("data", 2)
	a.out("a2").sync()
	e.await("data", 3)
	old.await("data", 3)
	b.out("b2").exit("0").leave().known(g, "is gone", gone)
	a.exit("1").leave()
	all := e.await("workerOut", 1)
	for run, want := range map[string]string{a.key.Run: "a1a2", b.key.Run: "b1b2"} {
		if got := string(bytesOf(t, all, run)); got != want {
			t.Errorf("run %s: %q, want %q", run, got, want)
		}
	}
	want := []string{"workerIn", "start", "data a1", "start", "data b1", "data a2", "data b2", "eof 0", "eof 1", "workerOut"}
	if d := cmp.Diff(want, short(t, old.await("workerOut", 1))); d != "" {
		t.Errorf("an older viewer's events differ (-want +got):\n%s", d)
	}
}

func TestOneRunAfterAnother(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	e := g.watch(r.browser("ns"), "t", []string{"c"}, "", false)
	stranger := g.watch(r.browser("ns"), "t", []string{"x"}, "", false)
	e.await("authenticated", 1)
	stranger.await("authenticated", 1)
	for i := range 3 {
		r.run(key("c")).out(fmt.Sprint(i)).exit(fmt.Sprint(i)).leave()
	}
	var want []string
	for i := range 3 {
		want = append(want, "workerIn", "start", fmt.Sprintf("data %d", i), fmt.Sprintf("eof %d", i), "workerOut")
	}
	if d := cmp.Diff(want, short(t, e.await("workerOut", 3))); d != "" {
		t.Errorf("events differ (-want +got):\n%s", d)
	}
	got := short(t, stranger.await("workerOut", 1))
	if got[0] != "workerIn" || len(got)%2 != 0 {
		t.Errorf("a viewer of another client saw %q", got)
	}
}

func TestLostAndBack(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	procs, err := r.bus.WatchProcesses(within(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := r.run(key("c")).out("1").sync().known(g, "is there", known)
	old := g.watch(r.browser("ns"), "t", []string{"c"}, "", false)
	e := g.watch(r.browser("ns"), "t", []string{"c"}, "", true)
	old.await("data", 1)
	e.await("live", 1)
	w.leave()
	old.await("workerOut", 1)
	ctx, stop := context.WithCancel(within(t))
	settled := make(chan error, 1)
	go func() { settled <- r.bus.Settle(ctx, procs, time.Nanosecond) }()
	eventually(t, "the run is called lost", func() bool {
		st, _ := g.s.roster.get(w.key)
		return st.run != nil && st.run.Phase == frame.Gone
	})
	old.await("eof", 1)
	stop()
	if err := <-settled; err != nil {
		t.Error(err)
	}
	back, err := r.bus.Take(within(t), "ingest-2", frame.Run{Key: w.key})
	if err != nil {
		t.Fatal(err)
	}
	w.a = back
	w.out("2").exit("0").leave()
	got := short(t, old.await("workerOut", 2))
	want := []string{"workerIn", "start", "data 1", "workerOut", "eof 999", "workerIn", "data 2", "eof 0", "workerOut"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("an older viewer's events differ (-want +got):\n%s", d)
	}
	var states []string
	for _, x := range named(e.await("workerOut", 2), "state") {
		states = append(states, x.get("state"))
	}
	if s := strings.Join(states, " "); !strings.HasPrefix(s, "running detached lost") || !strings.HasSuffix(s, "exited") {
		t.Errorf("states = %s", s)
	}
}

func TestGapOfRetention(t *testing.T) {
	r := newRig(t, func(c *bus.Config) { c.MaxBytes = 2 << 20 })
	g := r.gateway()
	w := r.run(key("c"))
	want := w.flood(6 << 20)
	w.known(g, "is there", known)
	e := g.watch(r.browser("ns"), "t", []string{"c"}, `,"batch":true`, true)
	old := g.watch(r.browser("ns"), "t", []string{"c"}, "", false)
	all := e.await("live", 1)
	gaps := named(all, "gap")
	if len(gaps) == 0 || gaps[0].get("reason") != "retention" || gaps[0].get("fromSeq") != "1" || gaps[0].get("run") != w.key.Run {
		t.Fatalf("gaps = %v", gaps)
	}
	got := bytesOf(t, all, "")
	if !bytes.HasSuffix(want, got) || len(got) == 0 {
		t.Errorf("%d bytes that are no end of what was written", len(got))
	}
	if all[1].name != "workerIn" || len(named(all, "start")) != 1 {
		t.Errorf("the run's start, which is gone, was not told: %v", names(all))
	}
	w.exit("0").leave()
	if n := len(named(old.await("eof", 1), "start")); n != 1 {
		t.Errorf("an older viewer heard %d starts, want 1", n)
	}
	log := "/api/v1/runs/" + w.key.Run + "/log"
	first := len(want) - len(got)
	if a := g.get(r.browser("ns"), log); a.status != 200 || a.header.Get("TaskTracer-First-Byte") != fmt.Sprint(first) || a.body != string(got) {
		t.Errorf("the log: %d, first byte %s of %d, %d bytes", a.status, a.header.Get("TaskTracer-First-Byte"), first, len(a.body))
	}
	if a := g.get(r.browser("ns"), log, "Range", "bytes=0-99"); a.status != 410 {
		t.Errorf("a range that is gone: %d %s", a.status, a.body)
	}
	if a := g.get(r.browser("ns"), log, "Range", fmt.Sprintf("bytes=0-%d", first+9)); a.status != 206 || a.body != string(want[first:first+10]) {
		t.Errorf("a range that begins with what is gone: %d %q %s", a.status, a.body, a.header.Get("Content-Range"))
	}
	if a := g.get(r.browser("ns"), log+"?lines=1-10&format=ndjson"); a.status != 410 {
		t.Errorf("lines that are gone: %d %.100s", a.status, a.body)
	}
	if a := g.get(r.browser("ns"), log+"?format=ndjson"); a.status != 200 || !strings.HasPrefix(a.body, `{"type":"GAP","fromSeq":1,`) {
		t.Errorf("ndjson: %d %.100s", a.status, a.body)
	}
}

func TestDeletionUnderAnOpenViewer(t *testing.T) {
	r := newRig(t)
	g, second := r.gateway(), r.gateway()
	w := r.run(key("c")).out("a secret").sync().known(g, "is there", known).known(second, "is there", known)
	e := second.watch(r.browser("ns"), "t", []string{"c"}, "", true)
	old := second.watch(r.browser("ns"), "t", []string{"c"}, "", false)
	stranger := second.watch(r.browser("ns"), "t", []string{"x"}, "", true)
	e.await("live", 1)
	old.await("data", 1)
	stranger.await("workerIn", 1)
	base := r.token(auth.Claims{Type: auth.Base, Namespace: "ns"}, time.Hour)
	if a := g.request("DELETE", base, "/api/v1/runs/"+w.key.Run); a.status != 204 {
		t.Fatalf("deletion: %d %s", a.status, a.body)
	}
	for name, x := range map[string]*eye{"viewer": e, "stranger": stranger} {
		eventually(t, "a "+name+" is told to forget the run", func() bool {
			st := named(x.events(), "state")
			return len(st) > 0 && st[len(st)-1].get("state") == "deleted"
		})
	}
	got := short(t, old.await("workerOut", 1))
	if d := cmp.Diff([]string{"workerIn", "start", "data a secret", "eof 999", "workerOut"}, got); d != "" {
		t.Errorf("an older viewer's events differ (-want +got):\n%s", d)
	}
	for _, g := range []*gate{g, second} {
		eventually(t, "the run is not to be had any more", func() bool { return g.get(r.browser("ns"), "/api/v1/runs/"+w.key.Run+"/log").status == 404 })
	}
	late := second.watch(r.browser("ns"), "t", []string{"c"}, `,"history":"all","after":{"c":["`+frame.Cursor{Run: w.key.Run}.String()+`"]}`, true)
	late.await("problem", 1)
	late.emit("attach", `{"from":["nobody"],"history":{"tail":-1}}`)
	if got := late.await("problem", 2); len(named(got, "data")) > 0 {
		t.Errorf("the deleted run came: %v", got)
	}
}

func TestSocketEndsWithItsToken(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	soon := until("ns", time.Now().Add(2*time.Second))
	e := g.watch(soon, "t", []string{"c"}, "", true)
	old := g.watch(soon, "t", []string{"c"}, "", false)
	old.await("authenticated", 1)
	for _, x := range []*eye{e, old} {
		if err := x.end(); !errors.Is(err, socketio.ErrServerDisconnect) {
			t.Errorf("an expired token's socket ended with %v", err)
		}
	}
	if p := named(e.events(), "problem"); len(p) != 1 || p[0].get("code") != "expired" {
		t.Errorf("problems = %v", p)
	}
	if p := named(old.events(), "problem"); len(p) != 0 {
		t.Errorf("an older viewer was told %v", p)
	}
	token, c, err := r.keys.Sign(auth.Claims{Type: auth.Browser, Namespace: "ns", ID: "jti-1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	e = g.watch(token, "t", []string{"c"}, "", true)
	e.await("authenticated", 1)
	if err := r.bus.Revoke(within(t), c.ID, c.Expires); err != nil {
		t.Fatal(err)
	}
	if err := e.end(); !errors.Is(err, socketio.ErrServerDisconnect) {
		t.Errorf("a revoked token's socket ended with %v", err)
	}
	if p := named(e.events(), "problem"); len(p) != 1 || p[0].get("code") != "revoked" {
		t.Errorf("problems = %v", p)
	}
}

func TestRenewedTokenKeepsTheSocket(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	e := g.watch(until("ns", time.Now().Add(2*time.Second)), "t", []string{"c"}, "", true)
	e.await("authenticated", 1)
	e.authenticate(r.browser("ns"), "t", []string{"d"}, "", true)
	e.await("authenticated", 2)
	w := r.run(key("c")).sync()
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); { // past the first token's end
		w.out("x").sync()
	}
	w.exit("0").leave()
	e.await("workerOut", 1)
}

func TestHostileNames(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	ids := []string{"*", ">", "a.b", "a b", "ü", strings.Repeat("x", 1000), strings.Repeat("é", 500), "", "a", "A", "a:b", "=41", "%41", "a/b", "\x00", "日本"}
	keys := make([]frame.Key, 0, len(ids)+2)
	for _, id := range ids {
		keys = append(keys, frame.Key{Namespace: "ns", Task: "t", Client: id})
	}
	keys = append(keys, frame.Key{Namespace: "a", Task: "b:c", Client: "d"}, frame.Key{Namespace: "a", Task: "b", Client: "c:d"}, frame.Key{Namespace: "ns", Task: "t*", Client: "a"})
	eyes := make([]*eye, len(keys))
	for i, k := range keys {
		eyes[i] = g.watch(r.browser(k.Namespace), k.Task, []string{k.Client}, "", i%2 == 0)
		eyes[i].await("authenticated", 1)
	}
	for i, k := range keys {
		r.run(k).out(fmt.Sprintf("of %d", i)).exit("0").leave()
	}
	for i, k := range keys {
		all := eyes[i].await("eof", 1)
		if got, want := string(bytesOf(t, all, "")), fmt.Sprintf("of %d", i); got != want {
			t.Errorf("%q saw %q, want %q", k, got, want)
		}
		for _, x := range all {
			if (x.name == "start" || x.name == "data" || x.name == "eof") && x.get("from") != k.Client {
				t.Errorf("%q saw %s", k, x)
			}
		}
	}
}

func TestBadInput(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	good := r.browser("ns")
	client := r.token(auth.Claims{Type: auth.Client, Namespace: "ns"}, time.Hour)
	scoped := r.token(auth.Claims{Type: auth.Browser, Namespace: "ns", Tasks: []string{"u"}}, time.Hour)
	const bad = `authenticated{"error":"browser data error"}`
	for _, c := range []struct {
		name, arg string
		want      string // the only event; "" for none
	}{
		{"no argument", ``, ""},
		{"null", `null`, ""},
		{"a number", `7`, ""},
		{"no token", `{"watch":{"task":"t","from":["c"]}}`, ""},
		{"token of a wrong type", `{"token":7,"watch":{"task":"t","from":["c"]}}`, ""},
		{"rubbish", `{"token":"x.y.z","watch":{"task":"t","from":["c"]}}`, ""},
		{"client's token", `{"token":"` + client + `","watch":{"task":"t","from":["c"]}}`, ""},
		{"alg none", `{"token":"eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.eyJ0eXBlIjoiYnJvd3Nlcl90b2tlbiIsIm5zIjoibnMifQ.","watch":{"task":"t","from":["c"]}}`, ""},
		{"expired", `{"token":"` + until("ns", time.Unix(9, 0)) + `","watch":{"task":"t","from":["c"]}}`, ""},
		{"out of scope", `{"token":"` + scoped + `","watch":{"task":"t","from":["c"]}}`, ""},
		{"expired, v2", `{"v":2,"token":"` + until("ns", time.Unix(9, 0)) + `","watch":{"task":"t","from":["c"]}}`,
			`authenticated{"error":"token has expired","code":"token_expired"}`},
		{"missing, v2", `{"v":2}`, `authenticated{"error":"token is missing","code":"token_missing"}`},
		{"no watch", `{"token":"` + good + `"}`, bad},
		{"watch is a text", `{"token":"` + good + `","watch":"t"}`, bad},
		{"no task", `{"token":"` + good + `","watch":{"from":["c"]}}`, bad},
		{"task is no text", `{"token":"` + good + `","watch":{"task":{},"from":["c"]}}`, bad},
		{"no from", `{"token":"` + good + `","watch":{"task":"t"}}`, bad},
		{"from is no list", `{"token":"` + good + `","watch":{"task":"t","from":"c"}}`, bad},
		{"from is null", `{"token":"` + good + `","watch":{"task":"t","from":null}}`, bad},
		{"from is empty", `{"token":"` + good + `","watch":{"task":"t","from":[]}}`, bad},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := g.dial()
			begun := time.Now()
			e.emit("authenticate", c.arg)
			if err := e.end(); !errors.Is(err, socketio.ErrServerDisconnect) {
				t.Errorf("the connection ended with %v", err)
			}
			took := time.Since(begun)
			if (c.want == bad) != (took > 900*time.Millisecond) {
				t.Errorf("the connection ended after %v", took)
			}
			var got string
			for _, x := range e.events() {
				got += x.String()
			}
			if got != c.want {
				t.Errorf("events = %s, want %s", got, c.want)
			}
		})
	}
	e := g.watch(good, "t", []string{"c"}, "", false)
	e.await("authenticated", 1)
	for _, x := range []struct{ event, arg string }{
		{"attach", ``}, {"attach", `null`}, {"attach", `{"from":"d"}`}, {"attach", `[]`}, {"attach", `{"from":{}}`}, {"detach", `7`}, {"attach", `{"from":[null,7,{},["x"]]}`},
		{"data", `{"type":"STDOUT","data":"x"}`}, {"eof", `{"code":0}`}, {"nonsense", `1`},
	} {
		e.emit(x.event, x.arg)
	}
	r.run(key("c")).out("fine").exit("0").leave()
	if d := cmp.Diff([]string{"workerIn", "start", "data fine", "eof 0", "workerOut"}, short(t, e.await("workerOut", 1))); d != "" {
		t.Errorf("after all that events differ (-want +got):\n%s", d)
	}
	e = g.dial()
	e.emit("authenticate", `{"token":"`+good+`","watch":{"task":"t","from":[null,"a",null,"a",5]}}`)
	if got := e.await("authenticated", 1)[0].String(); got != `authenticated{"task":{"name":"t"},"from":["a","a",5],"ns":"ns"}` {
		t.Errorf("the answer was %s", got)
	}
	e = g.dial()
	e.emit("authenticate", `{"token":"`+good+`","watch":{"task":"t","from":[null]},"v":2}`)
	if got := e.await("authenticated", 1)[0].String(); got != `authenticated{"task":{"name":"t"},"from":[],"ns":"ns","v":2}` {
		t.Errorf("the answer was %s", got)
	}
}

func TestSecondAuthenticateJoinsMore(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	a := r.run(key("c")).sync().known(g, "is there", known)
	b := r.run(frame.Key{Namespace: "ns2", Task: "t2", Client: "d"}).sync().known(g, "is there", known)
	e := g.watch(r.browser("ns"), "t", []string{"c"}, "", false)
	e.await("start", 1)
	e.authenticate(r.browser("ns2"), "t2", []string{"d"}, "", false)
	e.await("start", 2)
	a.out("first").sync()
	e.await("data", 1)
	b.out("second").sync()
	got := short(t, e.await("data", 2))
	if d := cmp.Diff([]string{"workerIn", "start", "workerIn", "start", "data first", "data second"}, got); d != "" {
		t.Errorf("events differ (-want +got):\n%s", d)
	}
	e.emit("authenticate", `{"token":"rubbish","watch":{"task":"t","from":["c"]}}`)
	if err := e.end(); !errors.Is(err, socketio.ErrServerDisconnect) {
		t.Errorf("a bad second token ended the socket with %v", err)
	}
}

func TestManyViewersShareOneEncoding(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	w := r.run(key("c")).sync().known(g, "is there", known)
	const viewers, chunks = 200, 20
	eyes := make([]*eye, viewers)
	token := r.browser("ns") // verified once: 200 at a time take longer than a gateway waits, on a machine with a load of 30
	for i := range eyes {
		eyes[i] = g.watch(token, "t", []string{"c"}, `,"batch":true`, true)
		if i == 0 {
			eyes[0].await("live", 1)
		}
	}
	for _, e := range eyes[1:] {
		e.await("live", 1)
	}
	before := value(t, g.s.m.encodings)
	for i := range chunks {
		w.out(fmt.Sprintf("%d\n", i)).sync()
	}
	w.exit("0").leave()
	for _, e := range eyes {
		if n := len(bytesOf(t, e.await("workerOut", 1), "")); n != 50 {
			t.Fatalf("%d bytes, want 50", n)
		}
	}
	// One a chunk; on a busy machine some viewers read a chunk back that the feed hears of late, and that is another copy.
	if n := value(t, g.s.m.encodings) - before; n > 3*(chunks+1) {
		t.Errorf("%v encodings of %d chunks for %d viewers", n, chunks+1, viewers)
	}
	if n := value(t, g.s.m.feeds); n != 1 {
		t.Errorf("%v feeds, want 1", n)
	}
}

func TestOddRecords(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	w := r.run(key("c"))
	note, err := frame.NoteInfo{Text: "3 bytes were dropped", LostFrom: 5, LostTo: 6, LostBytes: 3}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	w.records(
		frame.Record{Kind: frame.Stdout, Data: []byte("\xe2\x82")},
		frame.Record{Kind: frame.Stderr, Data: []byte("\xf0\x9f")},
		frame.Record{Kind: frame.Stdout, Data: []byte("\xac \xff \xe2")},
		frame.Record{Kind: frame.Raw, Data: []byte(`{"any":["thing",null]}`)},
		frame.Record{Kind: frame.Raw},
		frame.Record{Kind: frame.Note, Data: note},
		frame.Record{Kind: frame.Stdout, Data: []byte{}},
	)
	exit, err := frame.ExitInfo{Code: []byte("2"), Signal: []byte("null")}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	w.records(frame.Record{Kind: frame.Exit, Data: exit})
	w.sync().leave().known(g, "is gone", gone)
	old := g.watch(r.browser("ns"), "t", []string{"c"}, `,"history":"all"`, false)
	var got []string
	for _, x := range old.await("eof", 1)[2:] {
		got = append(got, x.String())
	}
	want := []string{
		`data{"from":"c","data":{"type":"STDOUT","data":"€ ` + "\ufffd" + ` "}}`,
		`data{"from":"c","data":{"any":["thing",null]}}`,
		`data{"from":"c"}`,
		`data{"from":"c","data":{"type":"NOTE","data":"3 bytes were dropped"}}`,
		`data{"from":"c","data":{"type":"STDOUT","data":""}}`,
		`data{"from":"c","data":{"type":"STDOUT","data":"` + "\ufffd" + `"}}`,
		`data{"from":"c","data":{"type":"STDERR","data":"` + "\ufffd\ufffd" + `"}}`,
		`eof{"from":"c","code":2,"signal":null}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("an older viewer's events differ (-want +got):\n%s", d)
	}
	e := g.watch(r.browser("ns"), "t", []string{"c"}, `,"history":"all","batch":true`, true)
	all := e.await("eof", 1)
	gap := named(all, "gap")
	if len(gap) != 1 || gap[0].get("reason") != "client" || gap[0].get("bytes") != "3" || gap[0].get("message") != "3 bytes were dropped" {
		t.Errorf("gaps = %v", gap)
	}
	var records []json.RawMessage
	for _, d := range named(all, "data") {
		var m struct{ Data []json.RawMessage }
		if err := json.Unmarshal(d.arg, &m); err != nil {
			t.Fatal(err)
		}
		records = append(records, m.Data...)
	}
	var text []string
	for _, x := range records {
		text = append(text, string(x))
	}
	want = []string{
		`{"seq":2,"at":1001,"type":"STDOUT","b64":"4oI="}`,
		`{"seq":3,"at":1002,"type":"STDERR","b64":"8J8="}`,
		`{"seq":4,"at":1003,"type":"STDOUT","b64":"rCD/IOI="}`,
		`{"seq":5,"at":1004,"type":"RAW","data":{"any":["thing",null]}}`,
		`{"seq":6,"at":1005,"type":"RAW"}`,
		`{"seq":8,"at":1007,"type":"STDOUT","data":""}`,
	}
	if d := cmp.Diff(want, text); d != "" {
		t.Errorf("a batch's records differ (-want +got):\n%s", d)
	}
}

// TestCursorAheadOfTheRoster: a viewer comes with a cursor to a gateway that has not heard as much of the run as another one has shown. The states of runs may lag
// behind the log by seconds; refusing the cursor would have all that the viewer has come once more.
func TestCursorAheadOfTheRoster(t *testing.T) {
	for name, behind := range map[string]func(run frame.Run) bus.RunChange{
		"nothing is known of the run": func(run frame.Run) bus.RunChange { return bus.RunChange{Run: run, Deleted: true} },
		"it was lost, and came back": func(run frame.Run) bus.RunChange {
			run.Phase, run.Connected, run.Checkpoint.Seq = frame.Gone, false, 1
			return bus.RunChange{Run: run}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			g := r.gateway()
			w := r.run(key("c")).out("1").sync().out("2").sync().known(g, "is there", known)
			st, _ := g.s.roster.get(w.key)
			g.s.roster.apply(behind(*st.run))
			cursor := frame.Cursor{Run: w.key.Run, Seq: 3}.String()
			e := g.watch(r.browser("ns"), "t", []string{"c"}, `,"after":{"c":["`+cursor+`"]}`, true)
			e.await("live", 1)
			w.out("3").sync()
			e.await("data", 1)
			g.s.roster.apply(bus.RunChange{Run: *st.run}) // now it hears
			w.exit("0").leave()
			all := e.await("eof", 1)
			if got := string(bytesOf(t, all, "")); got != "3" {
				t.Errorf("behind the cursor came %q, want 3", got)
			}
			if p := named(all, "problem"); len(p) != 0 {
				t.Errorf("the viewer was told %v", p)
			}
		})
	}
}

// TestCursorOfNothing: a cursor of another client's run, of one that there is none of, or ahead of a run that is over is refused, and the viewer gets what it gets without one.
func TestCursorOfNothing(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	other := r.run(key("other")).out("x\n").exit("1").leave()
	w := r.run(key("c")).out("a\n").exit("2").leave().known(g, "is gone", gone)
	for name, cursors := range map[string][]string{
		"another's":             {frame.Cursor{Run: other.key.Run, Seq: 1}.String()},
		"of no run":             {frame.Cursor{Run: "run-" + rid(), Seq: 7}.String()},
		"before the first":      {frame.Cursor{Run: "run-" + rid()}.String()},
		"ahead of what is over": {frame.Cursor{Run: w.key.Run, Seq: 99}.String()},
	} {
		t.Run(name, func(t *testing.T) {
			e := g.watch(r.browser("ns"), "t", []string{"c"}, `,"history":"all","after":{"c":`+quote(cursors)+`}`, true)
			e.await("problem", 1)
			all := e.await("live", 1)
			if got := string(bytesOf(t, all, "")); got != "a\n" {
				t.Errorf("came %q, want the latest run", got)
			}
			if p := named(all, "problem"); len(p) != 1 || p[0].get("code") != "bad_cursor" {
				t.Errorf("the viewer was told %v, want bad_cursor", p)
			}
		})
	}
	// However many: they are refused, and not asked for all at once.
	var many []string
	for range 5000 {
		many = append(many, frame.Cursor{Run: "run-" + rid(), Seq: 7}.String())
	}
	e := g.watch(r.browser("ns"), "t", []string{"many"}, `,"after":{"many":`+quote(many)+`}`, true)
	e.await("problem", len(many))
	g.s.feeds.mu.Lock()
	f := g.s.feeds.all[bus.Client{Namespace: "ns", Task: "t", Client: "many"}]
	g.s.feeds.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.runs); n > maxUnheard {
		t.Errorf("the log was asked for %d runs, want at most %d", n, maxUnheard)
	}
}
