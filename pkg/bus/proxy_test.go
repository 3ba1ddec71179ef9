package bus

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// proxy stands between a client and a server, and looks at each protocol message that passes: a filter lets it through, swallows it,
// holds it back until told, or cuts the connection.
type proxy struct {
	t      testing.TB
	l      net.Listener
	target string
	wg     sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	filter  func(msg) verdict
	refuse  bool
	stopped bool
}

// msg is one PUB/HPUB (up) or MSG/HMSG (down).
type msg struct {
	up            bool
	subject, text string // text: header and payload
}

// verdict says what becomes of a message.
type verdict struct {
	drop bool
	cut  bool            // cut the connection instead of passing it on
	cutB bool            // pass it on, then cut the connection
	hold <-chan struct{} // pass it on, and all that follows, when this is closed
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, l: l, target: strings.TrimPrefix(target, "nats://"), conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.stop)
	return p
}

func (p *proxy) url() string { return "nats://" + p.l.Addr().String() }

// set replaces the filter; nil lets all through.
func (p *proxy) set(f func(msg) verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filter = f
}

// cut ends all connections; refuse keeps new ones out until it is called with false.
func (p *proxy) cut(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) stop() {
	p.l.Close()
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cut(true)
	p.wg.Wait()
}

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.target)
		p.mu.Lock()
		if err != nil || p.refuse || p.stopped {
			c.Close()
			if s != nil {
				s.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.conns[c], p.conns[s] = struct{}{}, struct{}{}
		p.mu.Unlock()
		both := func() { c.Close(); s.Close() }
		p.wg.Go(func() { defer both(); p.pass(c, s, true) })
		p.wg.Go(func() { defer both(); p.pass(s, c, false) })
	}
}

// pass copies the NATS protocol message by message.
func (p *proxy) pass(from, to net.Conn, up bool) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
		delete(p.conns, to)
	}()
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		f := strings.Fields(string(line))
		var v verdict
		if len(f) > 0 && (f[0] == "PUB" || f[0] == "HPUB" || f[0] == "MSG" || f[0] == "HMSG") {
			n, err := strconv.Atoi(f[len(f)-1])
			if err != nil {
				p.t.Errorf("proxy: %q", line)
				return
			}
			body := make([]byte, n+2)
			if _, err := io.ReadFull(r, body); err != nil {
				return
			}
			line = append(line, body...)
			p.mu.Lock()
			filter := p.filter
			p.mu.Unlock()
			if filter != nil {
				v = filter(msg{up: up, subject: f[1], text: string(body)})
			}
		}
		if v.hold != nil {
			<-v.hold
		}
		if v.cut {
			return
		}
		if v.drop {
			continue
		}
		if _, err := to.Write(line); err != nil {
			return
		}
		if v.cutB {
			return
		}
	}
}

func (m msg) String() string { return fmt.Sprintf("up=%v %s %q", m.up, m.subject, m.text) }

// chunkOf tells whether a message is the publishing of a chunk whose payload contains text.
func (m msg) chunkOf(text string) bool {
	return m.up && strings.HasPrefix(m.subject, prefixIn) && bytes.Contains([]byte(m.text), []byte(text))
}

// ack tells whether a message is a PubAck of the log.
func (m msg) ack() bool {
	return !m.up && strings.Contains(m.text, `"stream":"`+logStream+`"`) && strings.Contains(m.text, `"seq":`)
}
