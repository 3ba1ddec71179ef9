package stage

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"tasktracer/deploy/e2e/clients"
)

// Peers is a node process with Socket.IO clients in it, driven from here.
type Peers struct {
	t  testing.TB
	in io.Writer

	mu    sync.Mutex
	peers map[string]*Peer
	next  int
}

// NewPeers starts one.
func NewPeers(t testing.TB) *Peers {
	t.Helper()
	clients.Install(t)
	cmd := exec.Command("node", "peers.js")
	cmd.Dir = clients.Dir()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Peers{t: t, in: in, peers: map[string]*Peer{}}
	read := make(chan struct{})
	go func() { defer close(read); p.read(out) }()
	t.Cleanup(func() {
		_ = in.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("node peers.js: %v\n%s", err, errs.String())
		}
	})
	return p
}

func (p *Peers) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		var m struct {
			ID    string
			Event string
			Args  []json.RawMessage
		}
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			p.t.Errorf("peers.js printed %.200q: %v", s.Text(), err)
			continue
		}
		p.mu.Lock()
		peer := p.peers[m.ID]
		p.mu.Unlock()
		e := Event{Name: m.Event}
		if len(m.Args) > 0 {
			e.Arg = m.Args[0]
		}
		peer.add(e)
	}
}

func (p *Peers) send(m map[string]any) {
	p.t.Helper()
	line, err := json.Marshal(m)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintf(p.in, "%s\n", line); err != nil {
		p.t.Fatalf("peers.js: %v", err)
	}
}

// Event is something a peer heard. Its own doings begin with a colon: ":connect", ":disconnect", ":error".
type Event struct {
	Name string
	Arg  json.RawMessage
}

// String is for messages and comparisons.
func (e Event) String() string { return e.Name + " " + string(e.Arg) }

// Peer is one client.
type Peer struct {
	all   *Peers
	id    string
	Alias string

	mu     sync.Mutex
	events []Event
	more   chan struct{} // closed and replaced with each event
	read   int           // up to where Hear has come
}

// Connect makes a client of a generation (sio1 to sio4) and lets it connect; nil options are the library's defaults.
func (p *Peers) Connect(alias, url string, options map[string]any) *Peer {
	p.t.Helper()
	p.mu.Lock()
	p.next++
	c := &Peer{all: p, id: fmt.Sprint(p.next), Alias: alias, more: make(chan struct{})}
	p.peers[c.id] = c
	p.mu.Unlock()
	p.send(map[string]any{"op": "connect", "id": c.id, "alias": alias, "url": url, "options": options})
	return c
}

func (c *Peer) add(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
	close(c.more)
	c.more = make(chan struct{})
}

// Emit sends an event.
func (c *Peer) Emit(event string, args ...any) {
	c.all.t.Helper()
	c.all.send(map[string]any{"op": "emit", "id": c.id, "event": event, "args": args})
}

// Close leaves.
func (c *Peer) Close() { c.all.send(map[string]any{"op": "close", "id": c.id}) }

// hearWithin bounds every wait for an event.
const hearWithin = 60 * time.Second

// Hear waits for the next event of that name behind what was heard before, and returns its argument.
func (c *Peer) Hear(name string) json.RawMessage {
	c.all.t.Helper()
	return c.HearThat(name, func(json.RawMessage) bool { return true })
}

// HearThat waits for the next event of that name for whose argument ok holds.
func (c *Peer) HearThat(name string, ok func(json.RawMessage) bool) json.RawMessage {
	c.all.t.Helper()
	give := time.After(hearWithin)
	for {
		c.mu.Lock()
		more := c.more
		for c.read < len(c.events) {
			e := c.events[c.read]
			c.read++
			if e.Name == name && ok(e.Arg) {
				c.mu.Unlock()
				return e.Arg
			}
		}
		c.mu.Unlock()
		select {
		case <-more:
		case <-give:
			c.all.t.Fatalf("%s heard no %s; the last it heard: %.2000v", c.Alias, name, c.last(20))
		}
	}
}

func (c *Peer) last(n int) []Event {
	all := c.Events()
	return all[max(0, len(all)-n):]
}

// Events are all events so far.
func (c *Peer) Events() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Event(nil), c.events...)
}
