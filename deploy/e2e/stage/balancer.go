package stage

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Balancer is a load balancer as simple as there is: every request goes to the next backend that says it is ready. It knows nothing of
// sessions, so the requests of one polling client, and its upgrade, land on different backends.
type Balancer struct {
	URL string

	mu       sync.Mutex
	backends []*url.URL
	ready    map[string]bool
	next     int
}

// NewBalancer starts one without backends.
func NewBalancer(t testing.TB) *Balancer {
	b := &Balancer{ready: map[string]bool{}}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetXForwarded() },
		Transport:     b,
		FlushInterval: -1,
		ErrorLog:      log.New(discard{}, "", 0),
	}
	server := httptest.NewServer(proxy)
	b.URL = server.URL
	ctx, cancel := context.WithCancel(context.Background())
	checked := make(chan struct{})
	go func() {
		defer close(checked)
		b.check(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-checked
		server.CloseClientConnections()
		server.Close()
	})
	return b
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Set names the backends from now on. A new one is used once it was found to be ready.
func (b *Balancer) Set(servers ...*Server) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = nil
	for _, s := range servers {
		u, err := url.Parse(s.URL)
		if err != nil {
			panic(err) // a server's own URL
		}
		b.backends = append(b.backends, u)
	}
}

// check asks every backend a few times a second whether it is ready.
func (b *Balancer) check(ctx context.Context) {
	client := &http.Client{Timeout: time.Second}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		b.mu.Lock()
		backends := b.backends
		b.mu.Unlock()
		for _, u := range backends {
			resp, err := client.Get(u.String() + "/readyz")
			ok := err == nil && resp.StatusCode == http.StatusOK
			if err == nil {
				_ = resp.Body.Close()
			}
			b.mu.Lock()
			b.ready[u.Host] = ok
			b.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

var errNoBackend = errors.New("no backend is ready")

// RoundTrip sends the request to the next ready backend, and to the one after it where no connection can be made.
func (b *Balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	err := errNoBackend
	for _, u := range b.turn() {
		r.URL.Scheme, r.URL.Host = u.Scheme, u.Host
		var resp *http.Response
		resp, err = http.DefaultTransport.RoundTrip(r)
		var op *net.OpError
		if err == nil || !errors.As(err, &op) || op.Op != "dial" {
			return resp, err
		}
	}
	return nil, err
}

// turn gives the ready backends, beginning with the one whose turn it is.
func (b *Balancer) turn() (order []*url.URL) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	for i := range b.backends {
		u := b.backends[(b.next+i)%len(b.backends)]
		if b.ready[u.Host] {
			order = append(order, u)
		}
	}
	return order
}
