package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
)

// rig is a server, a proxy before it, a bus that goes through the proxy, and one that does not.
type rig struct {
	server *natsd.Server
	proxy  *proxy
	bus    *Bus
	direct *Bus
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	s := startServer(t, natsd.Config{Listen: "127.0.0.1:0"})
	direct := open(t, s, change...)
	p := startProxy(t, s.ClientURL())
	b := open(t, nil, append(change, func(c *Config) { c.URL = p.url() })...)
	return &rig{server: s, proxy: p, bus: b, direct: direct}
}

func counter(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// checkLog reads a run and wants exactly these outputs, each once, in order.
func checkLog(t testing.TB, b *Bus, key frame.Key, want ...string) {
	t.Helper()
	h := read(t, b, key, 0, 0)
	h.dense(t, 1)
	if got := h.output(); got != strings.Join(want, "") || len(h.gone) != 0 {
		t.Errorf("the log holds %q, gone %v, want %q", got, h.gone, strings.Join(want, ""))
	}
	if err := onceInTheStream(deadline(t), b, path(key)); err != nil {
		t.Error(err)
	}
}

// once makes a filter that applies v to the first n messages for which is holds.
func once(n int32, is func(msg) bool, v verdict) (f func(msg) verdict, times func() int32) {
	var seen atomic.Int32
	return func(m msg) verdict {
		if is(m) && seen.Add(1) <= n {
			return v
		}
		return verdict{}
	}, seen.Load
}

func TestAppendUnderFaults(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	close(closed)
	for _, tc := range []struct {
		name   string
		n      int32
		is     func(msg) bool
		v      verdict
		answer string // what the leader must have said at least once
	}{
		{"the acknowledgement is lost", 1, msg.ack, verdict{drop: true}, "mine"},
		{"two acknowledgements are lost", 2, msg.ack, verdict{drop: true}, "mine"},
		{"the publish is lost", 1, func(m msg) bool { return m.chunkOf("fault") }, verdict{drop: true}, "absent"},
		{"the connection is cut before the publish arrives", 1, func(m msg) bool { return m.chunkOf("fault") }, verdict{cut: true}, "absent"},
		{"the connection is cut after the publish went out", 1, func(m msg) bool { return m.chunkOf("fault") }, verdict{cutB: true}, ""},
		{"the connection is cut instead of the acknowledgement", 1, msg.ack, verdict{cut: true}, "mine"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			run := newRun(t)
			a := take(t, r.bus, "ing-1", run)
			submit(t, a, out(1, "before "))
			sync_(t, a)
			f, times := once(tc.n, tc.is, tc.v)
			r.proxy.set(f)
			submit(t, a, out(2, "fault "))
			sync_(t, a)
			submit(t, a, out(3, "after"))
			sync_(t, a)
			if times() == 0 {
				t.Fatal("the fault did not happen")
			}
			if tc.answer != "" && counter(t, r.bus.met.resolved.WithLabelValues(tc.answer)) == 0 {
				t.Errorf("nothing was resolved as %q", tc.answer)
			}
			checkLog(t, r.direct, run.Key, "before ", "fault ", "after")
		})
	}
}

// A publish is held back until its retry is stored, and turns up then: the fence refuses it.
func TestMessageNotThereTurnsUpLater(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := newRun(t)
	a := take(t, r.bus, "ing-1", run)
	submit(t, a, out(1, "one "))
	sync_(t, a)

	// The proxy swallows the publish, and a connection of our own sends the very same bytes later.
	var caught atomic.Pointer[string]
	r.proxy.set(func(m msg) verdict {
		if m.chunkOf("two ") && caught.CompareAndSwap(nil, &m.text) {
			return verdict{drop: true}
		}
		return verdict{}
	})
	submit(t, a, out(2, "two "))
	sync_(t, a)
	late := *caught.Load()
	split := strings.Index(late, "\r\n\r\n") + 4
	fence := strings.TrimSpace(strings.SplitN(strings.SplitN(late, hdrFence+":", 2)[1], "\r\n", 2)[0])
	var fenceSeq uint64
	if _, err := fmt.Sscan(fence, &fenceSeq); err != nil {
		t.Fatal(err)
	}
	_, err := r.direct.publish(deadline(t), prefixIn+path(run.Key), fenceSeq, nil, []byte(strings.TrimSuffix(late[split:], "\r\n")))
	if !fenced(err) {
		t.Errorf("the late copy was answered %v, want a refusal by the fence", err)
	}
	submit(t, a, out(3, "three"))
	sync_(t, a)
	checkLog(t, r.direct, run.Key, "one ", "two ", "three")
}

