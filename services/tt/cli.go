package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
)

// Exit codes of tt's own; a wrapped command's code is passed on as it is.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	// exitCannotRun and exitNotFound are what a shell gives for a command that cannot be executed, or is not there.
	exitCannotRun = 126
	exitNotFound  = 127
)

// run does what the arguments ask for, and returns the exit code.
func run(ctx context.Context, args []string, sys system) int {
	if len(args) > 0 {
		if sub, ok := subcommands()[args[0]]; ok {
			return finish(sys, sub(ctx, args[1:], sys))
		}
	}
	o, err := parseOptions(args, sys.getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(sys.stdout, helpText)
		return exitOK
	case err != nil:
		return finish(sys, &usageError{err})
	}
	code, err := wrap(ctx, o, sys)
	if err != nil {
		return finish(sys, err)
	}
	return code
}

// subcommands are the words that, as the very first argument, do not name a command to run. (To run a program of such a name: tt -- ls.)
func subcommands() map[string]func(context.Context, []string, system) error {
	return map[string]func(context.Context, []string, system) error{
		"ls":         lsCommand,
		"watch":      watchCommand,
		"log":        logCommand,
		"flush":      flushCommand,
		"doctor":     doctorCommand,
		"completion": completionCommand,
		"help":       helpCommand,
		"version":    versionCommand,
		"--version":  versionCommand,
	}
}

// usageError is a mistake in how tt was called or configured.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// codeError ends tt with a code, and says nothing.
type codeError int

func (e codeError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// finish tells the user about err, and gives the exit code for it.
func finish(sys system, err error) int {
	var usage *usageError
	var code codeError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(sys.stderr, "tt: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(sys.stderr, "tt: %v\n", err)
	return exitFailure
}
