package whole

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tasktracer/deploy/e2e/clients"
	"tasktracer/deploy/e2e/stage"
)

// language is one in which docs/tt.md shows a producer and a viewer.
type language struct {
	fence, file string
	command     func(t *testing.T, dir string) []string
}

func languages() []language {
	return []language{
		{"js", "example.mjs", func(t *testing.T, dir string) []string {
			// socket.io-client 4.8, under the name by which the example imports it.
			clients.Install(t)
			modules := filepath.Join(dir, "node_modules")
			if err := os.MkdirAll(modules, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(clients.Dir(), "node_modules", "sio4"), filepath.Join(modules, "socket.io-client")); err != nil {
				t.Fatal(err)
			}
			return []string{"node"}
		}},
		{"python", "example.py", func(t *testing.T, _ string) []string {
			for _, python := range []string{"python3", "/usr/bin/python3"} {
				if exec.Command(python, "-c", "import socketio, requests, websocket").Run() == nil {
					return []string{python, "-u"}
				}
			}
			t.Fatal("no python3 with socketio, requests and websocket here: make tools installs them")
			return nil
		}},
	}
}

// examples are the fenced blocks of one language in docs/tt.md, as people copy them.
func examples(t *testing.T, fence string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(stage.Root(), "docs", "tt.md"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?s)```"+fence+"\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
		found = append(found, m[1])
	}
	return found
}

// TestExamples runs what docs/tt.md shows: a producer and a viewer in each language, and the viewer through the death of the server.
func TestExamples(t *testing.T) {
	for _, l := range languages() {
		t.Run(l.fence, func(t *testing.T) {
			t.Parallel()
			shown := examples(t, l.fence)
			if len(shown) != 2 {
				t.Fatalf("docs/tt.md shows %d examples, want a producer and a viewer", len(shown))
			}
			config, data := stage.Config(t), t.TempDir()
			tok := newTokens(t, config, "default")
			server := stage.NewServer(t, binaries, "all", "--config", config, "--data", data)
			addr, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			run := func(name, text string) *stage.Process {
				dir := t.TempDir()
				command := append(l.command(t, dir), filepath.Join(dir, l.file))
				text = strings.NewReplacer("http://server:8005", server.URL, "http://server:8004", server.URL,
					"CLIENT_TOKEN", `"`+tok.client+`"`, "BROWSER_TOKEN", `"`+tok.browser+`"`).Replace(text)
				if err := os.WriteFile(filepath.Join(dir, l.file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return stage.Start(t, name, nil, nil, command[0], command[1:]...)
			}
			produce := func() {
				t.Helper()
				p := run("producer", shown[0])
				if code, err := p.Wait(deadline(t)); err != nil || code != 0 {
					t.Fatalf("the producer exits %d, %v\n%s\n%s", code, err, p.Stdout(), p.Tail(20))
				}
				if !strings.Contains(p.Stdout(), "/tasks/nightly-import/?accessToken=") {
					t.Errorf("the producer prints %q, want the address", p.Stdout())
				}
			}
			v := run("viewer", shown[1])
			produce()
			awaitText(t, v, "42 rows imported\nended with 0\n")

			// The server dies and comes back; the viewer goes on, and nothing comes twice.
			server.Kill()
			if server, err = stage.LaunchServer(deadline(t), binaries, "again", "all", addr.Host, "--config", config, "--data", data); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Kill)
			produce()
			awaitText(t, v, "42 rows imported\nended with 0\n42 rows imported\nended with 0\n")
		})
	}
}

// awaitText waits until a process has printed exactly the text.
func awaitText(t *testing.T, p *stage.Process, want string) {
	t.Helper()
	ctx := deadline(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for p.Stdout() != want {
		select {
		case <-tick.C:
		case <-p.Ended():
			t.Fatalf("%s ended; it printed %q, want %q\n%s", p.Name, p.Stdout(), want, p.Tail(20))
		case <-ctx.Done():
			t.Fatalf("%s prints %q, want %q\n%s", p.Name, p.Stdout(), want, p.Tail(20))
		}
	}
}
