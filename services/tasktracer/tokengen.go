package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"tasktracer/pkg/auth"
)

// secretsFile is where a server without --config keeps its secrets, in its data directory.
const secretsFile = "secrets.json"

// runTokengen makes tokens, one a line on stdout. It asks for what the flags do not tell; questions go to stderr.
func runTokengen(_ context.Context, c *call) error {
	fs := c.flags("tokengen")
	config := fs.String("config", "", "configuration `file` with the secrets; else secrets.json in --data")
	data := fs.String("data", "data", "data `directory` of a server without configuration file")
	ns := fs.String("ns", "default", "`namespace` of the tokens")
	kind := fs.String("type", "both", "client_token, browser_token, base_token, or both: client and browser")
	period := fs.String("period", "7 days", "`life` of the tokens, such as \"7 days\"")
	if err := c.parse(fs); err != nil {
		return err
	}
	keys, _, err := keyring(*config, *data)
	if err != nil {
		return err
	}
	ask(c, fs, []question{{"ns", "namespace"}, {"type", "type (client_token, browser_token, base_token, both)"}, {"period", "period"}})
	types, err := tokenTypes(*kind)
	if err != nil {
		return usageError{err}
	}
	life, err := auth.ParsePeriod(*period)
	if err != nil {
		return usageError{err}
	}
	for _, t := range types {
		token, _, err := keys.Sign(auth.Claims{Type: t, Namespace: *ns}, life)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(c.stdout, token); err != nil {
			return fmt.Errorf("print token: %w", err)
		}
	}
	return nil
}

type question struct{ flag, text string }

// ask asks for each flag that was not given. An empty answer, or none at all, is the default.
func ask(c *call, fs *flag.FlagSet, questions []question) {
	in := bufio.NewReader(io.LimitReader(c.stdin, 64<<10))
	for _, q := range questions {
		if given(fs, q.flag) {
			continue
		}
		f := fs.Lookup(q.flag)
		fmt.Fprintf(c.stderr, "%s [%s]: ", q.text, f.DefValue)
		line, err := in.ReadString('\n')
		if err != nil {
			fmt.Fprintln(c.stderr)
		}
		if line = strings.TrimSpace(line); line != "" {
			_ = f.Value.Set(line) // a text flag takes any text
		}
	}
}

func tokenTypes(kind string) ([]auth.Type, error) {
	if kind == "both" {
		return []auth.Type{auth.Client, auth.Browser}, nil
	}
	for _, t := range auth.Types() {
		if kind == string(t) {
			return []auth.Type{t}, nil
		}
	}
	return nil, fmt.Errorf("--type %q: want client_token, browser_token, base_token or both", kind)
}

// keyring reads the keys of a configuration file, or of the secrets in a data directory.
func keyring(config, data string) (*auth.Keyring, fileConfig, error) {
	if config == "" {
		config = filepath.Join(data, secretsFile)
	}
	file, err := readConfigFile(config)
	if err != nil {
		return nil, fileConfig{}, err
	}
	keys, err := auth.NewKeyring(file.Keys)
	if err != nil {
		return nil, fileConfig{}, errors.Join(fmt.Errorf("--config %s", config), err)
	}
	return keys, file, nil
}
