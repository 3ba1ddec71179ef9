package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"tasktracer/pkg/trace/spool"
)

// options is what the flags say; what they leave open comes from the environment, then from the configuration files.
type options struct {
	name, id, url, token, config string
	ca                           string
	insecure                     bool
	tags                         tags
	cwd                          string
	quiet                        bool
	pty                          string
	grace, linger                time.Duration
	spool, spoolDir              string
	spoolLimit                   size
	strict                       bool
	redact                       list
	redactEnv                    string
	debug                        bool

	viewing bool // tt reads rather than runs: the viewer's url and token are meant
	args    []string
	direct  bool // args are a program and its arguments, not a shell's command line
}

// parseOptions reads flags up to the first argument that is none, and TASKTRACER_* for those not given.
func parseOptions(args []string, getenv func(string) string) (*options, error) {
	o := &options{tags: tags{}, spoolLimit: spool.DefaultLimit}
	fs := newFlagSet("tt")
	o.register(fs)
	if err := parseFlags(fs, args, getenv); err != nil {
		return nil, err
	}
	o.args = fs.Args()
	if at := len(args) - fs.NArg() - 1; fs.NArg() > 0 && at >= 0 && args[at] == "--" {
		o.direct = true
	}
	return o, o.validate()
}

// register adds the flags of running a command.
func (o *options) register(fs *flag.FlagSet) {
	o.connection(fs)
	fs.StringVar(&o.name, "n", "", "")
	fs.StringVar(&o.name, "name", "", "")
	fs.Var(o.tags, "tag", "")
	fs.StringVar(&o.cwd, "cwd", "", "")
	fs.BoolVar(&o.quiet, "q", false, "")
	fs.BoolVar(&o.quiet, "quiet", false, "")
	fs.BoolFunc("t", "", func(string) error { o.pty = "on"; return nil })
	fs.StringVar(&o.pty, "pty", "off", "")
	fs.DurationVar(&o.grace, "grace", 10*time.Second, "")
	fs.DurationVar(&o.linger, "linger", 10*time.Second, "")
	fs.StringVar(&o.spool, "spool", "on", "")
	fs.StringVar(&o.spoolDir, "spool-dir", "", "")
	fs.Var(&o.spoolLimit, "spool-limit", "")
	fs.BoolVar(&o.strict, "strict", false, "")
	fs.Var(&o.redact, "redact", "")
	fs.StringVar(&o.redactEnv, "redact-env", "on", "")
	fs.BoolVar(&o.debug, "debug", false, "")
}

// connection adds the flags that say which server, and as whom; all of tt's commands share them.
func (o *options) connection(fs *flag.FlagSet) {
	fs.StringVar(&o.id, "id", "", "")
	fs.StringVar(&o.url, "url", "", "")
	fs.StringVar(&o.token, "token", "", "")
	fs.StringVar(&o.config, "config", "", "")
	fs.StringVar(&o.ca, "ca", "", "")
	fs.BoolVar(&o.insecure, "insecure", false, "")
}

func newFlagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// parseFlags reads args, then the environment for flags that args leave out: --spool-limit is TASKTRACER_SPOOL_LIMIT.
func parseFlags(fs *flag.FlagSet, args []string, getenv func(string) string) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w (tt --help explains)", err)
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for long, short := range map[string]string{"name": "n", "quiet": "q", "pty": "t"} {
		given[long] = given[long] || given[short]
	}
	var err error
	fs.VisitAll(func(f *flag.Flag) {
		if given[f.Name] || len(f.Name) == 1 || err != nil {
			return
		}
		name := "TASKTRACER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value := getenv(name); value != "" {
			if e := fs.Set(f.Name, value); e != nil {
				err = fmt.Errorf("%s=%q in the environment: %w", name, value, e)
			}
		}
	})
	return err
}

func (o *options) validate() error {
	for _, choice := range []struct {
		flag, value string
		allowed     []string
	}{
		{"pty", o.pty, []string{"on", "off", "auto"}},
		{"spool", o.spool, []string{"on", "off"}},
		{"redact-env", o.redactEnv, []string{"on", "off"}},
	} {
		if !contains(choice.allowed, choice.value) {
			return fmt.Errorf("--%s=%s: it is one of %s", choice.flag, choice.value, strings.Join(choice.allowed, ", "))
		}
	}
	if o.spoolLimit < spool.MinLimit {
		return fmt.Errorf("--spool-limit=%v: at least %v", &o.spoolLimit, size(spool.MinLimit))
	}
	if o.grace < 0 {
		return fmt.Errorf("--grace=%v: a time cannot be negative", o.grace)
	}
	return nil
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}
