package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
)

func TestDeleteRun(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Config{})
	b, api := open(t, s), open(t, s)
	st := watchStates(t, api)
	run, kept := newRun(t), newRun(t)
	a, k := take(t, b, "ing-1", run), take(t, b, "ing-1", kept)
	submit(t, a, out(1, "secret"))
	submit(t, k, out(1, "kept"))
	sync_(t, a)
	sync_(t, k)
	if err := api.DeleteRun(deadline(t), run.Key); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.Taken():
	case <-deadline(t).Done():
		t.Fatal("the owner of a deleted run does not learn of it")
	}
	if err := a.Submit(deadline(t), out(2, "more")); !errors.Is(err, ErrDeleted) {
		t.Errorf("Submit = %v, want ErrDeleted", err)
	}
	eventually(t, "the deletion is announced", func() bool { return st.deleted(run.Key.Run) })
	if _, err := b.Take(deadline(t), "ing-2", run); !errors.Is(err, ErrDeleted) {
		t.Errorf("Take of a deleted run = %v, want ErrDeleted", err)
	}
	none := func(Stored) error { t.Error("a chunk of a deleted run"); return nil }
	if err := api.Read(deadline(t), run.Key, 0, 0, none, nil); !errors.Is(err, ErrDeleted) {
		t.Errorf("Read of a deleted run = %v, want ErrDeleted", err)
	}
	if _, err := api.Tail(deadline(t), run.Key); !errors.Is(err, ErrDeleted) {
		t.Errorf("Tail of a deleted run = %v, want ErrDeleted", err)
	}
	if err := api.DeleteRun(deadline(t), run.Key); err != nil {
		t.Errorf("DeleteRun again = %v", err)
	}
	if err := api.DeleteRun(deadline(t), newRun(t).Key); !errors.Is(err, ErrNotFound) {
		t.Errorf("DeleteRun of a stranger = %v, want ErrNotFound", err)
	}
	if h := read(t, api, kept.Key, 0, 0); h.output() != "kept" {
		t.Errorf("the other run has %q", h.output())
	}
	late := watchStates(t, api)
	if !late.deleted(run.Key.Run) {
		t.Error("a later watcher is not told of the deletion")
	}
	if err := a.Release(deadline(t)); err != nil {
		t.Errorf("Release of a deleted run = %v", err)
	}
}

// A deletion that races with an owner at work must win, whatever the order.
func TestDeleteRunWhileAppending(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Config{})
	b, api := open(t, s), open(t, s)
	for range 20 {
		run := newRun(t)
		a := take(t, b, "ing-1", run)
		done := make(chan error, 1)
		ctx := deadline(t)
		go func() {
			var err error
			for i := uint64(1); err == nil; i++ {
				err = a.Submit(ctx, out(i, "x"))
			}
			done <- err
		}()
		eventually(t, "it appends", func() bool { n, _ := a.Durable(); return n > 3 })
		if err := api.DeleteRun(ctx, run.Key); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrDeleted) {
			t.Fatalf("Submit = %v, want ErrDeleted", err)
		}
		eventually(t, "nothing is left", func() bool {
			m, err := api.lastMessage(ctx, logStream, prefixIn+path(run.Key))
			return err == nil && m == nil
		})
	}
}