// An owner is cut off with a publish in flight; another takes the run; the old one comes back, its publish too.
func TestOldOwnerReturnsWithAPublishInFlight(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		v    func(hold chan struct{}) verdict
	}{
		{"held back on its way", func(h chan struct{}) verdict { return verdict{hold: h} }},
		{"cut off before it went out", func(chan struct{}) verdict { return verdict{cut: true} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			run := newRun(t)
			old := take(t, r.bus, "ing-old", run)
			submit(t, old, out(1, "a"))
			sync_(t, old)
			hold := make(chan struct{})
			f, times := once(1, func(m msg) bool { return m.chunkOf("bbb") }, tc.v(hold))
			r.proxy.set(f)
			submit(t, old, out(2, "bbb"))
			eventually(t, "the publish is under way", func() bool { return times() == 1 })
			a := take(t, r.direct, "ing-new", run)
			if a.Next() != 2 {
				t.Errorf("Next() = %d, want 2: the old publish has not arrived", a.Next())
			}
			submit(t, a, out(2, "bbb"), out(3, "c"))
			sync_(t, a)
			close(hold)
			select {
			case <-old.Taken():
			case <-deadline(t).Done():
				t.Fatal("the old owner does not learn that it was replaced")
			}
			if err := old.Err(); !errors.Is(err, ErrTaken) {
				t.Errorf("Err() = %v, want ErrTaken", err)
			}
			submit(t, a, out(4, "d"))
			sync_(t, a)
			checkLog(t, r.direct, run.Key, "a", "bbb", "c", "d")
		})
	}
}

// The claim itself meets the same faults.
func TestTakeUnderFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		is   func(msg) bool
		v    verdict
	}{
		{"the claim is lost", func(m msg) bool { return m.up && strings.HasPrefix(m.subject, prefixIn) }, verdict{drop: true}},
		{"its acknowledgement is lost", msg.ack, verdict{drop: true}},
		{"the connection is cut instead of its acknowledgement", msg.ack, verdict{cut: true}},
		{"the state is lost", func(m msg) bool { return m.up && strings.HasPrefix(m.subject, prefixKV+stateBucket) }, verdict{drop: true}},
		{"the state's acknowledgement is lost", func(m msg) bool { return !m.up && strings.Contains(m.text, `"stream":"`+stateStream+`"`) }, verdict{drop: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			run := newRun(t)
			f, times := once(1, tc.is, tc.v)
			r.proxy.set(f)
			a := take(t, r.bus, "ing-1", run)
			if times() == 0 {
				t.Fatal("the fault did not happen")
			}
			submit(t, a, out(1, "x"))
			sync_(t, a)
			h := read(t, r.direct, run.Key, 0, 0)
			h.dense(t, 1)
			if len(h.recs) != 2 || h.recs[0].Kind != frame.Start {
				t.Errorf("%d records, want START and one of output", len(h.recs))
			}
			if e, err := r.direct.readState(deadline(t), path(run.Key)); err != nil || e.run == nil || e.run.FirstStreamSeq != 1 || e.run.Epoch != 1 {
				t.Errorf("state = %+v, %v", e.run, err)
			}
		})
	}
}

// The process dies between the claim of a new run and its state; the next owner finds START once, and makes the state.
func TestDeathBetweenClaimAndState(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := newRun(t)
	r.proxy.set(func(m msg) verdict { return verdict{drop: m.up && strings.HasPrefix(m.subject, prefixKV+stateBucket)} })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := r.bus.Take(ctx, "ing-1", run)
		done <- err
	}()
	eventually(t, "the claim is stored", func() bool {
		m, err := r.direct.lastMessage(deadline(t), logStream, prefixIn+path(run.Key))
		return err == nil && m != nil
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Take = %v, want canceled", err)
	}
	a := take(t, r.direct, "ing-2", run)
	submit(t, a, out(1, "x"))
	sync_(t, a)
	h := read(t, r.direct, run.Key, 0, 0)
	h.dense(t, 1)
	if len(h.recs) != 2 || h.recs[0].Kind != frame.Start {
		t.Errorf("%d records, want START and one of output", len(h.recs))
	}
	e, err := r.direct.readState(deadline(t), path(run.Key))
	if err != nil || e.run.Owner != "ing-2" || e.run.Epoch != 2 || e.run.FirstStreamSeq != 1 {
		t.Errorf("state = %+v, %v", e.run, err)
	}
}

