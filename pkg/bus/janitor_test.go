package bus

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
	pb "tasktracer/proto/tasktracer/v1"
)

func sweep(t testing.TB, b *Bus, cfg JanitorConfig) (stop func()) {
	t.Helper()
	cfg.Every = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Janitor(ctx, cfg); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// finished makes a run that has ended and is not connected.
func finished(t testing.TB, b *Bus, key frame.Key, size int) {
	t.Helper()
	a := take(t, b, "ing-1", frame.Run{Key: key})
	for ; size > 0; size -= 50_000 {
		submit(t, a, frame.Record{Kind: frame.Stdout, Data: bytes.Repeat([]byte("z"), min(size, 50_000))})
	}
	submit(t, a, exit(0, "0"))
	if err := a.Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

func runKey(ns string, n int) frame.Key {
	return frame.Key{Namespace: ns, Task: "t", Client: "c", Run: fmt.Sprintf("run-%s-%04d", ns, n)}
}

func TestJanitorKeepsTheNumberOfRuns(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	st := watchStates(t, b)
	alive := take(t, b, "ing-1", frame.Run{Key: runKey("live", 0)}) // the oldest, but it has not ended
	for i := range 20 {
		finished(t, b, runKey("n", i), 10)
	}
	sweep(t, b, JanitorConfig{Runs: 10})
	for i := range 13 {
		eventually(t, fmt.Sprintf("run %d is removed", i), func() bool { return st.deleted(runKey("n", i).Run) })
	}
	for i := 13; i < 20; i++ {
		if h := read(t, b, runKey("n", i), 0, 0); len(h.recs) != 3 {
			t.Errorf("run %d of 20 has %d records left, want all 3: only the oldest go", i, len(h.recs))
		}
	}
	submit(t, alive, out(1, "x"))
	sync_(t, alive)
	// Log and state went together, and a viewer is told.
	h := read(t, b, runKey("n", 0), 0, 0)
	if len(h.recs) != 0 || len(h.gone) != 1 || h.gone[0] != (Gone{From: 1, To: 3, Bytes: 10}) {
		t.Errorf("reading a removed run gives %d records, gone %v, want none and one gap of all", len(h.recs), h.gone)
	}
}

func TestJanitorKeepsBytesOfANamespace(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	st := watchStates(t, b)
	for i := range 10 {
		finished(t, b, runKey("small", i), 10_000)
		finished(t, b, runKey("large", i), 200_000)
	}
	sweep(t, b, JanitorConfig{NamespaceBytes: 1_020_000})
	for i := range 6 {
		eventually(t, fmt.Sprintf("large run %d is removed", i), func() bool { return st.deleted(runKey("large", i).Run) })
	}
	for i := range 10 {
		if h := read(t, b, runKey("small", i), 0, 0); len(h.output()) != 10_000 {
			t.Errorf("the small namespace lost something of run %d", i)
		}
		if h := read(t, b, runKey("large", i), 0, 0); i >= 6 && len(h.output()) != 200_000 {
			t.Errorf("large run %d has %d bytes left, want all", i, len(h.output()))
		}
	}
}

func TestJanitorCutsALongRunAndItGoesOn(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	run := frame.Run{Key: runKey("n", 1)}
	a := take(t, b, "ing-1", run)
	data := bytes.Repeat([]byte("w"), 100_000)
	for i := range uint64(40) {
		submit(t, a, frame.Record{Src: i + 1, Kind: frame.Stdout, Data: data})
	}
	sync_(t, a)
	sweep(t, b, JanitorConfig{RunBytes: 2_000_000})
	var h *history
	eventually(t, "the beginning is cut", func() bool { h = read(t, b, run.Key, 0, 0); return len(h.gone) == 1 && h.gone[0].From == 1 })
	if n := len(h.output()); n < 1_300_000 || n > 2_000_000 {
		t.Errorf("%d bytes are left, want about 70 %% of 2,000,000", n)
	}
	if g := h.gone[0]; g.From != 1 || g.To+1 != h.recs[0].Seq || g.Bytes != int64(4_000_000-len(h.output())) {
		t.Errorf("gap = %+v, first record left is %d, want one gap of exactly what is missing", g, h.recs[0].Seq)
	}
	submit(t, a, out(41, "on"))
	sync_(t, a)
	last := read(t, b, run.Key, 41, 0)
	if last.output() != "on" {
		t.Errorf("the run goes on with %q", last.output())
	}
}

func TestJanitorMakesRoomBeforeTheStreamDoes(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}), func(c *Config) { c.MaxBytes = 4 << 20 })
	st := watchStates(t, b)
	alive := take(t, b, "ing-1", frame.Run{Key: runKey("quiet", 0)})
	submit(t, alive, out(1, "precious"))
	sync_(t, alive)
	sweep(t, b, JanitorConfig{})
	for i := range 40 {
		finished(t, b, runKey("loud", i), 300_000)
		eventually(t, "room", func() bool {
			info, err := b.logInfo(deadline(t), b.live)
			return err == nil && float64(info.bytes) <= highMark*float64(info.maxBytes)
		})
	}
	if !st.deleted(runKey("loud", 0).Run) {
		t.Error("the oldest loud run is still there")
	}
	if h := read(t, b, runKey("quiet", 0), 0, 0); h.output() != "precious" || len(h.gone) != 0 {
		t.Errorf("the quiet run has %q, gone %v: a foreign flood took it", h.output(), h.gone)
	}
}

