package socketio

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestDialForms: schemes, a path in front, TLS with a CA of one's own, and a proxy.
func TestDialForms(t *testing.T) {
	s, err := NewServer(Config{}, echo)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", s)
	mux.Handle("/under/here/socket.io/", s)
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	own := &tls.Config{RootCAs: roots}
	var tunnels atomic.Int64
	proxy := httptest.NewServer(tunnel(t, &tunnels))
	t.Cleanup(proxy.Close)
	through := func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	host, shost := strings.TrimPrefix(plain.URL, "http://"), strings.TrimPrefix(secure.URL, "https://")
	for _, tc := range []struct {
		name string
		cfg  DialConfig
		ok   bool
	}{
		{"http", DialConfig{URL: "http://" + host}, true},
		{"ws", DialConfig{URL: "ws://" + host + "/"}, true},
		{"path", DialConfig{URL: "http://" + host + "/under/here"}, true},
		{"path with a slash", DialConfig{URL: "ws://" + host + "/under/here/"}, true},
		{"https, own CA", DialConfig{URL: "https://" + shost, TLS: own}, true},
		{"wss, own CA", DialConfig{URL: "wss://" + shost + "/under/here", TLS: own}, true},
		{"https, unknown CA", DialConfig{URL: "https://" + shost}, false},
		{"proxy", DialConfig{URL: "http://" + host, Proxy: through}, true},
		{"proxy, TLS", DialConfig{URL: "https://" + shost, TLS: own, Proxy: through}, true},
		{"wrong path", DialConfig{URL: "http://" + host + "/nowhere"}, false},
		{"scheme", DialConfig{URL: "ftp://" + host}, false},
		{"no host", DialConfig{URL: "http://"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tunnels.Store(0)
			c, err := Dial(t.Context(), tc.cfg)
			if (err == nil) != tc.ok {
				t.Fatalf("Dial = %v, want ok %v", err, tc.ok)
			}
			if err != nil {
				return
			}
			defer c.Close()
			c.OnEvent(func(*Event) {})
			if _, err := c.EmitAck(t.Context(), "echo", 1); err != nil {
				t.Error(err)
			}
			if want := tc.cfg.Proxy != nil; want != (tunnels.Load() == 1) {
				t.Errorf("%d tunnels, proxy wanted: %v", tunnels.Load(), want)
			}
		})
	}
}

// tunnel is a proxy that knows CONNECT.
func tunnel(t *testing.T, count *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		count.Add(1)
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(out, in); out.Close() }() // either side may hang up
		_, _ = io.Copy(in, out)
		in.Close()
	})
}

// TestOldServer: a server of generation 2 says CONNECT unasked, never hears one from us, and is pinged by us.
func TestOldServer(t *testing.T) {
	for _, strict := range []bool{false, true} { // strict: refuses what is not EIO=3
		heard := make(chan string, 100)
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strict && r.URL.Query().Get("EIO") != "3" {
				http.Error(w, `{"code":5}`, http.StatusBadRequest)
				return
			}
			up := websocket.Upgrader{}
			ws, err := up.Upgrade(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer ws.Close()
			for _, p := range []string{`0{"sid":"x","upgrades":[],"pingInterval":50,"pingTimeout":500}`, "40"} {
				_ = ws.WriteMessage(websocket.TextMessage, []byte(p)) // the reads below tell
			}
			for {
				_, p, err := ws.ReadMessage()
				if err != nil {
					close(heard)
					return
				}
				heard <- string(p)
				if string(p) == "2" {
					_ = ws.WriteMessage(websocket.TextMessage, []byte("3"))
				}
			}
		}))
		c, err := Dial(t.Context(), DialConfig{URL: h.URL})
		if err != nil {
			t.Fatal(err)
		}
		c.OnEvent(func(*Event) {})
		for range 3 {
			if got := <-heard; got != "2" {
				t.Errorf("server heard %q, want pings only", got)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for p := range heard {
			if p != "2" && p != "41" {
				t.Errorf("server heard %q at the end", p)
			}
		}
		h.Close()
	}
}

// A clock that is set does not make a server look silent, or alive: what is compared with now is not the wall's time.
func TestLastHeardIgnoresTheWall(t *testing.T) {
	_, base := serve(t, Config{}, func(*Conn) {})
	c := dial(t, base)
	c.OnEvent(func(*Event) {})
	if heard := c.LastHeard(); heard == heard.Round(0) {
		t.Errorf("LastHeard = %v: without the clock that nobody sets", heard)
	}
}

// TestNothingIsDeliveredBeforeOnEvent, and nothing is lost by that.
func TestNothingIsLostBeforeOnEvent(t *testing.T) {
	_, base := serve(t, Config{}, func(c *Conn) {
		for i := range 100 {
			_ = c.Emit(c.Context(), "n", i)
		}
	})
	c := dial(t, base)
	done := make(chan struct{})
	n := 0
	c.OnEvent(func(e *Event) {
		if got := string(e.Args[0]); got != fmt.Sprint(n) {
			t.Errorf("event %d is %s", n, got)
		}
		if n++; n == 100 {
			close(done)
		}
	})
	within(t, "events", done)
}

func TestEmitAckEndsWithItsContext(t *testing.T) {
	_, base := serve(t, Config{}, func(c *Conn) { c.OnEvent(func(*Event) {}) })
	c := dial(t, base)
	c.OnEvent(func(*Event) {})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.EmitAck(ctx, "nobody answers"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("EmitAck = %v, want a deadline", err)
	}
	if err := c.Emit(t.Context(), "still there"); err != nil {
		t.Errorf("Emit after it = %v", err)
	}
}

func TestRedial(t *testing.T) {
	_, base := serve(t, Config{}, func(c *Conn) {
		c.OnEvent(func(e *Event) { c.Close("dropped on request") })
	})
	uses := 0
	err := Redial(t.Context(), DialConfig{URL: base}, Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond}, func(ctx context.Context, c *Client) error {
		uses++
		if uses == 4 {
			return fmt.Errorf("enough: %w", ErrStop)
		}
		c.OnEvent(func(*Event) {})
		if err := c.Emit(ctx, "drop me"); err != nil {
			return err
		}
		<-ctx.Done()
		return c.Err()
	})
	if !errors.Is(err, ErrStop) || uses != 4 {
		t.Errorf("Redial = %v after %d uses, want ErrStop after 4", err, uses)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = Redial(ctx, DialConfig{URL: "http://127.0.0.1:1"}, Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond}, func(context.Context, *Client) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Redial without a server = %v, want a deadline", err)
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for n := range 70 {
		top := b.Max
		if n < 4 {
			top = min(b.Max, b.Min<<n)
		}
		for range 100 {
			if got := b.wait(n); got < b.Min/10 || got > top {
				t.Fatalf("wait(%d) = %v, want between %v and %v", n, got, b.Min/10, top)
			}
		}
	}
}
