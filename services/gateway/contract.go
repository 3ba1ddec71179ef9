package gateway

// CONTRACT, see pkg/bus/contract.go: the shape that services/tasktracer builds on. The owner of this package deletes this file when its own New, Mount, Run and Serve land.

import (
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/socketio"
)

type Config struct{}

func (c *Config) Register(fs *flag.FlagSet) {}
func (c *Config) Validate() error           { return nil }

type Deps struct {
	Bus       *bus.Bus
	Tokens    *auth.Remote
	Processes *bus.Processes
	Self      bus.Process
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}
type Service struct{}

func New(Config, Deps) (*Service, error)                       { return &Service{}, nil }
func (s *Service) Mount(*http.ServeMux)                        {}
func (s *Service) Run(ctx context.Context) error               { <-ctx.Done(); return nil }
func (s *Service) Serve(c *socketio.Conn, raw json.RawMessage) { c.Disconnect() }
