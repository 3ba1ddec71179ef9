// Package system starts what benchmarks measure: `tasktracer all`, whose NATS listens for others too, and parts as processes of their own beside it.
// What a part takes is the kernel's figure for its process. All of it ends with the benchmark. Linux only.
package system

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
	"syscall"
	"time"
)

// System is a running `tasktracer all` and what is started beside it. For one goroutine.
type System struct {
	Dir             string // of everything that is written; data is the log's
	NATS            string // for the parts' --nats
	URL             string // of all
	Client, Browser string // tokens

	tasktracer, tt string
	started        []*exec.Cmd
}

// Start starts `tasktracer all` from the binaries in bin, with args more, and makes tokens. Close ends what it started.
func Start(ctx context.Context, bin string, args ...string) (s *System, err error) {
	s = &System{}
	if bin, err = filepath.Abs(bin); err != nil {
		return nil, err
	}
	s.tasktracer, s.tt = filepath.Join(bin, "tasktracer"), filepath.Join(bin, "tt")
	if s.Dir, err = os.MkdirTemp("", "tasktracer-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	config := filepath.Join(s.Dir, "config.json")
	secret := `{"secret": "for a measurement only, %s", "options": {"algorithm": "HS256", "expiresIn": "1 day"}}`
	text := fmt.Sprintf(`{"jwt": {"clientToken": `+secret+`, "browserToken": `+secret+`, "baseToken": `+secret+`}}`, "client", "browser", "base")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	for kind, to := range map[string]*string{"client_token": &s.Client, "browser_token": &s.Browser} {
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
	s.NATS = "nats://" + nats
	_, s.URL, err = s.serve(ctx, "all", append([]string{"--data", filepath.Join(s.Dir, "data"), "--config", config, "--nats-listen", nats}, args...)...)
	return s, err
}

// Close ends all that was started and removes Dir.
func (s *System) Close() {
	for _, cmd := range s.started {
		End(cmd)
	}
	_ = os.RemoveAll(s.Dir) // what cannot be removed is in the system's folder for such things
}

// Serve starts a part beside all, and returns it and its URL when it is ready.
func (s *System) Serve(ctx context.Context, role string, args ...string) (*exec.Cmd, string, error) {
	return s.serve(ctx, role, append([]string{"--nats", s.NATS}, args...)...)
}

func (s *System) serve(ctx context.Context, role string, args ...string) (*exec.Cmd, string, error) {
	cmd := exec.Command(s.tasktracer, append([]string{role, "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	errs, err := cmd.StderrPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	s.started = append(s.started, cmd)
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
	return nil, "", fmt.Errorf("tasktracer %s did not start:\n%s", role, said.Bytes())
}

// TT is tt with a client's id, sending to url; command is what follows its flags.
func (s *System) TT(ctx context.Context, task, id, url string, command ...string) *exec.Cmd {
	args := []string{"-q", "-n", task, "--id", id, "--url", url, "--linger", "10m", "--redact-env", "off", "--spool-limit", "4GiB"}
	cmd := exec.CommandContext(ctx, s.tt, append(args, command...)...)
	cmd.Env = append(os.Environ(), "HOME="+s.Dir, "XDG_STATE_HOME=", "TASKTRACER_TOKEN="+s.Client)
	return cmd
}

// End kills a process and waits for it. More than once does no harm.
func End(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
}

// Memory is a figure of a process's memory by the kernel's name for it (VmRSS, VmHWM), in bytes.
func Memory(cmd *exec.Cmd, name string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", name, cmd.Process.Pid)
}

// Metric is the present value of a part's metric without labels.
func Metric(url, name string) (float64, error) {
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", url, name)
}

// freePort is an address that nobody listened at a moment ago.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
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
