// Package ops is what every command of the product does alike towards its operator: flags and their environment forms, logs, version,
// health and readiness. It refuses to know any service. Metrics are in the package below it, so that tt links none.
package ops

import (
	"flag"
	"fmt"
	"strings"
)

// EnvPrefix begins the environment form of every flag.
const EnvPrefix = "TASKTRACER_"

// EnvName is the environment form of a flag's name.
func EnvName(flagName string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// Parse reads flags from args, then TASKTRACER_<NAME> (dashes to underscores, upper case) from getenv for those not given; an empty variable
// counts as not there. With -h it prints all flags with their defaults and environment forms to fs.Output and returns flag.ErrHelp.
func Parse(fs *flag.FlagSet, args []string, getenv func(string) string) error {
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "Usage: %s [flags]\n\n", fs.Name())
		PrintFlags(fs)
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var failed error
	fs.VisitAll(func(f *flag.Flag) {
		value := getenv(EnvName(f.Name))
		if given[f.Name] || value == "" || failed != nil {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("%s=%q: %w", EnvName(f.Name), value, err)
		}
	})
	return failed
}

// PrintFlags prints all flags of fs to its output, sorted by name, each with its default and its environment form.
func PrintFlags(fs *flag.FlagSet) {
	fmt.Fprintln(fs.Output(), "Flags, each also as the environment variable beside it:")
	fs.VisitAll(func(f *flag.Flag) {
		kind, help := flag.UnquoteUsage(f)
		fmt.Fprintf(fs.Output(), "  --%s %s\t[%s]\n", f.Name, kind, EnvName(f.Name))
		def := ""
		if f.DefValue != "" && f.DefValue != "false" {
			def = fmt.Sprintf(" (default %s)", f.DefValue)
		}
		fmt.Fprintf(fs.Output(), "        %s%s\n", strings.ReplaceAll(help, "\n", "\n        "), def)
	})
}
