package socketio

import (
	"context"
	"errors"
	"fmt"
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
	_, base := serve(t, Config{WriteTimeout: 500 * time.Millisecond, Metrics: Metrics{Closed: func(_ int, _, r string) { closed <- r }}}, func(c *Conn) { conns <- c })
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

// TestWritersTakeTurns: who has something to write is served in the order in which it came, however many there are, and nobody is left over.
func TestWritersTakeTurns(t *testing.T) {
	s, _ := serve(t, Config{}, echo)
	w := &s.writers
	w.most = 0 // nobody serves them but the test
	var want []*Conn
	for range 5000 {
		c := &Conn{srv: s}
		want = append(want, c)
		w.add(c)
	}
	for i := range 20_000 { // each comes again when it has had its turn
		c := w.take()
		if c != want[i%len(want)] {
			t.Fatalf("turn %d is that of another", i)
		}
		w.add(c)
	}
	if got := len(w.ready) - w.next; got != len(want) || len(w.ready) > 3*len(want) {
		t.Errorf("%d wait, and room is kept for %d, want %d", got, len(w.ready), len(want))
	}
	for i := range want {
		if c := w.take(); c != want[i] {
			t.Fatalf("at the end, turn %d is that of another", i)
		}
	}
	w.running = 1
	if w.take() != nil || w.running != 0 || w.ready != nil {
		t.Errorf("when all have had their turn: %d run, %d places", w.running, len(w.ready))
	}
	w.most = 1
}

// TestFewGoroutinesWrite: a thousand events to each of a hundred connections start no goroutine for each.
func TestFewGoroutinesWrite(t *testing.T) {
	const n = 100
	conns := make(chan *Conn, n)
	s, base := serve(t, Config{}, func(c *Conn) { conns <- c })
	var all []*Conn
	for range n {
		r := openRaw(t, base, 4)
		go func() {
			for {
				if _, _, err := r.ws.ReadMessage(); err != nil {
					return
				}
			}
		}()
		all = append(all, <-conns)
	}
	m := NewRawMessage("n", []byte(`"text"`))
	before, most := runtime.NumGoroutine(), 0
	for range 1000 {
		for _, c := range all {
			if err := c.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		most = max(most, runtime.NumGoroutine())
	}
	// A reader may fall behind now and then, and be written to by a goroutine of its own.
	if limit := before + s.writers.most + n/4; most > limit {
		t.Errorf("%d goroutines before, up to %d while sending, want at most %d", before, most, limit)
	}
}

// TestReadLate: a peer that begins to read when the kernel has no more room gets every byte in order, whoever wrote it, and wherever in a frame that was.
func TestReadLate(t *testing.T) {
	conns := make(chan *Conn, 1)
	_, base := serve(t, Config{SendBuffer: 32 << 10}, func(c *Conn) { conns <- c })
	r := openRaw(t, base, 4)
	c := <-conns
	const n = 6000
	text := func(i int) string { return fmt.Sprintf(`42["n",%d,"%s"]`, i, strings.Repeat("x", i*37%5000)) }
	sent, full := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sent)
		once := false
		for i := 0; i < n; {
			err := c.TrySend(newText(text(i)))
			if err == nil {
				i++
				continue
			}
			// What is next waits for room, some at a time.
			flushed, cancel := context.WithTimeout(c.Context(), 100*time.Millisecond)
			if c.Flush(flushed) != nil && !once {
				once = true
				close(full)
			}
			cancel()
			ms := []*Message{newText(text(i))}
			for len(ms) < 3 && i+len(ms) < n {
				ms = append(ms, newText(text(i+len(ms))))
			}
			k, err := c.SendAll(c.Context(), ms)
			if i += k; err != nil {
				t.Errorf("SendAll = %v", err)
				return
			}
		}
	}()
	within(t, "the kernel has no more room", full)
	for i := range n {
		if got, want := r.expect("42"), text(i); got != want {
			t.Fatalf("message %d: %d bytes %.40q, want %d bytes %.40q", i, len(got), got, len(want), want)
		}
	}
	within(t, "the end of sending", sent)
}

