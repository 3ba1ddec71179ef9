// Package natsd owns the embedded nats-server with JetStream: for the all-in-one program and for tests.
// It is the only package that knows nats-server. It refuses to run without a directory: a log that lives in memory would not be one.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says where the embedded server keeps its files and where it listens.
type Config struct {
	// Dir is where JetStream keeps its files. Required.
	Dir string
	// SyncInterval is how often files are synced to disk; 1 s where 0. What was acknowledged in between is lost with the power, not with the process.
	SyncInterval time.Duration
	// SyncAlways syncs before each acknowledgement; about 60 times slower.
	SyncAlways bool
	// Listen is "host:port" to also listen on TCP; port 0 for any. Empty: reachable from within the process only.
	Listen string
	// Cluster joins servers to one cluster; nil for a server by itself. Tests use it.
	Cluster *Cluster
	// ConfigFile is a nats-server configuration for what is not here: accounts, TLS. What is given here goes before it. Tests use it.
	ConfigFile string
	// Log gets the server's warnings and errors; nil: discarded.
	Log *slog.Logger
}

// Cluster says how a server finds its siblings.
type Cluster struct {
	// Name is this server's name, unique in the cluster.
	Name string
	// Listen is "host:port" for the siblings.
	Listen string
	// Routes are the siblings' addresses, "nats://host:port", this server's own may be among them.
	Routes []string
}

// Server is an embedded nats-server with JetStream.
type Server struct {
	ns    *server.Server
	fatal chan string // why the server gave up starting
}

// readyWithin bounds the wait for a start; a log of many gigabytes takes seconds to recover after a kill, not minutes.
const readyWithin = 2 * time.Minute

// maxPayload is the largest message; a chunk is at most half of it. maxPending is what the server holds for a slow connection before it cuts it off.
const (
	maxPayload = 1 << 20
	maxPending = 64 << 20
)

// Start starts the server and returns when it serves.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{ns: ns, fatal: make(chan string, 1)}
	ns.SetLogger(&logger{log: cfg.Log, fatal: s.fatal}, false, false)
	ns.Start()
	if err := s.waitReady(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func options(cfg Config) (*server.Options, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded NATS: no data directory given")
	}
	o := &server.Options{}
	if cfg.ConfigFile != "" {
		if err := o.ProcessConfigFile(cfg.ConfigFile); err != nil {
			return nil, fmt.Errorf("embedded NATS: %w", err)
		}
	}
	o.ServerName, o.StoreDir, o.JetStream, o.DontListen = "tasktracer", cfg.Dir, true, true
	o.NoSigs, o.NoLog, o.MaxPayload, o.MaxPending = true, true, maxPayload, maxPending
	o.SyncInterval, o.SyncAlways = cfg.SyncInterval, cfg.SyncAlways
	if o.SyncInterval == 0 {
		o.SyncInterval = time.Second
	}
	if cfg.Listen != "" {
		host, port, err := splitPort(cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("embedded NATS: listen address %q: %w", cfg.Listen, err)
		}
		o.Host, o.Port, o.DontListen = host, port, false
	}
	if c := cfg.Cluster; c != nil {
		host, port, err := splitPort(c.Listen)
		if err != nil {
			return nil, fmt.Errorf("embedded NATS: cluster address %q: %w", c.Listen, err)
		}
		o.ServerName = c.Name
		o.Cluster = server.ClusterOpts{Name: "tasktracer", Host: host, Port: port}
		for _, r := range c.Routes {
			o.Routes = append(o.Routes, server.RoutesFromStr(r)...)
		}
	}
	return o, nil
}

// splitPort is net.SplitHostPort with the port as nats-server wants it: -1 asks for any, where 0 would mean 4222.
func splitPort(addr string) (string, int, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, err
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}

func (s *Server) waitReady(ctx context.Context) error {
	deadline := time.Now().Add(readyWithin)
	for !s.ns.ReadyForConnections(100 * time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("embedded NATS: start: %w", err)
		}
		select {
		case why := <-s.fatal:
			return fmt.Errorf("embedded NATS: %s", why)
		default:
		}
		if !s.ns.Running() || time.Now().After(deadline) {
			return fmt.Errorf("embedded NATS: not ready within %v", readyWithin)
		}
	}
	return nil
}

// InProcessConn gives a connection that needs no socket; nats.go takes the server as its provider.
func (s *Server) InProcessConn() (net.Conn, error) { return s.ns.InProcessConn() }

// ClientURL is where clients reach the server, where it listens.
func (s *Server) ClientURL() string { return s.ns.ClientURL() }

// Stop stops the server and waits until it has stopped.
func (s *Server) Stop() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}
