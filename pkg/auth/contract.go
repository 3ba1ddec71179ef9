package auth

// CONTRACT, see pkg/bus/contract.go.

import (
	"context"
	"errors"
	"time"
)

type Type string

const (
	Client  Type = "client_token"
	Browser Type = "browser_token"
	Base    Type = "base_token"
)

// Claims is what a verified token says.
type Claims struct {
	Type              Type
	Namespace         string
	IssuedAt, Expires time.Time // zero where the token has none
	ID                string    // jti
	Tasks             []string  // good for these tasks only; empty: all of the namespace
	ReadOnly          bool
}

// Allows tells whether the token is good for the task.
func (c Claims) Allows(task string) bool { panic("contract") }

var (
	ErrMissing = errors.New("token is missing")
	ErrInvalid = errors.New("token is invalid")
	ErrExpired = errors.New("token has expired")
	ErrRevoked = errors.New("token was revoked")
)

// Code gives the wire's word for one of the errors above: token_missing, token_invalid, token_expired, token_revoked; "" for others.
func Code(err error) string { panic("contract") }

// Requester asks a service over the bus (pkg/bus implements it).
type Requester interface {
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
}

// Remote verifies and issues by asking the token service, with a short cache of verdicts.
type Remote struct{}

func NewRemote(r Requester) *Remote { panic("contract") }

// Verify: want is the type the caller needs. Errors: the four above, or trouble reaching the service (then the caller answers "busy", not "invalid").
func (v *Remote) Verify(ctx context.Context, token string, want Type) (Claims, error) {
	panic("contract")
}
func (v *Remote) Issue(ctx context.Context, c Claims, life time.Duration) (token string, issued Claims, err error) {
	panic("contract")
}

// Revoked drops what is cached of a token id, and remembers it until expires; wire it to bus.WatchRevoked. OnRevoked tells who else wants to know.
func (v *Remote) Revoked(jti string, expires time.Time)       { panic("contract") }
func (v *Remote) OnRevoked(fn func(jti string)) (stop func()) { panic("contract") }
