package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"tasktracer/pkg/trace"
)

// copySize is how much is read at once; a record's largest size, so that a read is a record.
const copySize = 256 << 10

// copyThrough is the pipe mode: stdin goes to stdout, and is sent.
func copyThrough(sys system, r *trace.Run) trace.Exit {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, endSignals()...)
	defer signal.Stop(signals)
	done := make(chan error, 1)
	go func() { done <- copyOne(patient{sys.stdin}, patient{sys.stdout}, r.Stdout()) }()
	for {
		select {
		case err := <-done:
			// Ctrl-C ends the writer of the pipe as well, and its end may be seen first.
			hearSignals()
			select {
			case s := <-signals:
				return signalExit(s)
			default:
			}
			if err != nil && !broken(err) {
				r.Note("reading or writing failed: " + err.Error())
				fmt.Fprintln(sys.stderr, "tt:", err)
				return trace.Exit{Code: exitFailure}
			}
			if err != nil {
				return signalExit(sigPipe)
			}
			return trace.Exit{}
		case s := <-signals:
			if s != os.Interrupt {
				return signalExit(s)
			}
			// Ctrl-C reaches the writer of the pipe as well; its last words are waited for, for a moment.
			select {
			case <-done: //nolint:errcheck // the writer has gone either way
			case <-signals:
			case <-time.After(time.Second):
			}
			return signalExit(s)
		}
	}
}

// copyOne copies until the end. What is read is kept for sending before it is passed on, and sent also where it cannot be passed on: the error is then that of the
// first write that failed, at the end. Only when nobody reads any more it ends there.
func copyOne(from io.Reader, to io.Writer, sent io.Writer) error {
	buf := make([]byte, copySize)
	var failed error
	for {
		n, err := from.Read(buf)
		if n > 0 {
			_, _ = sent.Write(buf[:n]) // never fails
			if _, werr := to.Write(buf[:n]); broken(werr) {
				return werr
			} else if failed == nil {
				failed = werr
			}
		}
		if errors.Is(err, io.EOF) {
			return failed
		}
		if err != nil {
			return err
		}
	}
}
