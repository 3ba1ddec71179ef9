// Package socketio tests tasktracer/pkg/socketio with the npm clients.
package socketio

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"tasktracer/deploy/e2e/clients"
	"tasktracer/pkg/socketio"
)

var scenarios = []string{
	"upgrade", "attach", "unicode", "large", "acks", "order", "binary", "namespace", "disconnect", "reconnect", "eager", "parting",
}

// TestMatrix runs every scenario with every client over every choice of transports.
func TestMatrix(t *testing.T) {
	clients.Install(t)
	for _, alias := range []string{"sio1", "sio2", "sio3", "sio4"} {
		for _, transport := range []string{"polling", "websocket", "default"} {
			t.Run(clients.Versions()[alias]+"/"+transport, func(t *testing.T) {
				url := serve(t, socketio.Config{MaxMessage: 8 << 20}, actor())
				play(t, url, alias, transport, scenarios...)
			})
		}
	}
}

// TestHeartbeats: with short intervals, both generations of heartbeats hold, and a busy handler does not break them.
func TestHeartbeats(t *testing.T) {
	clients.Install(t)
	for _, alias := range []string{"sio1", "sio2", "sio3", "sio4"} {
		for _, transport := range []string{"polling", "websocket", "default"} {
			t.Run(clients.Versions()[alias]+"/"+transport, func(t *testing.T) {
				t.Parallel()
				url := serve(t, socketio.Config{PingInterval: 300 * time.Millisecond, PingTimeout: 700 * time.Millisecond}, actor())
				play(t, url, alias, transport, "heartbeats")
			})
		}
	}
}

// TestCompressed: with permessage-deflate agreed upon, everything still arrives.
func TestCompressed(t *testing.T) {
	clients.Install(t)
	for _, alias := range []string{"sio2", "sio4"} {
		t.Run(clients.Versions()[alias], func(t *testing.T) {
			url := serve(t, socketio.Config{MaxMessage: 8 << 20, Compress: true}, actor())
			play(t, url, alias, "websocket", "unicode", "large", "order", "binary", "disconnect")
		})
	}
}

// TestStorm: 2,000 clients are thrown out at once, and all come back.
func TestStorm(t *testing.T) {
	clients.Install(t)
	for _, transport := range []string{"websocket", "default"} {
		t.Run(transport, func(t *testing.T) {
			play(t, serve(t, socketio.Config{}, actor()), "sio4", transport, "storm")
		})
	}
}

// TestFrozenClient: a client whose process stands still is given up, on every transport.
func TestFrozenClient(t *testing.T) {
	clients.Install(t)
	for _, alias := range []string{"sio1", "sio4"} {
		for _, transport := range []string{"polling", "websocket"} {
			t.Run(clients.Versions()[alias]+"/"+transport, func(t *testing.T) {
				t.Parallel()
				closed, there := make(chan string, 1), make(chan struct{})
				url := serve(t, socketio.Config{
					PingInterval: 200 * time.Millisecond, PingTimeout: 500 * time.Millisecond,
					Metrics: socketio.Metrics{Closed: func(_ int, _, reason string) { closed <- reason }},
				}, func(*socketio.Conn) { close(there) })
				cmd := exec.Command("node", "-e", "require(process.argv[1])(process.argv[2], {transports: [process.argv[3]], reconnection: false}); setInterval(() => {}, 1000)", alias, url, transport)
				cmd.Dir = clients.Dir()
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }() // it ends by being killed
				<-there
				if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				if got := <-closed; got != socketio.ReasonPingTimeout {
					t.Errorf("reason = %q, want %q", got, socketio.ReasonPingTimeout)
				}
			})
		}
	}
}

// play runs scenarios with a client, and wants all of them to have run and to have gone well.
func play(t *testing.T, url, alias, transport string, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	check(t, clients.Run(ctx, t, "matrix.js", append([]string{alias, transport, url}, want...)...), want)
}

