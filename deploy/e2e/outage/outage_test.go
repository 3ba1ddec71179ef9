// Package outage takes from NATS what it needs, nodes or room on its disks, while output is written and watched. Ingest must hold back, tt must keep what
// is not stored, the alert must fire, and when all is there again everything must go on, with nothing lost.
package outage

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
)

var binaries stage.Binaries

func TestMain(m *testing.M) { os.Exit(stage.Main(m, &binaries)) }

// world is one of each part, a command that writes about 500 KiB a second, and a viewer of it.
type world struct {
	t               *testing.T
	ctx             context.Context
	nats            *stage.Cluster
	ingest, gateway *stage.Server
	prometheus      *stage.Prometheus
	tt              *stage.Talker
	viewer          *stage.Watcher
}

func newWorld(ctx context.Context, t *testing.T, nats *stage.Cluster) *world {
	t.Helper()
	w := &world{t: t, ctx: ctx, nats: nats}
	token := stage.NewServer(t, binaries, "token", append(nats.As("token"), "--config", nats.Config)...)
	w.gateway = stage.NewServer(t, binaries, "gateway", nats.As("gateway")...)
	w.ingest = stage.NewServer(t, binaries, "ingest", append(nats.As("ingest"), "--public-url", w.gateway.URL)...)
	w.prometheus = stage.NewPrometheus(t, map[string][]*stage.Server{"token": {token}, "gateway": {w.gateway}, "ingest": {w.ingest}})
	w.viewer = stage.Watch(ctx, t, w.gateway.URL, stage.Token(t, binaries, nats.Config, "default", "browser_token"), "outage", "host-1")
	w.tt = stage.Talk(t, binaries, w.ingest.URL, stage.Token(t, binaries, nats.Config, "default", "client_token"), "outage", "0.01", strings.Repeat("x", 8000))
	w.goesOn()
	return w
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	stage.Until(w.ctx, w.t, what, ok)
}

