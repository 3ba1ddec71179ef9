package socketio

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// probing opens a WebSocket for a polling session and goes as far as the answer to its probe.
func probing(t *testing.T, session string) *raw {
	t.Helper()
	r := openProbe(t, session)
	r.send("2probe")
	r.expect("3probe")
	return r
}

func openProbe(t *testing.T, session string) *raw {
	t.Helper()
	ws, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(strings.Replace(session, "transport=polling", "transport=websocket", 1), "http"), nil)
	if err != nil {
		t.Fatalf("%v (%v)", err, res)
	}
	t.Cleanup(func() { ws.Close() })
	return &raw{t, ws}
}

// TestSecondUpgrade: a session changes to one WebSocket, and to no second one, neither while the first is probed nor after it.
func TestSecondUpgrade(t *testing.T) {
	_, base := serve(t, Config{}, echo)
	session := pollingSession(t, base, 4)
	r := probing(t, session)
	second := func() {
		t.Helper()
		ws, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(strings.Replace(session, "transport=polling", "transport=websocket", 1), "http"), nil)
		if err == nil {
			ws.Close()
			t.Fatal("a second WebSocket was taken")
		}
		if res == nil || res.StatusCode != http.StatusBadRequest {
			t.Fatalf("second WebSocket: %v, %v", err, res)
		}
	}
	second()
	r.send("5")
	r.send(`421["echo"]`)
	r.expect(`431[]`)
	second()
	r.send(`422["echo"]`)
	r.expect(`432[]`)
}

// TestWaitingPollIsLetGo: the polling request that waits when the probe succeeds is answered at once; old clients wait for it before they change over.
func TestWaitingPollIsLetGo(t *testing.T) {
	conns := make(chan *Conn, 1)
	_, base := serve(t, Config{}, func(c *Conn) { conns <- c })
	session := pollingSession(t, base, 4)
	c := <-conns
	answer := make(chan string, 1)
	go func() {
		_, body, _ := request(t, "GET", session, "")
		answer <- body
	}()
	for waiting := false; !waiting; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		waiting = c.wake != nil
		c.mu.Unlock()
	}
	probing(t, session)
	select {
	case got := <-answer:
		if got != "6" {
			t.Errorf("answer = %q, want a noop", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("the poll is still waiting")
	}
}

// TestUpgradeWaitsForHandler: a probe takes longer than UpgradeTimeout where the client waits for a handler; that is not its fault.
func TestUpgradeWaitsForHandler(t *testing.T) {
	busy, done := make(chan struct{}), make(chan struct{})
	_, base := serve(t, Config{UpgradeTimeout: 20 * time.Millisecond}, func(c *Conn) {
		c.OnEvent(func(e *Event) {
			if e.Name == "work" {
				close(busy)
				<-done
			}
			_ = e.Ack()
		})
	})
	session := pollingSession(t, base, 4)
	posted := make(chan struct{})
	go func() {
		defer close(posted)
		request(t, "POST", session, `42["work"]`)
	}()
	within(t, "the handler", busy)
	r := openProbe(t, session)
	time.Sleep(100 * time.Millisecond) // several times UpgradeTimeout: nothing can be waited for where nothing is to happen
	r.send("2probe")
	r.expect("3probe")
	r.send("5")
	close(done)
	within(t, "the POST", posted)
	r.send(`421["after it"]`)
	r.expect(`431[]`)
}

// TestTwoRequestsAtOnce: of two GETs or two POSTs at a time the order is not known; the session ends rather than losing something.
func TestTwoRequestsAtOnce(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			closed := make(chan string, 1)
			conns := make(chan *Conn, 1)
			_, base := serve(t, Config{Metrics: Metrics{Closed: func(_ int, _, r string) { closed <- r }}}, func(c *Conn) { conns <- c })
			session := pollingSession(t, base, 4)
			c := <-conns
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			pipe, rest := io.Pipe() // a body that does not end
			defer rest.Close()
			first, err := http.NewRequestWithContext(ctx, method, session, map[string]io.Reader{"POST": pipe}[method])
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if res, err := http.DefaultClient.Do(first); err == nil {
					res.Body.Close()
				}
			}()
			for under := false; !under; time.Sleep(time.Millisecond) {
				c.mu.Lock()
				under = c.wake != nil || c.posting
				c.mu.Unlock()
			}
			if status, body, _ := request(t, method, session, `42["a"]`); status != 400 {
				t.Errorf("second request: %d %s", status, body)
			}
			if got := <-closed; got != ReasonTransportError {
				t.Errorf("reason = %q, want %q", got, ReasonTransportError)
			}
		})
	}
}

// TestCloseWithinAFrame: a connection that is closed while half a frame is with the kernel finishes the frame before it says goodbye.
func TestCloseWithinAFrame(t *testing.T) {
	conns := make(chan *Conn, 1)
	_, base := serve(t, Config{Linger: 10 * time.Second}, func(c *Conn) { conns <- c })
	r := openRaw(t, base, 4)
	c := <-conns
	text := `42["` + strings.Repeat("x", 30_000) + `"]`
	for stuck := false; !stuck; {
		for c.TrySend(newText(text)) == nil { // to the brim
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		stuck = c.Flush(ctx) != nil
		cancel()
	}
	c.Close("enough")
	_ = r.ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	for n := 0; ; n++ {
		_, p, err := r.ws.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			return
		}
		if err != nil {
			t.Fatalf("after %d messages: %v", n, err)
		}
		if string(p) != text {
			t.Fatalf("message %d: %d bytes that end with %q", n, len(p), p[max(0, len(p)-40):])
		}
	}
}
