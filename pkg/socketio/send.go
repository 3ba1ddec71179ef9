package socketio

import (
	"context"
	"encoding/json"
	"strconv"
)

// Send hands m to the connection. It blocks while the connection's bounded buffer is full, until ctx ends or the connection closes.
func (c *Conn) Send(ctx context.Context, m *Message) error {
	_, err := c.SendAll(ctx, []*Message{m})
	return err
}

// TrySend is Send for those who cannot wait: ErrWouldBlock, at once, when the buffer is full.
func (c *Conn) TrySend(m *Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.leaving {
		return ErrClosed
	}
	if !c.out.fits(m.cost(), c.srv.cfg.SendBuffer) {
		return ErrWouldBlock
	}
	c.push(m)
	return nil
}

// SendAll hands over many at once: one lock, one write where possible. It blocks as Send does. n is how many were taken.
func (c *Conn) SendAll(ctx context.Context, ms []*Message) (n int, err error) {
	c.mu.Lock()
	for {
		if c.closed || c.leaving {
			c.mu.Unlock()
			return n, ErrClosed
		}
		for n < len(ms) && c.out.fits(ms[n].cost(), c.srv.cfg.SendBuffer) {
			c.push(ms[n])
			n++
		}
		if n == len(ms) {
			c.mu.Unlock()
			return n, nil
		}
		changed := c.out.wait()
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return n, ctx.Err()
		}
		c.mu.Lock()
	}
}

// Emit encodes an event and sends it.
func (c *Conn) Emit(ctx context.Context, event string, args ...any) error {
	m, err := NewMessage(event, args...)
	if err != nil {
		return err
	}
	return c.Send(ctx, m)
}

// EmitAck sends and waits for the client's acknowledgement. Called within OnEvent's function it would wait for ever, since nothing is read meanwhile.
func (c *Conn) EmitAck(ctx context.Context, event string, args ...any) ([]json.RawMessage, error) {
	c.mu.Lock()
	if c.closed || c.leaving {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	if len(c.acks) >= c.srv.cfg.MaxUnacked {
		c.mu.Unlock()
		return nil, ErrWouldBlock
	}
	id := c.nextAck
	c.nextAck++
	answer := make(chan []json.RawMessage, 1)
	if c.acks == nil {
		c.acks = make(map[uint64]chan []json.RawMessage)
	}
	c.acks[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.acks, id)
		c.mu.Unlock()
	}()

	m, err := newPacket("42"+strconv.FormatUint(id, 10), event, args)
	if err != nil {
		return nil, err
	}
	if err := c.Send(ctx, m); err != nil {
		return nil, err
	}
	select {
	case args, ok := <-answer:
		if !ok {
			return nil, ErrClosed
		}
		return args, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Flush returns when all that was sent before has been written to the transport.
func (c *Conn) Flush(ctx context.Context) error {
	c.mu.Lock()
	target := c.out.queued
	for c.out.written < target {
		if c.closed {
			c.mu.Unlock()
			return ErrClosed
		}
		changed := c.out.wait()
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		c.mu.Lock()
	}
	c.mu.Unlock()
	return nil
}

// push queues m and sees to it that somebody writes it. The caller holds mu.
func (c *Conn) push(m *Message) {
	c.out.add(m)
	c.kick()
}

// kick gets what is queued written. The caller holds mu.
func (c *Conn) kick() {
	if len(c.out.queue) == 0 {
		return
	}
	if c.sock == nil {
		if c.stuck == 0 && !c.answering {
			c.stuck = c.srv.now()
			c.plan()
		}
		c.wakePoll()
		return
	}
	// An answer still being written by polling comes first.
	if !c.out.writing && !c.answering {
		c.out.writing = true
		if c.sock.direct != nil {
			c.srv.writers.add(c)
		} else {
			go c.write(nil, 0)
		}
	}
}

// turn makes one system call for the connection, which writes what is queued as far as the kernel takes it without waiting. What it does not take is
// left to a goroutine of the connection's own. It says whether another turn is wanted.
func (c *Conn) turn() (again bool) {
	c.mu.Lock()
	batch := c.out.take(joinSize)
	if len(batch) == 0 || c.closed {
		c.mu.Unlock()
		go c.write(batch, 0) // much at a time, or the end
		return false
	}
	c.mu.Unlock()
	n, whole, err := c.sock.writeNow(batch)
	switch {
	case err != nil:
		go c.writeFailed(err)
		return false
	case !whole:
		c.srv.metrics.written(0, n, 1)
		go c.write(batch, n)
		return false
	}
	c.srv.metrics.written(len(batch), n, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.done(batch)
	if !c.closed && len(c.out.queue) > 0 {
		return true
	}
	if !c.closed && c.leaving {
		go c.write(nil, 0)
		return false
	}
	c.out.writing = false
	return false
}

// write empties the queue into the WebSocket, and ends when there is no more. Before it, it writes batch, of which skip bytes have been written.
func (c *Conn) write(batch []*Message, skip int) {
	c.mu.Lock()
	for skip > 0 || !c.closed && (len(batch) > 0 || len(c.out.queue) > 0) { // half a frame is finished even at the end
		if len(batch) == 0 {
			batch, c.out.queue = c.out.queue, batch
		}
		c.mu.Unlock()
		writes, bytes, err := c.sock.write(batch, skip)
		if err != nil {
			c.writeFailed(err)
			return
		}
		c.srv.metrics.written(len(batch), bytes, writes)
		c.mu.Lock()
		c.out.done(batch)
		clear(batch)
		batch, skip = batch[:0], 0
	}
	c.out.writing = false
	if len(c.out.queue) == 0 {
		c.out.queue = nil
	}
	c.out.wakeAll()
	gone := c.leaving && !c.closed
	c.mu.Unlock()
	if gone {
		c.end(ReasonServerDisconnect)
	}
}

// writeFailed ends the connection. What was not written may have reached the client in part, so nothing more can be sent.
func (c *Conn) writeFailed(err error) {
	reason := ReasonTransportClose
	if isTimeout(err) {
		reason = ReasonWriteTimeout
	}
	c.end(reason) // before the reading goroutine sees the end, and gives it another reason
	c.sock.kill()
	c.mu.Lock()
	c.out.writing = false
	c.out.wakeAll()
	c.mu.Unlock()
}