func TestJanitorIsOne(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b, c := open(t, s), open(t, s)
	one := &janitor{b: b, me: "one"}
	two := &janitor{b: c, me: "two"}
	ctx := deadline(t)
	if !one.leads(ctx) || two.leads(ctx) || !one.leads(ctx) || two.leads(ctx) {
		t.Fatal("not exactly the first one leads")
	}
	one.letGo()
	if !two.leads(ctx) || one.leads(ctx) {
		t.Fatal("after it let go, the second one does not lead")
	}
	two.seenAt = time.Now()
	one.seenAt = time.Now().Add(-2 * deadAfter) // silent for a minute, as one sees it
	if !one.leads(ctx) || two.leads(ctx) {
		t.Fatal("a silent janitor is not replaced")
	}
}

// A run that was lost, and then evicted, comes back: it goes on counting where it was.
func TestEvictedRunComesBack(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	st := watchStates(t, b)
	run := frame.Run{Key: runKey("n", 1), Started: time.UnixMilli(1_700_000_000_000)}
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, "a"), out(2, "b"), exit(3, "0"))
	if err := a.Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		finished(t, b, runKey("x", i), 1)
	}
	began := st.await(t, run.Key.Run, "has its place", func(r frame.Run) bool { return r.FirstStreamSeq != 0 }).FirstStreamSeq
	stop := sweep(t, b, JanitorConfig{Runs: 1})
	eventually(t, "evicted", func() bool { return st.deleted(run.Key.Run) && purged(t, b, run.Key) })
	stop()
	a = take(t, b, "ing-2", frame.Run{Key: run.Key})
	if a.Next() != 4 {
		t.Errorf("Next() = %d, want 4", a.Next())
	}
	// Its beginning is gone, and it is not the latest for that: the others began after it.
	back := st.await(t, run.Key.Run, "is back", func(r frame.Run) bool { return r.Connected })
	if back.FirstStreamSeq != began || !back.Started.Equal(run.Started) {
		t.Errorf("it began at place %d, %v; now it is said to have begun at %d, %v", began, run.Started, back.FirstStreamSeq, back.Started)
	}
	submit(t, a, out(4, "late"))
	sync_(t, a)
	h := read(t, b, run.Key, 0, 0)
	if h.output() != "late" || len(h.gone) != 1 || h.gone[0].To != 4 {
		t.Errorf("read gives %q, gone %v, want a gap up to 4 and then late", h.output(), h.gone)
	}
}

