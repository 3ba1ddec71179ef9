package ops

// CONTRACT, see pkg/bus/contract.go. Every service part has:
//
//	type Config struct { … }            func (c *Config) Register(fs *flag.FlagSet)   // flags with defaults and help
//	                                    func (c *Config) Validate() error             // names the flag and the value
//	type Deps struct { Bus *bus.Bus; Tokens *auth.Remote; Log *slog.Logger; Metrics prometheus.Registerer; Self bus.Process; Processes *bus.Processes … }
//	func New(cfg Config, deps Deps) (*Service, error)
//	func (s *Service) Mount(mux *http.ServeMux)      // HTTP routes, if any
//	func (s *Service) Run(ctx context.Context) error // returns nil when ctx ends and all it started has stopped
//
// ingest and gateway also have:
//
//	func (s *Service) Serve(c *socketio.Conn, authenticate json.RawMessage)
//
// called in the conn's event handler with the argument of the first "authenticate" (nil where there was none); it takes over the conn's OnEvent and OnClose.
// The door in services/tasktracer owns the socketio.Server, the 5 s limit on a missing authenticate and the choice of the role
// (message type "client": ingest, else gateway; the wrong one: authenticated {error, code:"wrong_endpoint"}, disconnect after 1 s).

import (
	"flag"
	"io"
	"log/slog"
)

// Parse reads flags from args, then TASKTRACER_<NAME> (dashes to underscores, upper case) from env for those not given.
func Parse(fs *flag.FlagSet, args []string, getenv func(string) string) error { panic("contract") }

// NewLogger: format json or text, level debug, info, warn, error.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) { panic("contract") }

// Version is the program's version, stamped at link time or from the build info.
func Version() string { panic("contract") }
