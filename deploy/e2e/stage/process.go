package stage

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs, and whose every line of stderr is kept.
type Process struct {
	Name string
	cmd  *exec.Cmd

	// ended is closed when the process has; err is then how.
	ended chan struct{}
	err   error

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced with each line
	out   bytes.Buffer
}

// keepLines bounds what is kept of a program that talks a lot.
const keepLines = 2000

// Start runs a program; stdin may be nil. It is killed when the test ends, and its last lines are shown if the test failed.
func Start(t testing.TB, name string, stdin io.Reader, env []string, path string, args ...string) *Process {
	t.Helper()
	p, err := Launch(name, stdin, env, path, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s said at the end:\n%s", name, p.Tail(40))
		}
	})
	return p
}

// Launch is Start outside of a test.
func Launch(name string, stdin io.Reader, env []string, path string, args ...string) (*Process, error) {
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second // a grandchild may hold the pipes
	p := &Process{Name: name, cmd: cmd, ended: make(chan struct{}), more: make(chan struct{})}
	cmd.Stdout = lockedWriter{p}
	errs, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	read := make(chan struct{})
	go func() { defer close(read); p.read(errs) }()
	go func() {
		<-read
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

type lockedWriter struct{ p *Process }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.out.Write(b)
}

func (p *Process) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		p.mu.Lock()
		if p.lines = append(p.lines, s.Text()); len(p.lines) > keepLines {
			p.lines = p.lines[keepLines/2:]
		}
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

// Line waits for a line of stderr for which match gives a value, and returns that.
func (p *Process) Line(ctx context.Context, what string, match func(string) (string, bool)) (string, error) {
	for {
		p.mu.Lock()
		lines, more := p.lines, p.more
		p.mu.Unlock()
		for _, l := range lines {
			if v, ok := match(l); ok {
				return v, nil
			}
		}
		select {
		case <-more:
		case <-p.ended:
			return "", fmt.Errorf("%s ended before %s: %w\n%s", p.Name, what, p.err, p.Tail(20))
		case <-ctx.Done():
			return "", fmt.Errorf("%s: no %s: %w\n%s", p.Name, what, ctx.Err(), p.Tail(20))
		}
	}
}

// Tail is the last lines of stderr.
func (p *Process) Tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b bytes.Buffer
	for _, l := range p.lines[max(0, len(p.lines)-n):] {
		b.WriteString("    " + l + "\n")
	}
	return b.String()
}

// Stderr is all that is kept of stderr.
func (p *Process) Stderr() string { return p.Tail(keepLines) }

// Stdout is what the program has printed.
func (p *Process) Stdout() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Signal sends a signal to the process alone.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait returns the exit code; -1 where a signal ended the process.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
	case <-ctx.Done():
		return 0, fmt.Errorf("%s goes on: %w\n%s", p.Name, ctx.Err(), p.Tail(20))
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return 0, p.err
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// Kill ends the process at once, with all that it started, and waits for it.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.ended
}

// Pid is its process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }
