package bus

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how to reach NATS and how the log is kept. The zero value of a limit means its default, or, for the limits of the
// stream (MaxAge, MaxBytes, Replicas), "as it is": only a limit that is set changes a stream that exists.
type Config struct {
	URL       string                                         // addresses, separated by commas; empty with InProcess
	InProcess interface{ InProcessConn() (net.Conn, error) } // the embedded server (pkg/natsd), or nil
	Name      string                                         // connection name, shown by NATS
	Log       *slog.Logger                                   // nil: discarded
	Metrics   prometheus.Registerer                          // nil: counted, but shown nowhere

	// The stream's own limits, the last resort of retention.
	MaxAge   time.Duration // how long a chunk is kept; 7 days for a new stream
	MaxBytes int64         // size of the log; 10 GiB for a new stream, less where the server has less
	Replicas int           // 1 for a new stream on a single server, 3 on a cluster
	// NoCreate: the stream and the buckets are made by somebody else (an operator's key); only look that they are there.
	NoCreate bool

	Window  int // bytes per run that may be submitted and not yet durable; 1 MiB
	Readers int // history reads at a time; each holds at most 1 MiB; 16

	// Who we are to NATS. Secrets are read from files, or come by the environment.
	User, Password, Token     string
	NkeyFile, CredsFile       string
	CAFile, CertFile, KeyFile string
	InboxPrefix               string // "" for _INBOX

	attempt time.Duration // bounds one request; attemptWithin where 0; tests of many faults do not wait that long
}

// Limits that the defaults stand for.
const (
	defaultMaxAge   = 7 * 24 * time.Hour
	defaultMaxBytes = 10 << 30
	defaultWindow   = 1 << 20
	defaultReaders  = 16
	minMaxAge       = time.Second // a tail is stored again each quarter of the age; shorter, and that alone would be a flood
)

// Register adds the flags to fs.
func (c *Config) Register(fs *flag.FlagSet) {
	fs.StringVar(&c.URL, "nats", c.URL, "NATS server `addresses`, separated by commas")
	fs.StringVar(&c.User, "nats-user", c.User, "user `name` at NATS")
	fs.StringVar(&c.Password, "nats-password", c.Password, "`password` at NATS; better given by the environment")
	fs.StringVar(&c.Token, "nats-token", c.Token, "`token` at NATS; better given by the environment")
	fs.StringVar(&c.NkeyFile, "nats-nkey", c.NkeyFile, "`file` with the nkey seed for NATS")
	fs.StringVar(&c.CredsFile, "nats-creds", c.CredsFile, "credentials `file` for NATS")
	fs.StringVar(&c.CAFile, "nats-ca", c.CAFile, "`file` with the certificate authorities that NATS servers must be signed by")
	fs.StringVar(&c.CertFile, "nats-cert", c.CertFile, "`file` with our certificate for NATS")
	fs.StringVar(&c.KeyFile, "nats-key", c.KeyFile, "`file` with the key of that certificate")
	fs.StringVar(&c.InboxPrefix, "nats-inbox-prefix", c.InboxPrefix, "`prefix` of reply subjects, for NATS accounts that give each role its own")
	fs.BoolVar(&c.NoCreate, "nats-no-create", c.NoCreate, "do not create the stream and the buckets, an operator does")
	fs.DurationVar(&c.MaxAge, "log-max-age", c.MaxAge, "how long output is kept; 0: as it is, 168h for a new log")
	fs.Int64Var(&c.MaxBytes, "log-max-bytes", c.MaxBytes, "size of the log in `bytes`; 0: as it is, 10 GiB for a new log")
	fs.IntVar(&c.Replicas, "log-replicas", c.Replicas, "`copies` of the log; 0: as it is, 1 for a new log, 3 on a cluster")
	fs.IntVar(&c.Window, "run-window", orDefault(c.Window, defaultWindow), "`bytes` per run that may be accepted and not yet stored")
	fs.IntVar(&c.Readers, "history-readers", orDefault(c.Readers, defaultReaders), "history reads at a time, of at most 1 MiB each")
}

// Validate names the first flag whose value cannot be used.
func (c *Config) Validate() error {
	switch {
	case c.MaxAge != 0 && c.MaxAge < minMaxAge:
		return fmt.Errorf("-log-max-age: %v is less than %v", c.MaxAge, minMaxAge)
	case c.MaxBytes < 0:
		return fmt.Errorf("-log-max-bytes: %d is negative", c.MaxBytes)
	case c.Replicas < 0 || c.Replicas > 5:
		return fmt.Errorf("-log-replicas: %d is not between 0 and 5", c.Replicas)
	case c.Window < 0:
		return fmt.Errorf("-run-window: %d is negative", c.Window)
	case c.Readers < 0:
		return fmt.Errorf("-history-readers: %d is negative", c.Readers)
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("-nats-cert and -nats-key: one is given without the other")
	case c.NkeyFile != "" && c.CredsFile != "":
		return errors.New("-nats-nkey and -nats-creds: only one of them can be used")
	case strings.ContainsAny(c.InboxPrefix, "*> \t") || strings.HasSuffix(c.InboxPrefix, "."):
		return fmt.Errorf("-nats-inbox-prefix: %q is no subject prefix", c.InboxPrefix)
	}
	return nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
