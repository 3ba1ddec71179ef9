// Package backup loses all that NATS holds, and puts a backup in its place: what was stored before it reads the same, and a command that
// runs all the while goes on.
package backup

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
)

var binaries stage.Binaries

func TestMain(m *testing.M) { os.Exit(stage.Main(m, &binaries)) }

// services are one of each part, which come and go behind balancers that stay.
type services struct {
	nats             *stage.Cluster
	viewers, clients *stage.Balancer
	all              []*stage.Server
}

func (s *services) start(t *testing.T) {
	t.Helper()
	token := stage.NewServer(t, binaries, "token", append(s.nats.As("token"), "--config", s.nats.Config)...)
	gateway := stage.NewServer(t, binaries, "gateway", append(s.nats.As("gateway"), "--drain", "0s")...)
	ingest := stage.NewServer(t, binaries, "ingest", append(s.nats.As("ingest"), "--drain", "0s", "--public-url", s.viewers.URL)...)
	s.viewers.Set(gateway)
	s.clients.Set(ingest)
	s.all = []*stage.Server{ingest, gateway, token}
}

func (s *services) stop(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, server := range s.all {
		if err := server.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code, err := server.Wait(ctx); err != nil || code != 0 {
			t.Fatalf("%s ends with %d, %v\n%s", server.Name, code, err, server.Tail(20))
		}
	}
}

