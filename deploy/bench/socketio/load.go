package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// wire is the protocol a peer speaks.
type wire int

const (
	eio4 wire = iota
	eio3
	centri
)

func (w wire) path() string {
	switch w {
	case eio3:
		return "/socket.io/?EIO=3&transport=websocket"
	case centri:
		return "/socket.io/"
	}
	return "/socket.io/?EIO=4&transport=websocket"
}

// conn is a viewer: a WebSocket client that does as little as can be done, so that the generator is not what is measured.
type conn struct {
	nc   net.Conn
	in   *bufio.Reader
	wire wire
}

// patience is how long a peer may take over one step of a handshake.
const patience = 5 * time.Second

// openAgain is open with three more tries, for peers that lose a handshake now and then; failed counts what it took.
func openAgain(addr string, w wire, buffer int, failed *atomic.Int64) (c *conn, err error) {
	for range 4 {
		if c, err = open(addr, w, buffer); err == nil {
			return c, nil
		}
		failed.Add(1)
	}
	return nil, err
}

// open connects and waits until the peer has let us in.
func open(addr string, w wire, buffer int) (*conn, error) {
	return openBy(new(net.Dialer), addr, w, buffer)
}

// openLazy is open for a viewer that is not going to read: its kernel takes next to nothing for it.
func openLazy(addr string, w wire) (*conn, error) {
	d := &net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		})
		return errors.Join(err, failed)
	}}
	return openBy(d, addr, w, 256)
}

func openBy(d *net.Dialer, addr string, w wire, buffer int) (*conn, error) {
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, in: bufio.NewReaderSize(nc, buffer), wire: w}
	if err := c.enter(addr, w.path()); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) enter(addr, path string) error {
	if err := c.upgrade(addr, path); err != nil {
		return err
	}
	if c.wire == centri {
		if err := c.send(`{"id":1,"connect":{}}`); err != nil {
			return err
		}
		return c.await(`"connect"`)
	}
	if err := c.await("0{"); err != nil {
		return err
	}
	if c.wire == eio4 {
		if err := c.send("40"); err != nil {
			return err
		}
	}
	return c.await("40")
}

// upgrade makes the connection a WebSocket.
func (c *conn) upgrade(addr, path string) error {
	key := make([]byte, 16)
	_, _ = rand.Read(key) // never fails
	_, err := fmt.Fprintf(c.nc, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		path, addr, base64.StdEncoding.EncodeToString(key))
	if err != nil {
		return err
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	defer func() { _ = c.nc.SetReadDeadline(time.Time{}) }()
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %s", res.Status)
	}
	return nil
}

func (c *conn) await(prefix string) error {
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	defer func() { _ = c.nc.SetReadDeadline(time.Time{}) }()
	for {
		p, err := c.frame()
		if err != nil {
			return err
		}
		if bytes.HasPrefix(p, []byte(prefix)) || c.wire == centri && bytes.Contains(p, []byte(prefix)) {
			return nil
		}
	}
}

func (c *conn) send(text string) error {
	b := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...) // a mask of zeros is a mask
	_, err := c.nc.Write(b)
	return err
}

// frame gives the payload of the next text frame. It is good until the next call.
func (c *conn) frame() ([]byte, error) {
	for {
		h, err := c.in.Peek(2)
		if err != nil {
			return nil, err
		}
		op, n, skip := h[0]&15, int(h[1]&127), 2
		switch n {
		case 126:
			if h, err = c.in.Peek(4); err != nil {
				return nil, err
			}
			n, skip = int(binary.BigEndian.Uint16(h[2:])), 4
		case 127:
			if h, err = c.in.Peek(10); err != nil {
				return nil, err
			}
			n, skip = int(binary.BigEndian.Uint64(h[2:])), 10
		}
		_, _ = c.in.Discard(skip) // peeked
		p, err := c.take(n)
		if err != nil {
			return nil, err
		}
		if op == 8 {
			return nil, io.EOF
		}
		if op == 1 {
			return p, nil
		}
	}
}

// take gives the next n bytes, without a copy where they fit into the buffer.
func (c *conn) take(n int) ([]byte, error) {
	if n > c.in.Size() {
		p := make([]byte, n)
		_, err := io.ReadFull(c.in, p)
		return p, err
	}
	p, err := c.in.Peek(n)
	if err == nil {
		_, _ = c.in.Discard(n) // peeked
	}
	return p, err
}

// crowd is a number of viewers and what they have received.
type crowd struct {
	conns []*conn
	got   atomic.Int64
	lost  atomic.Int64 // viewers whose connection broke

	failed atomic.Int64              // handshakes that had to be tried again
	late   atomic.Pointer[latencies] // where times from emit to receipt are counted; nil: nowhere
	wg     sync.WaitGroup
}

