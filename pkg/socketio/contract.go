package socketio

// CONTRACT: signatures other parts are written against. The owner of this package replaces this file by the real ones;
// names and meanings stay unless told otherwise.

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Config of a Server; the zero value of each field means its default.
type Config struct {
	Name           string        // begins every session id: Name + "." + random; [A-Za-z0-9_-]+
	PingInterval   time.Duration // 25 s
	PingTimeout    time.Duration // 60 s
	MaxMessage     int           // bytes of one message, 4 MiB
	MaxAttachments int
	MaxConns       int
	WriteTimeout   time.Duration // a connection that takes nothing for so long is closed, 30 s
	ConnectTimeout time.Duration // time without CONNECT (Engine.IO 4)
	Origins        []string      // allowed Origin values; empty: any (tokens, not cookies, authenticate)
	Log            *slog.Logger
	Metrics        Metrics // callbacks; this package imports no metrics library
	// Peer gives the base URL of the process that owns session ids beginning with name; ok false: refuse. nil: no forwarding.
	Peer func(name string) (base string, ok bool)
	// … the owner adds the other limits
}

// Metrics is what a Server tells about itself; nil functions are skipped. The owner decides its fields.
type Metrics struct{}

// Server is a Socket.IO server for clients 1.x to 4.x; an http.Handler for its path (default /socket.io/).
type Server struct{}

// NewServer: accept is called once for each connection to the default namespace, before any of its events is delivered.
func NewServer(cfg Config, accept func(*Conn)) (*Server, error)    { panic("contract") }
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("contract") }
func (s *Server) Shutdown(ctx context.Context) error               { panic("contract") } // refuses new ones, closes all (clients see a transport close, and reconnect elsewhere)

// Conn is one client's connection. All methods are safe for concurrent use.
type Conn struct{}

func (c *Conn) ID() string               { panic("contract") }
func (c *Conn) Info() Info               { panic("contract") }
func (c *Conn) Context() context.Context { panic("contract") } // ends when the connection does

type Info struct {
	EIO       int    // 3 or 4
	Transport string // polling or websocket, now
	Remote    string // address, from X-Forwarded-For only if trusted
	Header    http.Header
	Query     url.Values
}

// OnEvent sets what is called for each event, in order, one at a time. While it runs nothing more is read from the connection
// (that is the back-pressure), and heartbeats go on: the peer is kept alive and the own deadline is suspended.
// It may be called again at any time, also from within fn; it takes effect from the next event on. A panic in fn ends this connection only.
func (c *Conn) OnEvent(fn func(*Event)) { panic("contract") }

// OnClose sets what is called once, after the last OnEvent call has returned. reason is one of a fixed set.
func (c *Conn) OnClose(fn func(reason string)) { panic("contract") }

type Event struct {
	Name string
	Args []json.RawMessage // binary attachments appear as {"_placeholder":true,"num":i}
	Bins [][]byte
}

func (e *Event) WantsAck() bool        { panic("contract") }
func (e *Event) Ack(args ...any) error { panic("contract") } // at most once; may be called later, from any goroutine

// Message is an event ready to be sent to many connections; it is encoded once per protocol flavour. Immutable.
type Message struct{}

func NewMessage(event string, args ...any) (*Message, error)   { panic("contract") }
func NewRawMessage(event string, arg json.RawMessage) *Message { panic("contract") } // arg is valid JSON, not checked

var (
	ErrClosed     = errors.New("connection is closed")
	ErrWouldBlock = errors.New("connection's send buffer is full")
)

// Send hands m to the connection. It blocks while the connection's bounded buffer is full, until ctx ends or the connection closes.
func (c *Conn) Send(ctx context.Context, m *Message) error { panic("contract") }
func (c *Conn) TrySend(m *Message) error                   { panic("contract") } // or ErrWouldBlock, at once

// SendAll hands over many at once: one lock, one write where possible. It blocks as Send does. n is how many were taken.
func (c *Conn) SendAll(ctx context.Context, ms []*Message) (n int, err error) { panic("contract") }
func (c *Conn) Emit(ctx context.Context, event string, args ...any) error     { panic("contract") }

// EmitAck sends and waits for the client's acknowledgement.
func (c *Conn) EmitAck(ctx context.Context, event string, args ...any) ([]json.RawMessage, error) {
	panic("contract")
}

// Flush returns when all that was sent before has been written to the transport.
func (c *Conn) Flush(ctx context.Context) error { panic("contract") }

// Disconnect tells the client to go and not to come back ("io server disconnect"), after what was sent before; the connection is then closed.
func (c *Conn) Disconnect() { panic("contract") }

// Close ends the transport only: clients reconnect.
func (c *Conn) Close(reason string) { panic("contract") }

// --- the client, as tt uses it (WebSocket only, Engine.IO 4, falling back to 3 where the server speaks only that)

type DialConfig struct {
	URL        string // ws, wss, http or https; a path is a prefix before /socket.io/
	TLS        *tls.Config
	Header     http.Header
	Proxy      func(*http.Request) (*url.URL, error) // http.ProxyFromEnvironment by default
	MaxMessage int
	Log        *slog.Logger
}

// Dial connects once, default namespace included.
func Dial(ctx context.Context, cfg DialConfig) (*Client, error) { panic("contract") }

// Client is a connection to a server. Safe for concurrent use.
type Client struct{}

func (c *Client) OnEvent(fn func(*Event))                                   { panic("contract") } // as Conn's; set it right after Dial, nothing is lost before
func (c *Client) Emit(ctx context.Context, event string, args ...any) error { panic("contract") }
func (c *Client) EmitAck(ctx context.Context, event string, args ...any) ([]json.RawMessage, error) {
	panic("contract")
}
func (c *Client) Done() <-chan struct{} { panic("contract") }
func (c *Client) Err() error            { panic("contract") } // why it ended; ErrServerDisconnect when the server said go
func (c *Client) LastHeard() time.Time  { panic("contract") } // when the last packet of any kind came
func (c *Client) Close() error          { panic("contract") } // says goodbye first

var ErrServerDisconnect = errors.New("server ended the connection")

// Redial keeps a connection: it dials, calls use with it, and when use returns (or dialling fails) waits (exponential, full jitter) and dials again, until ctx ends
// or use returns an error that wraps ErrStop.
func Redial(ctx context.Context, cfg DialConfig, b Backoff, use func(context.Context, *Client) error) error {
	panic("contract")
}

type Backoff struct{ Min, Max time.Duration }

var ErrStop = errors.New("stop redialling")
