package main

import (
	"net/http"
	"sync"

	"tasktracer/pkg/socketio"
)

// ours serves with pkg/socketio, in the way that it is meant to be used: every viewer has a place in a ring of recent messages. Who keeps up gets
// each message as it comes; who does not is served from the ring by a goroutine of its own, as far back as its place is.
type ours struct {
	mu      sync.Mutex // guards what follows
	ring    [ringSize]*socketio.Message
	next    int // number of the next message
	viewers map[*viewer]bool
}

const ringSize = 1 << 14

type viewer struct {
	conn *socketio.Conn
	at   int  // number of the first message not handed over
	slow bool // a goroutine is catching up
}

func startOurs(mux *http.ServeMux) (func([]byte), error) {
	o := &ours{viewers: map[*viewer]bool{}}
	s, err := socketio.NewServer(socketio.Config{HandshakeRate: -1, MaxConns: 50_000}, o.join)
	if err != nil {
		return nil, err
	}
	mux.Handle("/socket.io/", s)
	return o.emit, nil
}

func (o *ours) join(c *socketio.Conn) {
	o.mu.Lock()
	v := &viewer{conn: c, at: o.next}
	o.viewers[v] = true
	o.mu.Unlock()
	c.OnClose(func(string) {
		o.mu.Lock()
		delete(o.viewers, v)
		o.mu.Unlock()
	})
}

func (o *ours) emit(payload []byte) {
	m := socketio.NewRawMessage("data", payload)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ring[o.next%ringSize] = m
	o.next++
	for v := range o.viewers {
		if v.slow {
			continue
		}
		if v.conn.TrySend(m) == nil {
			v.at = o.next
			continue
		}
		v.slow = true
		go o.catchUp(v)
	}
}

// catchUp hands over what v has missed, until it has caught up.
func (o *ours) catchUp(v *viewer) {
	batch := make([]*socketio.Message, 0, 256)
	for {
		o.mu.Lock()
		if o.next-v.at > ringSize {
			v.conn.Close("too slow")
		}
		batch = batch[:0]
		for i := v.at; i < o.next && len(batch) < cap(batch); i++ {
			batch = append(batch, o.ring[i%ringSize])
		}
		if len(batch) == 0 {
			v.slow = false
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		n, err := v.conn.SendAll(v.conn.Context(), batch)
		v.at += n
		if err != nil {
			return
		}
	}
}
