package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"sync/atomic"
	"time"

	"tasktracer/pkg/trace"
)

const (
	// leftOpen is how long output that a process left behind holds open must be silent, after the command has ended, for tt to leave.
	leftOpen = 500 * time.Millisecond
	// leftOpenAtMost is how long tt goes on reading such output when it is not silent.
	leftOpenAtMost = 5 * time.Second

	leftNote  = "the command has ended, but a process it left behind holds its output open; what that writes from now on is not sent"
	twiceText = "interrupted twice: the command is killed in %v, or now by a third time"
)

// child is the command: started, signalled, read to its end.
type child struct {
	options  *options
	sys      system
	voice    *voice
	terminal bool
	raw      atomic.Bool // the user's terminal is in raw mode
}

// argv is what is executed.
func (c *child) argv() []string {
	if c.options.direct {
		return c.options.args
	}
	return []string{"bash", "-c", c.options.commandText()}
}

// cannotStart says why the command could not be started, with the code a shell would give.
func (c *child) cannotStart(r *trace.Run, err error) trace.Exit {
	code := exitCannotRun
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNotFound
	}
	text := fmt.Sprintf("cannot run %s: %v", c.argv()[0], err)
	fmt.Fprintln(c.sys.stderr, "tt:", text)
	r.Note(text)
	return trace.Exit{Code: code}
}

// echo passes output on to where it would have gone. Once nobody reads there, gone tells it: the command then finds its own end closed, as it would have. A disk that
// is full or a terminal that hung up is no reason to end the command, or to send no more: failed is told, once.
type echo struct {
	to     io.Writer
	sent   io.Writer
	failed func(err error)
	gone   bool
	told   bool
}

// write keeps b for sending before it is shown. It returns false once nobody takes what is shown.
func (e *echo) write(b []byte) bool {
	_, _ = e.sent.Write(b) // never fails
	if e.gone {
		return false
	}
	if _, err := e.to.Write(b); err != nil {
		e.fail(err)
	}
	return !e.gone
}

func (e *echo) fail(err error) {
	switch {
	case broken(err):
		e.gone = true
	case !e.told:
		e.told = true
		e.failed(err)
	}
}

// cannotShow is told when an output cannot be written where it should go.
func (c *child) cannotShow(output string, r *trace.Run) func(error) {
	return func(err error) {
		text := fmt.Sprintf("some of %s could not be written where it should go (%v); it is sent all the same", output, err)
		c.voice.warn(text)
		r.Note(text)
	}
}

func lookPath(file string) (string, error) {
	path, err := exec.LookPath(file)
	if errors.Is(err, exec.ErrDot) {
		return path, nil // a program of the current directory, where the user's PATH says so
	}
	return path, err
}
