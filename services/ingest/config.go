package ingest

import (
	"flag"
	"fmt"
	"net/url"
	"time"

	"tasktracer/pkg/bus"
)

// Config is what an operator may set.
type Config struct {
	// PublicURL is where viewers reach the gateways: the beginning of the address that a client is told.
	PublicURL string
	// Grace is how long a client that numbers its records may stay away before its run counts as lost.
	Grace time.Duration
	// StopGrace is how long a stopping process waits for the log to take what clients have sent.
	StopGrace time.Duration
	// MaxRuns is how many clients this process serves at a time; more are told to come back. Each may hold 1 MiB that is not stored yet.
	MaxRuns int
	// Keep are the limits by which old output leaves the log.
	Keep bus.JanitorConfig
}

// DefaultConfig is what holds where nothing is set.
func DefaultConfig() Config {
	return Config{PublicURL: "http://localhost:8004", Grace: 60 * time.Second, StopGrace: 10 * time.Second, MaxRuns: 10_000}
}

// Register adds the flags to fs, with what c holds as their defaults.
func (c *Config) Register(fs *flag.FlagSet) {
	fs.StringVar(&c.PublicURL, "public-url", c.PublicURL, "`URL` at which viewers reach the gateways; clients are told addresses below it")
	fs.DurationVar(&c.Grace, "lost-after", c.Grace, "how long a client that can resume may stay away before its run is called lost")
	fs.DurationVar(&c.StopGrace, "ingest-stop-grace", c.StopGrace, "how long a stopping ingest waits for the log to take what clients have sent")
	fs.IntVar(&c.MaxRuns, "ingest-max-runs", c.MaxRuns, "`clients` served at a time; more are told to come back")
	c.Keep.Register(fs)
}

// Validate names the first flag whose value cannot be used.
func (c *Config) Validate() error {
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("-public-url: %q is no http or https URL", c.PublicURL)
	}
	switch {
	case c.Grace < time.Second:
		return fmt.Errorf("-lost-after: %v is less than 1s", c.Grace)
	case c.StopGrace < 0:
		return fmt.Errorf("-ingest-stop-grace: %v is negative", c.StopGrace)
	case c.MaxRuns < 1:
		return fmt.Errorf("-ingest-max-runs: %d is less than 1", c.MaxRuns)
	}
	return c.Keep.Validate()
}
