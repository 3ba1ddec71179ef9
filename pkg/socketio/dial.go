package socketio

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// DialConfig says where a server is and how to reach it. WebSocket only; Engine.IO 4, or 3 where the server speaks only that.
type DialConfig struct {
	URL        string // ws, wss, http or https; a path is a prefix before /socket.io/
	TLS        *tls.Config
	Header     http.Header
	Proxy      func(*http.Request) (*url.URL, error) // http.ProxyFromEnvironment by default
	MaxMessage int                                   // bytes of one incoming message, 16 MiB
	Log        *slog.Logger
}

const (
	// handshakeTimeout bounds a Dial whose ctx has no earlier end.
	handshakeTimeout = 30 * time.Second
	// settleTime is how long a server may take to say that it speaks Engine.IO 3: it then sends CONNECT unasked. Servers that
	// announce maxPayload speak 4 for certain, and are not waited for.
	settleTime = 250 * time.Millisecond
	// clientWriteTimeout ends a connection on which a write has not come to an end.
	clientWriteTimeout = 30 * time.Second
)

// Dial connects once, default namespace included. The connection delivers nothing until OnEvent has been called.
func Dial(ctx context.Context, cfg DialConfig) (*Client, error) {
	if cfg.Proxy == nil {
		cfg.Proxy = http.ProxyFromEnvironment
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = 16 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	ws, err := dialWebSocket(ctx, cfg, "4")
	if status := (*statusError)(nil); errors.As(err, &status) && status.code == http.StatusBadRequest {
		ws, err = dialWebSocket(ctx, cfg, "3") // a server of generation 2 that checks the version
	}
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", redacted(cfg.URL), err)
	}
	c := newClient(ws, cfg)
	if err := c.open(ctx); err != nil {
		_ = ws.Close() // the error that led here says more
		return nil, fmt.Errorf("dial %s: %w", redacted(cfg.URL), err)
	}
	go c.read()
	go c.heartbeat()
	return c, nil
}

// statusError is an answer that is not a WebSocket.
type statusError struct {
	code int
	body string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("server answered %d %s %s", e.code, http.StatusText(e.code), e.body)
}

func dialWebSocket(ctx context.Context, cfg DialConfig, eio string) (*websocket.Conn, error) {
	u, err := endpoint(cfg.URL, eio)
	if err != nil {
		return nil, err
	}
	d := websocket.Dialer{Proxy: cfg.Proxy, TLSClientConfig: cfg.TLS, ReadBufferSize: 4096, WriteBufferSize: 32 << 10}
	ws, res, err := d.DialContext(ctx, u, cfg.Header)
	if err == nil {
		return ws, nil
	}
	if res == nil || !errors.Is(err, websocket.ErrBadHandshake) {
		return nil, err
	}
	text := make([]byte, 256)
	n, _ := res.Body.Read(text) // what there is of it
	return nil, &statusError{code: res.StatusCode, body: strings.TrimSpace(string(text[:n]))}
}

// endpoint makes the WebSocket address of a server's base URL.
func endpoint(base, eio string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return "", fmt.Errorf("scheme %q: want ws, wss, http or https", u.Scheme)
	}
	if u.Host == "" {
		return "", errors.New("no host in the URL")
	}
	u.Path = strings.TrimRight(u.Path, "/") + "/socket.io/"
	u.RawPath, u.Fragment = "", ""
	q := u.Query()
	q.Set("EIO", eio)
	q.Set("transport", "websocket")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// redacted is a URL fit for an error message.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "the server"
	}
	u.RawQuery = ""
	return u.Redacted()
}

// open goes through the handshake of Engine.IO and the CONNECT of Socket.IO.
func (c *Client) open(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.ws.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	first, err := c.nextText()
	if err != nil {
		return withCause(ctx, fmt.Errorf("read handshake: %w", err))
	}
	var o opening
	if len(first) == 0 || first[0] != pktOpen || json.Unmarshal(first[1:], &o) != nil || o.PingInterval <= 0 || o.PingTimeout <= 0 {
		return fmt.Errorf("%w: handshake", errMalformed)
	}
	c.interval, c.timeout = time.Duration(o.PingInterval)*time.Millisecond, time.Duration(o.PingTimeout)*time.Millisecond
	c.eio = 4
	asked := false
	ask := func() error {
		asked = true
		return c.write(ctx, []byte("40"))
	}
	if o.MaxPayload != nil {
		if err := ask(); err != nil {
			return err
		}
	}
	return withCause(ctx, c.awaitConnect(ctx, asked, ask))
}

// awaitConnect reads until the server has opened the default namespace.
func (c *Client) awaitConnect(ctx context.Context, asked bool, ask func() error) error {
	type read struct {
		text []byte
		err  error
	}
	// Reading goes on in a goroutine, since a read that has run into its deadline cannot be taken up again.
	reads := make(chan read)
	step := make(chan struct{}, 1)
	defer close(step)
	go func() {
		for range step {
			text, err := c.nextText()
			select {
			case reads <- read{text, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	settle := time.NewTimer(settleTime)
	defer settle.Stop()
	step <- struct{}{}
	for {
		select {
		case <-settle.C:
			if !asked {
				asked = true
				if err := ask(); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		case r := <-reads:
			if r.err != nil {
				return fmt.Errorf("await CONNECT: %w", r.err)
			}
			done, err := c.connectAnswer(ctx, r.text, asked)
			if done || err != nil {
				return err
			}
			step <- struct{}{}
		}
	}
}

// connectAnswer looks at a packet that comes before the default namespace is open.
func (c *Client) connectAnswer(ctx context.Context, text []byte, asked bool) (done bool, err error) {
	switch {
	case len(text) > 0 && text[0] == pktPing:
		return false, c.write(ctx, append([]byte{pktPong}, text[1:]...))
	case len(text) < 2 || text[0] != pktMessage:
		return false, nil
	}
	p, err := parsePacket(text[1:], 0)
	if err != nil {
		return false, err
	}
	switch {
	case p.namespace != "/":
		return false, nil
	case p.kind == kindConnect:
		if !asked || len(p.body) == 0 {
			c.eio = 3
		}
		return true, nil
	case p.kind == kindError:
		return false, fmt.Errorf("server refused: %.200s", p.body)
	case p.kind == kindDisconnect:
		return false, ErrServerDisconnect
	}
	return false, fmt.Errorf("%w: kind %q before CONNECT", errMalformed, p.kind)
}

func withCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
