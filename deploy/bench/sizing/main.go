// Command sizing measures what docs/operating.md says of sizes: what an ingest and a gateway do with a second of CPU time, what they take of memory, and
// how much the log takes on disk. Ingest and gateway are processes of their own, whose CPU time is the kernel's figure; the log and the tokens are
// in another, the clients and viewers in this one. It needs bin/tt and bin/tasktracer (make build).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
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
	s, err := newStage(ctx, bin)
	if err != nil {
		return err
	}
	defer s.close()
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
	cpu, disk, began := s.cpu(s.ingest), s.disk(), time.Now()
	tt := exec.CommandContext(ctx, s.tt, "-q", "-n", task, "--id", "flood", "--url", s.ingestURL, "--linger", "10m", "--redact-env", "off", "--spool-limit", "4GiB",
		fmt.Sprintf("yes %s | head -c %d", strings.Repeat("y", 99), mb*1_000_000))
	tt.Env = append(os.Environ(), "HOME="+s.dir, "XDG_STATE_HOME=", "TASKTRACER_TOKEN="+s.client)
	if out, err := tt.Output(); err != nil || len(out) != mb*1_000_000 {
		return fmt.Errorf("tt: %d bytes, %w", len(out), err)
	}
	used := s.cpu(s.ingest) - cpu
	fmt.Printf("ingest, one tt that floods: %.0f MB a CPU second, %.0f MB a second; resident at most %d MiB\n",
		float64(mb)/used.Seconds(), float64(mb)/time.Since(began).Seconds(), s.peak(s.ingest)>>20)
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
	cpu, disk, before := s.cpu(s.ingest), s.disk(), s.metric(s.ingestURL, "tasktracer_bus_append_records_total")
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
	for s.metric(s.ingestURL, "tasktracer_bus_append_records_total")-before < want {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	used := s.cpu(s.ingest) - cpu
	fmt.Printf("ingest, %d clients, ten lines of 200 bytes a second each: %.0f records a CPU second; resident at most %d MiB\n",
		clients, want/used.Seconds(), s.peak(s.ingest)>>20)
	return s.stored("a trickle", disk, want*200)
}

