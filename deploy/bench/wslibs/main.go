// Command wslibs compares what three WebSocket libraries keep for an idle connection, each used in the leanest way that its documentation allows:
// goroutines, heap and stacks, in one process with clients that keep next to nothing.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	coder "github.com/coder/websocket"
	"github.com/gorilla/websocket"
	"github.com/lxzan/gws"
)

const conns = 2000

func main() {
	fmt.Print("| library | goroutines | heap KiB | stacks KiB |\n|---|---:|---:|---:|\n")
	for _, l := range []struct {
		name string
		h    http.HandlerFunc
	}{
		{"gorilla/websocket 1.5.3", serveGorilla},
		{"lxzan/gws 1.8.9", serveGWS()},
		{"coder/websocket 1.8.15", serveCoder},
	} {
		if err := measure(l.name, l.h); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func serveGorilla(w http.ResponseWriter, r *http.Request) {
	u := websocket.Upgrader{ReadBufferSize: 512, WriteBufferPool: &sync.Pool{}}
	ws, err := u.Upgrade(w, r, nil)
	if err != nil {
		return // answered
	}
	go func() {
		defer ws.Close()
		for {
			if _, _, err := ws.NextReader(); err != nil {
				return
			}
		}
	}()
}

func serveGWS() http.HandlerFunc {
	u := gws.NewUpgrader(&gws.BuiltinEventHandler{}, &gws.ServerOption{ReadBufferSize: 512})
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := u.Upgrade(w, r)
		if err != nil {
			return // answered
		}
		go ws.ReadLoop()
	}
}

func serveCoder(w http.ResponseWriter, r *http.Request) {
	ws, err := coder.Accept(w, r, nil)
	if err != nil {
		return // answered
	}
	go func() {
		defer ws.CloseNow()
		for {
			if _, _, err := ws.Reader(context.Background()); err != nil {
				return
			}
		}
	}()
}

type usage struct{ goroutines, heap, stacks int }

func now() usage {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
		time.Sleep(100 * time.Millisecond)
	}
	runtime.ReadMemStats(&m)
	return usage{runtime.NumGoroutine(), int(m.HeapAlloc), int(m.StackInuse)}
}

func measure(name string, h http.HandlerFunc) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }() // ends with Close
	defer s.Close()
	before := now()
	clients := make([]net.Conn, 0, conns)
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for range conns {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		clients = append(clients, c)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	after := now()
	fmt.Printf("| %s | %.2f | %.2f | %.2f |\n", name, float64(after.goroutines-before.goroutines)/conns,
		float64(after.heap-before.heap)/conns/1024, float64(after.stacks-before.stacks)/conns/1024)
	return nil
}
