package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/ops"
	"tasktracer/pkg/ops/metrics"
)

// hostConfig is what every server command is told of its surroundings.
type hostConfig struct {
	Listen, DebugListen string
	Name, Advertise     string
	LogFormat, LogLevel string
	Drain, StopWithin   time.Duration
}

// register adds the flags; listen is the default address, drain the default time of saying "not ready" before the stop.
func (c *hostConfig) register(fs *flag.FlagSet, listen string, drain time.Duration) {
	fs.StringVar(&c.Listen, "listen", listen, "`address` to serve on")
	fs.StringVar(&c.DebugListen, "debug-listen", "", "private `address` for /debug/pprof; nobody but operators may reach it; empty: none")
	fs.StringVar(&c.Name, "name", "", "`name` of this process, in its session ids and leases; the host's if empty")
	fs.StringVar(&c.Advertise, "advertise", "", "base `URL` at which sibling processes reach this one; made from --listen if empty")
	fs.StringVar(&c.LogFormat, "log-format", "text", "text or json")
	fs.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	fs.DurationVar(&c.Drain, "drain", drain, "how long /readyz says no before connections are closed, so that load balancers notice")
	fs.DurationVar(&c.StopWithin, "stop-within", 20*time.Second, "how long a stop may take after that, before it is cut short")
}

var processName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,48}$`)

func (c *hostConfig) validate() error {
	if c.Name != "" && !processName.MatchString(c.Name) {
		return fmt.Errorf("--name %q: want 1 to 48 letters, digits, - and _", c.Name)
	}
	if c.Advertise != "" {
		if u, err := url.Parse(c.Advertise); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("--advertise %q: want a URL such as http://10.0.0.7:8004", c.Advertise)
		}
	}
	if _, err := ops.NewLogger(nil, c.LogFormat, c.LogLevel); err != nil {
		return fmt.Errorf("--log-format, --log-level: %w", err)
	}
	if c.Drain < 0 || c.StopWithin <= 0 {
		return fmt.Errorf("--drain %v, --stop-within %v: want no negative time, and some time to stop", c.Drain, c.StopWithin)
	}
	return nil
}

// host is what every server command has: a log, metrics, health, an HTTP server, and a name among its siblings.
type host struct {
	cfg      hostConfig
	log      *slog.Logger
	registry *prometheus.Registry
	health   *ops.Health
	mux      *http.ServeMux
	self     bus.Process

	listener net.Listener
	server   *http.Server
	debug    *http.Server // nil without --debug-listen
	failed   chan error   // an HTTP server ended by itself
	started  atomic.Bool  // the parts are mounted
}

// newHost listens, and already answers /healthz, /readyz (no) and /metrics: a process that waits for NATS is alive.
func newHost(c *call, cfg hostConfig, role string) (*host, error) {
	log, err := ops.NewLogger(c.stderr, cfg.LogFormat, cfg.LogLevel)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	h := &host{
		cfg: cfg, registry: metrics.New(), health: ops.NewHealth(), mux: http.NewServeMux(),
		listener: listener, failed: make(chan error, 2),
	}
	h.self = identity(cfg, role, listener.Addr())
	h.log = log.With("role", role, "process", h.self.Incarnation)
	h.health.Check("started", func(context.Context) error {
		if !h.started.Load() {
			return errors.New("starting")
		}
		return nil
	})
	h.health.Mount(h.mux)
	metrics.Mount(h.mux, h.registry)
	h.server = newHTTPServer(h.whenStarted(h.mux), h.log)
	go h.serve(h.server, listener)
	if cfg.DebugListen != "" {
		if err := h.serveDebug(); err != nil {
			return nil, errors.Join(err, h.server.Close())
		}
	}
	h.log.Info("listening", "addr", listener.Addr().String(), "advertise", h.self.Address, "version", ops.Version())
	return h, nil
}

func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler,
		// Long polls and downloads take their time; what must be quick is the head of a request.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

func (h *host) serve(s *http.Server, l net.Listener) {
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		h.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
}

// whenStarted lets only the operator's routes through before the parts are there.
func (h *host) whenStarted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/readyz", "/metrics":
		default:
			if !h.started.Load() {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "starting", http.StatusServiceUnavailable)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// identity names the process. The incarnation is new at each start: what a predecessor of the same name held is not its own.
func identity(cfg hostConfig, role string, addr net.Addr) bus.Process {
	name := cfg.Name
	if name == "" {
		name = hostName()
	}
	p := bus.Process{Name: name, Incarnation: name + "-" + randomWord(8), Role: role, Address: cfg.Advertise}
	if p.Address == "" {
		p.Address = "http://" + reachable(addr)
	}
	p.Address = strings.TrimRight(p.Address, "/")
	return p
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "host"
	}
	name = strings.Trim(notInNames.ReplaceAllString(name, "-"), "-")
	if name == "" {
		return "host"
	}
	return name[:min(len(name), 48)]
}

// randomWord gives n characters of [a-z0-9].
func randomWord(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz012345" // 32 of them: no letter is likelier than another
	b := make([]byte, n)
	rand.Read(b) // never fails, by its documentation
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b)
}

// reachable gives the address at which siblings reach a listener: for one on all addresses, the host's first one that is not loopback.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	port := fmt.Sprint(tcp.Port)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return net.JoinHostPort("127.0.0.1", port)
	}
	var six string
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		switch {
		case !ok || ip.IP.IsLoopback() || ip.IP.IsLinkLocalUnicast():
		case ip.IP.To4() != nil:
			return net.JoinHostPort(ip.IP.String(), port)
		case six == "":
			six = ip.IP.String()
		}
	}
	if six != "" {
		return net.JoinHostPort(six, port)
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// localURL is how a browser on this host reaches a listener.
func localURL(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if ok && (tcp.IP.IsLoopback() || tcp.IP.IsUnspecified()) {
		return fmt.Sprintf("http://localhost:%d", tcp.Port)
	}
	return "http://" + addr.String()
}
