package natsd

// CONTRACT, see pkg/bus/contract.go.

import (
	"context"
	"net"
	"time"
)

// Config: Dir is where JetStream keeps its files; empty means memory-less temp is refused.
type Config struct {
	Dir          string
	SyncInterval time.Duration // 1 s by default
	SyncAlways   bool
	Listen       string // "host:port" to also listen on TCP; empty for in-process only
}

// Server is an embedded nats-server with JetStream.
type Server struct{}

func Start(ctx context.Context, cfg Config) (*Server, error) { panic("contract") }
func (s *Server) InProcessConn() (net.Conn, error)           { panic("contract") }
func (s *Server) ClientURL() string                          { panic("contract") }
func (s *Server) Stop()                                      { panic("contract") } // waits until it has stopped
