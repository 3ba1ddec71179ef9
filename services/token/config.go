package token

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"tasktracer/pkg/auth"
)

// Config of the service. The keys and lives come from the configuration file, never from flags: a command line can be read by every user of the host.
type Config struct {
	Keys *auth.Keyring
	// Life is the default life of each type of token; 0 or missing: tokens of the type do not end by themselves.
	Life map[auth.Type]time.Duration
	// ShareLife is the default life of share tokens, MaxShareLife the longest one.
	ShareLife, MaxShareLife time.Duration
}

// Register adds the service's flags.
func (c *Config) Register(fs *flag.FlagSet) {
	fs.DurationVar(&c.ShareLife, "share-life", 24*time.Hour, "life of a share token where the request names none, as a `duration`")
	fs.DurationVar(&c.MaxShareLife, "share-max-life", 30*24*time.Hour, "longest life of a share token, as a `duration`")
}

// Validate names the flag and its value that cannot be.
func (c *Config) Validate() error {
	if c.Keys == nil {
		return errors.New("--config: no token secrets given")
	}
	if c.MaxShareLife < time.Second || c.MaxShareLife > maxRestricted {
		return fmt.Errorf("--share-max-life %v: want 1s to %v", c.MaxShareLife, maxRestricted)
	}
	if c.ShareLife < time.Second || c.ShareLife > c.MaxShareLife {
		return fmt.Errorf("--share-life %v: want 1s to --share-max-life, %v", c.ShareLife, c.MaxShareLife)
	}
	for t, life := range c.Life {
		if life < 0 || life > auth.MaxPeriod {
			return fmt.Errorf("--config: expiresIn of %s is %v: want up to 100 years", t, life)
		}
	}
	return nil
}
