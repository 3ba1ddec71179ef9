package socketio

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// maxAddresses bounds the memory of a limiter. Beyond it, addresses not yet known share one allowance.
const maxAddresses = 65_536

// limiter counts handshakes by address, as token buckets.
type limiter struct {
	rate  float64 // per second; negative: no limit
	burst float64

	mu      sync.Mutex // guards what follows
	buckets map[netip.Prefix]*bucket
	swept   time.Time
}

type bucket struct {
	left float64
	at   time.Time
}

func newLimiter(rate float64, burst int) *limiter {
	return &limiter{rate: rate, burst: float64(burst), buckets: make(map[netip.Prefix]*bucket)}
}

// allow takes one handshake off the address's allowance.
func (l *limiter) allow(remote string, now time.Time) bool {
	if l.rate < 0 {
		return true
	}
	key := prefix(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= maxAddresses {
			l.sweep(now)
		}
		if len(l.buckets) >= maxAddresses {
			key = netip.Prefix{}
			b = l.buckets[key]
		}
	}
	if b == nil {
		b = &bucket{left: l.burst, at: now}
		l.buckets[key] = b
	}
	b.left = min(l.burst, b.left+l.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// sweep forgets addresses whose allowance is full again; at most once a second, for it looks at all of them.
func (l *limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for k, b := range l.buckets {
		if b.left+l.rate*now.Sub(b.at).Seconds() >= l.burst {
			delete(l.buckets, k)
		}
	}
}

// prefix is what counts as one address: a /64 for IPv6, since one host has at least that many. Text that is no address counts as one.
func prefix(remote string) netip.Prefix {
	a, err := netip.ParseAddr(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the count fits the address
	return p
}

// remote is the client's address: the connection's, or the one that the outermost trusted proxy saw.
func (s *Server) remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if s.cfg.TrustedProxies == 0 {
		return host
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	i := len(hops) - s.cfg.TrustedProxies
	if i < 0 {
		return host
	}
	if a, err := netip.ParseAddr(strings.TrimSpace(hops[i])); err == nil {
		return a.String()
	}
	return host
}
