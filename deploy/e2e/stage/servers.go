package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// startWithin bounds every start; the machine may be busy.
const startWithin = 60 * time.Second

// Secrets are the three of a configuration file; tests that make tokens of their own know them.
const (
	ClientSecret  = "a client secret for tests"
	BrowserSecret = "a browser secret for tests"
	BaseSecret    = "a base secret for tests"
)

// Config writes a configuration file in the older system's form.
func Config(t testing.TB) string {
	t.Helper()
	path, err := WriteConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// WriteConfig is Config outside of a test.
func WriteConfig(dir string) (string, error) {
	path := filepath.Join(dir, "real-config.json")
	text := fmt.Sprintf(`{
  // comments are allowed
  "me": {"host": "http://localhost:8004"},
  "redis": {"host": "localhost"},
  "jwt": {
    "clientToken": {"secret": %q, "options": {"algorithm": "HS256", "expiresIn": "1 year"}},
    "browserToken": {"secret": %q, "options": {"algorithm": "HS256", "expiresIn": "1 day"}},
    "baseToken": {"secret": %q, "options": {"algorithm": "HS256", "expiresIn": "1 year"}}
  }
}`, ClientSecret, BrowserSecret, BaseSecret)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// Server is one of ours that listens.
type Server struct {
	*Process
	URL string
}

// NewServer starts `tasktracer role …` on a free port, and returns when it is ready.
func NewServer(t testing.TB, b Binaries, role string, args ...string) *Server {
	t.Helper()
	args = append([]string{role, "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)
	s := &Server{Process: Start(t, role, nil, nil, b.TaskTracer, args...)}
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	if err := s.await(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// LaunchServer is NewServer outside of a test, on an address of the caller's choice.
func LaunchServer(ctx context.Context, b Binaries, name, role, listen string, args ...string) (*Server, error) {
	args = append([]string{role, "--listen", listen, "--name", name, "--log-format", "json"}, args...)
	p, err := Launch(name, nil, nil, b.TaskTracer, args...)
	if err != nil {
		return nil, err
	}
	s := &Server{Process: p}
	if err := s.await(ctx); err != nil {
		p.Kill()
		return nil, err
	}
	return s, nil
}

// await waits until the server listens and says that it is ready.
func (s *Server) await(ctx context.Context) error {
	addr, err := s.Line(ctx, "address", func(l string) (string, bool) {
		var entry struct{ Msg, Addr string }
		ok := json.Unmarshal([]byte(l), &entry) == nil && entry.Msg == "listening"
		return entry.Addr, ok
	})
	if err != nil {
		return err
	}
	s.URL = "http://" + addr
	for {
		resp, err := http.Get(s.URL + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-s.Ended():
			return fmt.Errorf("%s ended before it was ready\n%s", s.Name, s.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", s.Name, ctx.Err(), s.Tail(20))
		}
	}
}

var natsListens = regexp.MustCompile(`Listening for client connections on (\S+)`)

// NewNATS starts a nats-server with JetStream, and returns its address.
func NewNATS(t testing.TB, b Binaries) (*Process, string) {
	t.Helper()
	p := Start(t, "nats-server", nil, nil, b.NATS, "-js", "-sd", t.TempDir(), "-a", "127.0.0.1", "-p", "-1")
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	addr, err := p.Line(ctx, "address", func(l string) (string, bool) {
		m := natsListens.FindStringSubmatch(l)
		if m == nil {
			return "", false
		}
		return "nats://" + m[1], true
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Line(ctx, "readiness", func(l string) (string, bool) { return "", strings.Contains(l, "Server is ready") }); err != nil {
		t.Fatal(err)
	}
	return p, addr
}

// FreePort gives a port that was free a moment ago, for servers that must know each other's before they start.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Split is the system in its parts: one NATS, one token service, ingests and gateways.
type Split struct {
	NATS     string
	Config   string
	Token    *Server
	Ingest   []*Server
	Gateways []*Server
}

// NewSplit starts them.
func NewSplit(t testing.TB, b Binaries, ingests, gateways int) *Split {
	t.Helper()
	s := &Split{Config: Config(t)}
	_, s.NATS = NewNATS(t, b)
	s.Token = NewServer(t, b, "token", "--nats", s.NATS, "--config", s.Config)
	for range gateways {
		s.Gateways = append(s.Gateways, NewServer(t, b, "gateway", "--nats", s.NATS))
	}
	for range ingests {
		s.Ingest = append(s.Ingest, NewServer(t, b, "ingest", "--nats", s.NATS, "--public-url", s.Gateways[0].URL))
	}
	return s
}