func TestNamesThatAreHostile(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b, viewer := open(t, s), open(t, s)
	long := string(bytes.Repeat([]byte("x"), 1000))
	var all []frame.Key
	for _, name := range []string{"*", ">", "a.b", "a b", "ü", long, long[:999] + "y", "", "=", "=h", "a/b", "\r\n"} {
		for _, k := range []frame.Key{{Namespace: "n", Task: name, Client: "c"}, {Namespace: "n", Task: "t", Client: name}, {Namespace: name, Task: "t", Client: "c"}} {
			k.Run = "run-00000001"
			all = append(all, k)
		}
	}
	all = append(all, frame.Key{Namespace: "a", Task: "b:c", Client: "d", Run: "run-00000001"}, frame.Key{Namespace: "a", Task: "b", Client: "c:d", Run: "run-00000001"})
	seen := make(map[frame.Key]chan string)
	for _, k := range all {
		if _, dup := seen[k]; dup {
			continue
		}
		got := make(chan string, 100)
		seen[k] = got
		sub, err := viewer.Subscribe(deadline(t), Client{k.Namespace, k.Task, k.Client}, Handler{Chunk: func(s Stored) {
			if s.Key != k {
				t.Errorf("subscription of %q got a chunk of %q", k, s.Key)
			}
			for _, r := range s.Chunk.Records {
				if r.Kind == frame.Stdout {
					got <- string(r.Data)
				}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
	}
	for k := range seen {
		a := take(t, b, "ing-1", frame.Run{Key: k})
		submit(t, a, out(1, "of "+k.String()))
		sync_(t, a)
	}
	for k, got := range seen {
		if text := <-got; text != "of "+k.String() || len(got) != 0 {
			t.Errorf("viewer of %q got %q and %d more", k, text, len(got))
		}
		if h := read(t, viewer, k, 0, 0); h.output() != "of "+k.String() {
			t.Errorf("history of %q is %q", k, h.output())
		}
	}
	st := watchStates(t, viewer)
	if len(st.runs) != 1 {
		t.Fatalf("%d run ids, want 1", len(st.runs))
	}
}

func TestWatchRunsKnowsHashedNames(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}))
	run := newRun(t)
	run.Key.Task = string(bytes.Repeat([]byte("ü"), 300))
	take(t, b, "ing-1", run)
	st := watchStates(t, b)
	r, _ := st.get(run.Key.Run)
	if d := cmp.Diff(run.Key, r.Key); d != "" {
		t.Errorf("key differs:\n%s", d)
	}
	gone := make(chan frame.Key, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go b.WatchRuns(ctx, func(c RunChange) { //nolint:errcheck // ends with the test
		if c.Deleted {
			gone <- c.Run.Key
		}
	}, nil)
	if err := b.DeleteRun(deadline(t), run.Key); err != nil {
		t.Fatal(err)
	}
	if k := <-gone; k != run.Key {
		t.Errorf("deletion of %v", k)
	}
}

func TestLocate(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}))
	other := take(t, b, "ing-1", newRun(t))
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	rnd := rand.New(rand.NewPCG(1, 2))
	var whole []byte
	src := uint64(0)
	for i := range 120 {
		text := make([]byte, rnd.IntN(3000))
		for j := range text {
			text[j] = byte('a' + rnd.IntN(20))
			if rnd.IntN(60) == 0 {
				text[j] = '\n'
			}
		}
		whole = append(whole, text...)
		src++
		submit(t, a, out(src, string(text)))
		sync_(t, a) // a chunk each
		submit(t, other, out(uint64(i+1), "foreign"))
		if i%40 == 39 {
			a = take(t, b, fmt.Sprintf("ing-%d", i), run) // claims lie in between
		}
	}
	fromChunk := func(after, hint uint64) (got []byte, offset, line uint64) {
		first := true
		err := b.Read(deadline(t), run.Key, after, hint, func(s Stored) error {
			if first {
				offset, line, first = s.Chunk.Offset, s.Chunk.Line, false
			}
			for _, r := range s.Chunk.Records {
				if r.Kind.Output() {
					got = append(got, r.Data...)
				}
			}
			return nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got, offset, line
	}
	for range 60 {
		want := rnd.IntN(len(whole))
		after, hint, err := b.LocateByte(deadline(t), run.Key, uint64(want))
		if err != nil {
			t.Fatal(err)
		}
		got, offset, _ := fromChunk(after, hint)
		if offset > uint64(want) || uint64(want)-offset > 3000 || !bytes.Equal(got, whole[offset:]) {
			t.Fatalf("LocateByte(%d): reading begins at %d, %d bytes, want at most a chunk before, and all to the end", want, offset, len(got))
		}
	}
	starts := []int{0}
	for i, c := range whole {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	for range 60 {
		n := rnd.IntN(len(starts))
		after, hint, err := b.LocateLine(deadline(t), run.Key, uint64(n))
		if err != nil {
			t.Fatal(err)
		}
		got, offset, line := fromChunk(after, hint)
		pos := 0
		for ; line < uint64(n); line++ {
			pos += bytes.IndexByte(got[pos:], '\n') + 1
		}
		if int(offset)+pos != starts[n] {
			t.Fatalf("LocateLine(%d): reading leads to byte %d, want %d", n, int(offset)+pos, starts[n])
		}
	}
}

// A hint may be wrong in any way; the result is the same.
func TestReadWithWrongHints(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}))
	run := newRun(t)
	a, other := take(t, b, "ing-1", run), take(t, b, "ing-1", newRun(t))
	for i := range uint64(50) {
		submit(t, a, out(i+1, fmt.Sprintf("%d\n", i+1)))
		submit(t, other, out(i+1, "foreign"))
		sync_(t, a)
		sync_(t, other)
	}
	for after := uint64(0); after <= 51; after += 3 {
		for _, hint := range []uint64{0, 1, 2, 7, 30, 50, 80, 104, 1000, 1 << 60} {
			h := read(t, b, run.Key, after, hint)
			if want := int(51 - after); len(h.recs) != want || len(h.gone) != 0 {
				t.Errorf("Read(after %d, hint %d) gave %d records, %d gaps, want %d, 0", after, hint, len(h.recs), len(h.gone), want)
			}
			h.dense(t, after+1)
		}
	}
}

