package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"tasktracer/deploy/bench/system"
)

// stage is everything but the gateway that is measured.
type stage struct{ *system.System }

// write stores a run under tt; the client's id is its form.
func (s *stage) write(ctx context.Context, form string, mb int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := s.TT(ctx, task, form, s.URL, "--", self, "write", form, strconv.Itoa(mb*10_000))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tt: %w\n%s", err, errs.Bytes())
	}
	return nil
}

// gateway is the process under measurement. Its heap is looked at all the time.
type gateway struct {
	cmd  *exec.Cmd
	url  string
	stop chan struct{}
	wg   sync.WaitGroup

	heap int64 // the most so far, bytes
}

func (s *stage) gateway(ctx context.Context, args ...string) (*gateway, error) {
	cmd, url, err := s.Serve(ctx, "gateway", args...)
	if err != nil {
		return nil, err
	}
	g := &gateway{cmd: cmd, url: url, stop: make(chan struct{})}
	g.wg.Go(g.look)
	return g, nil
}

// look asks for the heap now and then; the kernel keeps the peak of what is resident.
func (g *gateway) look() {
	for {
		if n, err := system.Metric(g.url, "go_memstats_heap_alloc_bytes"); err == nil {
			g.heap = max(g.heap, int64(n))
		}
		select {
		case <-g.stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// close ends the process and says what it took.
func (g *gateway) close() (resident, heap int64, err error) {
	close(g.stop)
	g.wg.Wait()
	resident, err = system.Memory(g.cmd, "VmHWM")
	system.End(g.cmd)
	return resident, g.heap, err
}
