package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/natsd"
	"tasktracer/pkg/socketio"
)

// program is a server command that runs in this process.
type program struct {
	url   string // where it listens
	lines chan string
	stop  func() error // ends it and returns what it returned; may be called once
}

// start runs a server command on a free port and waits until it listens.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, errs := lineReader(t, "stdout"), lineReader(t, "stderr")
	ended := make(chan error, 1)
	args = append(args, "--listen", "127.0.0.1:0", "--log-format", "json")
	go func() {
		err := run(ctx, args, nil, strings.NewReader(""), out.w, errs.w)
		_, _ = out.w.Close(), errs.w.Close() // pipes: closing cannot fail
		ended <- err
	}()
	p := &program{lines: out.lines}
	stopped := false
	p.stop = func() error {
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if !stopped {
			if err := p.stop(); err != nil {
				t.Errorf("%s = %v, want nil", args[0], err)
			}
		}
	})
	for line := range errs.lines {
		var entry struct{ Msg, Addr string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" {
			p.url = "http://" + entry.Addr
			break
		}
	}
	if p.url == "" {
		t.Fatalf("%s ended: %v", args[0], <-ended)
	}
	go func() { // nobody reads the rest
		for range errs.lines {
		}
	}()
	return p
}

type lines struct {
	w     *io.PipeWriter
	lines chan string
}

func lineReader(t *testing.T, name string) lines {
	r, w := io.Pipe()
	l := lines{w: w, lines: make(chan string, 1000)}
	go func() {
		defer close(l.lines)
		s := bufio.NewScanner(r)
		for s.Scan() {
			l.lines <- s.Text()
		}
		if s.Err() != nil {
			t.Errorf("read %s: %v", name, s.Err())
		}
	}()
	return l
}

// get returns status and body.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// eventually tries until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

func (p *program) ready(t *testing.T) {
	t.Helper()
	eventually(t, p.url+" is ready", func() bool { status, _ := get(t, p.url+"/readyz"); return status == http.StatusOK })
}

// socket dials and returns the events that come in.
func socket(t *testing.T, url string) (*socketio.Client, chan *socketio.Event) {
	t.Helper()
	c, err := socketio.Dial(t.Context(), socketio.DialConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // may be gone already
	events := make(chan *socketio.Event, 100)
	c.OnEvent(func(e *socketio.Event) { events <- e })
	return c, events
}

func emit(t *testing.T, c *socketio.Client, event string, args ...any) {
	t.Helper()
	if err := c.Emit(t.Context(), event, args...); err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T, d time.Duration, what string, ch <-chan struct{}) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
		t.Fatalf("not within %v: %s", d, what)
	}
}

var (
	openLine  = regexp.MustCompile(`(http://\S+)/\?accessToken=(\S+)`)
	pasteLine = regexp.MustCompile(`TASKTRACER_URL=(\S+) TASKTRACER_TOKEN=(\S+) tt `)
)

