package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"tasktracer/pkg/ops"
)

// usageError is a call that cannot be understood.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// call is one call of the program: what a command gets of the world.
type call struct {
	args           []string
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

type command struct {
	name, about string
	run         func(context.Context, *call) error
}

func commands() []command {
	return []command{
		{"all", "ingest, gateway and token service in one process, with an embedded NATS or --nats URL", runAll},
		{"ingest", "take output from tt and store it", runIngest},
		{"gateway", "show output to browsers and API clients", runGateway},
		{"token", "verify and issue tokens", runToken},
		{"tokengen", "make tokens, asking for what is not given", runTokengen},
		{"links", "print a URL to open and a tt line to paste", runLinks},
		{"setup", "make the secrets of a deployment", runSetup},
		{"streams", "make the stream and the buckets in NATS", runStreams},
		{"backup", "copy the log, the states and the revocations from NATS into a folder", runBackup},
		{"restore", "put such a copy into an empty NATS", runRestore},
		{"health", "ask a server whether it is ready: tasktracer health URL", runHealth},
		{"version", "print the version", runVersion},
	}
}

// run is the program. It returns when the command has ended and all it started has stopped; servers end when ctx does.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) error {
	c := &call{getenv: lookup(env), stdin: stdin, stdout: stdout, stderr: stderr}
	if len(args) == 0 {
		usage(stderr)
		return usageError{errors.New("which command?")}
	}
	name := args[0]
	c.args = args[1:]
	switch name {
	case "help", "-h", "--help", "-help":
		usage(stdout)
		return nil
	case "-v", "--version", "-version":
		name = "version"
	}
	for _, cmd := range commands() {
		if cmd.name == name {
			return cmd.run(ctx, c)
		}
	}
	usage(stderr)
	return usageError{fmt.Errorf("there is no command %q", name)}
}

func usage(w io.Writer) {
	fmt.Fprint(w, "tasktracer shows the output of commands live in browsers.\n\nUsage: tasktracer COMMAND [flags]\n\n")
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  %-9s %s\n", cmd.name, cmd.about)
	}
	fmt.Fprint(w, "\ntasktracer COMMAND -h shows a command's flags. Each flag has an environment form, too.\n")
}

func runVersion(_ context.Context, c *call) error {
	_, err := fmt.Fprintln(c.stdout, ops.Version())
	return err
}

// lookup makes a getenv of the environment's lines; the last of two wins.
func lookup(env []string) func(string) string {
	values := make(map[string]string, len(env))
	for _, line := range env {
		if k, v, ok := strings.Cut(line, "="); ok {
			values[k] = v
		}
	}
	return func(name string) string { return values[name] }
}

// flags makes the command's flag set.
func (c *call) flags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet("tasktracer "+name, flag.ContinueOnError)
	fs.SetOutput(c.stderr)
	return fs
}

// parse reads flags and environment, and refuses what is neither. All validators are then asked.
func (c *call) parse(fs *flag.FlagSet, validators ...func() error) error {
	if err := ops.Parse(fs, c.args, c.getenv); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	if fs.NArg() > 0 {
		return usageError{fmt.Errorf("%q is not a flag", fs.Arg(0))}
	}
	for _, validate := range validators {
		if err := validate(); err != nil {
			return usageError{err}
		}
	}
	return nil
}

// given tells whether a flag was set by the command line or the environment.
func given(fs *flag.FlagSet, name string) bool {
	found := false
	fs.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}