// A run that was accepted may come back when its token has expired, while the log has something of it: the revocation is kept as long.
func TestJanitorSweepsExpiredRevocations(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Config{})
	kept := open(t, s)
	if err := kept.Revoke(deadline(t), "of a token long expired", time.Now().Add(-2*revokedMargin)); err != nil {
		t.Fatal(err)
	}
	stop := sweep(t, kept, JanitorConfig{Runs: 1})
	for i := range 2 { // what one round removes begins the next one
		finished(t, kept, runKey("canary", i), 1)
		eventually(t, "the janitor has been round", func() bool { return purged(t, kept, runKey("canary", i)) })
	}
	stop()
	if m, err := kept.lastMessage(deadline(t), revokeStream, prefixKV+revokeBucket+"."+encodeToken("of a token long expired")); err != nil || m == nil {
		t.Errorf("the revocation of an expired token was swept (%v), and its runs may come back", err)
	}
	kept.Close()
	b := open(t, s, func(c *Config) { c.MaxAge = minMaxAge })
	for jti, exp := range map[string]time.Time{"old": time.Now().Add(-2 * revokedMargin), "valid": time.Now().Add(time.Hour), "forever": {}} {
		if err := b.Revoke(deadline(t), jti, exp); err != nil {
			t.Fatal(err)
		}
	}
	sweep(t, b, JanitorConfig{})
	left := func(jti string) bool {
		m, err := b.lastMessage(deadline(t), revokeStream, prefixKV+revokeBucket+"."+jti)
		return err == nil && m != nil
	}
	eventually(t, "the old one is swept", func() bool { return !left("old") })
	if !left("valid") || !left("forever") {
		t.Error("a revocation that is needed was swept")
	}
}

func purged(t testing.TB, b *Bus, key frame.Key) bool {
	t.Helper()
	m, err := b.lastMessage(deadline(t), logStream, prefixIn+path(key))
	return err == nil && m == nil
}

// Whoever removes a run dies between the marker and the purge; the next janitor finishes, and leaves alone what is not marked.
func TestJanitorFinishesRemovals(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	for i := range 3 {
		finished(t, b, runKey("n", i), 100)
	}
	if err := b.markRemoved(deadline(t), runKey("n", 0), whyDeleted, true); err != nil {
		t.Fatal(err)
	}
	if err := b.markRemoved(deadline(t), runKey("n", 1), whyEvicted, true); err != nil {
		t.Fatal(err)
	}
	sweep(t, b, JanitorConfig{})
	for i := range 2 {
		eventually(t, fmt.Sprintf("the log of run %d is purged", i), func() bool { return purged(t, b, runKey("n", i)) })
	}
	if h := read(t, b, runKey("n", 2), 0, 0); len(h.output()) != 100 {
		t.Errorf("the run that is not marked has %d bytes left, want 100", len(h.output()))
	}
}

