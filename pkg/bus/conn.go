package bus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Settings of a connection, and what each prevents.
const (
	reconnectWait = 100 * time.Millisecond // a cut connection is back before a viewer notices
	pingEvery     = 2 * time.Second        // with maxPingsOut: a stopped server, whose socket stays open, is left after 6 s
	maxPingsOut   = 2
	dialTimeout   = 3 * time.Second
)

// link is one connection to NATS. It knows when it was cut, so that no request waits for an answer that cannot come any more.
type link struct {
	nc *nats.Conn

	mu      sync.Mutex
	up      context.Context // ends when the connection is cut
	cut     context.CancelFunc
	hooks   map[int]func() // called after each reconnect
	hookSeq int
}

// dial connects, and tries until ctx ends.
func dial(ctx context.Context, cfg *Config, what string) (*link, error) {
	l := &link{hooks: map[int]func(){}}
	l.up, l.cut = context.WithCancel(context.Background())
	opts, err := options(cfg, what)
	if err != nil {
		return nil, err
	}
	opts = append(opts, nats.DisconnectErrHandler(func(*nats.Conn, error) { l.disconnected() }),
		nats.ReconnectHandler(func(*nats.Conn) { l.reconnected() }))
	for wait := reconnectWait; ; wait = min(2*wait, 2*time.Second) {
		if l.nc, err = nats.Connect(cfg.URL, opts...); err == nil {
			return l, nil
		}
		if wait == reconnectWait {
			cfg.Log.Warn("NATS does not let us in yet", "connection", what, "err", err)
		}
		select {
		case <-ctx.Done():
			l.cut()
			return nil, fmt.Errorf("connect to NATS: %w", errors.Join(ctx.Err(), err))
		case <-time.After(wait):
		}
	}
}

func options(cfg *Config, what string) ([]nats.Option, error) {
	for _, f := range []struct{ flag, path string }{{"-nats-creds", cfg.CredsFile}, {"-nats-ca", cfg.CAFile}, {"-nats-cert", cfg.CertFile}, {"-nats-key", cfg.KeyFile}} {
		if f.path == "" {
			continue
		}
		if _, err := os.Stat(f.path); err != nil {
			return nil, fmt.Errorf("%s: %w", f.flag, err) // a file that is not there will not come by waiting
		}
	}
	o := []nats.Option{
		nats.Name(cfg.Name + " " + what),
		nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.ReconnectBufSize(-1), // publishing while disconnected must fail, not vanish
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(maxPingsOut), nats.Timeout(dialTimeout),
		nats.IgnoreAuthErrorAbort(), // a server that is being reconfigured must not end us
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			if s != nil && errors.Is(err, nats.ErrSlowConsumer) {
				return // told per subscription
			}
			cfg.Log.Warn("nats", "connection", what, "err", err)
		}),
	}
	if cfg.InProcess != nil {
		o = append(o, nats.InProcessServer(cfg.InProcess))
	}
	if cfg.User != "" {
		o = append(o, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.Token != "" {
		o = append(o, nats.Token(cfg.Token))
	}
	if cfg.NkeyFile != "" {
		opt, err := nats.NkeyOptionFromSeed(cfg.NkeyFile)
		if err != nil {
			return nil, fmt.Errorf("-nats-nkey: %w", err)
		}
		o = append(o, opt)
	}
	if cfg.CredsFile != "" {
		o = append(o, nats.UserCredentials(cfg.CredsFile))
	}
	if cfg.CAFile != "" {
		o = append(o, nats.RootCAs(cfg.CAFile))
	}
	if cfg.CertFile != "" {
		o = append(o, nats.ClientCert(cfg.CertFile, cfg.KeyFile))
	}
	if cfg.InboxPrefix != "" {
		o = append(o, nats.CustomInboxPrefix(cfg.InboxPrefix))
	}
	return o, nil
}

func (l *link) disconnected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut()
}

func (l *link) reconnected() {
	l.mu.Lock()
	l.cut()
	l.up, l.cut = context.WithCancel(context.Background())
	hooks := make([]func(), 0, len(l.hooks))
	for _, h := range l.hooks {
		hooks = append(hooks, h)
	}
	l.mu.Unlock()
	for _, h := range hooks {
		h()
	}
}

// onReconnect calls fn, which returns at once, after each reconnect, until remove is called.
func (l *link) onReconnect(fn func()) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hookSeq++
	id := l.hookSeq
	l.hooks[id] = fn
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.hooks, id)
	}
}

// errCut says that the connection broke while an answer was awaited: the request may or may not have been served.
var errCut = errors.New("connection to NATS was lost")

// request sends m and waits for its answer, at most for within, and not beyond the end of the connection.
func (l *link) request(ctx context.Context, m *nats.Msg, within time.Duration) (*nats.Msg, error) {
	rctx, cancel := l.bound(ctx, within)
	defer cancel()
	r, err := l.nc.RequestMsgWithContext(rctx, m)
	if err == nil {
		return r, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if rctx.Err() != nil {
		return nil, context.Cause(rctx)
	}
	return nil, err
}

// bound gives a context that ends with ctx, after within, and when the connection is cut.
func (l *link) bound(ctx context.Context, within time.Duration) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	up := l.up
	l.mu.Unlock()
	cctx, cut := context.WithCancelCause(ctx)
	rctx, cancel := context.WithTimeout(cctx, within)
	stop := context.AfterFunc(up, func() { cut(errCut) })
	return rctx, func() {
		stop()
		cancel()
		cut(nil)
	}
}

func (l *link) close() {
	l.nc.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut()
}
