//go:build unix

package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"tasktracer/pkg/trace"
)

// ownTerminal tells whether a command can have a terminal of its own here.
const ownTerminal = true

// run runs the command and gives its end.
func (c *child) run(r *trace.Run) trace.Exit {
	path, err := lookPath(c.argv()[0])
	if err != nil {
		return c.cannotStart(r, err)
	}
	signals := catchSignals()
	defer signals.stop()
	p, err := c.start(path)
	if err != nil {
		return c.cannotStart(r, err)
	}
	p.say = func(format string, args ...any) { c.voice.warn(fmt.Sprintf(format, args...)) }
	r.Connect() // now that the command runs: connecting costs more than starting it
	defer p.restore()
	ended := make(chan syscall.WaitStatus, 1)
	go func() { ended <- p.wait() }()
	forwarding := make(chan struct{})
	go func() {
		defer close(forwarding)
		p.forward(signals, c.options.grace)
	}()

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		p.read(&echo{to: patient{c.sys.stdout}, sent: r.Stdout(), failed: c.cannotShow("stdout", r)},
			&echo{to: patient{c.sys.stderr}, sent: r.Stderr(), failed: c.cannotShow("stderr", r)})
	}()
	status := <-ended
	if p.slave != nil {
		p.slave.Close()
	}
	r.Ending()
	if !p.drain(drained) {
		r.Note(leftNote)
	}
	close(p.over)
	<-forwarding
	if status.Signaled() {
		return signalExit(status.Signal())
	}
	return trace.Exit{Code: status.ExitStatus()}
}

// process is a started command.
type process struct {
	pid        int
	group      int      // its process group; 0 where it shares tt's, on the user's terminal
	pty        bool     // it runs in a terminal of its own
	both       *both    // its outputs, where they are read together
	out        *os.File // else; its terminal's where it has one
	err        *os.File // nil with a terminal
	slave      *os.File // the command's side of its own terminal
	over       chan struct{}
	lost       func() // says that others may have changed the terminal
	raw        func() // puts the user's terminal into raw mode, where that is to be
	isRaw      func() bool
	cooked     func()        // and back
	resize     func()        // makes the command's terminal as large as the user's; nil without one
	continued  chan struct{} // holds a token when SIGCONT came; nil without a terminal of its own
	foreground func() bool   // tells that the user's terminal signals tt's group
	say        func(format string, args ...any)

	mu   sync.Mutex
	last time.Time // when output last came
	wake func()    // ends a wait for output; nil where none is to be ended
}

func (c *child) start(path string) (*process, error) {
	if c.terminal {
		return c.startInTerminal(path)
	}
	p := &process{over: make(chan struct{}), foreground: func() bool { return foreground(c.sys) }}
	outW, errW, err := p.open(c.sys)
	if err != nil {
		return nil, err
	}
	defer outW.Close()
	defer errW.Close()
	attr := &syscall.SysProcAttr{}
	shared := onTerminal(c.sys)
	attr.Setpgid = !shared
	if p.pid, err = c.spawn(path, []*os.File{c.sys.stdin, outW, errW}, attr); err != nil {
		p.closeOutputs()
		return nil, err
	}
	if !shared {
		p.group = p.pid
	}
	return p, nil
}

// spawn leaves the environment, and whatever files tt has inherited beside the first three, as they are.
func (c *child) spawn(path string, files []*os.File, attr *syscall.SysProcAttr) (int, error) {
	proc, err := os.StartProcess(path, c.argv(), &os.ProcAttr{Dir: c.options.cwd, Env: c.sys.env, Files: files, Sys: attr})
	if err != nil {
		return 0, err
	}
	pid := proc.Pid
	// wait sees stops as well as the end, which os.Process does not.
	if err := proc.Release(); err != nil {
		return 0, fmt.Errorf("release: %w", err)
	}
	return pid, nil
}

// onTerminal tells that tt runs on the user's terminal, in a group that the terminal signals. The command then stays in that group, so that Ctrl-C, Ctrl-Z, the
// shell's job control and the other members of a pipeline work as if tt were not there. Elsewhere the command gets a group of its own, to which tt passes signals.
func onTerminal(sys system) bool {
	for _, f := range []*os.File{sys.stdin, sys.stdout, sys.stderr} {
		fd := int(f.Fd())
		if !term.IsTerminal(fd) {
			continue
		}
		// Only a process's controlling terminal tells it the session.
		if _, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil {
			return true
		}
	}
	return false
}

