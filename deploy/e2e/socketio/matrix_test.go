// Package socketio tests tasktracer/pkg/socketio with the npm clients.
package socketio

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"tasktracer/deploy/e2e/clients"
	"tasktracer/pkg/socketio"
)

var scenarios = []string{
	"upgrade", "attach", "unicode", "large", "acks", "order", "binary", "namespace", "disconnect", "reconnect", "eager",
}

// TestMatrix runs every scenario with every client over every choice of transports.
func TestMatrix(t *testing.T) {
	clients.Install(t)
	for _, alias := range []string{"sio1", "sio2", "sio3", "sio4"} {
		for _, transport := range []string{"polling", "websocket", "default"} {
			t.Run(clients.Versions()[alias]+"/"+transport, func(t *testing.T) {
				url := serve(t, socketio.Config{MaxMessage: 8 << 20}, actor)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				found := clients.Run(ctx, t, "matrix.js", append([]string{alias, transport, url}, scenarios...)...)
				var names []string
				for _, f := range found {
					names = append(names, f.Name)
					if !f.OK {
						t.Errorf("%s: %s", f.Name, f.Detail)
					}
				}
				if !slices.Equal(names, scenarios) {
					t.Errorf("scenarios that ran: %v, want %v", names, scenarios)
				}
			})
		}
	}
}

// serve starts a server that must be empty at the end.
func serve(t *testing.T, cfg socketio.Config, accept func(*socketio.Conn)) (url string) {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := socketio.NewServer(cfg, accept)
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
	return h.URL
}

// actor does what the scenarios ask for by name.
func actor(c *socketio.Conn) {
	c.OnEvent(func(e *socketio.Event) { act(c, e) })
}

func act(c *socketio.Conn, e *socketio.Event) {
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
		var a struct {
			Push  int
			Watch *struct{ From []string }
		}
		if err := json.Unmarshal(e.Args[0], &a); err != nil {
			panic(err) // ends the connection, and the scenario with it
		}
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
		var a struct{ From []string }
		if err := json.Unmarshal(e.Args[0], &a); err != nil {
			panic(err) // ends the connection, and the scenario with it
		}
		_ = c.Emit(ctx, "data", map[string]any{"from": a.From[0], "data": map[string]string{"type": "STDOUT", "data": "hi ü😀\n"}})
	case "measure":
		var text string
		if err := json.Unmarshal(e.Args[0], &text); err != nil {
			panic(err)
		}
		_ = e.Ack(len(text), e.Args[0])
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
		var n int
		if err := json.Unmarshal(e.Args[0], &n); err != nil {
			panic(err)
		}
		for i := range n {
			_ = c.Emit(ctx, "last", i)
		}
		c.Disconnect()
	case "drop":
		c.Close("dropped on request")
	}
}
