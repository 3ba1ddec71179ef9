package socketio

import (
	"net/http/httptest"
	"time"
)

// testConn is a polling connection to which nobody has made a request.
func testConn(s *Server, old bool) *Conn {
	eio := 4
	if old {
		eio = 3
	}
	r := httptest.NewRequest("GET", "/socket.io/", nil)
	c := s.newConn(r, r.URL.Query(), eio, "192.0.2.1")
	s.add(c)
	c.begin()
	c.mu.Lock()
	c.timer.Reset(time.Hour)
	c.mu.Unlock()
	return c
}
