package gateway

import (
	"flag"
	"fmt"
	"time"
)

// Config is what an operator can set. The zero value is not valid; Register fills in the defaults.
type Config struct {
	// Ring is how many bytes of recent chunks are kept per watched client, for viewers that are not far behind.
	Ring int
	// HistoryCache is how many bytes of chunks read back from the log are kept for the next viewer, in all.
	HistoryCache int
	// MaxAttached is how many clients one viewer may be attached to, those it has detached from and may return to included.
	MaxAttached int
	// MaxDownloads and MaxSearches are how many logs are read, and searched, over HTTP at once. More are told to come again.
	MaxDownloads, MaxSearches int
	// WriteTimeout ends an HTTP answer of which the caller has taken nothing for so long.
	WriteTimeout time.Duration
	// SearchTime ends a search.
	SearchTime time.Duration
	// VerifyWithin bounds the asking of the token service.
	VerifyWithin time.Duration
}

// Register adds the part's flags with their defaults to fs.
func (c *Config) Register(fs *flag.FlagSet) {
	fs.IntVar(&c.Ring, "gateway-ring", 1<<20, "bytes of recent output kept for each client that is watched")
	fs.IntVar(&c.HistoryCache, "gateway-history-cache", 64<<20, "bytes of output read back from the log that are kept for further viewers")
	fs.IntVar(&c.MaxAttached, "gateway-max-attached", 2000, "clients one viewer may be attached to")
	fs.IntVar(&c.MaxDownloads, "gateway-downloads", 64, "logs read over HTTP at once")
	fs.IntVar(&c.MaxSearches, "gateway-searches", 8, "searches at once")
	fs.DurationVar(&c.WriteTimeout, "gateway-write-timeout", 30*time.Second, "an HTTP caller that takes nothing of its answer for so long is let go")
	fs.DurationVar(&c.SearchTime, "gateway-search-time", 10*time.Second, "time after which a search ends with what it has found")
	fs.DurationVar(&c.VerifyWithin, "gateway-verify-within", 5*time.Second, "how long the token service may take")
}

// Validate names the first flag with a value that cannot be used.
func (c *Config) Validate() error {
	for _, f := range []struct {
		name       string
		value, min int
	}{
		{"gateway-ring", c.Ring, 0},
		{"gateway-history-cache", c.HistoryCache, 0},
		{"gateway-max-attached", c.MaxAttached, 1},
		{"gateway-downloads", c.MaxDownloads, 1},
		{"gateway-searches", c.MaxSearches, 1},
	} {
		if f.value < f.min {
			return fmt.Errorf("--%s %d: must be at least %d", f.name, f.value, f.min)
		}
	}
	if c.WriteTimeout <= 0 {
		return fmt.Errorf("--gateway-write-timeout %s: must be more than 0", c.WriteTimeout)
	}
	if c.SearchTime <= 0 {
		return fmt.Errorf("--gateway-search-time %s: must be more than 0", c.SearchTime)
	}
	if c.VerifyWithin <= 0 {
		return fmt.Errorf("--gateway-verify-within %s: must be more than 0", c.VerifyWithin)
	}
	return nil
}