// What counts is what the log takes, not the output alone: a run that trickles takes hundreds of bytes for each that it writes.
func TestJanitorCountsWhatIsStored(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	st := watchStates(t, b)
	var runs []frame.Key
	trickle := func(ns string, i int) {
		a := take(t, b, "ing-1", frame.Run{Key: runKey(ns, i)})
		for n := range uint64(100) {
			submit(t, a, out(n+1, "x"))
			sync_(t, a)
		}
		submit(t, a, exit(101, "0"))
		if err := a.Release(deadline(t)); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, a.run.Key)
	}
	for i := range 4 {
		trickle("trickle", i)
	}
	finished(t, b, runKey("flood", 1), 2_000_000)
	runs = append(runs, runKey("flood", 1))
	taken := take(t, b, "ing-1", frame.Run{Key: runKey("flood", 2)})
	submit(t, taken, frame.Record{Src: 1, Kind: frame.Stdout, Data: bytes.Repeat([]byte("z"), 100_000)})
	sync_(t, taken)
	again := take(t, b, "ing-2", frame.Run{Key: runKey("flood", 2)}) // it counts on
	submit(t, again, frame.Record{Src: 2, Kind: frame.Stdout, Data: bytes.Repeat([]byte("z"), 100_000)})
	submit(t, again, exit(3, "0"))
	if err := again.Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
	runs = append(runs, again.run.Key)

	info, err := b.logInfo(deadline(t), b.live)
	if err != nil {
		t.Fatal(err)
	}
	var held uint64
	for _, k := range runs {
		e, err := b.readState(deadline(t), path(k))
		if err != nil {
			t.Fatal(err)
		}
		held += e.run.Checkpoint.Held
	}
	if held < info.bytes*95/100 || held > info.bytes*115/100 {
		t.Errorf("the runs hold %d bytes by their states, the log has %d", held, info.bytes)
	}

	sweep(t, b, JanitorConfig{NamespaceBytes: 100_000}) // four runs with 400 bytes of output take more
	eventually(t, "the oldest run that trickled is removed", func() bool { return st.deleted(runKey("trickle", 0).Run) })
	if h := read(t, b, runKey("trickle", 3), 0, 0); len(h.output()) != 100 {
		t.Errorf("%d bytes are left of the latest run, want all", len(h.output()))
	}
}

// A run that an earlier version began is counted by its output until this one takes it, and by what is stored from then on.
func TestJanitorCountsWhatAnEarlierVersionStored(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	run := frame.Run{Key: runKey("n", 1)}
	info, err := frame.StartInfo{Key: run.Key}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const old = 600_000
	kept := &pb.RunState{
		Version: 1, Namespace: "n", Task: "t", Client: "c", Run: run.Key.Run, Phase: pb.Phase_PHASE_DETACHED, Epoch: 1, Owner: "old", FirstStreamSeq: 1,
		Checkpoint: &pb.Checkpoint{Epoch: 1, Seq: 7, Src: 6, Bytes: old, StreamSeq: 7},
	}
	stored := []proto.Message{&pb.Chunk{Version: 1, Epoch: 1, Owner: "old", FirstSeq: 1, Records: []*pb.Record{{Kind: pb.Kind_KIND_START, Data: info}}}}
	for i := range uint64(6) {
		stored = append(stored, &pb.Chunk{Version: 1, Epoch: 1, Owner: "old", FirstSeq: 2 + i, LastSrc: i + 1, Offset: i * old / 6,
			Records: []*pb.Record{{Kind: pb.Kind_KIND_STDOUT, Src: i + 1, Data: bytes.Repeat([]byte("o"), old/6)}}})
	}
	for _, m := range append(stored, kept) {
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		subject := prefixIn + path(run.Key)
		if m == proto.Message(kept) {
			subject = stateSubject(path(run.Key))
		}
		if _, err := b.publishAny(deadline(t), subject, nil, data); err != nil {
			t.Fatal(err)
		}
	}
	a := take(t, b, "ing-1", run)
	for i := range uint64(9) {
		submit(t, a, frame.Record{Src: 7 + i, Kind: frame.Stdout, Data: bytes.Repeat([]byte("n"), 100_000)})
		sync_(t, a)
	}
	const total = old + 900_000
	a.mu.Lock()
	cp := a.cp
	a.mu.Unlock()
	if cp.Bytes != total || cp.Held < total || cp.Held > total+total/50 {
		t.Errorf("checkpoint = %+v, want %d bytes and little more held", cp, total)
	}
	sweep(t, b, JanitorConfig{RunBytes: 4 * frame.MaxChunk})
	var h *history
	eventually(t, "it is cut", func() bool { h = read(t, b, run.Key, 0, 0); return len(h.output()) <= 4*frame.MaxChunk*8/10 })
	if n := len(h.output()); n < 4*frame.MaxChunk*7/10 || len(h.gone) != 1 || h.gone[0].From != 1 {
		t.Errorf("%d bytes are left, gone is %v, want between 70 and 80 %% of %d, and one gap", n, h.gone, 4*frame.MaxChunk)
	}
}
