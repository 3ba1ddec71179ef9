package socketio

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one client's connection. All methods are safe for concurrent use.
type Conn struct {
	srv    *Server
	sid    string // the session id: whoever knows it can act as this client
	id     string
	eio    int
	direct bool // begun on a WebSocket, not on polling
	remote string
	header http.Header
	query  url.Values
	ctx    context.Context
	cancel context.CancelFunc
	since  time.Time

	handler atomic.Pointer[func(*Event)]
	heard   atomic.Int64 // when a packet came last, as time since the server's start
	busy    atomic.Bool  // a handler is running: nothing is read, and the peer's silence proves nothing

	recv    sync.Mutex // held while a message is handled; guards what follows
	partial *partial   // a message whose attachments are still to come
	raw     bool       // see decodePayload3

	mu        sync.Mutex // guards what follows; never held while calling out or writing
	out       outbox
	sock      *socket       // nil while polling
	wake      chan struct{} // wakes the polling request that waits for something to send; nil while none does
	answering bool          // a polling request is waiting or being answered
	answered  string        // the time stamp of the polling request that got the last messages; "" where it had none
	posting   bool
	probing   bool // a WebSocket has been probed: waiting polling requests are to be released
	release   bool // one polling request is to be released at once
	connected bool // the default namespace
	leaving   bool // Disconnect was called: nothing more is taken
	closed    bool
	lingering bool // closed, but the transport is left to the client for a moment
	reason    string
	onClose   func(string)
	finished  bool // nothing of the caller runs any more; onClose was called, if it was set
	timer     *time.Timer
	pinged    time.Duration // when the last heartbeat was queued
	beat      uint64        // its place in the outbox
	stuck     time.Duration // since when something waits for a polling request; 0: nothing does
	acks      map[uint64]chan []json.RawMessage
	nextAck   uint64
}

// Info is what is known of the client.
type Info struct {
	EIO       int         // 3 or 4
	Transport string      // polling or websocket, now
	Remote    string      // address, from X-Forwarded-For only if trusted
	Header    http.Header // of the handshake; not to be changed
	Query     url.Values  // of the handshake; not to be changed
}

// ID names the connection, in logs for instance. It is not the session id, and gives no access.
func (c *Conn) ID() string { return c.id }

// Info tells what is known of the client.
func (c *Conn) Info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Info{EIO: c.eio, Transport: c.transport(), Remote: c.remote, Header: c.header, Query: c.query}
}

// transport is what the session is on, or begins on. The caller holds mu.
func (c *Conn) transport() string {
	if c.direct || c.sock != nil {
		return "websocket"
	}
	return "polling"
}

// Context ends when the connection does.
func (c *Conn) Context() context.Context { return c.ctx }

// OnEvent sets what is called for each event, in order, one at a time. While it runs nothing more is read from the connection
// (that is the back-pressure; acknowledgements are not read either), and heartbeats go on: the peer is kept alive and the own deadline is suspended.
// It may be called again at any time, also from within fn; it takes effect from the next event on. A panic in fn ends this connection only.
// Events that come while nothing is set are dropped.
func (c *Conn) OnEvent(fn func(*Event)) { c.handler.Store(&fn) }

// OnClose sets what is called once, after the last OnEvent call has returned; at once if that was before. reason is one of the Reason constants,
// or what Close was given.
func (c *Conn) OnClose(fn func(reason string)) {
	c.mu.Lock()
	if !c.finished {
		c.onClose = fn
		c.mu.Unlock()
		return
	}
	reason := c.reason
	c.mu.Unlock()
	c.guard(func() { fn(reason) })
}

// Disconnect tells the client to go and not to come back ("io server disconnect"), after what was sent before; the connection is then closed.
// It does not wait for that.
func (c *Conn) Disconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.leaving {
		return
	}
	if c.connected {
		c.push(c.srv.goodbye)
	}
	c.leaving = true
	c.out.wakeAll()
	if c.out.empty() {
		go c.end(ReasonServerDisconnect)
	}
}

// Close ends the transport only: clients reconnect. What was sent and not yet written is lost. reason is for OnClose and the metrics;
// take it from a fixed set.
func (c *Conn) Close(reason string) { c.end(reason) }

// end closes the connection, once.
func (c *Conn) end(reason string) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	if c.leaving && reason == ReasonTransportClose {
		reason = ReasonServerDisconnect // the client was told to go, and was quicker than we
	}
	c.closed, c.reason = true, reason
	c.lingering = reason == ReasonServerDisconnect && c.connected
	sock, lingering, transport := c.sock, c.lingering, c.transport()
	c.out.drop()
	for id, ch := range c.acks {
		close(ch)
		delete(c.acks, id)
	}
	c.timer.Stop()
	c.wakePoll()
	c.mu.Unlock()

	c.cancel()
	c.srv.metrics.closed(c.eio, transport, reason)
	c.srv.log.Debug("connection closed", "conn", c.id, "remote", c.remote, "reason", reason)
	go c.finish(sock, lingering)
}

// finish lets go of the transport, waits for the handler, and tells the caller.
func (c *Conn) finish(sock *socket, lingering bool) {
	defer c.srv.live.Done()
	gone := make(chan struct{})
	if lingering {
		// The client goes by itself when it reads the goodbye. Hanging up first would race with that, and with what it is just sending.
		close(gone)
		time.AfterFunc(c.srv.cfg.Linger, func() { c.hangUp(sock) })
	} else {
		go func() {
			defer close(gone)
			c.hangUp(sock)
		}()
	}
	c.recv.Lock()
	c.partial = nil
	c.recv.Unlock()
	c.mu.Lock()
	c.finished = true
	fn, reason := c.onClose, c.reason
	c.onClose = nil
	c.mu.Unlock()
	if fn != nil {
		c.guard(func() { fn(reason) })
	}
	<-gone
}

// hangUp ends the transport and forgets the session.
func (c *Conn) hangUp(sock *socket) {
	c.mu.Lock()
	c.lingering = false
	untold := sock == nil && !c.answering // a waiting polling request hears of it, a later one will
	c.wakePoll()
	c.mu.Unlock()
	if untold {
		time.AfterFunc(c.srv.cfg.Linger, func() { c.srv.forget(c) })
		return
	}
	c.srv.forget(c)
	switch {
	case sock == nil:
	case c.writerDone(c.srv.cfg.Linger):
		sock.hangUp(closeCode(c.reason), c.srv.cfg.Linger)
	default:
		sock.kill()
	}
}

// writerDone waits until no write is under way, for so long.
func (c *Conn) writerDone(limit time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out.writing {
		return true
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for c.out.writing {
		changed := c.out.wait()
		c.mu.Unlock()
		late := false
		select {
		case <-changed:
		case <-timer.C:
			late = true
		}
		c.mu.Lock()
		if late {
			return !c.out.writing
		}
	}
	return true
}

// closeCode gives the WebSocket close code for a reason.
func closeCode(reason string) int {
	switch reason {
	case ReasonTooLarge:
		return 1009
	case ReasonMalformed:
		return 1002
	case ReasonPanic:
		return 1011
	case ReasonShutdown:
		return 1001
	default:
		return 1000
	}
}

// guard calls fn, and ends the connection if it panics.
func (c *Conn) guard(fn func()) {
	defer func() {
		if p := recover(); p != nil {
			c.srv.panicked(c, p)
			c.end(ReasonPanic)
		}
	}()
	fn()
}
