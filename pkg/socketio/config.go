package socketio

import (
	"fmt"
	"log/slog"
	"regexp"
	"time"
)

// Config of a Server; the zero value of each field means its default.
type Config struct {
	Name           string        // begins every session id: Name + "." + random; 1 to 64 of [A-Za-z0-9_-]; "s"
	PingInterval   time.Duration // between two heartbeats, 25 s
	PingTimeout    time.Duration // a peer not heard of for PingInterval + PingTimeout is gone, 60 s
	MaxMessage     int           // bytes of one message, its attachments included, 4 MiB
	MaxBody        int           // bytes of one polling request, 16 MiB: older clients send all they have queued in one
	MaxPackets     int           // packets in one polling request, 20,000
	MaxAttachments int           // binary attachments of one message, 64
	MaxConns       int           // connections in all, 20,000
	MaxUnacked     int           // EmitAck calls waiting on one connection, 1,024
	SendBuffer     int           // bytes accepted for one connection and not yet written, 128 KiB; a single larger message is taken when nothing else waits
	WriteTimeout   time.Duration // a connection that takes nothing for so long is closed, 30 s
	ConnectTimeout time.Duration // time without CONNECT (Engine.IO 4), 10 s
	UpgradeTimeout time.Duration // from the probe to the change of transport, while no handler is busy, 10 s
	Linger         time.Duration // a client that was told to go may close by itself for so long, 2 s
	BodyTimeout    time.Duration // a polling request must have been received after so long, 60 s

	HandshakeRate  float64 // handshakes per second and address (an IPv6 address counts by its /64), 500; negative: no limit
	HandshakeBurst int     // handshakes an address may make at once, 2,000

	Origins        []string // allowed Origin values; empty: any (tokens, not cookies, authenticate)
	TrustedProxies int      // how many proxies in front append to X-Forwarded-For; 0: the header is not believed
	Compress       bool     // permessage-deflate for clients that ask for it, for messages of 1 KiB and more; costs about 6 times the CPU on small frames

	Log     *slog.Logger
	Metrics Metrics // callbacks; this package imports no metrics library

	// Peer gives the base URL of the process that owns session ids beginning with name; ok false: refuse. nil: no forwarding.
	Peer func(name string) (base string, ok bool)
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (c Config) withDefaults() (Config, error) {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if c.Name == "" {
		c.Name = "s"
	}
	wait(&c.PingInterval, 25*time.Second)
	wait(&c.PingTimeout, 60*time.Second)
	wait(&c.WriteTimeout, 30*time.Second)
	wait(&c.ConnectTimeout, 10*time.Second)
	wait(&c.UpgradeTimeout, 10*time.Second)
	wait(&c.Linger, 2*time.Second)
	wait(&c.BodyTimeout, time.Minute)
	set(&c.MaxMessage, 4<<20)
	set(&c.MaxBody, max(16<<20, c.MaxMessage+c.MaxMessage/2))
	set(&c.MaxPackets, 20_000)
	set(&c.MaxAttachments, 64)
	set(&c.MaxConns, 20_000)
	set(&c.MaxUnacked, 1024)
	set(&c.SendBuffer, 128<<10)
	set(&c.HandshakeBurst, 2000)
	if c.HandshakeRate == 0 {
		c.HandshakeRate = 500
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, c.validate()
}

func (c Config) validate() error {
	if !nameForm.MatchString(c.Name) {
		return fmt.Errorf("socketio: name %q: want 1 to 64 of A-Z a-z 0-9 _ -", c.Name)
	}
	for _, v := range []struct {
		what string
		n    int
	}{
		{"MaxMessage", c.MaxMessage}, {"MaxBody", c.MaxBody}, {"MaxPackets", c.MaxPackets}, {"MaxAttachments", c.MaxAttachments},
		{"MaxConns", c.MaxConns}, {"MaxUnacked", c.MaxUnacked}, {"SendBuffer", c.SendBuffer}, {"HandshakeBurst", c.HandshakeBurst},
		{"PingInterval", int(c.PingInterval)}, {"PingTimeout", int(c.PingTimeout)}, {"WriteTimeout", int(c.WriteTimeout)},
		{"ConnectTimeout", int(c.ConnectTimeout)}, {"UpgradeTimeout", int(c.UpgradeTimeout)}, {"Linger", int(c.Linger)}, {"BodyTimeout", int(c.BodyTimeout)},
	} {
		if v.n < 0 {
			return fmt.Errorf("socketio: %s is negative", v.what)
		}
	}
	if c.TrustedProxies < 0 {
		return fmt.Errorf("socketio: TrustedProxies is negative")
	}
	return nil
}