// TestStalledDelaysNobody: beside a WebSocket that takes nothing and a client that never polls, the others get everything, in order.
func TestStalledDelaysNobody(t *testing.T) {
	conns := make(chan *Conn, 10)
	_, base := serve(t, Config{}, func(c *Conn) { conns <- c })
	stuck := openRaw(t, base, 4)
	_ = stuck.ws.NetConn().(*net.TCPConn).SetReadBuffer(4096)
	lazy := []*Conn{<-conns}
	pollingSession(t, base, 4)
	lazy = append(lazy, <-conns)
	const readers, n = 5, 1000
	var rs []*raw
	var good []*Conn
	for range readers {
		rs = append(rs, openRaw(t, base, 4))
		good = append(good, <-conns)
	}
	pad := strings.Repeat("x", 8<<10)
	blocked := map[*Conn]bool{}
	errs := make(chan error, readers)
	for _, r := range rs {
		go func() {
			_ = r.ws.SetReadDeadline(time.Now().Add(20 * time.Second))
			for i := range n {
				_, p, err := r.ws.ReadMessage()
				if want := fmt.Sprintf(`42["n",{"i":%d,`, i); err != nil || !strings.HasPrefix(string(p), want) {
					errs <- fmt.Errorf("read %.40q, %w, want %s", p, err, want)
					return
				}
			}
			errs <- nil
		}()
	}
	for i := range n {
		m := NewRawMessage("n", fmt.Appendf(nil, `{"i":%d,"pad":"%s"}`, i, pad))
		for _, c := range lazy {
			if err := c.TrySend(m); errors.Is(err, ErrWouldBlock) {
				blocked[c] = true
			} else if err != nil {
				t.Fatal(err)
			}
			c.mu.Lock()
			held := c.out.bytes
			c.mu.Unlock()
			if held > c.srv.cfg.SendBuffer {
				t.Fatalf("%d bytes held for one that takes nothing, the limit is %d", held, c.srv.cfg.SendBuffer)
			}
		}
		for _, c := range good {
			if err := c.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range readers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if len(blocked) != 2 {
		t.Errorf("%d of 2 were stuck: the test tested nothing", len(blocked))
	}
}

// TestIdleIsSmall: an idle WebSocket connection costs at most two goroutines and 16 KiB.
func TestIdleIsSmall(t *testing.T) {
	const n = 500
	s, base := serve(t, Config{}, echo)
	measure := func() (goroutines int, memory uint64) {
		runtime.GC()
		runtime.GC() // what was in pools has gone by now
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc + m.StackInuse
	}
	peers := make([]net.Conn, 0, n)
	enter := func() {
		nc, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		_, err = fmt.Fprintf(nc, "GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for buf := make([]byte, 1024); !strings.HasSuffix(string(got), "40"); { // CONNECT, the last that comes
			k, err := nc.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:k]...)
		}
		peers = append(peers, nc)
	}
	for range 20 {
		enter() // pools and tables have their size now
	}
	g0, m0 := measure()
	for range n {
		enter()
	}
	g1, m1 := measure()
	each, memory := float64(g1-g0)/n, float64(m1-m0)/n
	t.Logf("%d connections: %.2f goroutines and %.1f KiB each", s.Len(), each, memory/1024)
	if each > 2 || memory > 16<<10 {
		t.Errorf("%.2f goroutines and %.0f bytes each, want at most 2 and %d", each, memory, 16<<10)
	}
	runtime.KeepAlive(peers)
}

// TestClientThatNeverPolls is the same for polling.
func TestClientThatNeverPolls(t *testing.T) {
	closed := make(chan string, 1)
	conns := make(chan *Conn, 1)
	_, base := serve(t, Config{WriteTimeout: 300 * time.Millisecond, Metrics: Metrics{Closed: func(_ int, _, r string) { closed <- r }}}, func(c *Conn) { conns <- c })
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
		_, base := serve(t, Config{PingInterval: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond, Metrics: Metrics{Closed: func(_ int, _, r string) { closed <- r }}}, echo)
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
