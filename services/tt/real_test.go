//go:build unix

package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts in testdata/real run tt against the real server, as separate programs.
func TestReal(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server")
	}
	s := startServer(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "real"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TASKTRACER_URL", s.url)
			env.Setenv("TASKTRACER_TOKEN", s.clientToken)
			env.Setenv("TASKTRACER_VIEWER_TOKEN", s.viewerToken)
			env.Setenv("TASKTRACER_ID", "cli-1")
			return nil
		},
	})
}

type realServer struct{ url, clientToken, viewerToken string }

// startServer builds and starts `tasktracer all` on a free port, with data of its own.
func startServer(t *testing.T) realServer {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "tasktracer")
	if out, err := exec.Command("go", "build", "-o", bin, "tasktracer/services/tasktracer").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	var log strings.Builder
	cmd := exec.Command(bin, "all", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"))
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	found := make(chan string, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			log.Write(buf[:n])
			if _, rest, ok := strings.Cut(log.String(), "msg=listening"); ok {
				_, rest, _ = strings.Cut(rest, " addr=")
				if addr, _, ok := strings.Cut(rest, " "); ok {
					select {
					case found <- "http://" + addr:
					default:
					}
				}
			}
			if err != nil {
				return
			}
		}
	}()
	s := realServer{}
	select {
	case s.url = <-found:
	case <-time.After(20 * time.Second):
		t.Fatal("the server did not say where it listens")
	}
	tokens, err := exec.Command(bin, "tokengen", "--data", filepath.Join(dir, "data"), "--ns", "default", "--type", "both", "--period", "1 day").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(tokens))
	s.clientToken, s.viewerToken = lines[0], lines[1]
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return s
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("the server does not become ready: %v", err)
		}
	}
}
