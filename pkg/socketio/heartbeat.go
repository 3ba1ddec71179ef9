package socketio

import "time"

// plan sets the timer for the next thing that falls due. The caller holds mu.
func (c *Conn) plan() {
	if c.closed {
		return
	}
	now, cfg := c.srv.now(), &c.srv.cfg
	next := c.pinged + cfg.PingInterval
	if expiry := time.Duration(c.heard.Load()) + cfg.PingInterval + cfg.PingTimeout; expiry > now {
		next = min(next, expiry)
	}
	if !c.connected {
		next = min(next, c.opened()+cfg.ConnectTimeout)
	}
	if c.stuck != 0 {
		next = min(next, c.stuck+cfg.WriteTimeout)
	}
	c.timer.Reset(max(next-now, time.Millisecond))
}

// tick does what has fallen due: it ends the connection, or sends a heartbeat.
func (c *Conn) tick() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	now, cfg := c.srv.now(), &c.srv.cfg
	busy := c.busy.Load()
	reason := ""
	switch {
	case !c.connected && now >= c.opened()+cfg.ConnectTimeout:
		reason = ReasonConnectTimeout
	case c.stuck != 0 && now >= c.stuck+cfg.WriteTimeout:
		reason = ReasonWriteTimeout
	case !busy && now >= time.Duration(c.heard.Load())+cfg.PingInterval+cfg.PingTimeout:
		reason = ReasonPingTimeout
	}
	if reason != "" {
		c.mu.Unlock()
		c.end(reason)
		return
	}
	if now >= c.pinged+cfg.PingInterval {
		c.pinged = now
		c.heartbeat(busy)
	}
	c.plan()
	c.mu.Unlock()
}

// heartbeat queues a packet that keeps the peer patient, unless the last one still waits. The caller holds mu.
//
// In Engine.IO 4 the server pings. In Engine.IO 3 the client does; while its ping lies unread behind a busy handler, any packet
// keeps it from giving up.
func (c *Conn) heartbeat(busy bool) {
	if c.out.written < c.beat {
		return
	}
	switch {
	case c.eio == 4:
		c.push(c.srv.ping)
	case busy:
		c.push(c.srv.noop)
	default:
		return
	}
	c.beat = c.out.queued
}

func (c *Conn) opened() time.Duration { return c.since.Sub(c.srv.start) }

// hear notes that the peer is alive.
func (c *Conn) hear() { c.heard.Store(int64(c.srv.now())) }
