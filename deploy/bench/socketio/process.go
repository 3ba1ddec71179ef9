package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// process is a peer that runs.
type process struct {
	cmd   *exec.Cmd
	once  sync.Once // ends it
	stdin io.Closer
	addr  string
}

func start(p peer) (*process, error) {
	cmd := exec.Command(os.Args[0], "-serve", p.name)
	if p.start == nil {
		cmd = exec.Command("node", "server.js")
		cmd.Dir = nodeDir()
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s: no address: %w", p.name, err)
	}
	return &process{cmd: cmd, stdin: in, addr: strings.TrimSpace(line)}, nil
}

func nodeDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "node")
}

func (p *process) stop() { p.once.Do(p.end) }

func (p *process) end() {
	_ = p.stdin.Close()
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

// fanLimit is how long a peer may take to emit what it was told to; longer, and it is frozen.
const fanLimit = 20 * time.Second

// fan makes the peer emit, and returns when it has handed everything to its own queues.
func (p *process) fan(n, size int, gap time.Duration) error {
	client := http.Client{Timeout: fanLimit + time.Duration(n)*gap}
	res, err := client.Get(fmt.Sprintf("http://%s/fan?n=%d&size=%d&gap=%d", p.addr, n, size, gap.Microseconds()))
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// cpu is the processor time that the process has used.
func (p *process) cpu() time.Duration { return cpuOf(p.cmd.Process.Pid) }

func cpuOf(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ
}

// resident is the process's resident memory, in bytes.
func (p *process) resident() int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kib << 10
		}
	}
	return 0
}
