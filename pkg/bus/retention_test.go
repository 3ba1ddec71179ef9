package bus

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
)

// flood writes foreign output until the stream has dropped what it held of the given run.
func flood(t testing.TB, b *Bus, key frame.Key) {
	t.Helper()
	a := take(t, b, "ing-flood", newRun(t))
	data := bytes.Repeat([]byte("f"), 200_000)
	src := uint64(0)
	eventually(t, "the run is evicted", func() bool {
		for range 8 {
			src++
			submit(t, a, frame.Record{Src: src, Kind: frame.Stdout, Data: data})
		}
		sync_(t, a)
		m, err := b.lastMessage(deadline(t), logStream, prefixIn+path(key))
		return err == nil && m == nil
	})
}

func small(c *Config) { c.MaxBytes = 2 << 20 }

// A foreign flood evicts everything of a live run: it goes on where it was, and viewers are told what is gone, exactly.
func TestLiveRunEvictedByAFlood(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b, viewer := open(t, s, small), open(t, s, small)
	run := newRun(t)
	f := following(t, viewer, run.Key)
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, "aaa"), out(2, "bbb"))
	sync_(t, a)
	f.await(t, 3)
	flood(t, b, run.Key)
	submit(t, a, out(3, "ccc"))
	sync_(t, a)
	submit(t, a, out(4, "ddd"))
	sync_(t, a)
	f.await(t, 5)
	if f.output() != "aaabbbcccddd" || len(f.h.gone) != 0 {
		t.Errorf("a live viewer got %q, gone %v, want all of it: it had what is gone", f.output(), f.h.gone)
	}
	late := read(t, viewer, run.Key, 0, 0)
	if late.output() != "cccddd" || len(late.gone) != 1 || late.gone[0] != (Gone{From: 1, To: 3, Bytes: 6}) {
		t.Errorf("a late viewer got %q, gone %v, want cccddd behind a gap of 1 to 3, 6 bytes", late.output(), late.gone)
	}
	if e, err := b.readState(deadline(t), path(run.Key)); err != nil || !e.run.Connected {
		t.Errorf("state = %+v, %v", e.run, err)
	}
}

// The log is evicted after a clean release: nothing is unknown, numbering goes on from the checkpoint without a word.
func TestReleasedRunEvicted(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}), small)
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, "aaa"), out(2, "bbb"))
	if err := a.Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
	flood(t, b, run.Key)
	all := read(t, b, run.Key, 0, 0)
	if len(all.recs) != 0 || len(all.gone) != 1 || all.gone[0] != (Gone{From: 1, To: 3, Bytes: 6}) {
		t.Errorf("read gives %d records, gone %v, want a gap of everything", len(all.recs), all.gone)
	}
	a = take(t, b, "ing-2", run)
	if a.Next() != 3 {
		t.Errorf("Next() = %d, want 3", a.Next())
	}
	submit(t, a, out(3, "ccc"))
	sync_(t, a)
	h := read(t, b, run.Key, 3, 0)
	h.dense(t, 4)
	if h.output() != "ccc" || len(h.recs) != 1 || len(h.gone) != 0 {
		t.Errorf("behind 3: %q in %d records, gone %v, want ccc alone", h.output(), len(h.recs), h.gone)
	}
}

// The owner dies with a checkpoint that is behind, and then the log is evicted: what was stored in between is not known to anybody.
// No number is given twice, and a NOTE says it.
func TestTailLostWithItsOwner(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}), small)
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, "aaa"))
	sync_(t, a)
	die(a)
	if e, err := b.readState(deadline(t), path(run.Key)); err != nil || e.run.Checkpoint.Seq != 1 {
		t.Fatalf("checkpoint = %+v, %v, want that of the claim", e.run, err)
	}
	flood(t, b, run.Key)
	a = take(t, b, "ing-2", run)
	submit(t, a, out(a.Next(), "bbb"))
	sync_(t, a)
	h := read(t, b, run.Key, 2, 0) // a viewer that has seen record 2
	if len(h.recs) != 2 || h.recs[0].Kind != frame.Note || h.recs[0].Seq <= 2 || h.output() != "bbb" || len(h.gone) != 1 {
		t.Errorf("a viewer behind record 2 got %+v, gone %v, want a gap, a NOTE and bbb", h.recs, h.gone)
	}
}

// A live run that is silent for longer than the age limit keeps its tail.
func TestTailIsKeptYoung(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}), func(c *Config) { c.MaxAge = time.Second })
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, "aaa"))
	sync_(t, a)
	eventually(t, "the output has aged out", func() bool { h := read(t, b, run.Key, 0, 0); return len(h.gone) == 1 })
	tail, err := b.Tail(deadline(t), run.Key)
	if err != nil || tail.Chunk.Next() != 3 || len(tail.Chunk.Records) != 0 {
		t.Fatalf("Tail = %+v, %v, want an empty chunk behind record 2", tail.Chunk, err)
	}
	if n := counter(t, b.met.resolved.WithLabelValues("tail_gone")); n != 0 {
		t.Errorf("the tail was gone %v times", n)
	}
	submit(t, a, out(2, "bbb"))
	sync_(t, a)
	h := read(t, b, run.Key, 2, 0)
	if h.output() != "bbb" || len(h.gone) != 0 {
		t.Errorf("read gives %q, gone %v", h.output(), h.gone)
	}
}

// The stream ages out under a reader's cursor, while it reads: it gets what is left, and the rest as gaps; together they are everything.
func TestReaderIsOvertakenByRetention(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}), func(c *Config) { c.MaxBytes = 8 << 20 })
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	data := bytes.Repeat([]byte("d"), 100_000)
	for i := range uint64(60) {
		submit(t, a, frame.Record{Src: i + 1, Kind: frame.Stdout, Data: data})
	}
	sync_(t, a)
	got, gone, calls := map[uint64]bool{}, map[uint64]bool{}, 0
	other := take(t, b, "ing-1", newRun(t))
	err := b.Read(deadline(t), run.Key, 0, 0, func(s Stored) error {
		for _, r := range s.Chunk.Records {
			if got[r.Seq] || gone[r.Seq] {
				return fmt.Errorf("record %d twice", r.Seq)
			}
			got[r.Seq] = true
		}
		if calls++; calls == 2 {
			for range 40 {
				submit(t, other, frame.Record{Kind: frame.Stdout, Data: data})
			}
			sync_(t, other)
		}
		return nil
	}, func(g Gone) error {
		for q := g.From; q <= g.To; q++ {
			gone[q] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got)+len(gone) != 61 || len(gone) == 0 {
		t.Errorf("%d records read, %d gone, want 61 together, and some gone", len(got), len(gone))
	}
}

// The log forgets what it had acknowledged (a disk restored from a copy): the owner goes on, nothing is numbered twice, viewers see a gap.
func TestLogRestoredFromACopy(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}))
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	for i := range uint64(4) {
		submit(t, a, out(i+1, fmt.Sprint(i+1)))
		sync_(t, a)
	}
	s, err := b.js.Stream(deadline(t), logStream)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(4); seq <= 5; seq++ { // the two last chunks
		if err := s.DeleteMsg(deadline(t), seq); err != nil {
			t.Fatal(err)
		}
	}
	submit(t, a, out(5, "5"))
	sync_(t, a)
	h := read(t, b, run.Key, 0, 0)
	if h.output() != "125" || len(h.gone) != 1 || h.gone[0] != (Gone{From: 4, To: 5, Bytes: 2}) {
		t.Errorf("read gives %q, gone %v, want 125 and a gap of records 4 to 5, 2 bytes", h.output(), h.gone)
	}
}
