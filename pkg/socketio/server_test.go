package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serve starts a server on a real socket; the test ends with every connection gone.
func serve(t *testing.T, cfg Config, accept func(*Conn)) (*Server, string) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := NewServer(cfg, accept)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		h.Close()
	})
	return s, h.URL
}

func dial(t *testing.T, url string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), DialConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echo answers "echo" with "echoed" and the same arguments, and acknowledges with them where asked.
func echo(c *Conn) {
	c.OnEvent(func(e *Event) {
		args := make([]any, len(e.Args))
		for i, a := range e.Args {
			args[i] = a
		}
		if e.WantsAck() {
			_ = e.Ack(args...)
			return
		}
		_ = c.Emit(c.Context(), "echoed", args...)
	})
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: did not happen within 20 s", what)
	}
}

func TestEchoInOrder(t *testing.T) {
	_, url := serve(t, Config{}, echo)
	c := dial(t, url)
	const n = 2000
	var got []string
	done := make(chan struct{})
	c.OnEvent(func(e *Event) {
		got = append(got, string(e.Args[0]))
		if len(got) == n {
			close(done)
		}
	})
	var want []string
	for i := range n {
		text := fmt.Sprintf("%d ü 😀", i)
		b, _ := json.Marshal(text)
		want = append(want, string(b))
		if err := c.Emit(t.Context(), "echo", text); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "echoes", done)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("echoes (-want +got):\n%s", d)
	}
}

func TestAcksBothWays(t *testing.T) {
	answers := make(chan string, 1)
	_, url := serve(t, Config{}, func(c *Conn) {
		echo(c)
		go func() {
			args, err := c.EmitAck(c.Context(), "question", 7)
			answers <- fmt.Sprintf("%s %v", args, err)
		}()
	})
	c := dial(t, url)
	c.OnEvent(func(e *Event) {
		if err := e.Ack("answer", e.Args[0]); err != nil {
			t.Error(err)
		}
		if err := e.Ack(); !errors.Is(err, ErrAcked) {
			t.Errorf("second Ack = %v, want ErrAcked", err)
		}
	})
	args, err := c.EmitAck(t.Context(), "echo", "a", 1)
	if got, want := fmt.Sprintf("%s %v", args, err), `["a" 1] <nil>`; got != want {
		t.Errorf("EmitAck = %s, want %s", got, want)
	}
	if got, want := <-answers, `["answer" 7] <nil>`; got != want {
		t.Errorf("server's EmitAck = %s, want %s", got, want)
	}
}

func TestDisconnectComesAfterWhatWasSent(t *testing.T) {
	reasons := make(chan string, 1)
	_, url := serve(t, Config{}, func(c *Conn) {
		c.OnClose(func(reason string) { reasons <- reason })
		for i := range 100 {
			_ = c.Emit(c.Context(), "n", i)
		}
		c.Disconnect()
		if err := c.Emit(c.Context(), "late"); !errors.Is(err, ErrClosed) {
			t.Errorf("Emit after Disconnect = %v, want ErrClosed", err)
		}
	})
	c := dial(t, url)
	n := 0
	c.OnEvent(func(e *Event) { n++ })
	within(t, "end", c.Done())
	if !errors.Is(c.Err(), ErrServerDisconnect) || n != 100 {
		t.Errorf("Err() = %v after %d events, want %v after 100", c.Err(), n, ErrServerDisconnect)
	}
	if got := <-reasons; got != ReasonServerDisconnect {
		t.Errorf("reason = %q, want %q", got, ReasonServerDisconnect)
	}
}

func TestLargeMessages(t *testing.T) {
	_, url := serve(t, Config{MaxMessage: 8 << 20}, echo)
	c := dial(t, url)
	for _, size := range []int{125, 126, 65_535, 65_536, 1 << 20, 5 << 20} {
		text := strings.Repeat("x", size)
		args, err := c.EmitAck(t.Context(), "echo", text)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		var got string
		if err := json.Unmarshal(args[0], &got); err != nil || got != text {
			t.Errorf("%d bytes came back as %d bytes, %v", size, len(got), err)
		}
	}
}

func TestPanicEndsItsConnectionOnly(t *testing.T) {
	reasons := make(chan string, 2)
	_, url := serve(t, Config{}, func(c *Conn) {
		c.OnClose(func(reason string) { reasons <- reason })
		c.OnEvent(func(e *Event) {
			if e.Name == "panic" {
				panic("on purpose")
			}
			_ = e.Ack()
		})
	})
	good, bad := dial(t, url), dial(t, url)
	if err := bad.Emit(t.Context(), "panic"); err != nil {
		t.Fatal(err)
	}
	bad.OnEvent(func(*Event) {})
	within(t, "end of the one", bad.Done())
	if got := <-reasons; got != ReasonPanic {
		t.Errorf("reason = %q, want %q", got, ReasonPanic)
	}
	if _, err := good.EmitAck(t.Context(), "ping"); err != nil {
		t.Errorf("the other connection: %v", err)
	}
}

// lateFlush is a ResponseWriter whose Flush comes back only when told to, long after the client has read the answer.
type lateFlush struct {
	http.ResponseWriter
	back <-chan struct{}
}

func (l lateFlush) FlushError() error {
	err := http.NewResponseController(l.ResponseWriter).Flush()
	<-l.back
	return err
}

// TestQuickPoller: a client that has read its answer and polls again before the server knows that the answer is through is not taken for one that polls twice at once.
func TestQuickPoller(t *testing.T) {
	conns := make(chan *Conn, 1)
	s, base := serve(t, Config{}, func(c *Conn) { conns <- c })
	back := make(chan struct{})
	var late atomic.Bool
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && late.Swap(false) {
			w = lateFlush{w, back}
		}
		s.ServeHTTP(w, r)
	}))
	through := sync.OnceFunc(func() { close(back) })
	defer h.Close()
	defer through()
	u := strings.Replace(pollingSession(t, base, 4), base, h.URL, 1)
	c := <-conns
	if err := c.Emit(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	late.Store(true)
	if status, body, _ := request(t, "GET", u, ""); status != 200 || body != `42["a"]` {
		t.Fatalf("first answer = %d %s", status, body)
	}
	answer := make(chan string, 1)
	go func() {
		// On a connection of its own: on the first's, the server would not look at it yet.
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get(u)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		answer <- fmt.Sprintf("%d %s %v", res.StatusCode, body, err)
	}()
	select {
	case got := <-answer:
		t.Fatalf("second answer, before the first was known to be through: %s", got)
	case <-time.After(100 * time.Millisecond): // it waits, or is on its way; both are to end well
	}
	through()
	if err := c.Emit(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got != `200 42["b"] <nil>` {
		t.Errorf("second answer = %s", got)
	}
}
