package trace

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/trace/redact"
	"tasktracer/pkg/trace/spool"
)

// Defaults of Config.
const (
	DefaultLinger = 10 * time.Second
)

// Config says what is run, and where its output goes. URL, Token and Name are needed.
type Config struct {
	// URL of the server: http, https, ws or wss; a path is a prefix.
	URL string
	// Token is a client token.
	Token string
	// ID names the host or worker; at most 1,024 bytes.
	ID string
	// Name is the task's name; it begins with a letter or a digit.
	Name string
	// Command and Host are shown to viewers.
	Command, Host string
	// Tags are shown to viewers, too.
	Tags map[string]string
	// Terminal says that the output comes from one terminal, so that stdout and stderr are one stream.
	Terminal bool
	// CAFile holds certificates to trust beside the system's. Insecure accepts any certificate.
	CAFile   string
	Insecure bool

	// Spool says where what is not yet delivered lies. With an empty Dir it lies in memory.
	Spool spool.Config
	// Redact takes secrets out of the output; nil: nothing is.
	Redact *redact.Rules
	// Linger is how long Close waits for what is left to be delivered, while the server takes it. Negative: not at all; 0: DefaultLinger.
	Linger time.Duration

	// Deferred puts off connecting until Connect or Close is called: for who has something to start first.
	Deferred bool

	// Accepted, if set, is called once, with the address at which people can watch. Warn, if set, is called with plain sentences about trouble that the
	// user should know of. Both are called from one goroutine at a time, and must not block.
	Accepted func(url string)
	Warn     func(text string)
	// Log gets the details; nil: nowhere.
	Log *slog.Logger
}

// ErrConfig is wrapped by errors about a Config.
var ErrConfig = errors.New("configuration")

func (c *Config) validate() error {
	if err := CheckURL(c.URL); err != nil {
		return err
	}
	if c.Token == "" {
		return fmt.Errorf("%w: the token is missing", ErrConfig)
	}
	if err := CheckName(c.Name); err != nil {
		return err
	}
	if len(c.ID) > frame.MaxID {
		return fmt.Errorf("%w: the id has %d bytes, at most %d", ErrConfig, len(c.ID), frame.MaxID)
	}
	return nil
}

// CheckName tells whether a task may have the name; the error wraps ErrConfig.
func CheckName(name string) error {
	if name == "" {
		return fmt.Errorf("%w: the task's name is empty", ErrConfig)
	}
	if c := name[0]; !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') {
		return fmt.Errorf("%w: the task's name %q must begin with a letter or a digit", ErrConfig, name)
	}
	if len(name) > frame.MaxName {
		return fmt.Errorf("%w: the task's name has %d bytes, at most %d", ErrConfig, len(name), frame.MaxName)
	}
	return nil
}

// CheckURL tells whether the text can be a server's address; the error wraps ErrConfig.
func CheckURL(text string) error {
	if text == "" {
		return fmt.Errorf("%w: the server's url is missing", ErrConfig)
	}
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("%w: the url %q cannot be read: %w", ErrConfig, text, err)
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https", "ws", "wss":
	default:
		return fmt.Errorf("%w: the url %q must begin with http:// or https://", ErrConfig, text)
	}
	if u.Host == "" {
		return fmt.Errorf("%w: the url %q names no host", ErrConfig, text)
	}
	return nil
}