func (s *services) operate(ctx context.Context, t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, binaries.TaskTracer, append(args, s.nats.Operator()...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tasktracer %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (s *services) get(ctx context.Context, t *testing.T, token, path string) string {
	t.Helper()
	var text string
	stage.Until(ctx, t, "an answer to GET "+path, func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.viewers.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		text = string(body)
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return text
}

// loseAll kills the nodes, and begins anew with empty ones.
func (s *services) loseAll(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, n := range s.nats.Nodes {
		n.Kill()
		if err := os.RemoveAll(n.Store); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range s.nats.Nodes {
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range s.nats.Nodes {
		if err := n.Whole(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRestoredFromBackup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	s := &services{nats: stage.NewCluster(t, binaries, 1<<30), viewers: stage.NewBalancer(t), clients: stage.NewBalancer(t)}
	s.start(t)
	browser, client := stage.Token(t, binaries, s.nats.Config, "default", "browser_token"), stage.Token(t, binaries, s.nats.Config, "default", "client_token")

	going := stage.Talk(t, binaries, s.clients.URL, client, "going", "0.01", "")
	viewer := stage.Watch(ctx, t, s.viewers.URL, browser, "going", "host-1")
	stage.Progress(ctx, t, []*stage.Watcher{viewer}, 100)
	home := t.TempDir()
	done := stage.Start(t, "tt", nil, []string{"HOME=" + home, "XDG_STATE_HOME=" + home, "TASKTRACER_URL=" + s.clients.URL, "TASKTRACER_TOKEN=" + client},
		binaries.TT, "-n", "done", "--id", "host-1", "seq 1 20000; exit 3")
	if code, err := done.Wait(ctx); err != nil || code != 3 {
		t.Fatalf("tt exits %d, %v\n%s", code, err, done.Tail(20))
	}
	var runs string
	stage.Until(ctx, t, "the run's end is in its state", func() bool {
		runs = s.get(ctx, t, browser, "/api/v1/tasks/done/runs")
		return strings.Contains(runs, `"exited"`) && strings.Contains(runs, `"connected":false`)
	})
	whole := stage.Watch(ctx, t, s.viewers.URL, browser, "done", "host-1").Wait(ctx, t)
	if string(whole.Stdout) != done.Stdout() {
		t.Fatalf("%d bytes seen, %d written", len(whole.Stdout), len(done.Stdout()))
	}

	// The viewer of the run that goes on leaves before the backup, with its cursor. The services stop behind it: what a tt was told is stored after a
	// backup is lost with NATS, and is not what is looked at here.
	viewer.Leave()
	s.stop(ctx, t)
	dir := filepath.Join(t.TempDir(), "backup")
	s.operate(ctx, t, "backup", "--dir", dir)
	s.loseAll(ctx, t)
	began := time.Now()
	s.operate(ctx, t, "restore", "--dir", dir)
	s.operate(ctx, t, "streams", "--log-replicas", "3")
	stage.Figure(t, "restored in %v", time.Since(began).Round(10*time.Millisecond))
	s.start(t)

	if got := s.get(ctx, t, browser, "/api/v1/tasks/done/runs"); got != runs {
		t.Errorf("the runs of a task were\n%s\nand are\n%s", runs, got)
	}
	again := stage.Watch(ctx, t, s.viewers.URL, browser, "done", "host-1").Wait(ctx, t)
	if string(again.Stdout) != string(whole.Stdout) || again.Last != whole.Last {
		t.Errorf("%d bytes up to record %d, want %d up to %d", len(again.Stdout), again.Last, len(whole.Stdout), whole.Last)
	}
	viewer.Return(ctx, t)
	stage.Progress(ctx, t, []*stage.Watcher{viewer}, 100)
	text := going.Finish(ctx, t)
	seen := viewer.Wait(ctx, t)
	if string(seen.Stdout) != text || seen.Lost != 0 || seen.Twice != 0 || len(seen.Problems) != 0 {
		t.Errorf("the run that went on: %d bytes seen, %d written, %d lost, %d twice, told of %q", len(seen.Stdout), len(text), seen.Lost, seen.Twice, seen.Problems)
	}
}

// tt says itself what it has not any more, in a record of its own.
var gapForm = regexp.MustCompile(`^gap .*"bytes":(null|\d+),"reason":"client","message":"([^"]*)"`)

// TestBehindTheBackup loses what was stored, acknowledged and seen after the backup was made. The command goes on, and everybody is told: a viewer that stands
// behind the backup that its place is not good any more, every viewer that something is missing, and how much.
func TestBehindTheBackup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	s := &services{nats: stage.NewCluster(t, binaries, 1<<30), viewers: stage.NewBalancer(t), clients: stage.NewBalancer(t)}
	s.start(t)
	browser, client := stage.Token(t, binaries, s.nats.Config, "default", "browser_token"), stage.Token(t, binaries, s.nats.Config, "default", "client_token")
	going := stage.Talk(t, binaries, s.clients.URL, client, "going", "0.005", strings.Repeat("x", 16_000))
	before, behind := stage.Watch(ctx, t, s.viewers.URL, browser, "going", "host-1"), stage.Watch(ctx, t, s.viewers.URL, browser, "going", "host-1")
	stage.Progress(ctx, t, []*stage.Watcher{before, behind}, 100)
	before.Leave() // with a cursor that is in the backup
	stage.Progress(ctx, t, []*stage.Watcher{behind}, 10)
	dir := filepath.Join(t.TempDir(), "backup")
	s.operate(ctx, t, "backup", "--dir", dir)
	later := stage.Talk(t, binaries, s.clients.URL, client, "later", "0.01", "") // a run of which the backup knows nothing
	stage.Progress(ctx, t, []*stage.Watcher{behind}, 800)                        // what tt forgets it forgets by 4 MiB
	behind.Leave()
	stands := behind.Seen().Last

	began := time.Now()
	for _, server := range s.all {
		server.Kill()
	}
	s.loseAll(ctx, t)
	s.operate(ctx, t, "restore", "--dir", dir)
	s.operate(ctx, t, "streams", "--log-replicas", "3")
	s.start(t)
	// The log grows past the place at which the viewer stands: only then could a seq be taken for another one.
	fresh := stage.Watch(ctx, t, s.viewers.URL, browser, "going", "host-1")
	for fresh.Seen().Last <= stands {
		stage.Progress(ctx, t, []*stage.Watcher{fresh}, 50)
	}
	before.Return(ctx, t)
	behind.Return(ctx, t)
	stage.Figure(t, "shown again %v after all was lost", time.Since(began).Round(10*time.Millisecond))
	text := going.Finish(ctx, t)
	stage.Figure(t, "tt has ended %v after all was lost", time.Since(began).Round(10*time.Millisecond))

	for name, w := range map[string]*stage.Watcher{"a new viewer": fresh, "a viewer that left before the backup": before} {
		seen := w.Wait(ctx, t)
		stdout := string(seen.Stdout)
		from := 0
		for from < len(stdout) && stdout[from] == text[from] {
			from++
		}
		missing := len(text) - len(stdout)
		if missing <= 0 || text[from+missing:] != stdout[from:] {
			t.Fatalf("%s has %d bytes, written were %d: want one piece missing, it differs from %d on", name, len(stdout), len(text), from)
		}
		told := 0
		for _, p := range seen.Problems {
			m := gapForm.FindStringSubmatch(p)
			if m == nil {
				t.Errorf("%s was told %q", name, p)
				continue
			}
			if !strings.HasSuffix(m[2], "were stored by the server, which does not have them any more") {
				t.Errorf("%s was told %q", name, m[2])
			}
			told++
		}
		// tt's own word for it is one record, which is no data.
		if told != 1 || seen.Lost != 1 || seen.Twice != 0 {
			t.Errorf("%s misses %d bytes and was told so %d times; %d records lost, %d twice", name, missing, told, seen.Lost, seen.Twice)
		}
		stage.Figure(t, "%s: %d of %d bytes of stdout missing", name, missing, len(text))
	}
	all := later.Finish(ctx, t)
	if seen := stage.Watch(ctx, t, s.viewers.URL, browser, "later", "host-1").Wait(ctx, t); string(seen.Stdout) != all || len(seen.Problems) != 0 {
		t.Errorf("a run that began after the backup: %d bytes seen, %d written, told of %q", len(seen.Stdout), len(all), seen.Problems)
	}
	if seen := behind.Wait(ctx, t); !strings.Contains(strings.Join(seen.Problems, "\n"), `"bad_cursor"`) {
		t.Errorf("a viewer that stood behind the backup was told of %q, want bad_cursor", seen.Problems)
	}
}
