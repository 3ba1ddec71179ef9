package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tasktracer/pkg/trace"
)

// ownTerminal tells whether a command can have a terminal of its own here.
const ownTerminal = false

// run runs the command and gives its end. There are no process groups, terminals of one's own or signals to pass on here; Ctrl-C reaches the command by the console.
func (c *child) run(r *trace.Run) trace.Exit {
	if !c.options.direct {
		return c.cannotStart(r, errors.New("on Windows write the program behind --, as in `tt -n build -- make all`"))
	}
	if c.terminal {
		return c.cannotStart(r, errors.New("a terminal (-t) is not supported on Windows"))
	}
	path, err := lookPath(c.argv()[0])
	if err != nil {
		return c.cannotStart(r, err)
	}
	interrupts := make(chan os.Signal, 8)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	cmd := &exec.Cmd{Path: path, Args: c.argv(), Dir: c.options.cwd, Env: c.sys.env, Stdin: c.sys.stdin}
	var o outputs
	if err := o.start(cmd); err != nil {
		return c.cannotStart(r, err)
	}
	r.Connect()
	o.reading.Go(func() { c.copyOut(&o, o.out, c.sys.stdout, "stdout", r) })
	o.reading.Go(func() { c.copyOut(&o, o.err, c.sys.stderr, "stderr", r) })
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { c.watchInterrupts(interrupts, cmd.Process, over) })
	err = cmd.Wait()
	close(over)
	watching.Wait()
	if cmd.ProcessState == nil {
		return c.cannotStart(r, err)
	}
	r.Ending()
	if !o.drain() {
		r.Note(leftNote)
	}
	return trace.Exit{Code: cmd.ProcessState.ExitCode()}
}

// outputs are the command's two, being read.
type outputs struct {
	out, err *os.File
	reading  sync.WaitGroup
	last     atomic.Int64 // when something last came, in nanoseconds since 1970
}

// start starts the command with pipes that its end does not close: what it has left in them is still to be read.
func (o *outputs) start(cmd *exec.Cmd) error {
	var outW, errW *os.File
	var err error
	if o.out, outW, err = os.Pipe(); err != nil {
		return err
	}
	defer outW.Close()
	if o.err, errW, err = os.Pipe(); err != nil {
		o.out.Close()
		return err
	}
	defer errW.Close()
	cmd.Stdout, cmd.Stderr = outW, errW
	if err := cmd.Start(); err != nil {
		o.out.Close()
		o.err.Close()
		return err
	}
	return nil
}

// heard is a file that notes when something came.
type heard struct {
	*os.File
	last *atomic.Int64
}

func (h heard) Read(b []byte) (int, error) {
	n, err := h.File.Read(b)
	h.last.Store(time.Now().UnixNano())
	return n, err
}

// copyOut copies an output until it ends, or until nobody takes what is shown of it: the command then finds its own end closed.
func (c *child) copyOut(o *outputs, from, to *os.File, name string, r *trace.Run) {
	defer from.Close()
	sent := r.Stdout()
	if name == "stderr" {
		sent = r.Stderr()
	}
	if err := copyOne(heard{from, &o.last}, to, sent); err != nil && !broken(err) {
		c.cannotShow(name, r)(err)
	}
}

// drain waits until all output is read, or a process that the command left behind is all that holds it open: then false. Who still reads then ends with tt.
func (o *outputs) drain() bool {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		o.reading.Wait()
	}()
	began := time.Now()
	tick := time.NewTicker(leftOpen / 5)
	defer tick.Stop()
	for {
		select {
		case <-drained:
			return true
		case <-tick.C:
		}
		silent := min(time.Since(began), time.Since(time.Unix(0, o.last.Load())))
		if silent >= leftOpen || time.Since(began) >= leftOpenAtMost {
			return false
		}
	}
}

// watchInterrupts ends the command when Ctrl-C came twice: after the grace period, or at once when it comes a third time.
func (c *child) watchInterrupts(interrupts <-chan os.Signal, p *os.Process, over <-chan struct{}) {
	var kill <-chan time.Time
	for n := 0; ; {
		select {
		case <-over:
			return
		case <-kill:
			_ = p.Kill() // it may have ended
		case <-interrupts:
			switch n++; {
			case n == 2:
				kill = time.After(c.options.grace)
				c.voice.warn(fmt.Sprintf(twiceText, c.options.grace))
			case n > 2:
				_ = p.Kill() // as above
			}
		}
	}
}

// signalExit is the end by a signal.
func signalExit(s os.Signal) trace.Exit {
	if s == os.Interrupt {
		return trace.Exit{Code: 130, Signal: "SIGINT"}
	}
	return trace.Exit{Code: exitFailure}
}

const sigPipe = syscall.SIGPIPE

func endSignals() []os.Signal { return []os.Signal{os.Interrupt} }

// hearSignals is of systems that have signals.
func hearSignals() {}
