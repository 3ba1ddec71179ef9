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

// realServer is `tasktracer all`, with data of its own.
type realServer struct {
	url, clientToken, viewerToken string

	bin, dir string
	cmd      *exec.Cmd
	log      *strings.Builder
}

// startServer builds and starts it on a free port.
func startServer(t *testing.T) *realServer {
	t.Helper()
	dir := t.TempDir()
	s := &realServer{bin: filepath.Join(dir, "tasktracer"), dir: dir}
	if out, err := exec.Command("go", "build", "-o", s.bin, "tasktracer/services/tasktracer").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = s.cmd.Wait()
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	s.start(t, "127.0.0.1:0")
	tokens, err := exec.Command(s.bin, "tokengen", "--data", filepath.Join(dir, "data"), "--ns", "default", "--type", "both", "--period", "1 day").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(tokens))
	s.clientToken, s.viewerToken = lines[0], lines[1]
	return s
}

// kill ends the server at once, as a crash does.
func (s *realServer) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait() // killed
}

// start starts it, and returns when it is ready.
func (s *realServer) start(t *testing.T, listen string) {
	t.Helper()
	s.log = &strings.Builder{}
	s.cmd = exec.Command(s.bin, "all", "--listen", listen, "--data", filepath.Join(s.dir, "data"))
	out, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found, log := make(chan string, 1), s.log
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
	select {
	case s.url = <-found:
	case <-time.After(60 * time.Second):
		t.Fatal("the server did not say where it listens")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
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
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("the server does not become ready: %v", err)
		}
	}
}
