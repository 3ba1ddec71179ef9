//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"tasktracer/pkg/trace/tracetest"
)

// shell is an interactive bash on a terminal of its own, as a user sits before it.
type shell struct {
	t      *testing.T
	dir    string
	server *tracetest.Server
	keys   *os.File

	mu     sync.Mutex
	screen bytes.Buffer
	seen   int // of the screen, by await
}

func startShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{t: t, dir: t.TempDir(), server: tracetest.Start(t, tracetest.Faults{})}
	bin := filepath.Join(s.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "tt")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile", "--noediting", "-i")
	cmd.Dir = s.dir
	cmd.Env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + s.dir, "PS1=$ ", "TERM=dumb", "HISTFILE=/dev/null",
		"TASKTRACER_URL=" + s.server.URL, "TASKTRACER_TOKEN=the-token-of-the-test", "TASKTRACER_ID=cli-1",
	}
	if s.keys, err = pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 4096)
		for {
			n, err := s.keys.Read(b)
			s.mu.Lock()
			s.screen.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		s.keys.Close()
		<-read
		if t.Failed() {
			t.Logf("screen: %q", s.screen.String())
		}
	})
	s.await(`\$ `)
	return s
}

func (s *shell) press(keys string) {
	s.t.Helper()
	if _, err := s.keys.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// until waits for a condition.
func (s *shell) until(what string, ok func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("%s: did not happen", what)
		}
	}
}

// await waits until the screen shows the pattern, behind what was waited for before.
func (s *shell) await(pattern string) {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	s.until("on the screen: "+pattern, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		at := re.FindIndex(s.screen.Bytes()[s.seen:])
		if at != nil {
			s.seen += at[1]
		}
		return at != nil
	})
}

// pressUntil presses keys until the screen shows the pattern. Once is enough, but on a machine so busy that tt has not yet heard the signal before, when the next one
// comes: two that wait are one. The command may be quicker to hear both.
func (s *shell) pressUntil(keys, pattern string) {
	s.t.Helper()
	re, last := regexp.MustCompile(pattern), time.Time{}
	s.until("on the screen: "+pattern, func() bool {
		s.mu.Lock()
		at := re.FindIndex(s.screen.Bytes()[s.seen:])
		s.mu.Unlock()
		if at != nil {
			s.seen += at[1]
			return true
		}
		if time.Since(last) > 20*time.Second {
			s.press(keys)
			last = time.Now()
		}
		return false
	})
}

// pid is what a command wrote into a file.
func (s *shell) pid(file string) string {
	s.t.Helper()
	text := ""
	s.until("a process id in "+file, func() bool {
		b, err := os.ReadFile(filepath.Join(s.dir, file))
		text = strings.TrimSpace(string(b))
		return err == nil && strings.HasSuffix(string(b), "\n")
	})
	return text
}

func (s *shell) state(pid string, states string) {
	s.t.Helper()
	s.until(fmt.Sprintf("process %s in a state of %q", pid, states), func() bool {
		state := processState(pid)
		if state == "" {
			state = "-"
		}
		return strings.Contains(states, state)
	})
}

const (
	ctrlC = "\x03"
	ctrlZ = "\x1a"
	gone  = "-Z"
)

// Ctrl-C twice ends a command that does not want to end, after the grace period, and all that it has started.
func TestTwoCtrlC(t *testing.T) {
	s := startShell(t)
	s.press("tt -n stubborn --grace 300ms 'trap \"echo heard\" INT; echo $$ >pid; sleep 1000 & echo $! >inner; echo begun; while :; do sleep 0.05; done'; echo code $?\r")
	s.await(`begun\r\n`)
	pid, inner := s.pid("pid"), s.pid("inner")
	s.press(ctrlC)
	s.await(`heard`) // two signals at once are one
	s.pressUntil(ctrlC, `interrupted twice: the command is killed in 300ms`)
	s.await(`code 137`)
	s.state(pid, gone)
	s.state(inner, gone)
	run := s.server.Wait(t, "end", tracetest.Ended)
	if *run.Code != 137 || run.Signal != "SIGKILL" {
		t.Errorf("ended with %d %s, want 137 SIGKILL", *run.Code, run.Signal)
	}
}

// One Ctrl-C that the command lives with is its own affair; a third one does not wait for the grace period.
func TestOneAndThreeCtrlC(t *testing.T) {
	s := startShell(t)
	s.press("tt -n hears --grace 1h 'n=0; trap \"n=\\$((n+1)); echo heard \\$n\" INT; echo begun; while :; do sleep 0.05; done'; echo code $?\r")
	s.await(`begun\r\n`)
	s.press(ctrlC)
	s.await(`heard 1`)
	s.pressUntil(ctrlC, `interrupted twice`)
	s.pressUntil(ctrlC, `code 137`)
}

// The usual end: the command hears Ctrl-C once, and ends by it.
func TestCtrlC(t *testing.T) {
	s := startShell(t)
	s.press("tt -n usual 'echo begun; sleep 1000'; echo code $?\r")
	s.await(`begun\r\n`)
	s.press(ctrlC)
	s.await(`code 130`)
	run := s.server.Wait(t, "end", tracetest.Ended)
	if *run.Code != 130 || run.Signal != "SIGINT" {
		t.Errorf("ended with %d %s, want 130 SIGINT", *run.Code, run.Signal)
	}
}

