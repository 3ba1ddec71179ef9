package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime/debug"
)

const helpText = `tt: run a command, and watch it from a browser
`

func helpCommand(_ context.Context, _ []string, sys system) error {
	fmt.Fprint(sys.stdout, helpText)
	return nil
}

func versionCommand(_ context.Context, _ []string, sys system) error {
	fmt.Fprintln(sys.stdout, "tt", version())
	return nil
}

// version is that of the module where it was built as one, else the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "development"
}

// parseCommand reads a subcommand's flags.
func parseCommand(fs *flag.FlagSet, args []string, sys system) error {
	err := parseFlags(fs, args, sys.getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(sys.stdout, helpText)
		return codeError(exitOK)
	case err != nil:
		return &usageError{err}
	}
	return nil
}
