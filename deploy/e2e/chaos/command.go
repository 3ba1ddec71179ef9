package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"tasktracer/deploy/e2e/stage"
)

// command is one wrapped command.
type command struct {
	id     string
	p      profile
	seed   uint64
	want   map[string]*expected
	pulse  bool // the one by which silences are measured: its tt is left alone
	mortal bool // its tt may be killed

	home string // of its spool, and of what it notes
	url  string
	tt   *stage.Process

	mu     sync.Mutex
	killed time.Time
	later  bool // tt ended with something left, for no server took it, and tt flush sent that
}

// afterwards is for how long after the last deed is planned output is written: for the start, for deeds that are late, and to see what the last ones do.
const afterwards = 25 * time.Second

// plan decides what is written: a pulse, trickles, bursts and floods, spread over the time that the monkey is at work; and some more whose tt will be killed.
func plan(cfg config, deeds []deed) []*command {
	var out []*command
	total := cfg.Megs << 20
	over := cfg.Over
	for _, d := range deeds {
		over = max(over, d.At)
	}
	over += afterwards
	paced := func(name string, bytes, block int) profile {
		writes := max(bytes/block, 1)
		return profile{name, bytes, block, over / time.Duration(writes)}
	}
	add := func(p profile, mortal bool) {
		i := len(out)
		c := &command{id: fmt.Sprintf("host-%02d", i), p: p, seed: cfg.Seed + uint64(i)*1000, pulse: i == 0, mortal: mortal}
		c.want = expect(p, c.seed)
		out = append(out, c)
	}
	for i := range cfg.Commands {
		switch {
		case i == 0:
			add(profile{"pulse", int(over/(50*time.Millisecond)) * 40, 30, 50 * time.Millisecond}, false)
		case i%10 == 1:
			add(paced("flood", total*7/20/max(cfg.Commands/10, 1), 64<<10), false)
		case i%5 == 2:
			bytes := total * 8 / 20 / max(cfg.Commands/5, 1)
			add(paced("burst", bytes, 1<<20), false)
		case i%2 == 0:
			add(paced("steady", total*5/20/max(cfg.Commands*3/10, 1), 2000), false)
		default:
			add(paced("trickle", 60_000, 100), false)
		}
	}
	for i := range cfg.Mortal {
		add([]profile{paced("steady", total/100, 2000), paced("flood", total/30, 16<<10), paced("trickle", 60_000, 100), paced("burst", total/30, 1<<20)}[i%4], true)
	}
	return out
}

// begin runs the command under tt, with a spool of its own. What tt shows of a mortal one's stdout is kept.
func (c *command) begin(w *world, dir, token string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.home, c.url = filepath.Join(dir, c.id), w.clients.url()
	if err := os.MkdirAll(c.spool(), 0o700); err != nil {
		return err
	}
	shown := os.DevNull
	if c.mortal {
		shown = c.shown()
	}
	c.tt, err = stage.Launch(c.id, nil, []string{"HOME=" + c.home, "TASKTRACER_TOKEN=" + token}, "/bin/sh", "-c", `exec "$@" >"$0"`, shown, w.binaries.TT,
		"-n", task, "--id", c.id, "--url", c.url, "--spool-dir", c.spool(), "--linger", "10m", "--spool-limit", "1GiB", "--redact-env", "off",
		"--", self, "generate", strconv.FormatUint(c.seed, 10), strconv.Itoa(c.p.Bytes), strconv.Itoa(c.p.Block), c.p.Pause.String(), c.times())
	return err
}

func (c *command) spool() string { return filepath.Join(c.home, "spool") }
func (c *command) shown() string { return filepath.Join(c.home, "shown") }
func (c *command) times() string { return filepath.Join(c.home, "times") }

func (c *command) running() bool {
	select {
	case <-c.tt.Ended():
		return false
	default:
		return c.cut().IsZero()
	}
}

// cut is when its tt was killed; zero if it was not.
func (c *command) cut() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.killed
}

// kill kills tt alone. Its command finds nobody reading.
func (c *command) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.tt.Signal(syscall.SIGKILL)
	c.killed = time.Now()
}

// tend waits for the end of a tt that is not killed, and sends what it then had to leave behind, as its user would: tt waits while the log takes what it
// has, and no longer.
func (c *command) tend(ctx context.Context, w *world) error {
	code, err := c.tt.Wait(ctx)
	switch {
	case err != nil:
		return err
	case !c.cut().IsZero():
		return nil // strikeTT sees to it
	case code != 0:
		return fmt.Errorf("%s: tt exits %d\n%s", c.id, code, c.tt.Tail(10))
	}
	left, err := os.ReadDir(c.spool())
	if err != nil || !slices.ContainsFunc(left, os.DirEntry.IsDir) {
		return err
	}
	c.mu.Lock()
	c.later = true
	c.mu.Unlock()
	return c.flush(ctx, w, false)
}

func (c *command) flushedLater() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.later
}

// flush sends what a tt left behind; twice says that the first attempt is killed as well.
func (c *command) flush(ctx context.Context, w *world, twice bool) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	select {
	case <-c.tt.Ended():
	case <-ctx.Done():
		return fmt.Errorf("%s: tt does not end: %w", c.id, ctx.Err())
	}
	var last string
	for ctx.Err() == nil {
		p, err := stage.Launch(c.id+" flush", nil, []string{"HOME=" + c.home}, w.binaries.TT, "flush", "--spool-dir", c.spool())
		if err != nil {
			return err
		}
		if twice {
			twice = false
			select {
			case <-p.Ended():
			case <-time.After(30 * time.Millisecond):
			}
			p.Kill()
			continue
		}
		code, err := p.Wait(ctx)
		if err == nil && code == 0 {
			return nil
		}
		last = p.Tail(5)
		p.Kill()
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("%s: what tt left behind is not delivered:\n%s", c.id, last)
}

// writes are the times at which the command wrote, in ms.
func (c *command) writes() []int64 {
	b, err := os.ReadFile(c.times())
	if err != nil {
		return nil
	}
	out := make([]int64, 0, len(b)/8)
	for ; len(b) >= 8; b = b[8:] {
		out = append(out, int64(binary.LittleEndian.Uint64(b)))
	}
	return out
}

// truth is what is known of a command when all is over.
func (c *command) truth() *truth {
	t := &truth{want: c.want}
	if w := c.writes(); len(w) > 0 {
		t.until = w[len(w)-1]
	}
	if at := c.cut(); !at.IsZero() {
		t.cut, t.until = true, at.UnixMilli()
		if fi, err := os.Stat(c.shown()); err == nil {
			t.shown = int(fi.Size())
		}
	}
	return t
}
