package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
	"tasktracer/pkg/natsd/natsdtest"
)

const leaked = "hunter2-in-the-output"

// leak makes a run whose output holds a secret in several chunks, with another run's chunks between them.
func leak(t testing.TB, b *Bus, key, other frame.Key) {
	t.Helper()
	a, o := take(t, b, "ing-1", frame.Run{Key: key}), take(t, b, "ing-1", frame.Run{Key: other})
	for i := range uint64(10) {
		submit(t, a, out(i+1, fmt.Sprintf("password %d %s\n", i, leaked)))
		sync_(t, a)
		submit(t, o, out(i+1, "harmless\n"))
		sync_(t, o)
	}
	submit(t, a, exit(11, "0"))
	for _, x := range []*Appender{a, o} {
		if err := x.Release(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// Removed from the log is not removed from the disk: JetStream only marks what it removes.
func TestDeletedBytesAreOverwritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, startServer(t, natsd.Config{Dir: dir}))
	leak(t, b, runKey("n", 1), runKey("n", 2))
	eventually(t, "the output is on the disk", func() bool { return len(natsdtest.FilesWith(t, dir, leaked)) > 0 })
	if err := b.DeleteRun(deadline(t), runKey("n", 1)); err != nil {
		t.Fatal(err)
	}
	if left := natsdtest.FilesWith(t, dir, leaked); len(left) > 0 {
		t.Errorf("the output of a deleted run is in %v", left)
	}
	if h := read(t, b, runKey("n", 2), 0, 0); strings.Count(h.output(), "harmless") != 10 {
		t.Errorf("the run beside it has %q left", h.output())
	}

	// Whoever deletes a run dies behind the marker: the janitor finishes.
	leak(t, b, runKey("n", 3), runKey("n", 4))
	eventually(t, "the output is on the disk", func() bool { return len(natsdtest.FilesWith(t, dir, leaked)) > 0 })
	if err := b.markRemoved(deadline(t), runKey("n", 3), whyDeleted, true); err != nil {
		t.Fatal(err)
	}
	sweep(t, b, JanitorConfig{})
	eventually(t, "the janitor has overwritten it", func() bool { return len(natsdtest.FilesWith(t, dir, leaked)) == 0 })
}

// On a cluster it goes from the logs of all three. What stays for a while is the servers' journal of what they agreed upon, see docs/log.md.
func TestDeletedBytesAreOverwrittenOnEveryReplica(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts three servers")
	}
	c := startCluster(t)
	b := open(t, nil, func(cfg *Config) { cfg.URL, cfg.MaxBytes, cfg.Log = strings.Join(c.urls, ","), 128<<20, nil })
	leak(t, b, runKey("n", 1), runKey("n", 2))
	inLog := func() (n int) {
		for _, spec := range c.specs {
			for _, p := range natsdtest.FilesWith(t, strings.SplitN(spec, "|", 2)[0], leaked) {
				if strings.Contains(p, "/streams/"+logStream+"/") {
					n++
				}
			}
		}
		return n
	}
	eventually(t, "the output is on three disks", func() bool { return inLog() == 3 })
	if err := b.DeleteRun(deadline(t), runKey("n", 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is on none", func() bool { return inLog() == 0 })
	if h := read(t, b, runKey("n", 2), 0, 0); strings.Count(h.output(), "harmless") != 10 {
		t.Errorf("the run beside it has %q left", h.output())
	}
}

// A deletion that takes longer than its caller waits goes on. Here the caller leaves before the first message is overwritten.
func TestDeletionOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	leak(t, r.direct, runKey("n", 1), runKey("n", 2))
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	left := make(chan struct{})
	r.proxy.set(func(m msg) verdict {
		if !m.up || m.subject != "$JS.API.STREAM.MSG.DELETE."+logStream {
			return verdict{}
		}
		cancel()
		return verdict{hold: left}
	})
	if err := r.bus.DeleteRun(ctx, runKey("n", 1)); !errors.Is(err, ErrErasing) {
		t.Errorf("DeleteRun = %v, want %v", err, ErrErasing)
	}
	if h := read(t, r.direct, runKey("n", 2), 0, 0); len(h.recs) == 0 {
		t.Error("the run beside it is gone")
	}
	close(left)
	eventually(t, "nothing of it is left", func() bool { return purged(t, r.direct, runKey("n", 1)) })
}
