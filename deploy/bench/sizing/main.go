// Command sizing measures what docs/operating.md says of sizes: what an ingest and a gateway do with a second of CPU time, what they take of memory, and
// how much the log takes on disk. Ingest and gateway are processes of their own, whose CPU time is the kernel's figure; the log and the tokens are
// in another, the clients and viewers in this one. It needs bin/tt and bin/tasktracer (make build).
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tasktracer/deploy/bench/system"
	"tasktracer/pkg/socketio"
)

const task = "sizing"

var line = strings.Repeat("x", 199) + "\n"

func main() {
	flood := flag.Int("mb", 200, "size of the flood, in MB, lines of 100 bytes")
	clients := flag.Int("clients", 200, "clients that send ten lines a second each")
	viewers := flag.Int("viewers", 500, "viewers of one client that sends fifty lines a second")
	seconds := flag.Int("seconds", 10, "how long each of these is measured")
	bin := flag.String("bin", "../../bin", "where tt and tasktracer are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *bin, *flood, *clients, *viewers, time.Duration(*seconds)*time.Second)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-sizing:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, flood, clients, viewers int, long time.Duration) error {
	all, err := system.Start(ctx, bin, "--log-max-bytes", "8000000000")
	if err != nil {
		return err
	}
	defer all.Close()
	s := &stage{System: all}
	if s.ingest, s.ingestURL, err = s.Serve(ctx, "ingest"); err != nil {
		return err
	}
	if s.gateway, s.gatewayURL, err = s.Serve(ctx, "gateway"); err != nil {
		return err
	}
	if err := s.flood(ctx, flood); err != nil {
		return err
	}
	if err := s.trickle(ctx, clients, long); err != nil {
		return err
	}
	return s.crowd(ctx, viewers, long)
}

// flood has one tt send as fast as it can.
func (s *stage) flood(ctx context.Context, mb int) error {
	cpu, disk, began := cpuOf(s.ingest), s.disk(), time.Now()
	tt := s.TT(ctx, task, "flood", s.ingestURL, fmt.Sprintf("yes %s | head -c %d", strings.Repeat("y", 99), mb*1_000_000))
	if out, err := tt.Output(); err != nil || len(out) != mb*1_000_000 {
		return fmt.Errorf("tt: %d bytes, %w", len(out), err)
	}
	used := cpuOf(s.ingest) - cpu
	fmt.Printf("ingest, one tt that floods: %.0f MB a CPU second, %.0f MB a second; resident at most %d MiB\n",
		float64(mb)/used.Seconds(), float64(mb)/time.Since(began).Seconds(), memory(s.ingest, "VmHWM")>>20)
	return s.stored("a flood", disk, float64(mb)*1e6)
}

// trickle has many clients send ten lines of 200 bytes a second, each line a record.
func (s *stage) trickle(ctx context.Context, clients int, long time.Duration) error {
	var conns []*socketio.Client
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range clients {
		c, err := s.sender(ctx, fmt.Sprintf("trickle-%d", i))
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	before, err := s.records()
	if err != nil {
		return err
	}
	cpu, disk := cpuOf(s.ingest), s.disk()
	if err := paced(ctx, long, 10, func() error {
		for _, c := range conns {
			if err := send(ctx, c); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	want := float64(clients) * long.Seconds() * 10
	for stored := before; stored-before < want; {
		if err := pause(ctx); err != nil {
			return err
		}
		if stored, err = s.records(); err != nil {
			return err
		}
	}
	used := cpuOf(s.ingest) - cpu
	fmt.Printf("ingest, %d clients, ten lines of 200 bytes a second each: %.0f records a CPU second; resident at most %d MiB\n",
		clients, want/used.Seconds(), memory(s.ingest, "VmHWM")>>20)
	return s.stored("a trickle", disk, want*200)
}

// crowd has many viewers watch one client that sends fifty lines a second, an event for each.
func (s *stage) crowd(ctx context.Context, viewers int, long time.Duration) error {
	var heard atomic.Int64
	idle := memory(s.gateway, "VmRSS")
	var conns []*socketio.Client
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range viewers {
		c, err := socketio.Dial(ctx, socketio.DialConfig{URL: s.gatewayURL})
		if err != nil {
			return err
		}
		conns = append(conns, c)
		let := make(chan struct{})
		var once sync.Once
		c.OnEvent(func(e *socketio.Event) {
			switch e.Name {
			case "authenticated":
				once.Do(func() { close(let) })
			case "data":
				heard.Add(1)
			}
		})
		watch := map[string]any{"task": task, "from": []string{"crowd"}}
		if err := c.Emit(ctx, "authenticate", map[string]any{"type": "browser_token", "token": s.Browser, "watch": watch}); err != nil {
			return err
		}
		select {
		case <-let:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	each := (memory(s.gateway, "VmRSS") - idle) / int64(viewers)
	c, err := s.sender(ctx, "crowd")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	cpu := cpuOf(s.gateway)
	if err := paced(ctx, long, 50, func() error { return send(ctx, c) }); err != nil {
		return err
	}
	want := int64(viewers) * int64(long.Seconds()) * 50
	for heard.Load() < want {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	rate := float64(want) / (cpuOf(s.gateway) - cpu).Seconds()
	fmt.Printf("gateway, %d viewers of fifty lines of 200 bytes a second, an event each: %.0f events a CPU second, that is %.0f viewers of ten lines a second a core; %d KiB a viewer, resident at most %d MiB\n",
		viewers, rate, rate/10, each>>10, memory(s.gateway, "VmHWM")>>20)
	return nil
}

// stored says how much the log grew for what was written.
func (s *stage) stored(what string, before int64, written float64) error {
	grown := float64(s.disk() - before)
	if grown <= 0 {
		return fmt.Errorf("the log did not grow by %s", what)
	}
	fmt.Printf("disk, %s: %.2f bytes a byte written and replica, that is %.1f GB for 1 GB on three nodes\n", what, grown/written, 3*grown/written)
	return nil
}

func (s *stage) sender(ctx context.Context, id string) (*socketio.Client, error) {
	c, err := socketio.Dial(ctx, socketio.DialConfig{URL: s.ingestURL})
	if err != nil {
		return nil, err
	}
	let := make(chan error, 1)
	c.OnEvent(func(e *socketio.Event) {
		if e.Name == "authenticated" {
			let <- nil
		}
	})
	err = c.Emit(ctx, "authenticate", map[string]any{"type": "client", "token": s.Client, "id": id, "task": map[string]any{"name": task, "cmd": "-"}})
	if err != nil {
		return nil, err
	}
	select {
	case err = <-let:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return c, err
}

func send(ctx context.Context, c *socketio.Client) error {
	return c.Emit(ctx, "data", map[string]string{"type": "STDOUT", "data": line})
}

// paced calls fn so many times a second.
func paced(ctx context.Context, long time.Duration, perSecond int, fn func() error) error {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for range int(long.Seconds()) * perSecond {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(10 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stage is the log and the tokens, and an ingest and a gateway whose use is measured.
type stage struct {
	*system.System
	ingest, gateway       *exec.Cmd
	ingestURL, gatewayURL string
}

// cpuOf is the CPU time that a process has used, in the kernel's ticks of 10 ms.
func cpuOf(cmd *exec.Cmd) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// The name, in brackets, may have blanks; utime and stime are the 12th and 13th after it.
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(f[11]) // the kernel writes numbers
	kernel, _ := strconv.Atoi(f[12])
	return time.Duration(user+kernel) * 10 * time.Millisecond
}

// memory is in bytes; 0 where the kernel does not say, which the table shows.
func memory(cmd *exec.Cmd, name string) int64 {
	n, _ := system.Memory(cmd, name)
	return n
}

// disk is what the log's files have allotted, in bytes.
func (s *stage) disk() (bytes int64) {
	_ = filepath.WalkDir(filepath.Join(s.Dir, "data"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go
		}
		if info, err := d.Info(); err == nil {
			bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return bytes
}

// records is how many ingest has stored.
func (s *stage) records() (float64, error) {
	return system.Metric(s.ingestURL, "tasktracer_bus_append_records_total")
}
