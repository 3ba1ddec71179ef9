package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"tasktracer/pkg/socketio"
)

// Seen is what a Watcher saw of the run of its client.
type Seen struct {
	Stdout      []byte
	Last        uint64 // seq of the last record
	Lost, Twice int    // records
	Reconnects  int
	Problems    []string
	Away        time.Duration // longest time from a lost connection to the next accepted one
	Silence     time.Duration // longest time between two records
	Lull        time.Duration // the same, since the last call of Watcher.Lull
}

// Watcher is a viewer of one client that goes on by its cursors when it is moved, as the page does.
type Watcher struct {
	url, token, task, client string

	leave func() // ends the connection, and waits for that; not nil while there is one

	mu      sync.Mutex
	seen    Seen
	stdout  bytes.Buffer
	cursors map[string]string
	heard   time.Time
	lostAt  time.Time
	ended   chan struct{}
	once    sync.Once
}

// Watch starts one; it ends with the test.
func Watch(ctx context.Context, t testing.TB, url, token, task, client string) *Watcher {
	w := &Watcher{url: url, token: token, task: task, client: client, cursors: map[string]string{}, ended: make(chan struct{})}
	w.Return(ctx, t)
	return w
}

// Return has it come back after Leave, and go on by its cursors.
func (w *Watcher) Return(ctx context.Context, t testing.TB) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// As the page does: at once, and then with patience.
		_ = socketio.Redial(ctx, socketio.DialConfig{URL: w.url}, socketio.Backoff{Min: 50 * time.Millisecond, Max: time.Second}, func(ctx context.Context, c *socketio.Client) error {
			return w.use(ctx, c, w.token)
		})
	}()
	w.leave = func() {
		cancel()
		<-done
	}
	t.Cleanup(w.leave)
}

// Leave has it go.
func (w *Watcher) Leave() { w.leave() }

func (w *Watcher) use(ctx context.Context, c *socketio.Client, token string) error {
	c.OnEvent(w.event)
	watch := map[string]any{"task": w.task, "from": []string{w.client}, "history": "all", "batch": true}
	w.mu.Lock()
	if len(w.cursors) > 0 {
		after := []string{}
		for _, cursor := range w.cursors {
			after = append(after, cursor)
		}
		watch["after"] = map[string]any{w.client: after}
	}
	w.mu.Unlock()
	if err := c.Emit(ctx, "authenticate", map[string]any{"type": "browser_token", "token": token, "v": 2, "watch": watch}); err != nil {
		return err
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lostAt.IsZero() {
		w.lostAt = time.Now()
	}
	return c.Err()
}

func (w *Watcher) event(e *socketio.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.Name {
	case "authenticated":
		if bytes.Contains(bytes.Join(raw(e.Args), nil), []byte(`"error"`)) {
			w.seen.Problems = append(w.seen.Problems, string(bytes.Join(raw(e.Args), nil)))
			return
		}
		if !w.lostAt.IsZero() {
			w.seen.Reconnects++
			w.seen.Away = max(w.seen.Away, time.Since(w.lostAt))
			w.lostAt = time.Time{}
		}
	case "data":
		w.data(e.Args[0])
	case "problem", "gap":
		w.seen.Problems = append(w.seen.Problems, fmt.Sprintf("%s %s", e.Name, bytes.Join(raw(e.Args), []byte(" "))))
	case "eof":
		w.once.Do(func() { close(w.ended) })
	}
}

func raw(args []json.RawMessage) (out [][]byte) {
	for _, a := range args {
		out = append(out, a)
	}
	return out
}

func (w *Watcher) data(raw json.RawMessage) {
	var m struct {
		Run, Cursor string
		Data        []struct {
			Seq  uint64
			Type string
			Data string
		}
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		w.seen.Problems = append(w.seen.Problems, err.Error())
		return
	}
	now := time.Now()
	if !w.heard.IsZero() {
		w.seen.Silence = max(w.seen.Silence, now.Sub(w.heard))
		w.seen.Lull = max(w.seen.Lull, now.Sub(w.heard))
	}
	w.heard = now
	w.cursors[m.Run] = m.Cursor
	for _, r := range m.Data {
		switch {
		case r.Seq <= w.seen.Last:
			w.seen.Twice++
			continue
		case w.seen.Last != 0 && r.Seq > w.seen.Last+1:
			w.seen.Lost += int(r.Seq - w.seen.Last - 1)
		}
		w.seen.Last = r.Seq
		if r.Type == "STDOUT" {
			w.stdout.WriteString(r.Data)
		}
	}
}

// Seen is what it has seen so far; the text is left out.
func (w *Watcher) Seen() Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// Lull gives the longest silence since the last call, a present one included.
func (w *Watcher) Lull() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := max(w.seen.Lull, time.Since(w.heard))
	w.seen.Lull = 0
	return d
}

// Wait returns what was seen of the run once it has ended.
func (w *Watcher) Wait(ctx context.Context, t testing.TB) Seen {
	t.Helper()
	select {
	case <-w.ended:
	case <-ctx.Done():
		t.Fatalf("a viewer heard no eof; it stands at record %d, was told of %q", w.Seen().Last, w.Seen().Problems)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seen
	s.Stdout = bytes.Clone(w.stdout.Bytes())
	return s
}

// Progress waits until every watcher has seen n records more than any had seen at the call.
func Progress(ctx context.Context, t testing.TB, ws []*Watcher, n uint64) {
	t.Helper()
	newest := uint64(0)
	for _, w := range ws {
		newest = max(newest, w.Seen().Last)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, w := range ws {
		for w.Seen().Last < newest+n {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("a viewer stands still at record %d", w.Seen().Last)
			}
		}
	}
}

// Talker is a `tt` whose command writes a line every few milliseconds until it is told to stop.
type Talker struct {
	*Process
	Home string // of tt, with its spool
	stop string
}

// Talk starts one as the client "host-1" of a task; pause is in seconds, text is written behind each line's number.
func Talk(t testing.TB, b Binaries, url, token, task, pause, text string) *Talker {
	t.Helper()
	home := t.TempDir()
	w := &Talker{Home: home, stop: home + "/stop"}
	env := []string{"HOME=" + home, "XDG_STATE_HOME=" + home, "XDG_CACHE_HOME=" + home, "TASKTRACER_URL=" + url, "TASKTRACER_TOKEN=" + token}
	w.Process = Start(t, "tt", nil, env, b.TT, "-n", task, "--id", "host-1",
		`i=0; while [ ! -e `+w.stop+` ]; do i=$((i+1)); echo "line $i `+text+`"; [ $((i % 7)) = 0 ] && echo "warning $i" >&2; sleep `+pause+`; done; echo "that was $i"`)
	return w
}

// Finish lets the command end, and waits until tt has, too: what it wrote is then delivered.
func (w *Talker) Finish(ctx context.Context, t testing.TB) (stdout string) {
	t.Helper()
	if err := touch(w.stop); err != nil {
		t.Fatal(err)
	}
	if code, err := w.Wait(ctx); err != nil || code != 0 {
		t.Fatalf("tt exits %d, %v\n%s", code, err, w.Tail(20))
	}
	return w.Stdout()
}
