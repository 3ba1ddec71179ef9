package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
)

// startServer starts an embedded server of the test's own.
func startServer(t testing.TB, cfg natsd.Config) *natsd.Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := natsd.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// open connects a bus to s; change may alter the configuration.
func open(t testing.TB, s *natsd.Server, change ...func(*Config)) *Bus {
	t.Helper()
	cfg := Config{Name: t.Name(), MaxBytes: 256 << 20, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if s != nil {
		cfg.InProcess = s
	}
	for _, c := range change {
		c(&cfg)
	}
	b, err := Open(deadline(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// deadline is the context of a test that must not hang.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func newRun(t testing.TB) frame.Run {
	return frame.Run{Key: frame.Key{Namespace: "ns", Task: t.Name(), Client: "cli-1", Run: "run-" + newID()}, Task: []byte(`{"name":"x"}`)}
}

func take(t testing.TB, b *Bus, owner string, run frame.Run) *Appender {
	t.Helper()
	a, err := b.Take(deadline(t), owner, run)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func out(src uint64, text string) frame.Record {
	return frame.Record{Src: src, At: 1, Kind: frame.Stdout, Data: []byte(text)}
}

func exit(src uint64, code string) frame.Record {
	data, err := frame.ExitInfo{Code: []byte(code)}.Marshal()
	if err != nil {
		panic(err)
	}
	return frame.Record{Src: src, At: 1, Kind: frame.Exit, Data: data}
}

func submit(t testing.TB, a *Appender, recs ...frame.Record) {
	t.Helper()
	if err := a.Submit(deadline(t), recs...); err != nil {
		t.Fatal(err)
	}
}

func sync_(t testing.TB, a *Appender) {
	t.Helper()
	if err := a.Sync(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// history is what a reader saw.
type history struct {
	recs []frame.Record
	gone []Gone
}

// add takes records behind after.
func (h *history) add(s Stored) error {
	next := uint64(1)
	if n := len(h.recs); n > 0 {
		next = h.recs[n-1].Seq + 1
	}
	for _, r := range s.Chunk.Records {
		if r.Seq >= next {
			h.recs = append(h.recs, r)
		}
	}
	return nil
}

func (h *history) output() string {
	var b bytes.Buffer
	for _, r := range h.recs {
		if r.Kind.Output() {
			b.Write(r.Data)
		}
	}
	return b.String()
}

// dense checks that no seq is missing and none twice, from first on.
func (h *history) dense(t testing.TB, first uint64) {
	t.Helper()
	for i, r := range h.recs {
		if r.Seq != first+uint64(i) {
			t.Fatalf("record %d has seq %d, want %d", i, r.Seq, first+uint64(i))
		}
	}
}

func read(t testing.TB, b *Bus, key frame.Key, after, hint uint64) *history {
	t.Helper()
	h := &history{}
	err := b.Read(deadline(t), key, after, hint, func(s Stored) error {
		for _, r := range s.Chunk.Records {
			if r.Seq > after {
				h.recs = append(h.recs, r)
			}
		}
		return nil
	}, func(g Gone) error { h.gone = append(h.gone, g); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// eventually waits until ok, polling; what says what was awaited.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(2 * time.Minute) // a replica whose catching up stalls is helped on after half a minute, by NATS
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// states collects what WatchRuns says.
type states struct {
	mu     sync.Mutex
	runs   map[string]frame.Run
	gone   map[string]bool
	synced chan struct{}
}

func watchStates(t testing.TB, b *Bus) *states {
	s := &states{runs: map[string]frame.Run{}, gone: map[string]bool{}, synced: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.WatchRuns(ctx, s.change, func() { close(s.synced) }); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-s.synced:
	case <-deadline(t).Done():
		t.Fatal("WatchRuns: not synced")
	}
	return s
}

func (s *states) change(c RunChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Deleted {
		delete(s.runs, c.Run.Key.Run)
		s.gone[c.Run.Key.Run] = true
		return
	}
	s.runs[c.Run.Key.Run] = c.Run
}

func (s *states) get(run string) (frame.Run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.runs[run]
	return r, ok
}

func (s *states) deleted(run string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone[run]
}

func (s *states) await(t testing.TB, run, what string, ok func(frame.Run) bool) frame.Run {
	t.Helper()
	var got frame.Run
	eventually(t, what, func() bool {
		r, there := s.get(run)
		got = r
		return there && ok(r)
	})
	return got
}

func TestAppendAndRead(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}))
	st := watchStates(t, b)
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	if a.Next() != 1 {
		t.Fatalf("Next() = %d, want 1", a.Next())
	}
	const n = 3000
	want := ""
	for i := range n {
		text := fmt.Sprintf("line %d\n", i)
		want += text
		submit(t, a, out(uint64(i+1), text))
	}
	submit(t, a, exit(n+1, "3"))
	sync_(t, a)
	if src, stalled := a.Durable(); src != n+1 || stalled {
		t.Errorf("Durable() = %d, %v, want %d, false", src, stalled, n+1)
	}
	h := read(t, b, run.Key, 0, 0)
	h.dense(t, 1)
	if len(h.recs) != n+2 || h.recs[0].Kind != frame.Start || h.recs[n+1].Kind != frame.Exit || len(h.gone) != 0 {
		t.Errorf("read %d records, first %v, %d gaps, want START, %d of output, EXIT", len(h.recs), h.recs[0].Kind, len(h.gone), n)
	}
	if h.output() != want {
		t.Errorf("output differs: %d bytes, want %d", len(h.output()), len(want))
	}
	got := st.await(t, run.Key.Run, "state exited", func(r frame.Run) bool { return r.Phase == frame.Exited })
	if string(got.Exit.Code) != "3" || !got.Connected || got.Checkpoint.Seq != n+2 || got.Checkpoint.Bytes != uint64(len(want)) || got.Checkpoint.Line != n {
		t.Errorf("state = %+v", got)
	}
	for _, after := range []uint64{1, 2, 1500, n, n + 1, n + 2, n + 100} {
		h := read(t, b, run.Key, after, 0)
		if len(h.recs) != max(0, n+2-int(after)) {
			t.Errorf("Read(after %d) gave %d records, want %d", after, len(h.recs), n+2-int(after))
		}
		h.dense(t, after+1)
	}
	if err := a.Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
	st.await(t, run.Key.Run, "not connected", func(r frame.Run) bool { return !r.Connected && r.Phase == frame.Exited })
}

func TestSubmitNumbers(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}))
	a := take(t, b, "ing-1", newRun(t))
	note := func(src, from, to uint64) frame.Record {
		data, err := frame.NoteInfo{Text: "dropped", LostFrom: from, LostTo: to, LostBytes: 9}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return frame.Record{Src: src, Kind: frame.Note, Data: data}
	}
	for _, tc := range []struct {
		name string
		recs []frame.Record
		gap  uint64 // Next of the GapError, 0 for none
		next uint64
	}{
		{"first", []frame.Record{out(1, "a")}, 0, 2},
		{"again", []frame.Record{out(1, "a"), out(2, "b")}, 0, 3},
		{"ahead", []frame.Record{out(4, "d")}, 3, 3},
		{"hole inside: nothing is taken", []frame.Record{out(3, "c"), out(5, "e")}, 4, 3},
		{"note without loss", []frame.Record{note(3, 0, 0)}, 0, 4},
		{"note in the place of the first lost one", []frame.Record{note(4, 4, 9), out(10, "j")}, 0, 11},
		{"note in the place of the last lost one", []frame.Record{note(15, 11, 15)}, 0, 16},
		{"note with a number of its own", []frame.Record{note(21, 16, 20)}, 0, 22},
		{"note that leaves a hole", []frame.Record{note(30, 24, 30)}, 22, 22},
		{"note that ends before its number", []frame.Record{note(30, 22, 25)}, 22, 22},
		{"unnumbered", []frame.Record{{Kind: frame.Raw, Data: []byte("1")}}, 0, 22},
	} {
		err := a.Submit(deadline(t), tc.recs...)
		var gap *GapError
		if errors.As(err, &gap) != (tc.gap != 0) || gap != nil && gap.Next != tc.gap || a.Next() != tc.next {
			t.Errorf("%s: Submit = %v, Next() = %d, want gap %d, next %d", tc.name, err, a.Next(), tc.gap, tc.next)
		}
	}
	if err := a.Submit(deadline(t), frame.Record{Src: 22, Kind: frame.Stdout, Data: make([]byte, frame.MaxRecord+1)}); err == nil {
		t.Error("a record that is too large was taken")
	}
	sync_(t, a)
	if src, _ := a.Durable(); src != 21 {
		t.Errorf("Durable() = %d, want 21", src)
	}
	a2 := take(t, b, "ing-2", a.run)
	if a2.Next() != 22 {
		t.Errorf("after a takeover Next() = %d, want 22: what a NOTE covered is not asked for again", a2.Next())
	}
}

func TestSubscribeFollows(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b, viewer := open(t, s), open(t, s)
	run := newRun(t)
	var mu sync.Mutex
	h := &history{}
	sub, err := viewer.Subscribe(deadline(t), Client{run.Key.Namespace, run.Key.Task, run.Key.Client}, Handler{Chunk: func(s Stored) {
		mu.Lock()
		defer mu.Unlock()
		if s.Key != run.Key {
			t.Errorf("chunk of %v", s.Key)
		}
		_ = h.add(s)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	a := take(t, b, "ing-1", run)
	for i := range 100 {
		submit(t, a, out(uint64(i+1), "x"))
	}
	sync_(t, a)
	eventually(t, "all records live", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(h.recs) == 101
	})
	h.dense(t, 1)
}

func TestTakeover(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b1, b2 := open(t, s), open(t, s)
	run := newRun(t)
	a1 := take(t, b1, "ing-1", run)
	submit(t, a1, out(1, "a"), out(2, "b"))
	sync_(t, a1)
	a2 := take(t, b2, "ing-2", run)
	if a2.Next() != 3 {
		t.Fatalf("Next() = %d after the takeover, want 3", a2.Next())
	}
	// The old owner learns of it without appending.
	select {
	case <-a1.Taken():
	case <-deadline(t).Done():
		t.Fatal("the old owner does not learn that its run was taken")
	}
	if err := a1.Submit(deadline(t), out(3, "old")); !errors.Is(err, ErrTaken) {
		t.Errorf("Submit by the old owner = %v, want ErrTaken", err)
	}
	submit(t, a2, out(2, "b"), out(3, "c"), exit(4, "0"))
	sync_(t, a2)
	if err := a1.Release(deadline(t)); err != nil {
		t.Errorf("Release of a taken run = %v", err)
	}
	h := read(t, b1, run.Key, 0, 0)
	h.dense(t, 1)
	if h.output() != "abc" {
		t.Errorf("output = %q, want abc", h.output())
	}
	if e, err := b1.readState(deadline(t), path(run.Key)); err != nil || e.run.Owner != "ing-2" || e.run.Epoch != 2 || !e.run.Connected {
		t.Errorf("state = %+v, %v, want owner ing-2, epoch 2, connected", e.run, err)
	}
}

func TestSecondOpenChangesNothing(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b1 := open(t, s, func(c *Config) { c.MaxAge, c.MaxBytes = time.Hour, 64<<20 })
	before, err := b1.js.Stream(deadline(t), logStream)
	if err != nil {
		t.Fatal(err)
	}
	b2 := open(t, s, func(c *Config) { c.MaxBytes = 0 })
	after, err := b2.js.Stream(deadline(t), logStream)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before.CachedInfo().Config, after.CachedInfo().Config); d != "" {
		t.Errorf("a second Open changed the stream:\n%s", d)
	}
	if b2.maxAge != time.Hour || b2.maxBytes != 64<<20 {
		t.Errorf("limits = %v, %d, want those that are in force", b2.maxAge, b2.maxBytes)
	}
	if err := b2.Ready(deadline(t)); err != nil {
		t.Errorf("Ready = %v", err)
	}
}

// Readers are let in without a leader for as long as an election takes, and no longer.
func TestReadable(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	if err := errors.Join(b.Ready(deadline(t)), b.Readable(deadline(t))); err != nil {
		t.Fatal(err)
	}
	if err := b.js.DeleteStream(deadline(t), logStream); err != nil {
		t.Fatal(err)
	}
	if err := b.Ready(deadline(t)); err == nil {
		t.Error("Ready without a log")
	}
	if err := b.Readable(deadline(t)); err != nil {
		t.Errorf("Readable in an election = %v", err)
	}
	b.leaderless.since = time.Now().Add(-electionTakes - 1)
	if err := b.Readable(deadline(t)); err == nil {
		t.Error("Readable when an election is over = nil")
	}
	if err := b.create(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := b.Readable(deadline(t)); err != nil {
		t.Errorf("Readable = %v, with a leader again", err)
	}
}
