package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"tasktracer/pkg/ops"
)

const helpText = `tt runs a command as if it were not there, and sends what the command prints to a TaskTracer server, where it can be watched live and read later.

  tt -n build make -j4                 run "make -j4" by bash -c, under the name build
  tt -n deploy -- ./deploy.sh "a b"    run a program as it is, without a shell
  make 2>&1 | tt -n build              send what is piped through
  tt -n tests -t npm test              run it in a terminal: colours, progress bars

The first time: put three lines into ~/.tt.conf (or set TASKTRACER_URL, _TOKEN, _ID), then try tt doctor.

  url = http://server:8005
  token = (a client token)
  id = (a name for this host; its host name if left out)

The command runs at once, server or no server. Its output, its exit code, its signals, its stdin are its own. What cannot be sent yet is kept on disk and
sent later, by tt flush or by the next tt.

What is run
  -n, --name NAME       name of the task (TASK_TRACER_NAME; else the time, as 20060102150405)
  --tag KEY=VALUE       shown to viewers; may be given many times
  --cwd DIR             directory to run in
  -t, --pty=on          run in a terminal of its own; stdout and stderr are then one stream
  --pty=auto            the same, when stdout is a terminal
  --grace 10s           a second interrupt kills the command after this time
  -q, --quiet           tt itself says nothing

Where it is sent
  --url URL             the server's address for tt (port 8005; tasktracer all: 8004)
  --token TOKEN         a client token; better kept in a file or in TASKTRACER_TOKEN, since arguments can be seen by others
  --id ID               who sends
  --config FILE         instead of ~/.tt.conf and /etc/tt.conf
  --ca FILE             certificates to trust beside the system's
  --insecure            accept any certificate

What is kept and what is not sent
  --linger 10s          how long to wait at the end for the rest to be delivered, while the server takes it
  --spool=off           keep nothing on disk; a few MB in memory
  --spool-dir DIR       where to keep it (by default ~/.local/state/tasktracer/spool)
  --spool-limit 1G      how much to keep of a run; beyond that the oldest goes, and viewers are told
  --strict              hold the command up at the limit, rather than lose any of its output
  --redact REGEX        put *** in place of what matches, before it is kept or sent; may be given many times
  --redact-env=off      do not do so with the values of variables named *_TOKEN, *_PASSWORD, *_SECRET and the like

Reading (with the address that tt printed, or with viewer_url and viewer_token in ~/.tt.conf)
  tt ls [NAME]          tasks, or the clients of one: who runs, how it ended
  tt watch NAME [ID…]   history, then live; several clients merged, their ids before each line
      --tail N          begin with the last N lines
      --since 10m       begin at a time, or a time ago
      --json            one object a line
      --exit-code       end with the run's code
  tt log NAME [ID]      the whole output, as it was:  tt log build host-7 > build.log
      --run RUN         of a certain run;  --lines 1-100, --lines -50;  --streams stderr;  --strip (no colours);  --json

Looking after it
  tt doctor             checks configuration, token, name, connection, certificate, clock and spool, and says what to do
  tt flush              sends what earlier runs could not deliver
  tt completion bash    completion for bash, zsh, fish:  eval "$(tt completion bash)"
  tt version            which tt this is

Every flag can be set in the environment: --spool-limit is TASKTRACER_SPOOL_LIMIT. A program that is named like one of tt's words is run by tt -- ls.
Exit codes: the command's own; 128+n when signal n ended it; 127 not found, 126 not executable; 2 when tt was called wrongly.
`

func helpCommand(_ context.Context, _ []string, sys system) error {
	fmt.Fprint(sys.stdout, helpText)
	return nil
}

func versionCommand(_ context.Context, _ []string, sys system) error {
	fmt.Fprintln(sys.stdout, "tt", ops.Version())
	return nil
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