// gather connects n viewers, 50 at a time, and lets them read.
func gather(addr string, w wire, n, buffer int) (*crowd, error) {
	c := &crowd{conns: make([]*conn, n)}
	errs := make(chan error, n)
	slots := make(chan struct{}, 50)
	for i := range n {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			v, err := openAgain(addr, w, buffer, &c.failed)
			c.conns[i] = v
			errs <- err
		}()
	}
	var failed error
	for range n {
		failed = errors.Join(failed, <-errs)
	}
	if failed != nil {
		c.close()
		return nil, failed
	}
	for _, v := range c.conns {
		c.wg.Add(1)
		go c.read(v)
	}
	return c, nil
}

func (c *crowd) close() {
	for _, v := range c.conns {
		if v != nil {
			v.nc.Close()
		}
	}
	c.wg.Wait()
}

// read counts a viewer's events until its connection ends.
func (c *crowd) read(v *conn) {
	defer c.wg.Done()
	for {
		p, err := v.frame()
		if err != nil {
			c.lost.Add(1)
			return
		}
		late := c.late.Load()
		if v.wire == centri {
			n := bytes.Count(p, []byte(`"pub"`))
			if n == 0 && string(bytes.TrimSpace(p)) == "{}" {
				_ = v.send("{}")
				continue
			}
			if late != nil {
				for one := range bytes.SplitSeq(p, []byte("\n")) {
					late.add(one)
				}
			}
			c.got.Add(int64(n))
			continue
		}
		switch {
		case len(p) == 1 && p[0] == '2':
			_ = v.send("3")
		case len(p) > 2 && p[0] == '4' && p[1] == '2':
			if late != nil {
				late.add(p)
			}
			c.got.Add(1)
		}
	}
}

// await waits until want events have come, and says how many did.
func (c *crowd) await(want int64, limit time.Duration) int64 {
	for end := time.Now().Add(limit); c.got.Load() < want && c.lost.Load() == 0 && time.Now().Before(end); {
		time.Sleep(2 * time.Millisecond)
	}
	return c.got.Load()
}

// latencies counts times from emit to receipt in steps of 1/16 octave, from 1 µs.
type latencies struct{ steps [512]atomic.Int64 }

// merge adds what o has counted.
func (l *latencies) merge(o *latencies) {
	for i := range l.steps {
		l.steps[i].Add(o.steps[i].Load())
	}
}

func (l *latencies) add(event []byte) {
	i := bytes.Index(event, []byte(`"t":"`))
	if i < 0 {
		return
	}
	rest := event[i+5:]
	j := bytes.IndexByte(rest, '"')
	if j < 0 {
		return
	}
	at, err := strconv.ParseInt(string(rest[:j]), 10, 64)
	if err != nil {
		return
	}
	l.steps[step(time.Since(time.Unix(0, at)))].Add(1)
}

func step(d time.Duration) int {
	us := max(1, int(d/time.Microsecond))
	octave := 0
	for us>>octave > 31 {
		octave++
	}
	return min(511, octave*16+us>>octave)
}

// quantile gives the upper edge of the step in which the quantile lies.
func (l *latencies) quantile(q float64) time.Duration {
	var total int64
	for i := range l.steps {
		total += l.steps[i].Load()
	}
	want := int64(q * float64(total))
	for i := range l.steps {
		if want -= l.steps[i].Load(); want < 0 {
			octave := max(0, i/16-1)
			return time.Duration((i-octave*16)<<octave) * time.Microsecond
		}
	}
	return 0
}

// pollThenUpgrade goes the way of a client with default transports: handshake and CONNECT by polling, then the change to WebSocket.
func pollThenUpgrade(client *http.Client, addr string, w wire) (*conn, error) {
	eio := "4"
	if w == eio3 {
		eio = "3"
	}
	base := "http://" + addr + "/socket.io/?EIO=" + eio + "&transport=polling"
	text, err := fetch(client.Get(base))
	if err != nil {
		return nil, err
	}
	i := strings.Index(text, `"sid":"`)
	if i < 0 {
		return nil, fmt.Errorf("handshake: %q", text)
	}
	sid, _, _ := strings.Cut(text[i+7:], `"`)
	base += "&sid=" + sid
	if w == eio4 {
		if _, err := fetch(client.Post(base, "text/plain;charset=UTF-8", strings.NewReader("40"))); err != nil {
			return nil, err
		}
	}
	if w == eio4 || !strings.Contains(text, "2:40") {
		if text, err = fetch(client.Get(base)); err != nil {
			return nil, err
		}
		if !strings.Contains(text, "40") {
			return nil, fmt.Errorf("CONNECT: %q", text)
		}
	}
	poll := make(chan error, 1)
	go func() { _, err := fetch(client.Get(base)); poll <- err }()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, in: bufio.NewReaderSize(nc, 1024), wire: w}
	if err := errors.Join(c.upgrade(addr, "/socket.io/?EIO="+eio+"&transport=websocket&sid="+sid), c.send("2probe"), c.await("3probe"), <-poll, c.send("5")); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func fetch(res *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", res.Status, b)
	}
	return string(b), err
}