func (w *world) ready() bool {
	resp, err := http.Get(w.ingest.URL + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// segment is the size of the files of tt's spool: it frees no less.
const segment = 4 << 20

// spooled is how much tt keeps.
func (w *world) spooled() (bytes int64) {
	err := filepath.WalkDir(w.tt.Home, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go
		}
		if info, err := d.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return bytes
}

// goesOn waits until the viewer sees what is written now.
func (w *world) goesOn() {
	w.t.Helper()
	stage.Progress(w.ctx, w.t, []*stage.Watcher{w.viewer}, 100)
	w.viewer.Lull()
}

// heldBack waits for all that must be seen while nothing can be stored, and for the command to have written far more than ingest takes in.
func (w *world) heldBack() {
	w.t.Helper()
	told, written, began := w.prometheus.Sum(w.ctx, w.t, "tasktracer_ingest_progress_total"), len(w.tt.Stdout()), time.Now()
	w.until("ingest tells tt to wait", func() bool { return w.prometheus.Sum(w.ctx, w.t, "tasktracer_ingest_progress_total") > told })
	w.until("tt spools", func() bool { return w.spooled() > 3*segment })
	w.until("the alert fires", func() bool { return w.prometheus.Firing(w.ctx, w.t, "TaskTracerAppendsFail") })
	stage.Figure(w.t, "nothing can be stored: the alert fires after %v (%d times faster than as deployed), the command has written %d KiB more, tt keeps %d KiB, ingest uses %.0f MiB",
		time.Since(began).Round(time.Second), stage.Hurry, (len(w.tt.Stdout())-written)>>10, w.spooled()>>10, w.prometheus.Sum(w.ctx, w.t, `process_resident_memory_bytes{job="ingest"}`)/(1<<20))
}

// healed waits until everything is as before.
func (w *world) healed() {
	w.t.Helper()
	began := time.Now()
	w.goesOn()
	goesOn := time.Since(began)
	w.until("ingest is ready", w.ready)
	w.until("tt has sent what it kept", func() bool { return w.spooled() < 2*segment })
	sent := time.Since(began)
	w.until("the alert ends", func() bool { return !w.prometheus.Firing(w.ctx, w.t, "TaskTracerAppendsFail") })
	stage.Figure(w.t, "healed: viewers hear again after %v, tt has sent what it kept after %v", goesOn.Round(10*time.Millisecond), sent.Round(10*time.Millisecond))
}

// nothingLost ends the command and compares what it wrote with what was seen.
func (w *world) nothingLost() {
	w.t.Helper()
	text := w.tt.Finish(w.ctx, w.t)
	s := w.viewer.Wait(w.ctx, w.t)
	stage.Figure(w.t, "%d records, %d lost, %d twice, %d bytes", s.Last, s.Lost, s.Twice, len(text))
	if sha256.Sum256([]byte(text)) != sha256.Sum256(s.Stdout) || s.Lost != 0 || s.Twice != 0 || len(s.Problems) != 0 {
		w.t.Errorf("the command wrote %d bytes, the viewer has %d; %d records lost, %d twice, told of %q", len(text), len(s.Stdout), s.Lost, s.Twice, s.Problems)
	}
	if n := w.prometheus.Sum(w.ctx, w.t, "tasktracer_ingest_dropped_bytes_total"); n != 0 {
		w.t.Errorf("%v bytes dropped", n)
	}
}

func TestNodesDown(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	nats := stage.NewCluster(t, binaries, 1<<30)
	w := newWorld(ctx, t, nats)

	down := func(what string, nodes ...*stage.Node) {
		for _, n := range nodes {
			n.Kill()
		}
		w.goesOn()
		stage.Figure(t, "%s: longest silence %v", what, w.viewer.Seen().Silence.Round(10*time.Millisecond))
		for _, n := range nodes {
			if err := n.Start(ctx); err != nil {
				t.Fatal(err)
			}
		}
		w.goesOn()
	}
	leader := nats.Leader()
	followers := make([]*stage.Node, 0, 2)
	for _, n := range nats.Nodes {
		if n != leader {
			followers = append(followers, n)
		}
	}
	down("a follower is killed", followers[0])
	down("the leader is killed", leader)

	nats.Nodes[0].Kill()
	nats.Nodes[1].Kill()
	w.heldBack()
	w.until("ingest is not ready", func() bool { return !w.ready() })
	for _, n := range nats.Nodes[:2] {
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	w.healed()
	w.nothingLost()
}

// TestDiskFull takes all the room that the nodes' file systems have. Each is a small tmpfs of its own.
func TestDiskFull(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var stores []string
	for range 3 {
		stores = append(stores, smallDisk(t))
	}
	nats := stage.NewCluster(t, binaries, 1<<30, stores...)
	w := newWorld(ctx, t, nats)
	for _, s := range stores {
		fill(t, s)
	}
	w.heldBack()
	w.until("ingest is not ready", func() bool { return !w.ready() })
	for i, n := range nats.Nodes {
		if err := os.Remove(filepath.Join(stores[i], "filler")); err != nil {
			t.Fatal(err)
		}
		// A node that has found its disk full switches JetStream off until it is started again.
		n.Stop(ctx, t)
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	w.healed()
	w.nothingLost()
}

// TestLimitExceeded takes from the account the room that it may use on the nodes' disks, as an operator does who sets a limit too low, and gives it back. The log has its
// leader all the time, and so ingest stays ready: it takes in little, and has tt wait.
func TestLimitExceeded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	nats := stage.NewCluster(t, binaries, 1<<30)
	w := newWorld(ctx, t, nats)
	nats.Reload(t, "jetstream: enabled", "jetstream: {max_file: 1M}")
	w.heldBack()
	nats.Reload(t, "jetstream: {max_file: 1M}", "jetstream: enabled")
	w.healed()
	w.nothingLost()
}

const diskSize = 256 << 20

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		t.Fatalf("mount a tmpfs, for which this test needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill leaves no room on a disk.
func fill(t *testing.T, disk string) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for range diskSize / len(block) {
		if _, err := f.Write(block); err != nil {
			if !strings.Contains(err.Error(), "no space left") {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s took %d bytes", disk, diskSize)
}