// A slow callback must not keep others from reading, and still gets everything.
func TestSlowReaderYields(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}), func(c *Config) { c.Readers = 1 })
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	payload := string(bytes.Repeat([]byte("y"), 100_000))
	for i := range uint64(30) {
		submit(t, a, out(i+1, payload))
	}
	sync_(t, a)
	stuck, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	slow := &history{}
	go func() {
		first := true
		done <- b.Read(deadline(t), run.Key, 0, 0, func(s Stored) error {
			if first {
				first = false
				close(stuck)
				<-free
			}
			return slow.add(s)
		}, nil)
	}()
	<-stuck
	if h := read(t, b, run.Key, 0, 0); len(h.recs) != 31 {
		t.Errorf("the reader behind a slow one got %d records, want 31", len(h.recs))
	}
	close(free)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(slow.recs) != 31 {
		t.Errorf("the slow reader got %d records, want 31", len(slow.recs))
	}
	slow.dense(t, 1)
}

func TestRequestAndServe(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b := open(t, s)
	if _, err := b.Request(deadline(t), "tt.svc.test", nil); !errors.Is(err, ErrNoService) {
		t.Errorf("Request without a service = %v, want ErrNoService", err)
	}
	var stops []func()
	for _, name := range []string{"one", "two"} {
		sb := open(t, s)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- sb.Serve(ctx, "test", "1.0.0", Endpoint{Name: "echo", Subject: "tt.svc.test", Handle: func(_ context.Context, d []byte) ([]byte, error) {
				if string(d) == "bad" {
					return nil, errors.New("that is bad")
				}
				return []byte(name + " " + string(d)), nil
			}})
		}()
		stops = append(stops, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	by := map[string]bool{}
	eventually(t, "both replicas answer", func() bool {
		r, err := b.Request(deadline(t), "tt.svc.test", []byte("hi"))
		if err == nil {
			by[string(r)] = true
		}
		return by["one hi"] && by["two hi"]
	})
	// Many at a time, for the race detector to see an answer beside what micro does after its handler.
	var asking sync.WaitGroup
	for range 16 {
		asking.Go(func() {
			for range 100 {
				if _, err := b.Request(deadline(t), "tt.svc.test", []byte("bad")); err == nil || !strings.Contains(err.Error(), "that is bad") {
					t.Errorf("Request that fails = %v, want the service's error", err)
				}
			}
		})
	}
	asking.Wait()
	for _, stop := range stops {
		stop()
	}
}

func TestBroadcast(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b, other := open(t, s), open(t, s)
	heard := make(chan string, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	for _, l := range []*Bus{b, other} {
		go func() { done <- l.Listen(ctx, "tt.ev.test", func(d []byte) { heard <- string(d) }) }()
	}
	n := 0
	eventually(t, "both hear", func() bool {
		if err := b.Broadcast("tt.ev.test", []byte("x")); err != nil {
			t.Fatal(err)
		}
		for len(heard) > 0 {
			<-heard
			n++
		}
		return n >= 2
	})
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestRevoked(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}))
	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	begun := time.Now()
	for jti, exp := range map[string]time.Time{"a.b*": soon, "expired": time.Now().Add(-time.Hour), "for good": {}} {
		if err := b.Revoke(deadline(t), jti, exp); err != nil {
			t.Fatal(err)
		}
	}
	type rev struct {
		jti string
		exp time.Time
	}
	got, synced := make(chan rev, 10), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go b.WatchRevoked(ctx, func(jti string, exp time.Time) { got <- rev{jti, exp} }, func() { close(synced) }) //nolint:errcheck // ends with the test
	<-synced
	all := map[string]time.Time{}
	for len(got) > 0 {
		r := <-got
		all[r.jti] = r.exp
	}
	// As long as a run of these tokens may be in the log, and so come back.
	if len(all) != 3 || all["a.b*"].Before(begun.Add(b.maxAge)) || all["expired"].Before(begun.Add(b.maxAge)) || !all["for good"].IsZero() {
		t.Errorf("revoked = %v", all)
	}
	if err := b.Revoke(deadline(t), "new", soon); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.jti != "new" {
		t.Errorf("then %v", r)
	}
}
