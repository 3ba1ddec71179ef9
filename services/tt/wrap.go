package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"tasktracer/pkg/trace"
	"tasktracer/pkg/trace/redact"
	"tasktracer/pkg/trace/spool"
)

// wrap runs a command (or copies stdin, where there is none) and sends its output. It returns the command's exit code, or an error where nothing was run.
func wrap(ctx context.Context, o *options, sys system) (int, error) {
	if err := o.complete(sys.getenv); err != nil {
		return 0, err
	}
	if err := o.checkServer(sys.getenv); err != nil {
		return 0, err
	}
	name, err := o.taskName(sys.getenv, time.Now())
	if err != nil {
		return 0, err
	}
	if len(o.args) == 0 && term.IsTerminal(int(sys.stdin.Fd())) {
		return 0, &usageError{errors.New("no command: write it behind the flags, as in `tt -n build make`, or pipe into tt; tt --help explains")}
	}
	if err := checkDir(o.cwd); err != nil {
		return 0, &usageError{err}
	}
	rules, err := o.rules(sys.env)
	if err != nil {
		return 0, &usageError{err}
	}
	c := &child{options: o, sys: sys, terminal: o.wantsTerminal(sys)}
	v := &voice{out: sys.stderr, quiet: o.quiet, raw: &c.raw}
	c.voice = v
	cfg := trace.Config{
		URL: o.url, Token: o.token, ID: o.id, Name: name, Command: o.commandText(), Tags: o.tags, Terminal: c.terminal,
		CAFile: o.ca, Insecure: o.insecure, Spool: o.spoolConfig(sys.getenv), Redact: rules, Linger: o.linger,
		Accepted: v.url, Warn: v.warn, Deferred: true,
	}
	if cfg.Host, err = os.Hostname(); err != nil {
		cfg.Host = ""
	}
	if o.linger <= 0 {
		cfg.Linger = -1
	}
	if o.debug {
		cfg.Log = slog.New(slog.NewTextHandler(sys.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if c.terminal && !o.quiet && !term.IsTerminal(int(sys.stderr.Fd())) {
		v.raw = new(atomic.Bool)
	}
	r, err := trace.Start(cfg)
	if err != nil {
		return 0, &usageError{err}
	}
	go flushBehind(ctx, cfg, r)
	var exit trace.Exit
	if len(o.args) == 0 {
		r.Connect()
		exit = copyThrough(sys, r)
	} else {
		exit = c.run(r)
	}
	v.outcome(r.Close(exit), o)
	return exit.Code, nil
}

// checkDir tells whether the command can be run there.
func checkDir(dir string) error {
	if dir == "" {
		return nil
	}
	info, err := os.Stat(dir)
	var path *fs.PathError
	switch {
	case errors.As(err, &path):
		return fmt.Errorf("--cwd=%s: %w", dir, path.Err)
	case err != nil:
		return fmt.Errorf("--cwd=%s: %w", dir, err)
	case !info.IsDir():
		return fmt.Errorf("--cwd=%s: it is no directory", dir)
	}
	return nil
}

func (o *options) rules(env []string) (*redact.Rules, error) {
	var secrets []string
	if o.redactEnv == "on" {
		secrets = redact.Environment(env)
	}
	if o.token != "" {
		secrets = append(secrets, o.token)
	}
	return redact.New(secrets, o.redact)
}

func (o *options) spoolConfig(getenv func(string) string) spool.Config {
	c := spool.Config{Limit: int64(o.spoolLimit), Block: o.strict}
	if o.spool == "on" {
		c.Dir = spoolDir(o.spoolDir, getenv)
	}
	return c
}

// commandText is what viewers see as the command.
func (o *options) commandText() string {
	if len(o.args) == 0 {
		return "(standard input)"
	}
	return strings.Join(o.args, " ")
}

func (o *options) wantsTerminal(sys system) bool {
	if len(o.args) == 0 {
		return false
	}
	return o.pty == "on" || o.pty == "auto" && ownTerminal && term.IsTerminal(int(sys.stdout.Fd()))
}

// voice is what tt itself says, on stderr.
type voice struct {
	out   io.Writer
	quiet bool
	raw   *atomic.Bool // the terminal is in raw mode: a line needs a carriage return, too
}

func (v *voice) line(format string, args ...any) {
	if v.quiet {
		return
	}
	end := "\n"
	if v.raw.Load() {
		end = "\r\n"
	}
	// A stderr that is gone is no reason to stop.
	_, _ = io.WriteString(v.out, fmt.Sprintf(format, args...)+end)
}

func (v *voice) url(url string)   { v.line("View URL for task output: %s", url) }
func (v *voice) warn(text string) { v.line("tt: %s", text) }

// outcome says what became of the output, where there is something to say.
func (v *voice) outcome(o trace.Outcome, opts *options) {
	if o.Dropped > 0 {
		v.warn(fmt.Sprintf("%s of output were not sent: the spool's limit (%v) was reached", readable(o.Dropped), opts.spoolLimit))
	}
	switch {
	case o.Delivered:
	case o.Kept:
		v.warn(fmt.Sprintf("about %s of output are not delivered yet; they are kept, and `tt flush` (or the next tt) will send them", readable(o.Unsent)))
	default:
		v.warn(fmt.Sprintf("about %s of output were not delivered, and are not kept", readable(o.Unsent)))
	}
}
