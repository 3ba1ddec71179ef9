package socketio

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestStalledReader: what one connection may cost that takes nothing: a bounded buffer, ErrWouldBlock, and its end after WriteTimeout.
func TestStalledReader(t *testing.T) {
	closed := make(chan string, 1)
	conns := make(chan *Conn, 1)
	_, base := serve(t, Config{WriteTimeout: 500 * time.Millisecond, Metrics: Metrics{Closed: func(r string) { closed <- r }}}, func(c *Conn) { conns <- c })
	r := openRaw(t, base, 4) // and never reads again
	_ = r.ws.NetConn().(*net.TCPConn).SetReadBuffer(4096)
	c := <-conns
	m := NewRawMessage("data", []byte(`"`+strings.Repeat("x", 8<<10)+`"`))
	var err error
	for err == nil {
		err = c.TrySend(m)
		c.mu.Lock()
		held := c.out.bytes
		c.mu.Unlock()
		if held > c.srv.cfg.SendBuffer {
			t.Fatalf("%d bytes held, the limit is %d", held, c.srv.cfg.SendBuffer)
		}
		if errors.Is(err, ErrWouldBlock) { // the kernel may take more in a moment
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			err = c.Flush(ctx)
			cancel()
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Flush = %v, want a deadline", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for err = nil; err == nil; {
		err = c.Send(ctx, m)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Send = %v, want a deadline", err)
	}
	if got := <-closed; got != ReasonWriteTimeout {
		t.Errorf("reason = %q, want %q", got, ReasonWriteTimeout)
	}
	if err := c.Send(t.Context(), m); !errors.Is(err, ErrClosed) {
		t.Errorf("Send after the end = %v, want ErrClosed", err)
	}
}

// TestClientThatNeverPolls is the same for polling.
func TestClientThatNeverPolls(t *testing.T) {
	closed := make(chan string, 1)
	conns := make(chan *Conn, 1)
	_, base := serve(t, Config{WriteTimeout: 300 * time.Millisecond, Metrics: Metrics{Closed: func(r string) { closed <- r }}}, func(c *Conn) { conns <- c })
	pollingSession(t, base, 4)
	c := <-conns
	if err := c.Emit(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := <-closed; got != ReasonWriteTimeout {
		t.Errorf("reason = %q, want %q", got, ReasonWriteTimeout)
	}
}

// TestBusyHandler: while a handler is busy nothing is read, so the peer is held back by TCP; heartbeats go on, and nobody's deadline runs out.
func TestBusyHandler(t *testing.T) {
	for _, eio := range []int{3, 4} {
		cfg := Config{PingInterval: 100 * time.Millisecond, PingTimeout: 300 * time.Millisecond}
		release, entered := make(chan struct{}), make(chan struct{}, 100)
		_, base := serve(t, cfg, func(c *Conn) {
			c.OnEvent(func(e *Event) {
				entered <- struct{}{}
				<-release
				_ = e.Ack()
			})
		})
		r := openRaw(t, base, eio)
		r.send(`421["a"]`)
		<-entered
		alive := "2"
		if eio == 3 {
			alive = "6"
		}
		for range 6 { // 600 ms, more than the deadline, without a word from the peer
			r.expect(alive)
		}
		held := make(chan struct{})
		go func() {
			defer close(held)
			_ = r.ws.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			big := []byte(`42["b","` + strings.Repeat("x", 1<<20) + `"]`)
			for range 64 {
				if r.ws.WriteMessage(1, big) != nil {
					return // as it should be: the kernel's buffers are full
				}
			}
			t.Errorf("EIO%d: 64 MiB were read while the handler was busy", eio)
		}()
		within(t, "hold", held)
		if len(entered) != 0 {
			t.Errorf("EIO%d: a second event was delivered while the first was handled", eio)
		}
		close(release)
		for got := ""; !strings.HasPrefix(got, "43"); {
			got = r.expect("") // the acknowledgement, between heartbeats
		}
	}
}

func TestPingTimeout(t *testing.T) {
	for _, eio := range []int{3, 4} {
		closed := make(chan string, 1)
		_, base := serve(t, Config{PingInterval: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond, Metrics: Metrics{Closed: func(r string) { closed <- r }}}, echo)
		openRaw(t, base, eio)
		if got := <-closed; got != ReasonPingTimeout {
			t.Errorf("EIO%d: reason = %q, want %q", eio, got, ReasonPingTimeout)
		}
	}
}

// TestNothingIsLeftBehind: after 10,000 connections came and went, goroutines and memory are back where they were.
func TestNothingIsLeftBehind(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 500
	}
	s, base := serve(t, Config{HandshakeRate: -1, Linger: 50 * time.Millisecond, MaxConns: 10_000, Log: nil}, echo)
	one := func(i int) error {
		c, err := Dial(t.Context(), DialConfig{URL: base})
		if err != nil {
			return err
		}
		c.OnEvent(func(*Event) {})
		_, err = c.EmitAck(t.Context(), "echo", i)
		if i%2 == 0 {
			_ = c.ws.NetConn().Close() // without a word
			<-c.left
			return err
		}
		return errors.Join(err, c.Close())
	}
	round := func(n int) {
		errs := make(chan error, 32)
		for w := range 32 {
			go func() {
				var err error
				for i := w; i < n && err == nil; i += 32 {
					err = one(i)
				}
				errs <- err
			}()
		}
		for range 32 {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
	}
	settle := func() (goroutines int, heap uint64) {
		for end := time.Now().Add(20 * time.Second); s.Len() > 0 && time.Now().Before(end); {
			runtime.Gosched()
		}
		last := 0
		for range 100 { // until the number stands still
			runtime.GC()
			if g := runtime.NumGoroutine(); g == last {
				break
			} else {
				last = g
			}
			time.Sleep(100 * time.Millisecond)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	round(200) // pools and tables have their size now
	g0, h0 := settle()
	round(n)
	g1, h1 := settle()
	if s.Len() != 0 {
		t.Errorf("%d sessions left", s.Len())
	}
	if g1 > g0+5 {
		t.Errorf("%d goroutines before, %d after", g0, g1)
	}
	if h1 > h0+2<<20 {
		t.Errorf("heap %d KiB before, %d KiB after", h0>>10, h1>>10)
	}
	t.Logf("%d connections: goroutines %d before, %d after; heap %d KiB before, %d KiB after", n, g0, g1, h0>>10, h1>>10)
}
