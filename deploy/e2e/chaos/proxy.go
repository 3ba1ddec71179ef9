package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// proxy is the simplest load balancer: TCP, round robin, sending new connections to backends that say they are ready. It can cut connections.
type proxy struct {
	listener net.Listener
	backends []string // host:port
	unasked  bool     // they have no /readyz
	ready    []atomic.Bool
	next     atomic.Uint64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newProxy(backends []string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, backends: backends, ready: make([]atomic.Bool, len(backends)), conns: map[net.Conn]struct{}{}}
	for i := range p.ready {
		p.ready[i].Store(true)
	}
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }
func (p *proxy) url() string  { return "http://" + p.addr() }

func (p *proxy) run(ctx context.Context) {
	for i := range p.backends {
		if !p.unasked {
			go p.check(ctx, i)
		}
	}
	context.AfterFunc(ctx, func() { _ = p.listener.Close() })
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c)
	}
}

// check asks a backend twice a second whether it is ready, as load balancers do.
func (p *proxy) check(ctx context.Context, i int) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		resp, err := client.Get("http://" + p.backends[i] + "/readyz")
		ok := err == nil && resp.StatusCode == http.StatusOK
		if err == nil {
			_ = resp.Body.Close()
		}
		p.ready[i].Store(ok)
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// dial takes the next backend that is ready, or any that answers.
func (p *proxy) dial() (net.Conn, error) {
	start := p.next.Add(1)
	var last error
	for _, mustBeReady := range []bool{true, false} {
		for i := range p.backends {
			n := (int(start) + i) % len(p.backends)
			if p.ready[n].Load() != mustBeReady {
				continue
			}
			c, err := net.DialTimeout("tcp", p.backends[n], time.Second)
			if err == nil {
				return c, nil
			}
			last = err
		}
	}
	return nil, last
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	up, err := p.dial()
	if err != nil {
		return
	}
	defer up.Close()
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	}()
	done := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // its end is all that matters
		done <- struct{}{}
	}
	go pipe(up, c)
	go pipe(c, up)
	<-done
}

// cut resets up to n connections.
func (p *proxy) cut(rng *rand.Rand, n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	cut := 0
	for c := range p.conns {
		if cut == n {
			break
		}
		if rng.IntN(2) == 0 {
			continue
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
		cut++
	}
	return cut
}
