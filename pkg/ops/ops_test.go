package ops

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	env := map[string]string{"TASKTRACER_MAX_AGE": "3h", "TASKTRACER_LISTEN": "env:1", "TASKTRACER_EMPTY": ""}
	tests := []struct {
		name   string
		args   []string
		env    map[string]string
		listen string
		age    time.Duration
		fails  string
	}{
		{"defaults", nil, nil, "def:1", time.Hour, ""},
		{"environment", nil, env, "env:1", 3 * time.Hour, ""},
		{"flag beats environment", []string{"--listen", "flag:1"}, env, "flag:1", 3 * time.Hour, ""},
		{"a flag may be given its default", []string{"--listen=def:1"}, env, "def:1", 3 * time.Hour, ""},
		{"bad environment", nil, map[string]string{"TASKTRACER_MAX_AGE": "long"}, "", 0, `TASKTRACER_MAX_AGE="long"`},
		{"unknown flag", []string{"--nope"}, nil, "", 0, "not defined"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := flag.NewFlagSet("x", flag.ContinueOnError)
			fs.SetOutput(&bytes.Buffer{})
			listen, age := fs.String("listen", "def:1", "where"), fs.Duration("max-age", time.Hour, "how long")
			err := Parse(fs, tt.args, func(k string) string { return tt.env[k] })
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("Parse = %v, want an error with %q", err, tt.fails)
				}
				return
			}
			if err != nil || *listen != tt.listen || *age != tt.age {
				t.Errorf("Parse = %v, %q, %v, want %q, %v", err, *listen, *age, tt.listen, tt.age)
			}
		})
	}
}

func TestHelpShowsDefaultsAndEnvironment(t *testing.T) {
	var out bytes.Buffer
	fs := flag.NewFlagSet("thing", flag.ContinueOnError)
	fs.SetOutput(&out)
	fs.Duration("max-age", time.Hour, "how long `time` goes")
	if err := Parse(fs, []string{"-h"}, func(string) string { return "" }); !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("Parse(-h) = %v, want flag.ErrHelp", err)
	}
	for _, want := range []string{"Usage: thing", "--max-age time", "TASKTRACER_MAX_AGE", "default 1h0m0s", "how long time goes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help lacks %q:\n%s", want, out.String())
		}
	}
}

func TestNewLogger(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "json", "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("quiet")
	log.Warn("loud", "run", "r1")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"run":"r1"`) {
		t.Errorf("log is %q", got)
	}
	for _, bad := range [][2]string{{"xml", "info"}, {"json", "chatty"}} {
		if _, err := NewLogger(&out, bad[0], bad[1]); err == nil {
			t.Errorf("NewLogger(%v) = nil error", bad)
		}
	}
}

func TestHealth(t *testing.T) {
	h := NewHealth()
	mux := http.NewServeMux()
	h.Mount(mux)
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	expect := func(path string, code int, text string) {
		t.Helper()
		if got, body := ask(path); got != code || !strings.Contains(body, text) {
			t.Errorf("%s = %d %q, want %d with %q", path, got, body, code, text)
		}
	}
	expect("/readyz", 200, `"ready":true`)
	var trouble error
	h.Check("bus", func(context.Context) error { return trouble })
	expect("/readyz", 200, `"ready":true`)
	trouble = errors.New("secret detail")
	expect("/readyz", 503, `"failed":["bus"]`)
	expect("/healthz", 200, "ok")
	trouble = nil
	h.Stopping()
	expect("/readyz", 503, `"failed":["stopping"]`)
	expect("/healthz", 200, "ok")
}

func TestVersionIsNotEmpty(t *testing.T) {
	if Version() == "" {
		t.Error("Version() is empty")
	}
}
