// Package rolling restarts every part of the system, one process after the other, while it is used through plain round robin: nothing may be
// lost, nothing may come twice, and viewers are back within two seconds.
package rolling

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
	"tasktracer/pkg/socketio"
)

var binaries stage.Binaries

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tasktracer-rolling-")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binaries, err = stage.Build(dir); err != nil {
		log.Print(err)
		return 1
	}
	return m.Run()
}

// tier is the replicas of one part, behind a balancer where it has one.
type tier struct {
	role     string
	args     []string
	balancer *stage.Balancer
	servers  []*stage.Server
}

func (tr *tier) start(ctx context.Context, t *testing.T, name string) *stage.Server {
	t.Helper()
	s, err := stage.LaunchServer(ctx, binaries, name, tr.role, "127.0.0.1:0", append([]string{"--drain", "1s"}, tr.args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func (tr *tier) publish() {
	if tr.balancer != nil {
		tr.balancer.Set(tr.servers...)
	}
}

// restart stops replica i as an orchestrator does, and then starts its successor.
func (tr *tier) restart(ctx context.Context, t *testing.T, i int) {
	t.Helper()
	old := tr.servers[i]
	began := time.Now()
	if err := old.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	code, err := old.Wait(ctx)
	if err != nil || code != 0 {
		t.Fatalf("%s-%d ended with %d, %v after SIGTERM\n%s", tr.role, i, code, err, old.Tail(30))
	}
	stopped := time.Since(began)
	tr.servers[i] = tr.start(ctx, t, fmt.Sprintf("%s-%d", tr.role, i))
	tr.publish()
	t.Logf("%s-%d: stopped in %v, back after %v", tr.role, i, stopped.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

func TestRollingRestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	_, nats := stage.NewNATS(t, binaries)
	config := stage.Config(t)
	viewers, clients := stage.NewBalancer(t), stage.NewBalancer(t)
	tiers := []*tier{
		{role: "gateway", args: []string{"--nats", nats}, balancer: viewers},
		{role: "ingest", args: []string{"--nats", nats, "--public-url", viewers.URL}, balancer: clients},
		{role: "token", args: []string{"--nats", nats, "--config", config}},
	}
	for _, tr := range tiers {
		for i := range 2 {
			tr.servers = append(tr.servers, tr.start(ctx, t, fmt.Sprintf("%s-%d", tr.role, i)))
		}
		tr.publish()
	}
	browser := stage.Token(t, binaries, config, "default", "browser_token")
	vs := []*viewer{newViewer(ctx, t, viewers.URL, browser), newViewer(ctx, t, viewers.URL, browser), newViewer(ctx, t, viewers.URL, browser)}

	stop := filepath.Join(t.TempDir(), "stop")
	home := t.TempDir()
	conf := fmt.Sprintf("id = host-1\ntoken = %s\nurl = %s\n", stage.Token(t, binaries, config, "default", "client_token"), clients.URL)
	if err := os.WriteFile(filepath.Join(home, ".tt.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	tt := stage.Start(t, "tt", nil, []string{"HOME=" + home, "XDG_STATE_HOME=" + home, "XDG_CACHE_HOME=" + home}, binaries.TT,
		"-n", "rolling", `i=0; while [ ! -e `+stop+` ]; do i=$((i+1)); echo "line $i"; [ $((i % 7)) = 0 ] && echo "warning $i" >&2; sleep 0.005; done; echo "that was $i"`)

	progress(ctx, t, vs)
	for _, tr := range tiers {
		for i := range tr.servers {
			tr.restart(ctx, t, i)
			progress(ctx, t, vs)
		}
	}
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, err := tt.Wait(ctx); err != nil || code != 0 {
		t.Fatalf("tt exits %d, %v\n%s", code, err, tt.Tail(20))
	}
	want := sha256.Sum256([]byte(tt.Stdout()))
	for i, v := range vs {
		r := v.wait(ctx, t)
		if got := sha256.Sum256(r.stdout.Bytes()); got != want {
			t.Errorf("viewer %d: stdout has %d bytes, the command wrote %d: not the same", i, r.stdout.Len(), len(tt.Stdout()))
		}
		t.Logf("viewer %d: %d records, %d lost, %d twice, %d reconnects, away for at most %v, longest silence %v",
			i, r.last, r.lost, r.twice, r.reconnects, r.away.Round(time.Millisecond), r.silence.Round(time.Millisecond))
		if r.lost != 0 || r.twice != 0 {
			t.Errorf("viewer %d: %d records lost, %d twice, want none", i, r.lost, r.twice)
		}
		if r.reconnects == 0 {
			t.Errorf("viewer %d was never moved: the test tested nothing", i)
		}
		if r.away > 2*time.Second {
			t.Errorf("viewer %d was away for %v, want at most 2s", i, r.away)
		}
	}
}

// progress waits until every viewer has seen something newer than what any had seen at the call.
func progress(ctx context.Context, t *testing.T, vs []*viewer) {
	t.Helper()
	newest := uint64(0)
	for _, v := range vs {
		newest = max(newest, v.seen().last)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, v := range vs {
		for v.seen().last < newest+100 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("a viewer stands still at record %d", v.seen().last)
			}
		}
	}
}

// report is what a viewer saw.
type report struct {
	stdout      bytes.Buffer
	last        uint64
	lost, twice int
	reconnects  int
	away        time.Duration // longest time from a lost connection to the next accepted one
	silence     time.Duration // longest time between two records
}

// viewer is one that goes on by its cursors when it is moved.
type viewer struct {
	mu      sync.Mutex
	report  report
	cursors map[string]string
	heard   time.Time
	lostAt  time.Time
	ended   chan struct{}
	once    sync.Once
}

func newViewer(ctx context.Context, t *testing.T, url, token string) *viewer {
	v := &viewer{cursors: map[string]string{}, ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// As the page does: at once, and then with patience.
		_ = socketio.Redial(ctx, socketio.DialConfig{URL: url}, socketio.Backoff{Min: 50 * time.Millisecond, Max: time.Second}, func(ctx context.Context, c *socketio.Client) error {
			return v.use(ctx, c, token)
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return v
}

func (v *viewer) use(ctx context.Context, c *socketio.Client, token string) error {
	c.OnEvent(v.event)
	watch := map[string]any{"task": "rolling", "from": []string{"host-1"}, "history": "all", "batch": true}
	v.mu.Lock()
	if len(v.cursors) > 0 {
		after := []string{}
		for _, cursor := range v.cursors {
			after = append(after, cursor)
		}
		watch["after"] = map[string]any{"host-1": after}
	}
	v.mu.Unlock()
	if err := c.Emit(ctx, "authenticate", map[string]any{"type": "browser_token", "token": token, "v": 2, "watch": watch}); err != nil {
		return err
	}
	<-c.Done()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lostAt.IsZero() {
		v.lostAt = time.Now()
	}
	return c.Err()
}

func (v *viewer) event(e *socketio.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e.Name {
	case "authenticated":
		if !v.lostAt.IsZero() {
			v.report.reconnects++
			v.report.away = max(v.report.away, time.Since(v.lostAt))
			v.lostAt = time.Time{}
		}
	case "data":
		v.data(e.Args[0])
	case "eof":
		v.once.Do(func() { close(v.ended) })
	}
}

func (v *viewer) data(raw json.RawMessage) {
	var m struct {
		Run, Cursor string
		Data        []struct {
			Seq  uint64
			Type string
			Data string
		}
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return
	}
	now := time.Now()
	if !v.heard.IsZero() {
		v.report.silence = max(v.report.silence, now.Sub(v.heard))
	}
	v.heard = now
	v.cursors[m.Run] = m.Cursor
	for _, r := range m.Data {
		switch {
		case r.Seq <= v.report.last:
			v.report.twice++
			continue
		case v.report.last != 0 && r.Seq > v.report.last+1:
			v.report.lost += int(r.Seq - v.report.last - 1)
		}
		v.report.last = r.Seq
		if r.Type == "STDOUT" {
			v.report.stdout.WriteString(r.Data)
		}
	}
}

func (v *viewer) seen() report {
	v.mu.Lock()
	defer v.mu.Unlock()
	return report{last: v.report.last}
}

// wait returns the report once the run has ended.
func (v *viewer) wait(ctx context.Context, t *testing.T) *report {
	t.Helper()
	select {
	case <-v.ended:
	case <-ctx.Done():
		t.Fatalf("a viewer heard no eof; it stands at record %d", v.seen().last)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return &v.report
}
