package natsd

import (
	"context"
	"strings"
	"testing"
)

func TestStart(t *testing.T) {
	s, err := Start(t.Context(), Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if u := s.ClientURL(); !strings.HasPrefix(u, "nats://127.0.0.1:") || strings.HasSuffix(u, ":0") || strings.HasSuffix(u, ":4222") {
		t.Errorf("ClientURL() = %q, want a port that was free", u)
	}
	c, err := s.InProcessConn()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 5)
	if _, err := c.Read(buf); err != nil || string(buf) != "INFO " {
		t.Errorf("the server greets with %q, %v, want INFO", buf, err)
	}
}

func TestStartRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no directory":      {},
		"bad address":       {Dir: t.TempDir(), Listen: "nowhere"},
		"bad port":          {Dir: t.TempDir(), Listen: "127.0.0.1:70000"},
		"bad cluster":       {Dir: t.TempDir(), Cluster: &Cluster{Name: "a", Listen: "x"}},
		"directory is file": {Dir: "natsd.go"},
	} {
		s, err := Start(context.Background(), cfg)
		if err == nil {
			s.Stop()
			t.Errorf("%s: Start succeeded", name)
		}
	}
}