// The shell's job control: Ctrl-Z, bg, fg, with and without a terminal of the command's own.
func TestJobControl(t *testing.T) {
	for _, flags := range []string{"", "-t"} {
		t.Run("tt "+flags, func(t *testing.T) {
			s := startShell(t)
			s.press("tt -n job " + flags + " 'echo $$ >child; echo $PPID >tt; echo begun; while [ ! -e go ]; do sleep 0.05; done; echo went on'; echo code $?\r")
			s.await(`begun\r\n`)
			child, tt := s.pid("child"), s.pid("tt")
			for range 2 {
				s.press(ctrlZ)
				s.await(`Stopped`)
				s.state(child, "T")
				s.state(tt, "T")
				s.await(`\$ `)
				s.press("bg\r")
				s.await(`&`)
				s.state(child, "SRD")
				s.state(tt, "SRD")
				s.await(`\$ `)
				// The shell has the terminal, and answers.
				s.press("echo $((6*7))\r")
				s.await(`\n42\r\n`)
				s.press("fg\r")
				s.await(`tt -n job`)
				s.foreground(tt)
				if flags == "-t" {
					s.raw()
				}
			}
			if err := os.WriteFile(filepath.Join(s.dir, "go"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.await(`went on\r\n`)
			s.await(`\$ `)
			run := s.server.Wait(t, "end", tracetest.Ended)
			if got := strings.ReplaceAll(string(run.Output("")), "\r", ""); got != "begun\nwent on\n" || *run.Code != 0 {
				t.Errorf("sent %q, code %d", got, *run.Code)
			}
		})
	}
}

// foreground waits until the terminal signals the process's group.
func (s *shell) foreground(pid string) {
	s.t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		s.t.Fatal(err)
	}
	group, err := syscall.Getpgid(n)
	if err != nil {
		s.t.Fatal(err)
	}
	s.until("tt in the foreground", func() bool {
		// Field 8 of stat is the foreground group of the process's terminal.
		b, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		_, rest, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		return err == nil && len(fields) > 5 && fields[5] == strconv.Itoa(group)
	})
}

// raw waits until the user's terminal passes on what is typed as it is.
func (s *shell) raw() {
	s.t.Helper()
	s.until("a raw terminal", func() bool {
		t, err := unix.IoctlGetTermios(int(s.keys.Fd()), unix.TCGETS)
		return err == nil && t.Lflag&unix.ICANON == 0
	})
}

// With -t the command has the keyboard: its terminal makes the signal of Ctrl-C, echoes, and follows the size of the user's.
func TestKeyboard(t *testing.T) {
	s := startShell(t)
	s.press("tt -n keys -t 'stty size; read -p \"name? \" name; echo hello $name; trap \"stty size\" WINCH; echo ready; while [ ! -e go ]; do sleep 0.05; done; read x'; echo code $?\r")
	s.await(`30 100\r\n`)
	s.await(`name\? `)
	s.press("Ada\r")
	s.await(`Ada\r\n`) // echoed once
	s.await(`hello Ada\r\nready\r\n`)
	if err := pty.Setsize(s.keys, &pty.Winsize{Rows: 31, Cols: 101}); err != nil {
		t.Fatal(err)
	}
	s.await(`31 101\r\n`)
	if err := os.WriteFile(filepath.Join(s.dir, "go"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.press(ctrlC)
	s.await(`code 130`)
	// The terminal is as it was: the shell's own echo works.
	s.press("stty -a | grep -o ' icanon'; stty -a | grep -o ' echo '\r")
	s.await(`\n icanon\r\n echo \r\n`)
}

// The other members of a pipeline, and a shell that ends its job.
func TestPipelineOnTerminal(t *testing.T) {
	s := startShell(t)
	s.press("tt -n pipe 'echo begun; sleep 1000' | cat; echo codes ${PIPESTATUS[*]}\r")
	s.await(`begun\r\n`)
	s.press(ctrlC)
	s.await(`\$ `)
	s.press("tt -n killed 'echo $$ >pid; trap \"echo term; exit 9\" TERM; echo begun; while :; do sleep 0.05; done' &\r")
	pid := s.pid("pid")
	s.await(`begun\r\n`)
	s.press("kill %1\r")
	s.await(`term\r\n`)
	s.press("wait %1; echo code $?\r")
	s.await(`code 9`)
	s.state(pid, gone)
}

// What is piped into tt ends by Ctrl-C, and tt with it, as cat would; what had come is sent.
func TestFedOnTerminal(t *testing.T) {
	s := startShell(t)
	s.press("{ echo first; sleep 1000; } | tt -n fed\r")
	s.server.Wait(t, "the first line", func(r *tracetest.Run) bool { return string(r.Output("STDOUT")) == "first\n" })
	s.press(ctrlC)
	s.await(`\$ `)
	s.press("echo code $?\r")
	s.await(`code 130\r\n`)
	run := s.server.Wait(t, "end", tracetest.Ended)
	if *run.Code != 130 || run.Signal != "SIGINT" || string(run.Output("STDOUT")) != "first\n" {
		t.Errorf("ended with %d %s, %q", *run.Code, run.Signal, run.Output("STDOUT"))
	}
}

// --pty=auto gives the command a terminal where tt has one.
func TestAutomaticTerminal(t *testing.T) {
	s := startShell(t)
	s.press("tt -q -n auto --pty=auto 'test -t 1 && echo has a terminal'; tt -q -n auto --pty=auto 'test -t 1 || echo has none' | cat\r")
	s.await(`\nhas a terminal\r\n`)
	s.await(`^has none\r\n`)
}
