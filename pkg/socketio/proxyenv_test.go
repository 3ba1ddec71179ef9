package socketio

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// TestProxyFromEnvironment: a proxy named by the environment is used, except for hosts that NO_PROXY names. The environment is read once a process, and
// never leads to loopback by a proxy, so a process of its own dials a name that only the proxy knows.
func TestProxyFromEnvironment(t *testing.T) {
	if url := os.Getenv("SOCKETIO_TEST_DIAL"); url != "" {
		c, err := Dial(t.Context(), DialConfig{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		c.OnEvent(func(*Event) {})
		if _, err := c.EmitAck(t.Context(), "echo", 1); err != nil {
			t.Error(err)
		}
		_ = c.Close() // the echo has come
		return
	}
	s, err := NewServer(Config{}, echo)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	var tunnels atomic.Int64
	inner := tunnel(t, &tunnels)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = strings.Replace(r.Host, "socketio.invalid", "127.0.0.1", 1)
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, except string
		ok           bool
	}{{"proxy", "", true}, {"no proxy", "socketio.invalid", false}} {
		t.Run(tc.name, func(t *testing.T) {
			tunnels.Store(0)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyFromEnvironment$")
			cmd.Env = append(os.Environ(), "SOCKETIO_TEST_DIAL=http://socketio.invalid:"+port,
				"HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY="+tc.except, "no_proxy="+tc.except, "REQUEST_METHOD=")
			out, err := cmd.CombinedOutput()
			if (err == nil) != tc.ok {
				t.Errorf("dialling: %v, want ok %v\n%s", err, tc.ok, out)
			}
			if got, want := fmt.Sprint(tunnels.Load()), map[bool]string{true: "1", false: "0"}[tc.ok]; got != want {
				t.Errorf("%s tunnels, want %s", got, want)
			}
		})
	}
}