// While NATS is away nothing vanishes, Submit blocks at the window, and all is there afterwards.
func TestServerAwayBlocksAtTheWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := newRun(t)
	a := take(t, r.bus, "ing-1", run)
	r.proxy.cut(true)
	payload := bytes.Repeat([]byte("p"), 100_000)
	ctx, cancel := context.WithCancel(context.Background())
	blocked := make(chan error, 1)
	go func() {
		var err error
		for i := uint64(1); err == nil && i <= 100; i++ {
			err = a.Submit(ctx, frame.Record{Src: i, Kind: frame.Stdout, Data: payload})
		}
		blocked <- err
	}()
	eventually(t, "stalled", func() bool { _, stalled := a.Durable(); return stalled })
	a.mu.Lock()
	queued := a.queued
	a.mu.Unlock()
	if queued > defaultWindow || queued < defaultWindow-2*len(payload) {
		t.Errorf("%d bytes are queued, want as much as the window of %d takes", queued, defaultWindow)
	}
	r.proxy.cut(false)
	if err := <-blocked; err != nil {
		t.Fatal(err)
	}
	cancel()
	sync_(t, a)
	h := read(t, r.direct, run.Key, 0, 0)
	h.dense(t, 1)
	if len(h.recs) != 101 {
		t.Errorf("%d records, want 101", len(h.recs))
	}
}

// The server restarts under an owner and a follower.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, natsd.Config{Dir: dir, Listen: "127.0.0.1:0"})
	addr := strings.TrimPrefix(s.ClientURL(), "nats://")
	url := s.ClientURL()
	b := open(t, nil, func(c *Config) { c.URL = url })
	viewer := open(t, nil, func(c *Config) { c.URL = url })
	run := newRun(t)
	f := following(t, viewer, run.Key)
	a := take(t, b, "ing-1", run)
	var want strings.Builder
	for i := range uint64(300) {
		if i == 100 {
			s.Stop()
		}
		if i == 120 {
			s = startServer(t, natsd.Config{Dir: dir, Listen: addr})
		}
		text := fmt.Sprintf("%d\n", i)
		want.WriteString(text)
		submit(t, a, out(i+1, text))
	}
	sync_(t, a)
	f.await(t, 301)
	if f.output() != want.String() {
		t.Errorf("the follower got %d bytes, want %d", len(f.output()), want.Len())
	}
	checkLog(t, viewer, run.Key, want.String())
}

// follower does what a gateway does: it takes what is next, and reads the log where that does not come.
type follower struct {
	b   *Bus
	key frame.Key
	sub *Subscription

	mu    sync.Mutex
	h     history
	next  uint64
	reads int // how often the log had to be read
	kick  chan struct{}
}

func following(t testing.TB, b *Bus, key frame.Key) *follower {
	t.Helper()
	f := &follower{b: b, key: key, next: 1, kick: make(chan struct{}, 1)}
	sub, err := b.Subscribe(deadline(t), Client{key.Namespace, key.Task, key.Client}, Handler{
		Chunk: func(s Stored) {
			if s.Key == key {
				f.take(s)
			}
		},
		Advanced: func(run string, last uint64) {
			if run == key.Run {
				f.advanced(last)
			}
		},
		Lagged: func() { signal(f.kick) },
	})
	if err != nil {
		t.Fatal(err)
	}
	f.sub = sub
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.heal(ctx, t)
	}()
	t.Cleanup(func() { sub.Close(); cancel(); <-done })
	return f
}

func (f *follower) take(s Stored) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.Chunk.First > f.next {
		signal(f.kick)
		return
	}
	for _, r := range s.Chunk.Records {
		if r.Seq == f.next {
			f.h.recs = append(f.h.recs, r)
			f.next++
		}
	}
}

func (f *follower) advanced(last uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last >= f.next {
		signal(f.kick)
	}
}

