package trace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tasktracer/pkg/trace/spool"
	"tasktracer/pkg/trace/tracetest"
)

// image is a disk, and the server beside it, as they were before one change to the disk.
type image struct {
	op      string
	dir     string
	written int // bytes of output that had been taken by then
	closing bool
	synced  map[string]int64 // how much of a file was on the disk itself, by its name
	server  []tracetest.Run
}

// camera takes an image before each change to the disk.
type camera struct {
	t       *testing.T
	dir     string
	server  *tracetest.Server
	written atomic.Int64
	closing atomic.Bool

	mu     sync.Mutex
	images []image
	asked  map[string]int64 // sizes of files when their sync began
	synced map[string]int64
}

func (c *camera) take(op, path string) error {
	written, closing := c.written.Load(), c.closing.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch op {
	case "synced":
		for name, size := range c.asked {
			if name == path || filepath.Dir(name) == path && size == 0 {
				c.synced[name] = max(size, c.synced[name])
			}
		}
		return nil
	case "sync":
		names, _ := filepath.Glob(filepath.Join(path, "*")) // a directory's sync is of names
		for _, name := range append(names, path) {
			c.asked[name] = 0
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			c.asked[path] = info.Size()
		}
	}
	dir := filepath.Join(c.t.TempDir(), "image")
	if err := os.CopyFS(dir, os.DirFS(c.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Error(err) // a file that is removed meanwhile is not there
	}
	rel := map[string]int64{}
	for name, size := range c.synced {
		if name, err := filepath.Rel(c.dir, name); err == nil {
			rel[name] = size
		}
	}
	c.images = append(c.images, image{fmt.Sprintf("%s %s", op, filepath.Base(path)), dir, int(written), closing, rel, c.server.State()})
	return nil
}

// blocks are what the run of these tests writes: enough for several segments.
func blocks() (all []string) {
	for i := range 14 {
		all = append(all, strings.Repeat(fmt.Sprintf("block %02d\n", i), 1000))
	}
	return all
}

// work is the run: at first nobody takes what it writes, then a server does.
func work(t *testing.T, s *tracetest.Server, cfg spool.Config, wrote func(n int), between, closing func()) Outcome {
	t.Helper()
	cfg.Limit = 256 << 10
	r, err := Start(Config{URL: s.URL, Token: "token", ID: "cli", Name: "crash", Spool: cfg, Deferred: true, Linger: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	all := blocks()
	write := func(b string) {
		_, _ = r.Stdout().Write([]byte(b)) // never fails
		wrote(len(b))
	}
	for _, b := range all[:8] {
		write(b)
	}
	r.spool.Sync()
	r.Connect()
	s.Wait(t, "the first blocks", func(run *tracetest.Run) bool { return run.Next == 9 })
	between()
	for _, b := range all[8:] {
		write(b)
	}
	r.spool.Sync()
	closing()
	return r.Close(Exit{Code: 3})
}

// A crash before each change that is made to the disk, of tt alone or of the host: the next one delivers what there is, once, and the run ends once.
func TestCrashAnywhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	c := &camera{t: t, dir: dir, server: tracetest.Start(t, tracetest.Faults{}), asked: map[string]int64{}, synced: map[string]int64{}}
	o := work(t, c.server, spool.Config{Dir: dir, Fault: c.take}, func(n int) { c.written.Add(int64(n)) }, func() {
		// What comes from now on is taken as a whole, the end included: its last segment is acknowledged while the spool is still there.
		c.server.Set(tracetest.Faults{Delay: 50 * time.Millisecond})
	}, func() { c.closing.Store(true) })
	if !o.Delivered {
		t.Fatalf("outcome %+v", o)
	}
	if len(c.images) < 40 {
		t.Fatalf("%d changes to the disk: too few to be true", len(c.images))
	}
	// Who recovers may be killed, too: of what is left by a crash in the middle, another crash before each change of that.
	middle := c.images[18]
	again := &camera{t: t, dir: filepath.Join(t.TempDir(), "spool"), server: tracetest.StartFrom(t, middle.server), asked: map[string]int64{}, synced: map[string]int64{}}
	if err := os.CopyFS(again.dir, os.DirFS(middle.dir)); err != nil {
		t.Fatal(err)
	}
	if err := Flush(t.Context(), FlushConfig{Dir: again.dir, URL: again.server.URL, Patience: time.Minute, fault: again.take}, func(Flushed) {}); err != nil {
		t.Fatal(err)
	}
	if len(again.images) < 5 {
		t.Errorf("%d changes to the disk by who recovers: too few to be true", len(again.images))
	}
	for i, im := range again.images {
		t.Run(fmt.Sprintf("flush, before %d, %s", i, im.op), func(t *testing.T) { im.recover(t, middle.written) })
	}
	for i, im := range c.images {
		t.Run(fmt.Sprintf("host, before %d, %s", i, im.op), func(t *testing.T) { im.cutPower(t) })
		t.Run(fmt.Sprintf("tt, before %d, %s", i, im.op), func(t *testing.T) { im.recover(t, im.written) })
	}
}

// cutPower leaves what was on the disk itself.
func (im image) cutPower(t *testing.T) {
	dir, synced := t.TempDir(), maps.Clone(im.synced)
	err := filepath.WalkDir(im.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(im.dir, path)
		if err != nil {
			return err
		}
		size, ok := synced[name]
		if !ok {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Ext(name) == ".seg" {
			b = b[:size]
		}
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), b, 0o600)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	im.dir = dir
	im.recover(t, 0)
}

// recover does what the next tt does, and looks at what the server has then. At least so many bytes must have come.
func (im image) recover(t *testing.T, atLeast int) {
	t.Helper()
	had := ""
	for _, r := range im.server {
		had = string(r.Output("STDOUT"))
	}
	s := tracetest.StartFrom(t, im.server)
	flushed := 0
	for range 2 { // there is nothing to do the second time
		err := Flush(context.Background(), FlushConfig{Dir: im.dir, URL: s.URL, Patience: time.Minute}, func(f Flushed) {
			if flushed++; f.Err != nil {
				t.Errorf("flushed %+v", f)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	all := strings.Join(blocks(), "")
	state := s.State()
	if flushed == 0 {
		// The spool was not one yet, or is none any more.
		if ended := len(state) == 1 && state[0].Code != nil && (had == all || *state[0].Code == exitUnknown && len(had) >= atLeast); atLeast > 0 && !ended {
			t.Errorf("nothing is left, but only %d of %d bytes were delivered", len(had), atLeast)
		}
		return
	}
	if flushed > 1 || len(state) != 1 || state[0].Code == nil {
		t.Fatalf("flushed %d times; the server has %d runs", flushed, len(state))
	}
	run := &state[0]
	got := string(run.Output("STDOUT"))
	if !strings.HasPrefix(all, got) || len(got) < atLeast || len(got) < len(had) || run.LostBytes() != 0 {
		t.Errorf("%d bytes, want at least %d and %d; told lost: %d", len(got), atLeast, len(had), run.LostBytes())
	}
	if len(im.server) == 1 && im.server[0].Code != nil && (*run.Code != *im.server[0].Code || len(run.Records) != len(im.server[0].Records)) {
		t.Errorf("the server had the end, and got another: code %d, was %d", *run.Code, *im.server[0].Code)
	}
	if code := *run.Code; code != exitUnknown && (code != 3 || !im.closing || got != all) || code == exitUnknown && !strings.Contains(string(run.Output("NOTE")), "unknown") {
		t.Errorf("ended with %d, notes %q", code, run.Output("NOTE"))
	}
}

// A disk that refuses each change in turn, once or for a while, costs nothing while a server takes the output.
func TestFaultAnywhere(t *testing.T) {
	steps := 0
	for _, long := range []int{1, 4} {
		for at := -1; at < steps; at++ { // at first without a fault
			var n atomic.Int64
			s := tracetest.Start(t, tracetest.Faults{})
			dir := filepath.Join(t.TempDir(), "spool")
			var mu sync.Mutex
			hit := ""
			o := work(t, s, spool.Config{Dir: dir, Fault: func(op, path string) error {
				if i := int(n.Add(1)) - 1; i < at || i >= at+long {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				hit += fmt.Sprintf(" %s %s", op, filepath.Base(path))
				return syscall.ENOSPC
			}}, func(int) {}, func() {}, func() {})
			steps = max(steps, int(n.Load()))
			run := s.Wait(t, "end", tracetest.Ended)
			if got := string(run.Output("STDOUT")); got != strings.Join(blocks(), "") || run.LostBytes() != 0 || *run.Code != 3 || !o.Delivered {
				t.Errorf("no%s: %d bytes, lost %d, code %d; %+v", hit, len(got), run.LostBytes(), *run.Code, o)
			}
			if entries, _ := os.ReadDir(dir); len(entries) > 0 {
				t.Errorf("no%s: %s is left", hit, entries[0].Name())
			}
		}
	}
	if steps < 40 {
		t.Errorf("%d changes to the disk: too few to be true", steps)
	}
}
