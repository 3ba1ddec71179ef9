// Package rolling restarts every part of the system, the nodes of NATS included, one process after the other, while it is used through plain round
// robin: nothing may be lost, nothing may come twice, and viewers are back within two seconds.
package rolling

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
)

var binaries stage.Binaries

func TestMain(m *testing.M) { os.Exit(stage.Main(m, &binaries)) }

// tier is the replicas of one part, behind a balancer where it has one.
type tier struct {
	role     string
	args     []string
	balancer *stage.Balancer
	servers  []*stage.Server
}

func (tr *tier) start(ctx context.Context, t *testing.T, b stage.Binaries, name string) *stage.Server {
	t.Helper()
	s, err := stage.LaunchServer(ctx, b, name, tr.role, "127.0.0.1:0", append([]string{"--drain", "1s"}, tr.args...)...)
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
	stop(ctx, t, tr.servers[i].Process, syscall.SIGTERM)
	tr.servers[i] = tr.start(ctx, t, binaries, fmt.Sprintf("%s-%d", tr.role, i))
	tr.publish()
}

func stop(ctx context.Context, t *testing.T, p *stage.Process, sig syscall.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(ctx); err != nil || code != 0 {
		t.Fatalf("%s ended with %d, %v after %v\n%s", p.Name, code, err, sig, p.Tail(30))
	}
}

// restartNode stops a node of NATS as deployed: on SIGTERM it gives up what it leads before it ends, so that nobody waits for an election. Its successor
// must have caught up before the next one may go.
func restartNode(ctx context.Context, t *testing.T, n *stage.Node) {
	t.Helper()
	stop(ctx, t, n.Process, syscall.SIGTERM)
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// Limits of what a viewer may notice.
const (
	mostAway    = 2 * time.Second // without a connection
	mostSilence = 2 * time.Second // without a record, though the command writes, when a part of ours restarts
	// A publish that the log's leader no longer answered is sent again after 2 s. An election would take 5 s, and must not be needed.
	mostNATSSilence = 4 * time.Second
)

func TestRollingRestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	nats := stage.NewCluster(t, binaries, 1<<30)
	viewers, clients := stage.NewBalancer(t), stage.NewBalancer(t)
	tiers := []*tier{
		{role: "gateway", args: nats.As("gateway"), balancer: viewers},
		{role: "ingest", args: append(nats.As("ingest"), "--public-url", viewers.URL), balancer: clients},
		{role: "token", args: append(nats.As("token"), "--config", nats.Config)},
	}
	before := binaries
	if path := os.Getenv("FROM"); path != "" { // an upgrade: what runs first is an older tasktracer
		before.TaskTracer = path
		version, err := exec.CommandContext(ctx, path, "version").Output()
		if err != nil {
			t.Fatal(err)
		}
		stage.Figure(t, "from version %s", version)
	}
	for _, tr := range tiers {
		for i := range 2 {
			tr.servers = append(tr.servers, tr.start(ctx, t, before, fmt.Sprintf("%s-%d", tr.role, i)))
		}
		tr.publish()
	}
	browser := stage.Token(t, binaries, nats.Config, "default", "browser_token")
	var watchers []*stage.Watcher
	for range 3 {
		watchers = append(watchers, stage.Watch(ctx, t, viewers.URL, browser, "rolling", "host-1"))
	}
	tt := stage.Talk(t, binaries, clients.URL, stage.Token(t, binaries, nats.Config, "default", "client_token"), "rolling", "0.005", "")

	stage.Progress(ctx, t, watchers, 100)
	lull(watchers)
	restarted := func(name string, most time.Duration, restart func()) {
		began := time.Now()
		restart()
		took := time.Since(began)
		stage.Progress(ctx, t, watchers, 100)
		silence := lull(watchers)
		stage.Figure(t, "%s: away for %v, longest silence of a viewer %v", name, took.Round(10*time.Millisecond), silence.Round(time.Millisecond))
		if silence > most {
			t.Errorf("%s: viewers heard nothing for %v, want at most %v", name, silence, most)
		}
	}
	for _, tr := range tiers {
		for i := range tr.servers {
			restarted(tr.servers[i].Name, mostSilence, func() { tr.restart(ctx, t, i) })
		}
	}
	for _, n := range nats.Nodes {
		name := n.Name
		if nats.Leader() == n {
			name += ", which leads the log"
		}
		restarted(name, mostNATSSilence, func() { restartNode(ctx, t, n) })
	}

	text := tt.Finish(ctx, t)
	want := sha256.Sum256([]byte(text))
	for i, w := range watchers {
		s := w.Wait(ctx, t)
		stage.Figure(t, "viewer %d: %d records, %d lost, %d twice, %d reconnects, without a connection for at most %v, longest silence %v",
			i, s.Last, s.Lost, s.Twice, s.Reconnects, s.Away.Round(time.Millisecond), s.Silence.Round(time.Millisecond))
		if got := sha256.Sum256(s.Stdout); got != want {
			t.Errorf("viewer %d: stdout has %d bytes, the command wrote %d: not the same", i, len(s.Stdout), len(text))
		}
		if s.Lost != 0 || s.Twice != 0 || len(s.Problems) != 0 {
			t.Errorf("viewer %d: %d records lost, %d twice, told of %q, want nothing of all that", i, s.Lost, s.Twice, s.Problems)
		}
		if s.Reconnects == 0 {
			t.Errorf("viewer %d was never moved: the test tested nothing", i)
		}
		if s.Away > mostAway {
			t.Errorf("viewer %d was away for %v, want at most %v", i, s.Away, mostAway)
		}
	}
}

func lull(ws []*stage.Watcher) (longest time.Duration) {
	for _, w := range ws {
		longest = max(longest, w.Lull())
	}
	return longest
}
