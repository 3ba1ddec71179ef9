package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"sync"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/socketio"
)

const (
	// wrongDoorLinger lets the answer at the wrong door arrive before the connection ends.
	wrongDoorLinger = time.Second
	// minMessage is the smallest --max-message: a packet of a numbered client holds up to 1 MiB, and what is a little larger is to get an answer, not a
	// closed connection.
	minMessage = 2 << 20
	// Bounds of --send-buffer: below, nothing is joined; above, a gateway's memory would not be what the operating guide reckons with.
	minSendBuffer, maxSendBuffer = 16 << 10, 1 << 20
)

// server is a role behind the door; it takes over the connection's events.
type server interface {
	Serve(c *socketio.Conn, authenticate json.RawMessage)
}

// roles are those served here; a nil one is served at another door.
type roles struct{ ingest, gateway server }

type doorConfig struct {
	Origins             string
	AuthenticateTimeout time.Duration
	Sockets             socketio.Config // what the flags say of it
}

func (c *doorConfig) register(fs *flag.FlagSet) {
	s := &c.Sockets
	fs.StringVar(&c.Origins, "origins", "", "allowed Origin `values` of browsers, with commas between; empty: any, for tokens, not cookies, tell who is who")
	fs.DurationVar(&c.AuthenticateTimeout, "authenticate-timeout", 5*time.Second, "how long a socket may be silent before it sends authenticate; then it is told to go")
	fs.IntVar(&s.MaxConns, "max-connections", 20_000, "largest `number` of Socket.IO connections")
	fs.IntVar(&s.MaxMessage, "max-message", 4<<20, "`bytes` of one Socket.IO message; a larger one ends its connection")
	fs.IntVar(&s.MaxAttachments, "max-attachments", 64, "largest `number` of binary attachments of one message")
	fs.IntVar(&s.MaxBody, "max-body", 0, "`bytes` of one polling request, a larger one ends its connection; 0: 16 MiB, or one and a half of --max-message if that is more")
	fs.IntVar(&s.MaxPackets, "max-packets", 20_000, "largest `number` of packets in one polling request")
	fs.DurationVar(&s.BodyTimeout, "body-timeout", time.Minute, "how long a polling request may take to come in")
	fs.IntVar(&s.SendBuffer, "send-buffer", 128<<10, "`bytes` that wait for one connection; its viewer is served from the log when there are more")
	fs.Float64Var(&s.HandshakeRate, "handshake-rate", 500, "handshakes a second and `address`; behind a proxy set --trusted-proxies too; negative: no limit")
	fs.IntVar(&s.HandshakeBurst, "handshake-burst", 2000, "`handshakes` an address may make at once")
	fs.DurationVar(&s.WriteTimeout, "write-timeout", 30*time.Second, "a connection that takes nothing for so long is closed")
	fs.DurationVar(&s.ConnectTimeout, "connect-timeout", 10*time.Second, "how long a client of generations 3 and 4 may take from the handshake to CONNECT")
	fs.DurationVar(&s.UpgradeTimeout, "upgrade-timeout", 10*time.Second, "how long the change from polling to WebSocket may take; then the session stays on polling")
	fs.DurationVar(&s.PingInterval, "ping-interval", 25*time.Second, "time between two heartbeats")
	fs.DurationVar(&s.PingTimeout, "ping-timeout", time.Minute, "a client not heard of for so long after a heartbeat was due is gone")
	fs.IntVar(&s.TrustedProxies, "trusted-proxies", 0, "`number` of proxies in front whose X-Forwarded-For is believed")
	fs.BoolVar(&s.Compress, "compress", false, "offer permessage-deflate; about 6 times the CPU on small messages")
}

func (c *doorConfig) validate() error {
	s := &c.Sockets
	if s.HandshakeRate == 0 {
		return fmt.Errorf("--handshake-rate 0: nobody could come in")
	}
	if s.SendBuffer > maxSendBuffer {
		return fmt.Errorf("--send-buffer %d: want at most %d", s.SendBuffer, maxSendBuffer)
	}
	if least := s.MaxMessage + s.MaxMessage/2; s.MaxBody != 0 && s.MaxBody < least { // one message, as base64
		return fmt.Errorf("--max-body %d: want at least %d, for a message of --max-message", s.MaxBody, least)
	}
	for _, v := range []struct {
		flag     string
		n, least int
	}{
		{"max-connections", s.MaxConns, 1},
		{"trusted-proxies", s.TrustedProxies, 0},
		{"max-message", s.MaxMessage, minMessage},
		{"max-attachments", s.MaxAttachments, 1},
		{"max-packets", s.MaxPackets, 1},
		{"send-buffer", s.SendBuffer, minSendBuffer},
		{"handshake-burst", s.HandshakeBurst, 1},
	} {
		if v.n < v.least {
			return fmt.Errorf("--%s %d: want at least %d", v.flag, v.n, v.least)
		}
	}
	for _, v := range []struct {
		flag string
		d    time.Duration
	}{
		{"write-timeout", s.WriteTimeout}, {"connect-timeout", s.ConnectTimeout}, {"authenticate-timeout", c.AuthenticateTimeout},
		{"body-timeout", s.BodyTimeout}, {"upgrade-timeout", s.UpgradeTimeout}, {"ping-interval", s.PingInterval}, {"ping-timeout", s.PingTimeout},
	} {
		if v.d < time.Second {
			return fmt.Errorf("--%s %v: want at least 1s", v.flag, v.d)
		}
	}
	return nil
}

