package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Client is a connection to a server. Safe for concurrent use.
type Client struct {
	ws                *websocket.Conn
	log               *slog.Logger
	max               int
	eio               int
	interval, timeout time.Duration

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	began  time.Time
	heard  atomic.Int64 // nanoseconds since began, by the clock that nobody sets
	busy   atomic.Bool
	writer chan struct{} // one slot: whoever holds it writes
	ready  chan struct{} // closed by the first OnEvent
	left   chan struct{} // closed when reading has ended

	mu      sync.Mutex // guards what follows
	handler func(*Event)
	err     error
	acks    map[uint64]func([]json.RawMessage)
	nextAck uint64
}

func newClient(ws *websocket.Conn, cfg DialConfig) *Client {
	c := &Client{
		ws: ws, log: cfg.Log, max: cfg.MaxMessage, began: time.Now(),
		writer: make(chan struct{}, 1), ready: make(chan struct{}), left: make(chan struct{}),
		acks: make(map[uint64]func([]json.RawMessage)),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.hear()
	return c
}

func (c *Client) hear() { c.heard.Store(int64(time.Since(c.began))) }

// OnEvent sets what is called for each event, in order, one at a time; nothing is read while it runs, acknowledgements included. Until it is
// called first, nothing is delivered, and nothing is lost: set it right after Dial.
func (c *Client) OnEvent(fn func(*Event)) {
	c.mu.Lock()
	first := c.handler == nil
	c.handler = fn
	c.mu.Unlock()
	if first && fn != nil {
		close(c.ready)
	}
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.ctx.Done() }

// Err tells why the connection ended: ErrServerDisconnect when the server said go, ErrClosed after Close; nil while it lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// LastHeard is when the last packet of any kind came. It is good for measuring how long ago that was, also when the clock was set meanwhile.
func (c *Client) LastHeard() time.Time { return c.began.Add(time.Duration(c.heard.Load())) }

// Emit sends an event. It returns when the event has been handed to the network. If ctx ends in the middle of that, the connection ends.
func (c *Client) Emit(ctx context.Context, event string, args ...any) error {
	m, err := newPacket("42", event, args)
	if err != nil {
		return err
	}
	return c.write(ctx, m.payload())
}

// EmitAck sends an event and waits for its acknowledgement. An end of ctx while waiting does the connection no harm.
func (c *Client) EmitAck(ctx context.Context, event string, args ...any) ([]json.RawMessage, error) {
	answer := make(chan []json.RawMessage, 1)
	id := c.expect(func(args []json.RawMessage) { answer <- args })
	defer c.forget(id)
	m, err := newPacket("42"+strconv.FormatUint(id, 10), event, args)
	if err != nil {
		return nil, err
	}
	if err := c.write(ctx, m.payload()); err != nil {
		return nil, err
	}
	select {
	case args := <-answer:
		return args, nil
	case <-c.ctx.Done():
		return nil, c.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// EmitFunc sends an event with one argument, which is valid JSON and is not checked, and does not wait for its acknowledgement: that calls fn, by the
// goroutine that reads the connection, so fn must return at once. fn is not called when the connection ends first. Several calls by one goroutine are sent in
// their order, so many events may be under way at a time.
func (c *Client) EmitFunc(ctx context.Context, event string, arg json.RawMessage, fn func(args []json.RawMessage)) error {
	id := c.expect(fn)
	name := quote(event)
	text := make([]byte, 0, len(name)+len(arg)+32)
	text = append(text, "42"...)
	text = strconv.AppendUint(text, id, 10)
	text = append(text, '[')
	text = append(text, name...)
	text = append(text, ',')
	text = append(text, arg...)
	text = append(text, ']')
	if err := c.write(ctx, text); err != nil {
		c.forget(id)
		return err
	}
	return nil
}

func (c *Client) expect(fn func([]json.RawMessage)) (id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id = c.nextAck
	c.nextAck++
	c.acks[id] = fn
	return id
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.acks, id)
}

// write writes one text message, when its turn has come.
func (c *Client) write(ctx context.Context, text []byte) error {
	select {
	case c.writer <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return c.Err()
	}
	defer func() { <-c.writer }()
	if c.ctx.Err() != nil {
		return c.Err()
	}
	// A message half written cannot be taken back: the connection ends with it.
	_ = c.ws.SetWriteDeadline(time.Now().Add(clientWriteTimeout)) // never fails (gorilla)
	stop := context.AfterFunc(ctx, func() { _ = c.ws.NetConn().SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.ws.WriteMessage(websocket.TextMessage, text); err != nil {
		err = fmt.Errorf("write: %w", err)
		c.end(err)
		return err
	}
	return nil
}

// end closes the connection, once; err tells why.
func (c *Client) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.cancel()
	_ = c.ws.NetConn().Close() // a second close changes nothing
}

// Close says goodbye, waits a moment for the server to have taken it, and ends the connection. It returns when no handler runs any more,
// unless it is called by one.
func (c *Client) Close() error {
	c.mu.Lock()
	ended := c.err != nil
	if !ended {
		c.err = ErrClosed
	}
	c.mu.Unlock()
	if ended {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	select {
	case c.writer <- struct{}{}:
		_ = c.ws.SetWriteDeadline(time.Now().Add(2 * time.Second)) // never fails (gorilla)
		if err := c.ws.WriteMessage(websocket.TextMessage, []byte("41")); err == nil {
			_ = c.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
		}
		<-c.writer
	case <-ctx.Done():
	}
	if !c.busy.Load() {
		select {
		case <-c.left: // the server has closed, so it has read everything
		case <-ctx.Done():
		}
	}
	c.end(ErrClosed)
	return nil
}

// nextText reads the next text message during the handshake.
func (c *Client) nextText() ([]byte, error) {
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		return nil, fmt.Errorf("%w: binary message", errMalformed)
	}
	return readUpTo(r, make([]byte, 512), c.max)
}

// read reads until the connection ends.
func (c *Client) read() {
	defer close(c.left)
	var err error
	buf := make([]byte, 4096)
	var part *partial
	for err == nil {
		var kind int
		var r io.Reader
		if kind, r, err = c.ws.NextReader(); err != nil {
			break
		}
		var data []byte
		if data, err = readUpTo(r, buf, c.max); err != nil {
			break
		}
		if cap(data) <= 256<<10 && cap(data) > cap(buf) {
			buf = data[:cap(data)]
		}
		c.hear()
		part, err = c.receive(kind == websocket.TextMessage, data, part)
	}
	c.end(fmt.Errorf("read: %w", err))
}

// receive handles one message; it gives back what still waits for attachments.
func (c *Client) receive(text bool, data []byte, part *partial) (*partial, error) {
	if len(data) == 0 {
		return part, nil
	}
	if !text {
		if c.eio == 3 {
			data = data[1:]
		}
		if part == nil {
			return nil, fmt.Errorf("%w: attachment of nothing", errMalformed)
		}
		part.bins = append(part.bins, slices.Clone(data))
		part.size += len(data)
		if part.size > c.max {
			return nil, errTooLarge
		}
		if len(part.bins) < part.packet.attachments {
			return part, nil
		}
		return nil, c.whole(part.packet, part.bins)
	}
	switch data[0] {
	case pktPing:
		return part, c.write(c.ctx, append([]byte{pktPong}, data[1:]...))
	case pktClose:
		return nil, errors.New("server closed the transport")
	case pktMessage:
	default:
		return part, nil
	}
	p, err := parsePacket(data[1:], 1024)
	if err != nil {
		return nil, err
	}
	if p.attachments > 0 {
		p.body = slices.Clone(p.body)
		return &partial{packet: p, size: len(data)}, nil
	}
	return part, c.whole(p, nil)
}

func (c *Client) whole(p packet, bins [][]byte) error {
	if p.namespace != "/" {
		return nil
	}
	switch p.kind {
	case kindDisconnect:
		c.end(ErrServerDisconnect)
		return ErrServerDisconnect
	case kindEvent, kindBinaryEvent:
		return c.event(p, bins)
	case kindAck, kindBinaryAck:
		args, err := splitArray(p.body)
		if err != nil {
			return err
		}
		c.mu.Lock()
		answer := c.acks[p.id]
		delete(c.acks, p.id)
		c.mu.Unlock()
		if answer != nil {
			answer(args)
		}
	}
	return nil
}

func (c *Client) event(p packet, bins [][]byte) error {
	name, args, err := splitEvent(p.body)
	if err != nil {
		return err
	}
	e := &Event{Name: name, Args: args, Bins: bins, id: p.id}
	if p.hasID {
		e.reply = func(m *Message) error { return c.write(c.ctx, m.payload()) }
	}
	select {
	case <-c.ready:
	case <-c.ctx.Done():
		return c.Err()
	}
	c.mu.Lock()
	fn := c.handler
	c.mu.Unlock()
	if fn == nil {
		return nil
	}
	c.busy.Store(true)
	fn(e)
	c.hear()
	c.busy.Store(false)
	return nil
}

// heartbeat pings where that is the client's part (Engine.IO 3), and ends a connection on which nothing comes any more.
func (c *Client) heartbeat() {
	every := c.interval
	if c.eio == 4 {
		every = min(c.interval, c.timeout)
	}
	t := time.NewTicker(max(every/2, 10*time.Millisecond))
	defer t.Stop()
	pinged := time.Now()
	for {
		select {
		case <-c.ctx.Done():
			return
		case now := <-t.C:
			waiting := false
			select {
			case <-c.ready:
			default:
				waiting = true
			}
			if !waiting && !c.busy.Load() && now.Sub(c.LastHeard()) > c.interval+c.timeout {
				c.end(errors.New("ping timeout"))
				return
			}
			if c.eio == 3 && now.Sub(pinged) >= c.interval {
				pinged = now
				if c.write(c.ctx, []byte{pktPing}) != nil {
					return
				}
			}
		}
	}
}