func (f *follower) heal(ctx context.Context, t testing.TB) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.kick:
		}
		f.mu.Lock()
		after := f.next - 1
		f.reads++
		f.mu.Unlock()
		err := f.b.Read(ctx, f.key, after, 0, func(s Stored) error { f.take(s); return nil }, func(g Gone) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.h.gone = append(f.h.gone, g)
			f.next = max(f.next, g.To+1)
			return nil
		})
		if err != nil && ctx.Err() == nil {
			t.Errorf("follower: %v", err)
			return
		}
	}
}

func (f *follower) have() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next - 1
}

func (f *follower) await(t testing.TB, last uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("the follower has record %d", last), func() bool { return f.have() >= last })
}

func (f *follower) output() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.h.output()
}

func isOut(m msg) bool { return !m.up && strings.HasPrefix(m.subject, prefixOut) }

func TestFollowUnderFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		drop func(n int32, m msg) verdict // n-th chunk that comes down
	}{
		{"chunks are lost in the middle", func(n int32, m msg) verdict { return verdict{drop: n%3 == 0} }},
		{"the last chunk is lost", func(n int32, m msg) verdict { return verdict{drop: strings.Contains(m.text, "last")} }},
		{"the connection is cut again and again", func(n int32, m msg) verdict { return verdict{cut: n%7 == 5} }},
		{"all chunks are lost", func(int32, msg) verdict { return verdict{drop: true} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			run := newRun(t)
			hold(t, r.direct, Process{Name: "ing", Incarnation: "ing-1"})
			var n atomic.Int32
			r.proxy.set(func(m msg) verdict {
				if isOut(m) {
					return tc.drop(n.Add(1), m)
				}
				return verdict{}
			})
			f := following(t, r.bus, run.Key)
			a := take(t, r.direct, "ing-1", run)
			var want strings.Builder
			for i := range uint64(60) {
				text := fmt.Sprintf("%d\n", i)
				if i == 59 {
					text = "last\n"
				}
				want.WriteString(text)
				submit(t, a, out(i+1, text))
				sync_(t, a)
			}
			begun := time.Now()
			f.await(t, 61)
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("the end was noticed after %v", d)
			}
			if f.output() != want.String() {
				t.Errorf("the follower got %q", f.output())
			}
		})
	}
}

// Heartbeats are missing, too: the tails of the runs that were heard of are read.
func TestLostLastChunkWithoutHeartbeats(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := newRun(t)
	r.proxy.set(func(m msg) verdict {
		return verdict{drop: !m.up && strings.HasPrefix(m.subject, prefixBeat) || isOut(m) && strings.Contains(m.text, "last")}
	})
	f := following(t, r.bus, run.Key)
	a := take(t, r.direct, "ing-1", run)
	submit(t, a, out(1, "first "))
	f.await(t, 2)
	submit(t, a, out(2, "last"))
	f.await(t, 3)
	if f.output() != "first last" {
		t.Errorf("the follower got %q", f.output())
	}
}

// A handler that is too slow loses chunks, is told, and reads them.
func TestSlowConsumer(t *testing.T) {
	r := newRig(t)
	run := newRun(t)
	f := &follower{b: r.bus, key: run.Key, next: 1, kick: make(chan struct{}, 1)}
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	var lagged atomic.Int32
	sub, err := r.bus.Subscribe(deadline(t), Client{run.Key.Namespace, run.Key.Task, run.Key.Client}, Handler{
		Chunk:  func(s Stored) { <-gate; f.take(s) },
		Lagged: func() { lagged.Add(1); signal(f.kick) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	defer open()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go f.heal(ctx, t)
	a := take(t, r.direct, "ing-1", run)
	payload := bytes.Repeat([]byte("p"), 250_000)
	const n = followBytes/250_000 + 40 // more than the subscription may hold
	for i := range uint64(n) {
		submit(t, a, frame.Record{Src: i + 1, Kind: frame.Stdout, Data: payload})
	}
	sync_(t, a)
	eventually(t, "chunks are dropped", func() bool { return counter(t, r.bus.met.slow) > 0 })
	open()
	f.await(t, n+1)
	if lagged.Load() == 0 || len(f.output()) != n*len(payload) {
		t.Errorf("lagged %d times, %d bytes, want at least once, and %d", lagged.Load(), len(f.output()), n*len(payload))
	}
}
