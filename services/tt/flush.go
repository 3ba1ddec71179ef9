package main

import (
	"context"
	"errors"
	"fmt"

	"tasktracer/pkg/trace"
	"tasktracer/pkg/trace/spool"
)

// flushCommand sends what earlier runs left behind.
func flushCommand(ctx context.Context, args []string, sys system) error {
	o := &options{}
	fs := newFlagSet("tt flush")
	o.connection(fs)
	fs.StringVar(&o.spoolDir, "spool-dir", "", "")
	fs.BoolVar(&o.quiet, "q", false, "")
	fs.BoolVar(&o.quiet, "quiet", false, "")
	if err := parseCommand(fs, args, sys); err != nil {
		return err
	}
	url := o.url // only when given on purpose: each run knows its own
	if err := o.complete(sys.getenv); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	say := func(format string, args ...any) {
		if !o.quiet {
			fmt.Fprintf(sys.stdout, format+"\n", args...)
		}
	}
	runs, failed := 0, 0
	err := trace.Flush(ctx, trace.FlushConfig{Dir: spoolDir(o.spoolDir, sys.getenv), Token: o.token, URL: url}, func(f trace.Flushed) {
		runs++
		switch {
		case f.Err == nil:
			say("%s from %s (%s): delivered, about %s", f.Name, f.ID, f.Run, readable(f.Bytes))
		case errors.Is(f.Err, spool.ErrBusy):
			say("%s from %s (%s): still running", f.Name, f.ID, f.Run)
		default:
			failed++
			fmt.Fprintf(sys.stderr, "tt: %s from %s (%s): about %s kept: %v\n", f.Name, f.ID, f.Run, readable(f.Bytes), f.Err)
		}
	})
	if err != nil {
		return err
	}
	if runs == 0 {
		say("nothing is left to send")
	}
	if failed > 0 {
		return codeError(exitFailure)
	}
	return nil
}

// flushBehind sends what earlier runs on this host left behind, beside the run, once a server has accepted that. What it does not finish is left for the next one.
func flushBehind(ctx context.Context, cfg trace.Config, r *trace.Run) {
	if cfg.Spool.Dir == "" {
		return
	}
	select {
	case <-r.Connected():
	case <-r.Closed():
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-r.Closed():
			cancel()
		case <-ctx.Done():
		}
	}()
	// An error is the directory's, or the end: either way the next tt tries again.
	_ = trace.Flush(ctx, trace.FlushConfig{Dir: cfg.Spool.Dir, Token: cfg.Token}, func(trace.Flushed) {})
}
