package main

import (
	"encoding/binary"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// bare is what the wire costs: prepared frames written to WebSockets of the library that pkg/socketio uses, and nothing else. It speaks just enough
// to be counted: no heartbeats, no bounds, no closing.
type bare struct {
	join  bool
	mu    sync.Mutex // guards conns
	conns []*bareConn
}

type bareConn struct {
	nc      net.Conn
	mu      sync.Mutex // guards what follows
	queue   [][]byte
	writing bool
}

func startBare(join bool) func(*http.ServeMux) (func([]byte), error) {
	return func(mux *http.ServeMux) (func([]byte), error) {
		b := &bare{join: join}
		mux.HandleFunc("/socket.io/", b.accept)
		return b.emit, nil
	}
}

func (b *bare) accept(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{ReadBufferSize: 512, WriteBufferPool: &sync.Pool{}}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // answered
	}
	c := &bareConn{nc: ws.NetConn()}
	for _, p := range []string{`0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}`, `40{"sid":"x"}`} {
		if _, err := c.nc.Write(textFrame([]byte(p))); err != nil {
			return
		}
	}
	b.mu.Lock()
	b.conns = append(b.conns, c)
	b.mu.Unlock()
	go func() {
		for {
			if _, _, err := ws.NextReader(); err != nil {
				b.leave(c)
				return
			}
		}
	}()
}

func (b *bare) leave(c *bareConn) {
	_ = c.nc.Close() // the peer has gone
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, o := range b.conns {
		if o == c {
			b.conns = append(b.conns[:i], b.conns[i+1:]...)
			return
		}
	}
}

func textFrame(p []byte) []byte {
	switch {
	case len(p) < 126:
		return append([]byte{0x81, byte(len(p))}, p...)
	case len(p) < 1<<16:
		return append(binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(len(p))), p...)
	}
	return append(binary.BigEndian.AppendUint64([]byte{0x81, 127}, uint64(len(p))), p...)
}

func (b *bare) emit(payload []byte) {
	frame := textFrame([]byte(`42["data",` + string(payload) + `]`))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		if !b.join {
			_, _ = c.nc.Write(frame) // a lost viewer is missed by the count
			continue
		}
		c.mu.Lock()
		c.queue = append(c.queue, frame)
		if !c.writing {
			c.writing = true
			go c.write()
		}
		c.mu.Unlock()
	}
}

// joinBuffers are borrowed for the time of a write, as those of pkg/socketio are.
var joinBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

// write joins what has piled up, up to 64 KiB at a time, as pkg/socketio does.
func (c *bareConn) write() {
	p := joinBuffers.Get().(*[]byte)
	defer joinBuffers.Put(p)
	buf := *p
	for {
		c.mu.Lock()
		batch := c.queue
		c.queue = nil
		if len(batch) == 0 {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for _, f := range batch {
			if len(buf)+len(f) > cap(buf) {
				if _, err := c.nc.Write(buf); err != nil {
					return
				}
				buf = buf[:0]
			}
			buf = append(buf, f...)
		}
		if _, err := c.nc.Write(buf); err != nil {
			return
		}
		buf = buf[:0]
	}
}