// foreground tells that the terminal's signals now reach tt's group.
func foreground(sys system) bool {
	for _, f := range []*os.File{sys.stdin, sys.stdout, sys.stderr} {
		if group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP); err == nil {
			return group == unix.Getpgrp()
		}
	}
	return false
}

// wait returns how the command ended. When job control stops it, tt stops too, so that who waits for tt sees it. As the first process of a container tt also waits
// for those that others left to it, as the first process must.
func (p *process) wait() syscall.WaitStatus {
	who := p.pid
	if os.Getpid() == 1 {
		who = -1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(who, &status, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR || err == nil && pid != p.pid:
			continue
		case err != nil:
			return status // nobody else waits for this child, so it cannot be
		case status.Stopped():
			p.stopped(status.StopSignal())
			continue
		}
		return status
	}
}

func (p *process) stopped(s syscall.Signal) {
	switch s {
	case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
	default:
		return // stopped by somebody who will continue it; tt goes on
	}
	if p.group == 0 {
		return // the terminal has stopped tt, too
	}
	p.stopSelf()
}

// stopSelf stops tt until it is continued, with the user's terminal as it was. It may go on for a moment before it is stopped; what is to be done when it is
// continued is done when SIGCONT is heard.
func (p *process) stopSelf() {
	if p.cooked != nil {
		p.cooked()
	}
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP) // cannot fail
}

// kill sends a signal to the command's group, or to it alone where it shares tt's.
func (p *process) kill(s syscall.Signal) {
	target := p.pid
	if p.group != 0 {
		target = -p.group
	}
	// A process that is gone needs no signal.
	_ = syscall.Kill(target, s)
}

// drain waits until all output is read, or a process that the command left behind is all that holds it open: then false.
func (p *process) drain(drained <-chan struct{}) bool {
	began := time.Now()
	tick := time.NewTicker(leftOpen / 5)
	defer tick.Stop()
	for {
		select {
		case <-drained:
			return true
		case <-tick.C:
		}
		p.mu.Lock()
		silent := time.Since(latest(p.last, began))
		p.mu.Unlock()
		if silent < leftOpen && time.Since(began) < leftOpenAtMost {
			continue
		}
		p.close()
		<-drained
		return false
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// close ends reading.
func (p *process) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake != nil {
		p.wake()
	}
	for _, f := range []*os.File{p.out, p.err} {
		if f != nil {
			_ = f.SetReadDeadline(time.Unix(1, 0)) // pipes and terminals have deadlines
		}
	}
}

// closeOutputs is for a command that could not be started.
func (p *process) closeOutputs() {
	if p.both != nil {
		p.both.close()
		return
	}
	p.out.Close()
	p.err.Close()
}

func (p *process) noteRead() {
	p.mu.Lock()
	p.last = time.Now()
	p.mu.Unlock()
}

func (p *process) restore() {
	if p.cooked != nil {
		p.cooked()
	}
}

// signalExit is the end by a signal.
func signalExit(s os.Signal) trace.Exit {
	n, ok := s.(syscall.Signal)
	if !ok {
		return trace.Exit{Code: exitFailure}
	}
	return trace.Exit{Code: 128 + int(n), Signal: unix.SignalName(n)}
}

const sigPipe = syscall.SIGPIPE

// endSignals are those that end a program that only copies.
func endSignals() []os.Signal {
	return notIgnored(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
}

// notIgnored leaves out what whoever started tt wants ignored (nohup): that stays so, for tt and for the command.
func notIgnored(all ...os.Signal) []os.Signal {
	var heard []os.Signal
	for _, s := range all {
		if !signal.Ignored(s) {
			heard = append(heard, s)
		}
	}
	return heard
}

// hearSignals returns when every signal that has come by now has been passed to who wants to hear it: the kernel and Go give signals that wait by their numbers, and that of
// a window's change, which does no harm, is greater than theirs.
func hearSignals() {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGWINCH)
	defer signal.Stop(heard)
	if syscall.Kill(syscall.Getpid(), syscall.SIGWINCH) == nil {
		<-heard
	}
}
