package whole

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
)

// browser is the page, open in a real one.
type browser struct {
	t   testing.TB
	in  io.WriteCloser
	out chan struct{ Event, Text string }
}

func openPage(t testing.TB, url, screenshot string) *browser {
	t.Helper()
	playwright, chromium := stage.Browser(t)
	cmd := exec.Command("node", "page.js", playwright, chromium, url, screenshot, t.TempDir())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, in: in, out: make(chan struct{ Event, Text string }, 100)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(b.out)
		s := bufio.NewScanner(out)
		s.Buffer(nil, 16<<20)
		for s.Scan() {
			var m struct{ Event, Text string }
			if err := json.Unmarshal(s.Bytes(), &m); err != nil {
				t.Errorf("page.js printed %q", s.Text())
			}
			b.out <- m
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("page.js: %v\n%s", err, errs.String())
		}
	})
	b.hear("open")
	return b
}

// do has the page do a step, and returns what it tells.
func (b *browser) do(what, text string) string {
	b.t.Helper()
	if _, err := fmt.Fprintf(b.in, "%s %s\n", what, text); err != nil {
		b.t.Fatalf("page.js: %v", err)
	}
	return b.hear(what)
}

func (b *browser) hear(what string) string {
	b.t.Helper()
	give := time.After(90 * time.Second)
	for {
		select {
		case m, ok := <-b.out:
			switch {
			case !ok:
				b.t.Fatalf("the browser ended before %s", what)
			case m.Event == what:
				return m.Text
			default:
				b.t.Errorf("the page shows a %s: %s", m.Event, m.Text)
			}
		case <-give:
			b.t.Fatalf("no %s", what)
		}
	}
}

var viewURL = regexp.MustCompile(`https?://\S+/tasks/\S+`)

// TestPage opens the URL that tt printed in a real browser: lines appear as they are written, the exit code at the end, and markup as text.
func TestPage(t *testing.T) {
	t.Parallel()
	config := stage.Config(t)
	// The page's address must be the one that clients are told.
	port, err := stage.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	all := stage.NewServer(t, binaries, "all", "--data", t.TempDir(), "--config", config, "--public-url", url, "--listen", strings.TrimPrefix(url, "http://"))
	tok := newTokens(t, config, "default")
	dir := t.TempDir()
	gate := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	wait := func(i int) string { return fmt.Sprintf("until [ -e %s ]; do sleep 0.05; done; ", gate(i)) }
	open := func(i int) {
		if err := os.WriteFile(gate(i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const evil = `<img src=x onerror=alert(1)>`
	tt := stage.Start(t, "tt", nil, ttEnv(t, all.URL, tok.client, "host-1"), binaries.TT, "-n", "page",
		// What is waited for must not stand in the command, which the page shows, too.
		"printf 'before the %s\\n' viewer; "+wait(1)+"printf 'second %s\\n' line; "+wait(2)+
			"printf '<%s src=x onerror=alert(1)>\\n' img; printf 'ba%s\\n' d >&2; "+wait(3)+"exit $((3+4))")
	link, err := tt.Line(deadline(t), "URL", func(l string) (string, bool) { u := viewURL.FindString(l); return u, u != "" })
	if err != nil {
		t.Fatal(err)
	}
	shot := filepath.Join(t.TempDir(), "page.png")
	if keep := os.Getenv("E2E_SCREENSHOTS"); keep != "" {
		shot = filepath.Join(keep, "page.png")
	}
	b := openPage(t, link, shot)
	b.do("text", "before the viewer")
	open(1)
	b.do("text", "second line")
	open(2)
	b.do("text", evil)
	b.do("text", "bad")
	if n := b.do("count", "img[src=x]"); n != "0" {
		t.Errorf("markup of the output became %s elements of the page", n)
	}
	open(3)
	if code, err := tt.Wait(deadline(t)); err != nil || code != 7 {
		t.Errorf("tt exits %d, %v", code, err)
	}
	b.do("text", "exit 7")
	text := b.do("shot", "")
	if info, err := os.Stat(shot); err != nil || info.Size() < 5000 {
		t.Errorf("screenshot: %v", err)
	}
	for _, want := range []string{"before the viewer", "second line", evil, "bad"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("at the end the page shows %q %d times, want once; it says:\n%s", want, strings.Count(text, want), text)
		}
	}
}
