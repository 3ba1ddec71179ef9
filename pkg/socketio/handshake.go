package socketio

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// handshake begins a session.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, q url.Values, eio int, transport string) {
	if r.Method != http.MethodGet {
		s.metrics.refused("method")
		refuse(w, http.StatusBadRequest, codeBadMethod, "Bad handshake method")
		return
	}
	remote := s.remote(r)
	if !s.limits.allow(remote, time.Now()) {
		s.metrics.refused("rate")
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, codeForbidden, "too many handshakes from this address")
		return
	}
	c := s.newConn(r, q, eio, remote)
	c.direct = transport == "websocket"
	if reason := s.add(c); reason != "" {
		s.metrics.refused(reason)
		c.timer.Stop()
		c.cancel()
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, codeForbidden, "server takes no more connections now")
		return
	}
	c.mu.Lock()
	c.out.add(c.openPacket(transport))
	c.plan()
	c.mu.Unlock()
	s.metrics.opened(eio, transport)
	if transport == "websocket" {
		s.serveSocket(w, r, c)
		return
	}
	c.begin()
	c.poll(w, r)
}

// begin opens the default namespace of generations 1 and 2, which do not ask for it.
func (c *Conn) begin() {
	if c.eio != 3 {
		return
	}
	c.recv.Lock()
	defer c.recv.Unlock()
	c.connect()
}

func (s *Server) newConn(r *http.Request, q url.Values, eio int, remote string) *Conn {
	c := &Conn{srv: s, sid: newSID(s.cfg.Name), id: s.cfg.Name + "." + random(9), eio: eio, remote: remote, header: r.Header, query: q, since: time.Now()}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.pinged = s.now()
	c.hear()
	c.timer = time.AfterFunc(s.cfg.ConnectTimeout, c.tick)
	return c
}

// openPacket tells the client its session id and the times. Upgrades are offered on polling only.
func (c *Conn) openPacket(transport string) *Message {
	cfg := &c.srv.cfg
	open := `0{"sid":"` + c.sid + `","upgrades":[`
	if transport == "polling" {
		open += `"websocket"`
	}
	open += `],"pingInterval":` + strconv.FormatInt(cfg.PingInterval.Milliseconds(), 10) +
		`,"pingTimeout":` + strconv.FormatInt(cfg.PingTimeout.Milliseconds(), 10)
	if c.eio == 4 {
		open += `,"maxPayload":` + strconv.Itoa(cfg.MaxMessage)
	}
	return newText(open + "}")
}

// opening is what a client reads of an open packet.
type opening struct {
	SID          string          `json:"sid"`
	PingInterval int64           `json:"pingInterval"` // ms
	PingTimeout  int64           `json:"pingTimeout"`  // ms
	MaxPayload   json.RawMessage `json:"maxPayload"`   // Engine.IO 4 of later years only
}
