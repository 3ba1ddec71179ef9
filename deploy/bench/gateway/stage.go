package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stage is everything but the gateway that is measured: `tasktracer all`, whose NATS listens for others too.
type stage struct {
	tasktracer, tt, dir, nats, clients string
	browser, client                    string // tokens
	all                                *exec.Cmd
}

func newStage(ctx context.Context, bin string) (s *stage, err error) {
	s = &stage{}
	if bin, err = filepath.Abs(bin); err != nil {
		return nil, err
	}
	s.tasktracer, s.tt = filepath.Join(bin, "tasktracer"), filepath.Join(bin, "tt")
	if s.dir, err = os.MkdirTemp("", "bench-gateway-"); err != nil {
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
	nats, err := freePort()
	if err != nil {
		return nil, err
	}
	s.nats = "nats://" + nats
	s.all, s.clients, err = s.serve(ctx, "all", "--data", filepath.Join(s.dir, "data"), "--config", config, "--nats-listen", nats,
		"--log-max-bytes", "8000000000", "--run-max-bytes", "4000000000")
	return s, err
}

func (s *stage) close() {
	if s.all != nil {
		end(s.all)
	}
	_ = os.RemoveAll(s.dir)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// serve starts one of ours on a free port, and returns it and its URL when it is ready.
func (s *stage) serve(ctx context.Context, role string, args ...string) (*exec.Cmd, string, error) {
	cmd := exec.Command(s.tasktracer, append([]string{role, "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	errs, err := cmd.StderrPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	var said bytes.Buffer
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		said.Write(append(lines.Bytes(), '\n'))
		var entry struct{ Msg, Addr string }
		if json.Unmarshal(lines.Bytes(), &entry) != nil || entry.Msg != "listening" {
			continue
		}
		go func() { _, _ = io.Copy(io.Discard, errs) }() // it ends with the process
		url := "http://" + entry.Addr
		return cmd, url, ready(ctx, url)
	}
	end(cmd)
	return nil, "", fmt.Errorf("tasktracer %s did not start:\n%s", role, said.Bytes())
}

func ready(ctx context.Context, url string) error {
	for {
		resp, err := http.Get(url + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
}

// write stores a run under tt; the client's id is its form.
func (s *stage) write(ctx context.Context, form string, mb int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.tt, "-q", "-n", task, "--id", form, "--url", s.clients, "--linger", "10m", "--redact-env", "off", "--spool-limit", "4GiB",
		"--", self, "write", form, strconv.Itoa(mb*10_000))
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_STATE_HOME=", "TASKTRACER_TOKEN="+s.client)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tt: %w\n%s", err, errs.Bytes())
	}
	return nil
}

// gateway is the process under measurement. Its memory is looked at all the time.
type gateway struct {
	cmd  *exec.Cmd
	url  string
	stop chan struct{}
	wg   sync.WaitGroup

	resident, heap int64 // the most so far, bytes
}

func (s *stage) gateway(ctx context.Context, args ...string) (*gateway, error) {
	cmd, url, err := s.serve(ctx, "gateway", append([]string{"--nats", s.nats}, args...)...)
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
		resp, err := http.Get(g.url + "/metrics")
		if err == nil {
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				if v, ok := strings.CutPrefix(lines.Text(), "go_memstats_heap_alloc_bytes "); ok {
					if n, err := strconv.ParseFloat(v, 64); err == nil {
						g.heap = max(g.heap, int64(n))
					}
				}
			}
			_ = resp.Body.Close()
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
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	end(g.cmd)
	if err != nil {
		return 0, 0, err
	}
	for _, line := range strings.Split(string(status), "\n") {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kb << 10, g.heap, err
		}
	}
	return 0, 0, fmt.Errorf("no VmHWM in the status of process %d", g.cmd.Process.Pid)
}
