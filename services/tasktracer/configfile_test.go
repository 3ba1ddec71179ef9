package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/auth"
)

// olderConfig is a configuration of the older system, as its operators have them.
const olderConfig = `// the real thing
{
  "me": { "host": "tracer.example.org:8004/", "port": 8004 }, // where we are
  "redis": { "host": "127.0.0.1" },
  "mysql": {},
  "jwt": {
    "clientToken":  { "secret": "one",   "options": { "algorithm": "HS256", "expiresIn": "1 year" } },
    "browserToken": { "secret": "two",   "options": { "algorithm": "HS512", "expiresIn": 3600 } },
    "baseToken":    { "secret": "three", "options": { "expiresIn": "60000" } }, /* trailing comma: */
  },
}`

func TestOlderConfig(t *testing.T) {
	cfg, err := parseConfig([]byte(olderConfig), ".")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "http://tracer.example.org:8004" {
		t.Errorf("host = %q", cfg.Host)
	}
	want := map[auth.Type]time.Duration{auth.Client: 8766 * time.Hour, auth.Browser: time.Hour, auth.Base: time.Minute}
	if diff := cmp.Diff(want, cfg.Life); diff != "" {
		t.Errorf("life (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"mysql is not known here: its settings are ignored", "redis is not needed: its settings are ignored"}, cfg.Notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	keys, err := auth.NewKeyring(cfg.Keys)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := keys.Sign(auth.Claims{Type: auth.Browser}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Verify(token, auth.Browser); err != nil {
		t.Errorf("Verify = %v", err)
	}
}

func TestConfigWithRotatedKeys(t *testing.T) {
	dir := t.TempDir()
	pem, err := auth.NewEdDSAPEM()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.pem"), pem, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := parseConfig([]byte(`{"jwt": {
		"clientToken": {"secret": "old", "keys": [{"id": "2026", "algorithm": "EdDSA", "file": "client.pem"}, {"id": "2025", "secret": "older"}]},
		"browserToken": {"secret": "b"}, "baseToken": {"secret": "base"}}}`), dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(cfg.Keys[auth.Client]); n != 3 {
		t.Fatalf("%d client keys, want 3", n)
	}
	keys, err := auth.NewKeyring(cfg.Keys)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(keys.JWKS()), `"kid":"2026"`) {
		t.Errorf("the first key is not in the JWKS: %s", keys.JWKS())
	}
}

func TestConfigRefuses(t *testing.T) {
	const rest = `"browserToken": {"secret": "b"}, "baseToken": {"secret": "base"}`
	tests := []struct{ name, text, want string }{
		{"no JSON", `{"jwt": `, "EOF"},
		{"no secret", `{"jwt": {` + rest + `}}`, "jwt.clientToken: no secret given"},
		{"strange algorithm", `{"jwt": {"clientToken": {"secret": "a", "options": {"algorithm": "none"}}, ` + rest + `}}`, `algorithm "none"`},
		{"strange period", `{"jwt": {"clientToken": {"secret": "a", "options": {"expiresIn": "soon"}}, ` + rest + `}}`, `period "soon"`},
		{"period of a strange type", `{"jwt": {"clientToken": {"secret": "a", "options": {"expiresIn": {}}}, ` + rest + `}}`, "neither text nor a number"},
		{"key without id", `{"jwt": {"clientToken": {"keys": [{"secret": "a"}]}, ` + rest + `}}`, "keys[0]: id is missing"},
		{"key file is missing", `{"jwt": {"clientToken": {"keys": [{"id": "a", "algorithm": "EdDSA", "file": "nope.pem"}]}, ` + rest + `}}`, "nope.pem"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseConfig([]byte(tt.text), t.TempDir()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("parseConfig = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// call runs the program and returns what it printed.
func callProgram(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(t.Context(), args, nil, strings.NewReader(stdin), &out, &errs)
	return out.String(), errs.String(), err
}

func TestTokengen(t *testing.T) {
	config := filepath.Join(t.TempDir(), "real-config.json")
	if err := os.WriteFile(config, []byte(olderConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, _, err := keyring(config, "")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, stdin string
		args        []string
		ns          string
		types       []auth.Type
		life        time.Duration
	}{
		{"all by flags", "", []string{"--ns", "a", "--type", "both", "--period", "7 days"}, "a", []auth.Type{auth.Client, auth.Browser}, 7 * 24 * time.Hour},
		{"one type", "", []string{"--ns", "", "--type", "base_token", "--period", "1h"}, "", []auth.Type{auth.Base}, time.Hour},
		{"all asked", "team\nclient_token\n30 days\n", nil, "team", []auth.Type{auth.Client}, 30 * 24 * time.Hour},
		{"defaults taken", "\n\n\n", nil, "default", []auth.Type{auth.Client, auth.Browser}, 7 * 24 * time.Hour},
		{"nobody answers", "", nil, "default", []auth.Type{auth.Client, auth.Browser}, 7 * 24 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, asked, err := callProgram(t, tt.stdin, append([]string{"tokengen", "--config", config}, tt.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			if len(tt.args) > 0 && asked != "" {
				t.Errorf("it asked %q, want no questions", asked)
			}
			lines := strings.Fields(out)
			if len(lines) != len(tt.types) {
				t.Fatalf("it printed %q, want %d lines", out, len(tt.types))
			}
			for i, want := range tt.types {
				c, err := keys.Verify(lines[i], want)
				if err != nil || c.Namespace != tt.ns || c.Expires.Sub(c.IssuedAt) != tt.life {
					t.Errorf("line %d is %+v, %v, want %s of %q for %v", i+1, c, err, want, tt.ns, tt.life)
				}
			}
		})
	}
}

func TestWrongCalls(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no command", nil, "which command"},
		{"unknown command", []string{"serve"}, `no command "serve"`},
		{"unknown flag", []string{"all", "--nope"}, "nope"},
		{"stray word", []string{"token", "here"}, `"here" is not a flag`},
		{"no NATS", []string{"ingest"}, "--nats"},
		{"no secrets", []string{"token", "--nats", "nats://127.0.0.1:1"}, "--config"},
		{"several processes without common secrets", []string{"all", "--nats", "nats://127.0.0.1:1"}, "--config"},
		{"bad name", []string{"gateway", "--nats", "x", "--name", "a b"}, "--name"},
		{"bad address", []string{"gateway", "--nats", "x", "--advertise", "here"}, "--advertise"},
		{"bad level", []string{"gateway", "--nats", "x", "--log-level", "loud"}, "log level"},
		{"bad period", []string{"tokengen", "--data", "nowhere"}, "nowhere"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := callProgram(t, "", tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("run = %v, want an error with %q", err, tt.want)
			}
			var wrong usageError
			if tt.name != "bad period" && !errors.As(err, &wrong) {
				t.Errorf("run = %T, want a usage error", err)
			}
		})
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	for _, cmd := range commands() {
		if cmd.name == "version" || cmd.name == "health" {
			continue
		}
		_, errs, err := callProgram(t, "", cmd.name, "-h")
		if exitCode(err) != 0 || !strings.Contains(errs, "TASKTRACER_") {
			t.Errorf("%s -h = %v, %q: want flags with their environment forms", cmd.name, err, errs)
		}
	}
	out, _, err := callProgram(t, "", "version")
	if err != nil || strings.TrimSpace(out) == "" {
		t.Errorf("version = %q, %v", out, err)
	}
}

func TestExpiresInOfNothing(t *testing.T) {
	if d, err := expiresIn(nil, time.Hour); d != time.Hour || err != nil {
		t.Errorf("expiresIn(nil) = %v, %v, want the default", d, err)
	}
}
