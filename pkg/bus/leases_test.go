package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
)

func hold(t testing.TB, b *Bus, p Process) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Hold(ctx, p); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func TestLeaseLivesAndEnds(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Config{})
	a, b := open(t, s), open(t, s)
	me := Process{Name: "ing", Incarnation: "ing-abc", Role: "ingest", Address: "http://127.0.0.1:1"}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	changes := make(chan struct{}, 1)
	early, err := b.WatchProcesses(ctx, func() { signal(changes) })
	if err != nil {
		t.Fatal(err)
	}
	stop := hold(t, a, me)
	eventually(t, "the lease is known", func() bool { p, c := early.Lookup(me.Incarnation); return p == me && c == Live })
	late, err := b.WatchProcesses(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, c := late.Lookup(me.Incarnation); p != me || c != Live {
		t.Errorf("Lookup by a later watcher = %+v, %v, want %+v, live", p, c, me)
	}
	<-changes
	stop()
	eventually(t, "a process that ended is dead at once", func() bool { _, c := early.Lookup(me.Incarnation); return c == Dead })
	<-changes
}

func TestSilenceIsJudged(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := b.watchProcesses(ctx, nil, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, c := p.Lookup("nobody-1"); c != Live {
		t.Errorf("a stranger is %v at the start, want live: it may be heard of any moment", c)
	}
	eventually(t, "suspect", func() bool { _, c := p.Lookup("nobody-1"); return c == Suspect })
	eventually(t, "dead", func() bool { _, c := p.Lookup("nobody-1"); return c == Dead })
	p.anew() // as after a reconnect
	if _, c := p.Lookup("nobody-1"); c != Live {
		t.Errorf("after a reconnect a stranger is %v, want live: the reader was deaf", c)
	}
}

func TestHeartbeatsNameTails(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Config{})
	b, viewer := open(t, s), open(t, s)
	hold(t, b, Process{Name: "ing", Incarnation: "ing-1"})
	run := newRun(t)
	advanced := make(chan uint64, 100)
	sub, err := viewer.Subscribe(deadline(t), Client{run.Key.Namespace, run.Key.Task, run.Key.Client}, Handler{Advanced: func(r string, last uint64) {
		if r == run.Key.Run {
			advanced <- last
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	eventually(t, "heartbeats", func() bool { return !viewer.beats.heard("ing-1").IsZero() })
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, "a"), out(2, "b"))
	sync_(t, a)
	for n := 0; n < 2; {
		select {
		case last := <-advanced:
			if last == 3 {
				n++ // named more than once: one heartbeat may be lost
			}
		case <-deadline(t).Done():
			t.Fatal("no heartbeat names the tail")
		}
	}
}

// settling starts a settler for which owners are dead after a second of silence.
func settling(t testing.TB, b *Bus, grace time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p, err := b.watchProcesses(ctx, nil, 1500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Settle(ctx, p, grace); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// die ends an appender as the death of its process would.
func die(a *Appender) {
	a.cancel()
	<-a.done
	<-a.kept
}

func TestSettle(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Config{})
	b, dead, other := open(t, s), open(t, s), open(t, s)
	st := watchStates(t, b)

	running, exited, legacy, legacyExit := newRun(t), newRun(t), newRun(t), newRun(t)
	legacy.Legacy, legacyExit.Legacy = true, true
	for _, r := range []frame.Run{running, exited, legacy, legacyExit} {
		a := take(t, dead, "ing-dead", r)
		submit(t, a, out(1, "a\n"))
		sync_(t, a)
		if r.Key == exited.Key || r.Key == legacyExit.Key {
			// EXIT is stored, and the process dies before the state is written.
			a.cancel()
			<-a.done
			<-a.kept
			a.ctx = dead.ctx
			if err := a.store(a.chunk([]frame.Record{exit(2, "7")})); err != nil {
				t.Fatal(err)
			}
			continue
		}
		die(a)
	}
	settling(t, b, 2*time.Second)
	settling(t, other, 2*time.Second) // harmless when done by many

	st.await(t, running.Key.Run, "detached", func(r frame.Run) bool { return r.Phase == frame.Detached && !r.Connected })
	for _, k := range []frame.Key{exited.Key, legacyExit.Key} {
		r := st.await(t, k.Run, "exited", func(r frame.Run) bool { return r.Phase == frame.Exited && !r.Connected })
		if string(r.Exit.Code) != "7" || r.Checkpoint.Seq != 3 || r.Checkpoint.Src != 2 {
			t.Errorf("a run that had exited is settled as %+v", r)
		}
	}
	for _, k := range []frame.Key{legacy.Key, running.Key} {
		r := st.await(t, k.Run, "lost", func(r frame.Run) bool { return r.Phase == frame.Gone })
		if string(r.Exit.Code) != "999" || r.Connected {
			t.Errorf("a lost run is settled as %+v", r)
		}
		h := read(t, b, k, 0, 0)
		h.dense(t, 1)
		if n := len(h.recs); n != 3 || h.recs[2].Kind != frame.Lost {
			t.Errorf("the log of a lost run has %d records, want START, output and one LOST", n)
		}
	}
	// Lost is provisional: the run comes back and goes on.
	a := take(t, b, "ing-2", running)
	if a.Next() != 2 {
		t.Errorf("Next() of a run that came back = %d, want 2", a.Next())
	}
	submit(t, a, out(2, "b\n"), exit(3, "0"))
	sync_(t, a)
	st.await(t, running.Key.Run, "exited", func(r frame.Run) bool { return r.Phase == frame.Exited })
	h := read(t, b, running.Key, 0, 0)
	h.dense(t, 1)
	if h.output() != "a\nb\n" {
		t.Errorf("output = %q", h.output())
	}
}

func TestReleaseDetachesAndLegacyIsLost(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	st := watchStates(t, b)
	modern, old, oldExit := newRun(t), newRun(t), newRun(t)
	old.Legacy, oldExit.Legacy = true, true
	for _, r := range []frame.Run{modern, old, oldExit} {
		a := take(t, b, "ing-1", r)
		submit(t, a, frame.Record{Kind: frame.Stdout, Data: []byte("x")})
		if r.Key == oldExit.Key {
			submit(t, a, exit(0, "1"))
		}
		if err := a.Release(deadline(t)); err != nil {
			t.Fatal(err)
		}
		if err := a.Submit(deadline(t), out(0, "y")); !errors.Is(err, ErrReleased) {
			t.Errorf("Submit after Release = %v, want ErrReleased", err)
		}
	}
	for _, tc := range []struct {
		name string
		run  frame.Run
		want frame.Phase
		code string
		recs int
	}{{"modern", modern, frame.Detached, "", 2}, {"legacy", old, frame.Gone, "999", 3}, {"legacy after its exit", oldExit, frame.Exited, "1", 3}} {
		r := st.await(t, tc.run.Key.Run, tc.name, func(r frame.Run) bool { return !r.Connected })
		if r.Phase != tc.want || string(r.Exit.Code) != tc.code {
			t.Errorf("%s: phase %v, code %s, want %v, %s", tc.name, r.Phase, r.Exit.Code, tc.want, tc.code)
		}
		if h := read(t, b, tc.run.Key, 0, 0); len(h.recs) != tc.recs {
			t.Errorf("%s: %d records, want %d", tc.name, len(h.recs), tc.recs)
		}
	}
}

// An owner that was held for dead, and is not, sets its state right by itself.
func TestWronglySettledOwnerRecovers(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Config{})
	b, other := open(t, s), open(t, s)
	st := watchStates(t, b)
	run := newRun(t)
	a := take(t, b, "ing-mute", run) // sends no heartbeats
	e, err := other.readState(deadline(t), a.path)
	if err != nil {
		t.Fatal(err)
	}
	sr := &settler{b: other}
	tail, err := other.readTail(deadline(t), a.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := sr.write(deadline(t), a.path, e, tail, ending{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the owner sets its state right", func() bool {
		e, err := other.readState(deadline(t), a.path)
		return err == nil && e.run.Connected && e.run.Phase == frame.Running
	})
	submit(t, a, out(1, "on"))
	sync_(t, a)
	st.await(t, run.Key.Run, "running", func(r frame.Run) bool { return r.Connected && r.Phase == frame.Running })
}
