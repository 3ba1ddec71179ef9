package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"tasktracer/pkg/trace"
)

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
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	cmd := &exec.Cmd{Path: path, Args: c.argv(), Dir: c.options.cwd, Env: c.sys.env, Stdin: c.sys.stdin}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return c.cannotStart(r, err)
	}
	errs, err := cmd.StderrPipe()
	if err != nil {
		return c.cannotStart(r, err)
	}
	if err := cmd.Start(); err != nil {
		return c.cannotStart(r, err)
	}
	r.Connect()
	var both sync.WaitGroup
	both.Go(func() { c.copyOut(out, c.sys.stdout, "stdout", r.Stdout(), r) })
	both.Go(func() { c.copyOut(errs, c.sys.stderr, "stderr", r.Stderr(), r) })
	both.Wait()
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		return c.cannotStart(r, err)
	}
	return trace.Exit{Code: cmd.ProcessState.ExitCode()}
}

// copyOut copies an output until it ends, or until nobody takes what is shown of it: the command then finds its own end closed.
func (c *child) copyOut(from io.ReadCloser, to *os.File, name string, sent io.Writer, r *trace.Run) {
	defer from.Close()
	if err := copyOne(from, to, sent); err != nil && !broken(err) {
		c.cannotShow(name, r)(err)
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