// check wants all scenarios to have run and to have gone well.
func check(t *testing.T, found []clients.Finding, want []string) {
	t.Helper()
	var names []string
	for _, f := range found {
		names = append(names, f.Name)
		if !f.OK {
			t.Errorf("%s: %s", f.Name, f.Detail)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("scenarios that ran: %v, want %v", names, want)
	}
}

// serve starts a server that must be empty at the end.
func serve(t *testing.T, cfg socketio.Config, accept func(*socketio.Conn)) (url string) {
	t.Helper()
	s := newServer(t, cfg, accept)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	t.Cleanup(func() { shutdown(t, s) })
	return h.URL
}

func newServer(t *testing.T, cfg socketio.Config, accept func(*socketio.Conn)) *socketio.Server {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := socketio.NewServer(cfg, accept)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shutdown(t *testing.T, s *socketio.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// scene is what the connections of one server share.
type scene struct {
	mu    sync.Mutex // guards what follows
	notes map[string][]int
	conns map[*socketio.Conn]bool
}

// actor does what the scenarios ask for by name.
func actor() func(*socketio.Conn) {
	s := &scene{notes: map[string][]int{}, conns: map[*socketio.Conn]bool{}}
	return func(c *socketio.Conn) {
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		c.OnClose(func(string) {
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
		c.OnEvent(func(e *socketio.Event) { s.act(c, e) })
	}
}

// read reads an argument; where it is not what the scenario says, the panic ends the connection, and the scenario with it.
func read[T any](e *socketio.Event, i int) (v T) {
	if err := json.Unmarshal(e.Args[i], &v); err != nil {
		panic(err)
	}
	return v
}

func (s *scene) act(c *socketio.Conn, e *socketio.Event) {
	ctx := c.Context()
	args := make([]any, len(e.Args))
	for i, a := range e.Args {
		args[i] = a
	}
	switch e.Name {
	case "echo":
		if e.WantsAck() {
			_ = e.Ack(args...)
			return
		}
		_ = c.Emit(ctx, "echoed", args...)
	case "authenticate":
		a := read[struct {
			Push  int
			Watch *struct{ From []string }
		}](e, 0)
		var from []string
		if a.Watch != nil {
			from = a.Watch.From
		}
		_ = c.Emit(ctx, "authenticated", map[string]any{"from": from})
		go func() {
			for i := range a.Push {
				_ = c.Emit(ctx, "pushed", i)
				if i%5 == 0 {
					time.Sleep(time.Millisecond) // so that pushes are spread over the upgrade
				}
			}
		}()
	case "attach":
		a := read[struct{ From []string }](e, 0)
		_ = c.Emit(ctx, "data", map[string]any{"from": a.From[0], "data": map[string]string{"type": "STDOUT", "data": "hi ü😀\n"}})
	case "measure":
		_ = e.Ack(len(read[string](e, 0)), e.Args[0])
	case "ask":
		go func() {
			answer, err := c.EmitAck(ctx, "question", 2, 3)
			if err != nil {
				return // the scenario waits for the answer in vain
			}
			_ = c.Emit(ctx, "answered", answer)
		}()
	case "digest":
		sums := []string{}
		for _, b := range e.Bins {
			sum := sha256.Sum256(b)
			sums = append(sums, hex.EncodeToString(sum[:]))
		}
		_ = e.Ack(sums)
	case "leave":
		for i := range read[int](e, 0) {
			_ = c.Emit(ctx, "last", i)
		}
		c.Disconnect()
	case "note":
		s.mu.Lock()
		defer s.mu.Unlock()
		id := read[string](e, 0)
		s.notes[id] = append(s.notes[id], read[int](e, 1))
	case "notes":
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = e.Ack(append([]int{}, s.notes[read[string](e, 0)]...))
	case "busy":
		time.Sleep(time.Duration(read[int](e, 0)) * time.Millisecond)
		_ = e.Ack(args...)
	case "drop all":
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.Close("dropped on request")
		}
	case "drop":
		c.Close("dropped on request")
	}
}