// crowd has many viewers watch one client that sends fifty lines a second, an event for each.
func (s *stage) crowd(ctx context.Context, viewers int, long time.Duration) error {
	var heard atomic.Int64
	idle := s.resident(s.gateway)
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
		if err := c.Emit(ctx, "authenticate", map[string]any{"type": "browser_token", "token": s.browser, "watch": watch}); err != nil {
			return err
		}
		select {
		case <-let:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	each := (s.resident(s.gateway) - idle) / int64(viewers)
	c, err := s.sender(ctx, "crowd")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	cpu := s.cpu(s.gateway)
	if err := paced(ctx, long, 50, func() error { return send(ctx, c) }); err != nil {
		return err
	}
	want := int64(viewers) * int64(long.Seconds()) * 50
	for heard.Load() < want {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	rate := float64(want) / (s.cpu(s.gateway) - cpu).Seconds()
	fmt.Printf("gateway, %d viewers of fifty lines of 200 bytes a second, an event each: %.0f events a CPU second, that is %.0f viewers of ten lines a second a core; %d KiB a viewer, resident at most %d MiB\n",
		viewers, rate, rate/10, each>>10, s.peak(s.gateway)>>20)
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
	err = c.Emit(ctx, "authenticate", map[string]any{"type": "client", "token": s.client, "id": id, "task": map[string]any{"name": task, "cmd": "-"}})
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

// stage is the processes.
type stage struct {
	tasktracer, tt, dir   string
	client, browser       string // tokens
	ingestURL, gatewayURL string

	all, ingest, gateway *exec.Cmd
}

func newStage(ctx context.Context, bin string) (s *stage, err error) {
	s = &stage{}
	if bin, err = filepath.Abs(bin); err != nil {
		return nil, err
	}
	s.tasktracer, s.tt = filepath.Join(bin, "tasktracer"), filepath.Join(bin, "tt")
	if s.dir, err = os.MkdirTemp("", "bench-sizing-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	config := filepath.Join(s.dir, "config.json")
	secret := `{"secret": "for a measurement only, %s", "options": {"algorithm": "HS256", "expiresIn": "1 day"}}`
	text := fmt.Sprintf(`{"jwt": {"clientToken": `+secret+`, "browserToken": `+secret+`, "baseToken": `+secret+`}}`, "client", "browser", "base")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	for kind, to := range map[string]*string{"client_token": &s.client, "browser_token": &s.browser} {
		out, err := exec.CommandContext(ctx, s.tasktracer, "tokengen", "--config", config, "--ns", "bench", "--type", kind, "--period", "7 days").Output()
		if err != nil {
			return nil, fmt.Errorf("tokengen: %w", err)
		}
		*to = strings.TrimSpace(string(out))
	}
	nats := fmt.Sprintf("127.0.0.1:%d", 20_000+os.Getpid()%10_000)
	if s.all, _, err = s.serve(ctx, "all", "--data", filepath.Join(s.dir, "data"), "--config", config, "--nats-listen", nats, "--log-max-bytes", "8000000000"); err != nil {
		return nil, err
	}
	if s.ingest, s.ingestURL, err = s.serve(ctx, "ingest", "--nats", "nats://"+nats); err != nil {
		return nil, err
	}
	s.gateway, s.gatewayURL, err = s.serve(ctx, "gateway", "--nats", "nats://"+nats)
	return s, err
}

func (s *stage) close() {
	for _, cmd := range []*exec.Cmd{s.gateway, s.ingest, s.all} {
		if cmd != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	}
	_ = os.RemoveAll(s.dir)
}

// serve starts one of ours on a free port, and returns it and its URL when it is ready.
func (s *stage) serve(ctx context.Context, role string, args ...string) (*exec.Cmd, string, error) {
	cmd := exec.Command(s.tasktracer, append([]string{role, "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "info"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	errs, err := cmd.StderrPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	said := bufio.NewScanner(errs)
	for said.Scan() {
		var entry struct{ Msg, Addr string }
		if json.Unmarshal(said.Bytes(), &entry) != nil || entry.Msg != "listening" {
			continue
		}
		go func() {
			for said.Scan() { // until the process ends
			}
		}()
		for url := "http://" + entry.Addr; ; {
			if resp, err := http.Get(url + "/readyz"); err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return cmd, url, nil
				}
			}
			if err := pause(ctx); err != nil {
				return cmd, "", err
			}
		}
	}
	return cmd, "", fmt.Errorf("tasktracer %s did not start", role)
}

// cpu is the CPU time that a process has used, in the kernel's ticks of 10 ms.
func (s *stage) cpu(cmd *exec.Cmd) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// The name, in brackets, may have blanks; utime and stime are the 12th and 13th after it.
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(f[11]) // the kernel writes numbers
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (s *stage) peak(cmd *exec.Cmd) int64     { return s.status(cmd, "VmHWM:") }
func (s *stage) resident(cmd *exec.Cmd) int64 { return s.status(cmd, "VmRSS:") }

func (s *stage) status(cmd *exec.Cmd, key string) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for l := range strings.SplitSeq(string(status), "\n") {
		if v, ok := strings.CutPrefix(l, key); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64) // the kernel writes numbers
			return kb << 10
		}
	}
	return 0
}

// disk is what the log's files have allotted, in bytes.
func (s *stage) disk() (bytes int64) {
	_ = filepath.WalkDir(filepath.Join(s.dir, "data"), func(_ string, d fs.DirEntry, err error) error {
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

func (s *stage) metric(url, name string) float64 {
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, _ := strconv.ParseFloat(v, 64) // it is a number
			return n
		}
	}
	return 0
}