// door is where sockets come in, before it is known what they are.
type door struct {
	roles    roles
	patience time.Duration // for authenticate
	metrics  *doorMetrics
	sockets  *socketio.Server
	lingered sync.WaitGroup
}

// openDoor makes the Socket.IO server and mounts it. Requests for a sibling's session are passed to it by the address in its lease.
func openDoor(h *host, cfg doorConfig, r roles, siblings *bus.Processes) (*door, error) {
	d := &door{roles: r, patience: cfg.AuthenticateTimeout, metrics: newDoorMetrics(h.registry)}
	sc := cfg.Sockets
	sc.Name, sc.Origins = h.self.Incarnation, splitList(cfg.Origins)
	sc.Log, sc.Metrics, sc.Peer = h.log, d.metrics.sockets(), peer(siblings)
	sockets, err := socketio.NewServer(sc, d.accept)
	if err != nil {
		return nil, err
	}
	d.sockets = sockets
	h.mux.Handle("/socket.io/", sockets)
	return d, nil
}

// peer finds a sibling by the name that begins a session id. A suspect one is still asked: it may be the log that is silent, not the process.
func peer(siblings *bus.Processes) func(string) (string, bool) {
	return func(name string) (string, bool) {
		p, condition := siblings.Lookup(name)
		return p.Address, condition != bus.Dead && p.Address != ""
	}
}

func splitList(text string) []string {
	var out []string
	for _, s := range strings.Split(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// accept waits for authenticate, and for nothing else; what comes before it is ignored.
func (d *door) accept(c *socketio.Conn) {
	timer := newPatience(d.patience, func() {
		d.metrics.authenticates.WithLabelValues("none", "timeout").Inc()
		c.Disconnect()
	})
	c.OnClose(func(string) { timer.Stop() })
	c.OnEvent(func(e *socketio.Event) {
		if e.Name != "authenticate" || !timer.Stop() {
			return
		}
		var arg json.RawMessage
		if len(e.Args) > 0 {
			arg = e.Args[0]
		}
		d.route(c, arg)
	})
}

// route hands the connection to the role that it asks for. Whoever says nothing at all asks for none, and goes.
func (d *door) route(c *socketio.Conn, authenticate json.RawMessage) {
	if len(authenticate) == 0 {
		d.metrics.authenticates.WithLabelValues("none", "empty").Inc()
		c.Disconnect()
		return
	}
	role, name := d.roles.gateway, "viewer"
	if isClient(authenticate) {
		role, name = d.roles.ingest, "client"
	}
	if role == nil {
		d.metrics.authenticates.WithLabelValues(name, "wrong_endpoint").Inc()
		d.wrongDoor(c, name)
		return
	}
	d.metrics.authenticates.WithLabelValues(name, "routed").Inc()
	role.Serve(c, authenticate)
}

func isClient(authenticate json.RawMessage) bool {
	var m struct {
		Type json.RawMessage `json:"type"`
	}
	return json.Unmarshal(authenticate, &m) == nil && string(m.Type) == `"client"`
}

// wrongDoor says where not to come in, and ends the connection a second later.
func (d *door) wrongDoor(c *socketio.Conn, name string) {
	text := "viewers are not served at this address, use that of the gateway"
	if name == "client" {
		text = "tt is not served at this address, use that of ingest"
	}
	c.OnEvent(func(*socketio.Event) {})
	ctx, cancel := context.WithTimeout(c.Context(), wrongDoorLinger)
	if err := c.Emit(ctx, "authenticated", map[string]string{"error": text, "code": "wrong_endpoint"}); err != nil {
		cancel()
		c.Disconnect()
		return
	}
	d.lingered.Go(func() {
		defer cancel()
		<-ctx.Done()
		c.Disconnect()
	})
}

// Shutdown tells every socket to come back elsewhere.
func (d *door) Shutdown(ctx context.Context) error {
	err := d.sockets.Shutdown(ctx)
	d.lingered.Wait()
	return err
}
