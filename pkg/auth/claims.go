// Package auth says what a token is: its claims, the keys that sign and verify it, and how a process that has no keys asks one that has.
//
// It owns the form of the tokens (JWT, as the older system made them) and refuses everything else: unsigned tokens, a signature by another
// algorithm than the key's own, a token of another type than the one asked for. It does not decide what a token is good for beyond Claims.Allows.
package auth

import (
	"errors"
	"slices"
	"time"
)

// Type is what a token is for. Each type has keys of its own.
type Type string

const (
	Client  Type = "client_token"  // sends output
	Browser Type = "browser_token" // watches
	Base    Type = "base_token"    // makes tokens
)

// Types lists all types, in the order in which users are told of them.
func Types() []Type { return []Type{Client, Browser, Base} }

// Claims is what a verified token says.
type Claims struct {
	Type              Type
	Namespace         string
	IssuedAt, Expires time.Time // zero where the token has none
	// ID is the token's jti. A token without one has an ID all the same, made from its text, so that it can be revoked as well.
	ID       string
	Tasks    []string // good for these tasks only; empty: all of the namespace
	ReadOnly bool     // may watch only: no deletion, no further tokens
}

// Allows tells whether the token is good for the task.
func (c Claims) Allows(task string) bool {
	return len(c.Tasks) == 0 || slices.Contains(c.Tasks, task)
}

var (
	ErrMissing = errors.New("token is missing")
	ErrInvalid = errors.New("token is invalid")
	ErrExpired = errors.New("token has expired")
	ErrRevoked = errors.New("token was revoked")
)

// Code gives the wire's word for one of the errors above; "" for others.
func Code(err error) string {
	switch {
	case errors.Is(err, ErrMissing):
		return "token_missing"
	case errors.Is(err, ErrInvalid):
		return "token_invalid"
	case errors.Is(err, ErrExpired):
		return "token_expired"
	case errors.Is(err, ErrRevoked):
		return "token_revoked"
	}
	return ""
}

// fromCode is the reverse of Code; nil for an unknown word.
func fromCode(code string) error {
	for _, err := range []error{ErrMissing, ErrInvalid, ErrExpired, ErrRevoked} {
		if Code(err) == code {
			return err
		}
	}
	return nil
}
