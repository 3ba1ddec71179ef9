package socketio

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// errGone ends the reading of a connection that has closed; it is no fault.
var errGone = errors.New("connection has gone")

// partial is a binary message whose attachments are still to come.
type partial struct {
	packet packet
	bins   [][]byte
	size   int
}

// receive handles one Engine.IO packet; the caller holds recv. Text is a whole packet, binary the message alone. data is only read during the call.
func (c *Conn) receive(text bool, data []byte) error {
	if c.isClosed() {
		return errGone
	}
	c.hear()
	if len(data) > c.srv.cfg.MaxMessage {
		return fmt.Errorf("%w: %d bytes", errTooLarge, len(data))
	}
	c.srv.metrics.received(len(data))
	if !text {
		return c.attachment(data)
	}
	if len(data) == 0 {
		return fmt.Errorf("%w: empty", errMalformed)
	}
	switch data[0] {
	case pktMessage:
		return c.message(data[1:])
	case pktPing:
		if c.eio == 3 {
			c.control(c.srv.pong)
		}
		return nil
	case pktPong, pktNoop, pktUpgrade:
		return nil
	case pktClose:
		c.end(ReasonTransportClose)
		return errGone
	default:
		return fmt.Errorf("%w: type %q", errMalformed, data[0])
	}
}

// control queues a packet of the protocol itself. A peer that makes us answer and does not read the answers is not answered any more
// when its buffer is full.
func (c *Conn) control(m *Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && !c.leaving && c.out.fits(m.cost(), c.srv.cfg.SendBuffer) {
		c.push(m)
	}
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed || c.leaving
}

// message handles a Socket.IO packet.
func (c *Conn) message(data []byte) error {
	if c.partial != nil {
		return fmt.Errorf("%w: text where an attachment is due", errMalformed)
	}
	p, err := parsePacket(data, c.srv.cfg.MaxAttachments)
	if err != nil {
		return err
	}
	if p.attachments > 0 {
		p.body = slices.Clone(p.body)
		c.partial = &partial{packet: p, size: len(data)}
		return nil
	}
	return c.whole(p, nil)
}

// attachment takes one of the binary messages that belong to a packet.
func (c *Conn) attachment(data []byte) error {
	p := c.partial
	if p == nil {
		return fmt.Errorf("%w: attachment of nothing", errMalformed)
	}
	p.size += len(data)
	if p.size > c.srv.cfg.MaxMessage {
		return fmt.Errorf("%w: %d bytes with attachments", errTooLarge, p.size)
	}
	p.bins = append(p.bins, slices.Clone(data))
	if len(p.bins) < p.packet.attachments {
		return nil
	}
	c.partial = nil
	return c.whole(p.packet, p.bins)
}

// whole handles a packet that is complete.
func (c *Conn) whole(p packet, bins [][]byte) error {
	if p.namespace != "/" {
		c.refuseNamespace(p)
		return nil
	}
	if p.kind == kindConnect {
		c.connect()
		return nil
	}
	if !c.isConnected() {
		return fmt.Errorf("%w: no CONNECT before it", errMalformed)
	}
	switch p.kind {
	case kindDisconnect:
		c.end(ReasonClientDisconnect)
		return errGone
	case kindEvent, kindBinaryEvent:
		return c.event(p, bins)
	case kindAck, kindBinaryAck:
		return c.acked(p)
	default:
		return fmt.Errorf("%w: kind %q from a client", errMalformed, p.kind)
	}
}

func (c *Conn) isConnected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected
}

// maxNamespace is the longest name of a namespace that is echoed in a refusal.
const maxNamespace = 256

// refuseNamespace answers a CONNECT to a namespace that is not served; anything else for one is ignored.
func (c *Conn) refuseNamespace(p packet) {
	if p.kind != kindConnect || len(p.namespace) > maxNamespace {
		return
	}
	answer := `,{"message":"Invalid namespace"}`
	if c.eio == 3 {
		answer = `,"Invalid namespace"`
	}
	c.control(newText("44" + p.namespace + answer))
}

// connect opens the default namespace, once.
func (c *Conn) connect() {
	c.mu.Lock()
	if c.connected || c.closed {
		c.mu.Unlock()
		return
	}
	c.connected = true
	if c.eio == 4 {
		c.push(newText(`40{"sid":"` + c.id + `"}`))
	} else {
		c.push(c.srv.welcome)
	}
	c.mu.Unlock()
	c.call(func() { c.srv.accept(c) })
}

func (c *Conn) event(p packet, bins [][]byte) error {
	name, args, err := splitEvent(p.body)
	if err != nil {
		return err
	}
	fn := c.handler.Load()
	if fn == nil || *fn == nil {
		return nil
	}
	e := &Event{Name: name, Args: args, Bins: bins, id: p.id}
	if p.hasID {
		e.reply = func(m *Message) error { return c.Send(c.ctx, m) }
	}
	c.call(func() { (*fn)(e) })
	return nil
}

// call runs the caller's code. Until it returns the peer's silence is our doing, and no deadline counts.
func (c *Conn) call(fn func()) {
	c.busy.Store(true)
	defer func() {
		c.hear()
		c.busy.Store(false)
	}()
	c.guard(fn)
}

// acked hands an acknowledgement to the EmitAck that waits for it. One that nobody waits for came too late, and is dropped.
func (c *Conn) acked(p packet) error {
	if !p.hasID {
		return fmt.Errorf("%w: acknowledgement without a number", errMalformed)
	}
	args, err := splitArray(p.body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	answer := c.acks[p.id]
	delete(c.acks, p.id)
	c.mu.Unlock()
	if answer != nil {
		if args == nil {
			args = []json.RawMessage{}
		}
		answer <- args
	}
	return nil
}

// fail ends the connection for what the peer sent.
func (c *Conn) fail(err error) {
	var broken transportError
	switch {
	case errors.Is(err, errGone):
	case errors.As(err, &broken):
		c.end(ReasonTransportClose)
	case errors.Is(err, errTooLarge):
		c.end(ReasonTooLarge)
	default:
		c.srv.log.Debug("peer broke the protocol", "conn", c.id, "remote", c.remote, "err", err)
		c.end(ReasonMalformed)
	}
}
