package socketio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// upgrade makes a WebSocket of the request. On error the request has been answered.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) (*socket, error) {
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, err
	}
	k := &socket{srv: s, ws: ws, nc: ws.NetConn()}
	k.compress = s.cfg.Compress && strings.Contains(r.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
	if !k.compress {
		k.direct = newTryWriter(k.nc)
	}
	ws.SetCloseHandler(func(int, string) error { return nil }) // the library must not write
	return k, nil
}

// serveSocket begins a session on a WebSocket.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request, c *Conn) {
	k, err := s.upgrade(w, r)
	if err != nil {
		c.end(ReasonTransportError)
		return
	}
	c.mu.Lock()
	if c.closed { // by Shutdown, a moment ago
		c.mu.Unlock()
		k.kill()
		return
	}
	c.sock = k
	c.kick()
	c.mu.Unlock()
	go c.read(k) // on a stack of its own: the HTTP server's has grown large
}

// read reads the session's WebSocket until it ends.
func (c *Conn) read(k *socket) {
	c.begin()
	c.readAll(k)
}

func (c *Conn) readAll(k *socket) {
	defer k.kill()
	k.ws.SetPingHandler(func(data string) error {
		c.control(newControl(opPong, []byte(data)))
		return nil
	})
	for {
		err := c.readOne(k)
		if err == nil || errors.Is(err, errGone) { // what comes after the end is read and dropped, see socket.hangUp
			continue
		}
		var transport transportError
		if errors.As(err, &transport) {
			c.end(ReasonTransportClose)
			return
		}
		c.fail(err)
	}
}

// transportError says that the WebSocket itself has ended.
type transportError struct{ error }

// readOne reads one message and handles it. The buffer is borrowed when the message has begun to come.
func (c *Conn) readOne(k *socket) error {
	kind, r, err := k.ws.NextReader()
	if err != nil {
		return transportError{err}
	}
	buf := c.srv.borrow()
	defer c.srv.giveBack(buf)
	data, err := readUpTo(r, *buf, c.srv.cfg.MaxMessage)
	if err != nil {
		return err
	}
	c.recv.Lock()
	defer c.recv.Unlock()
	if kind == websocket.TextMessage {
		return decodePacket(data, c.eio == 3, c.receive) // attachments as base64, where the client was told to make them so
	}
	if c.eio == 3 {
		if len(data) == 0 || data[0] != pktMessage-'0' {
			return fmt.Errorf("%w: binary packet type", errMalformed)
		}
		data = data[1:]
	}
	return c.receive(false, data)
}

// readUpTo reads all of r, into buf while it is large enough.
func readUpTo(r io.Reader, buf []byte, limit int) ([]byte, error) {
	n := 0
	for {
		if n > limit {
			return nil, fmt.Errorf("%w: more than %d bytes", errTooLarge, limit)
		}
		if n == len(buf) {
			grown := make([]byte, min(2*len(buf), limit+1))
			copy(grown, buf)
			buf = grown
		}
		m, err := r.Read(buf[n:])
		n += m
		if err == io.EOF {
			return buf[:n], nil
		}
		if err != nil {
			return nil, transportError{err}
		}
	}
}

// probe takes the WebSocket to which a polling session may change: the client sends a ping "probe", hears the pong, lets its polling come to rest,
// and says "upgrade". Until then everything goes on by polling, and if the WebSocket breaks, nothing has happened.
func (s *Server) probe(w http.ResponseWriter, r *http.Request, c *Conn) {
	c.mu.Lock()
	if c.sock != nil || c.probing || c.closed {
		c.mu.Unlock()
		refuse(w, http.StatusBadRequest, codeBadRequest, "Bad request")
		return
	}
	c.probing = true
	c.mu.Unlock()
	k, err := s.upgrade(w, r)
	if err != nil {
		c.stopProbing()
		return
	}
	go c.upgradeTo(k)
}

func (c *Conn) stopProbing() {
	c.mu.Lock()
	c.probing, c.release = false, false
	c.mu.Unlock()
}

func (c *Conn) upgradeTo(k *socket) {
	if err := c.changeOver(k); err != nil {
		c.srv.log.Debug("upgrade did not come about", "conn", c.id, "err", err)
		c.stopProbing()
		k.kill()
		return
	}
	c.srv.metrics.upgraded(c.eio)
	c.readAll(k)
}

// changeOver goes through the upgrade; when it returns nil the session has changed to k.
func (c *Conn) changeOver(k *socket) error {
	k.ws.SetPingHandler(func(string) error { return nil })
	stop := c.limitProbe(k)
	defer stop()
	if err := expect(k, "2probe"); err != nil {
		return err
	}
	if _, _, err := k.write([]*Message{newText("3probe")}, 0); err != nil {
		return err
	}
	c.mu.Lock()
	c.release = true
	c.wakePoll()
	c.mu.Unlock()
	if err := expect(k, "5"); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed && !c.lingering {
		return errGone
	}
	c.sock, c.probing, c.release, c.stuck = k, false, false, 0
	c.wakePoll()
	c.kick()
	return nil
}

// limitProbe ends a probe that takes too long. While a handler is busy it does not count: the client waits for the answer to its POST before it goes on,
// and old clients never recover from a WebSocket that goes away then.
func (c *Conn) limitProbe(k *socket) (stop func()) {
	kept := context.AfterFunc(c.ctx, k.kill)
	ticker := time.NewTicker(c.srv.cfg.UpgradeTimeout)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if !c.busy.Load() {
					k.kill()
					return
				}
			}
		}
	}()
	return func() {
		kept()
		ticker.Stop()
		close(done)
	}
}

// expect reads one small text message, which must be want.
func expect(k *socket, want string) error {
	kind, r, err := k.ws.NextReader()
	if err != nil {
		return err
	}
	got, err := io.ReadAll(io.LimitReader(r, int64(len(want))+1))
	if err != nil {
		return err
	}
	if kind != websocket.TextMessage || string(got) != want {
		return fmt.Errorf("%w: %q during the upgrade, want %q", errMalformed, got, want)
	}
	return nil
}