func TestAll(t *testing.T) {
	data := t.TempDir()
	p := start(t, "all", "--data", data)
	var open, paste []string
	for paste == nil {
		line, ok := <-p.lines
		if !ok {
			t.Fatal("the links were not printed")
		}
		if m := openLine.FindStringSubmatch(line); m != nil {
			open = m
		}
		paste = pasteLine.FindStringSubmatch(line)
	}
	if open == nil || open[1] != paste[1] {
		t.Fatalf("links: %q and %q, want one address", open, paste)
	}
	info, err := os.Stat(filepath.Join(data, secretsFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secrets: %v, %v, want mode 0600", info, err)
	}
	keys, _, err := keyring("", data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Verify(open[2], auth.Browser); err != nil {
		t.Errorf("browser token of the URL: %v", err)
	}
	p.ready(t)
	for path, want := range map[string]string{"/healthz": "ok", "/metrics": "tasktracer_build_info", "/.well-known/jwks.json": "keys"} {
		if status, body := get(t, p.url+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s = %d %.80q, want 200 with %q", path, status, body, want)
		}
	}
	if status, _ := get(t, p.url+"/debug/pprof/"); status == http.StatusOK {
		t.Error("profiles are public")
	}

	c, events := socket(t, p.url)
	emit(t, c, "authenticate", map[string]any{"type": "client", "token": paste[2], "id": "c1", "task": map[string]any{"name": "hello", "cmd": "true"}})
	e := <-events
	if e.Name != "authenticated" || !strings.Contains(string(e.Args[0]), "/tasks/hello/?accessToken=") {
		t.Errorf("a client was answered %s %s, want authenticated with a URL", e.Name, e.Args)
	}

	if err := p.stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	within(t, 10*time.Second, "the socket ends with the server", c.Done())

	again := start(t, "all", "--data", data)
	again.ready(t)
	if _, _, err := keyring("", data); err != nil {
		t.Errorf("secrets after a second start: %v", err)
	}
	if _, err := keys.Verify(open[2], auth.Browser); err != nil {
		t.Errorf("the first start's token: %v", err)
	}
}

func TestDoor(t *testing.T) {
	p := start(t, "all", "--data", t.TempDir())
	p.ready(t)
	tests := []struct {
		name string
		args []any
	}{
		{"no argument", nil},
		{"null", []any{nil}},
		{"text", []any{"hello"}},
		{"array", []any{[]int{1}}},
		{"empty object", []any{map[string]any{}}},
		{"type is a number", []any{map[string]any{"type": 7}}},
		{"client without anything", []any{map[string]any{"type": "client"}}},
		{"client without task", []any{map[string]any{"type": "client", "token": "x"}}},
		{"viewer without watch", []any{map[string]any{"type": "browser_token", "token": "x"}}},
		{"no token", []any{map[string]any{"type": "browser_token", "watch": map[string]any{"task": "a", "from": []string{"b"}}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := socket(t, p.url)
			emit(t, c, "authenticate", tt.args...)
			within(t, 4*time.Second, "the socket is closed", c.Done())
			if err := c.Err(); err == nil || !strings.Contains(err.Error(), socketio.ErrServerDisconnect.Error()) {
				t.Errorf("it ended with %v, want %v", err, socketio.ErrServerDisconnect)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		c, _ := socket(t, p.url)
		emit(t, c, "data", "ignored")
		from := time.Now()
		within(t, 8*time.Second, "the socket is closed", c.Done())
		if waited := time.Since(from); waited < 4*time.Second {
			t.Errorf("closed after %v, want 5s", waited)
		}
	})
}

// cluster is NATS, a token service, and what else is asked for, as separate commands.
func cluster(t *testing.T, commands ...string) (programs map[string]*program, keys *auth.Keyring) {
	t.Helper()
	nats, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	config := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(config, []byte(olderConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, _, err = keyring(config, "")
	if err != nil {
		t.Fatal(err)
	}
	programs = map[string]*program{"token": start(t, "token", "--nats", nats.ClientURL(), "--config", config, "--drain", "0s")}
	for _, name := range commands {
		command, _, _ := strings.Cut(name, "-")
		programs[name] = start(t, command, "--nats", nats.ClientURL(), "--drain", "0s", "--name", name)
	}
	for _, p := range programs {
		p.ready(t)
	}
	return programs, keys
}

func TestWrongDoor(t *testing.T) {
	programs, keys := cluster(t, "ingest", "gateway")
	sign := func(typ auth.Type) string {
		token, _, err := keys.Sign(auth.Claims{Type: typ, Namespace: "n"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	tests := []struct {
		name, at string
		message  map[string]any
	}{
		{"client at the gateway", "gateway", map[string]any{"type": "client", "token": sign(auth.Client), "id": "c", "task": map[string]any{"name": "a"}}},
		{"viewer at ingest", "ingest", map[string]any{"type": "browser_token", "token": sign(auth.Browser), "watch": map[string]any{"task": "a", "from": []string{"c"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, events := socket(t, programs[tt.at].url)
			emit(t, c, "authenticate", tt.message)
			e := <-events
			if e.Name != "authenticated" || !strings.Contains(string(e.Args[0]), `"code":"wrong_endpoint"`) {
				t.Errorf("answer is %s %s, want authenticated with wrong_endpoint", e.Name, e.Args)
			}
			within(t, 4*time.Second, "the socket is closed", c.Done())
		})
	}
}

func TestSessionsFindTheirProcess(t *testing.T) {
	programs, _ := cluster(t, "ingest-1", "ingest-2")
	status, body := get(t, programs["ingest-1"].url+"/socket.io/?EIO=4&transport=polling")
	if status != http.StatusOK {
		t.Fatalf("handshake = %d %q", status, body)
	}
	var open struct{ SID string }
	if err := json.Unmarshal([]byte(body[1:]), &open); err != nil || !strings.HasPrefix(open.SID, "ingest-1-") {
		t.Fatalf("handshake %q: %v: want a session id that begins with the process's name", body, err)
	}
	astray := fmt.Sprintf("%s/socket.io/?EIO=4&transport=polling&sid=%s", programs["ingest-2"].url, open.SID)
	eventually(t, "the sibling passes the request on", func() bool {
		resp, err := http.Post(astray, "text/plain", strings.NewReader("40"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if status, body := get(t, astray); status != http.StatusOK || !strings.HasPrefix(body, "40") {
		t.Errorf("poll at the sibling = %d %q, want the CONNECT packet of the owner", status, body)
	}
	unknown := programs["ingest-2"].url + "/socket.io/?EIO=4&transport=polling&sid=nobody-abcdefgh.123"
	if status, _ := get(t, unknown); status != http.StatusBadRequest {
		t.Errorf("a session of nobody = %d, want 400", status)
	}
}

func TestStopSaysNotReadyFirst(t *testing.T) {
	nats, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	p := start(t, "ingest", "--nats", nats.ClientURL(), "--drain", "1s")
	p.ready(t)
	ended := make(chan error, 1)
	go func() { ended <- p.stop() }()
	eventually(t, "not ready, but still there", func() bool {
		status, body := get(t, p.url+"/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "stopping")
	})
	if err := <-ended; err != nil {
		t.Errorf("stop = %v, want nil", err)
	}
}

func TestAliveBeforeNATS(t *testing.T) {
	p := start(t, "ingest", "--nats", "nats://127.0.0.1:1", "--drain", "0s")
	if status, _ := get(t, p.url+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz = %d without NATS, want 200", status)
	}
	if status, _ := get(t, p.url+"/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz = %d without NATS, want 503", status)
	}
	if status, _ := get(t, p.url+"/socket.io/"); status != http.StatusServiceUnavailable {
		t.Errorf("/socket.io/ = %d without NATS, want 503", status)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stop while waiting for NATS = %v, want nil", err)
	}
}

func TestHealthCommand(t *testing.T) {
	p := start(t, "ingest", "--nats", "nats://127.0.0.1:1", "--drain", "0s")
	if _, _, err := callProgram(t, "", "health", p.url+"/healthz"); err != nil {
		t.Errorf("health = %v, want nil", err)
	}
	if _, _, err := callProgram(t, "", "health", p.url+"/readyz"); err == nil {
		t.Error("health of a process that is not ready = nil, want an error")
	}
}

// TestDoorTimeouts: the flags for those who say nothing are heeded.
func TestDoorTimeouts(t *testing.T) {
	p := start(t, "all", "--data", t.TempDir(), "--authenticate-timeout", "1s", "--connect-timeout", "1s")
	p.ready(t)
	c, _ := socket(t, p.url)
	from := time.Now()
	within(t, 4*time.Second, "who does not authenticate is told to go", c.Done())
	if waited := time.Since(from); waited < 900*time.Millisecond {
		t.Errorf("told to go after %v, want 1s", waited)
	}
	if status, body := get(t, p.url+"/socket.io/?EIO=4&transport=polling"); status != http.StatusOK {
		t.Fatalf("handshake = %d %q", status, body)
	}
	eventually(t, "who does not CONNECT is let go", func() bool {
		_, body := get(t, p.url+"/metrics")
		return strings.Contains(body, `tasktracer_door_sessions_closed_total{reason="connect timeout"} 1`)
	})
}
