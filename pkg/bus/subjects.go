package bus

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"tasktracer/pkg/frame"
)

// The grammar of subjects and bucket keys. Names are hostile until encoded: a dot would add a token, a star or a > would reach
// other people's runs, and a subject longer than a protocol line ends the connection for good.
//
//	subject  = prefix "." namespace "." task "." client "." run
//	token    = 1*( plain / escape ) / empty / hash
//	plain    = A-Z a-z 0-9 - _
//	escape   = "=" two upper-case hex digits          every other byte
//	empty    = "="
//	hash     = "=h" 64 lower-case hex digits          where the encoded token would be longer than maxToken
//
// The three forms cannot be mistaken for one another: "h" is no hex digit, and a lone "=" is no escape.
// The same form is good for subjects and for bucket keys, which allow "=" but not "%".
const (
	prefixIn    = "tt.in."  // chunks are published here: the stream's subjects
	prefixOut   = "tt.out." // the stream republishes here what it has stored
	prefixState = "tt.st."  // the state bucket republishes here
	prefixLease = "tt.ls."  // the lease bucket republishes here
	prefixBeat  = "tt.hb."  // heartbeats, by incarnation
	maxToken    = 200
	upperHex    = "0123456789ABCDEF"
)

// encodeToken gives the token of a name. Two different names never have the same token.
func encodeToken(name string) string {
	if name == "" {
		return "="
	}
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
		if b.Len() > maxToken {
			sum := sha256.Sum256([]byte(name))
			return "=h" + hex.EncodeToString(sum[:])
		}
	}
	return b.String()
}

// decodeToken gives the name back. A hash cannot be undone: then ok is true, hashed is true and the name is the token itself.
// Only what encodeToken makes is decoded; ok is false for anything else.
func decodeToken(token string) (name string, hashed, ok bool) {
	switch {
	case token == "=":
		return "", false, true
	case token == "" || len(token) > maxToken:
		return "", false, false
	case strings.HasPrefix(token, "=h"):
		raw, err := hex.DecodeString(token[2:])
		return token, true, err == nil && len(raw) == sha256.Size && strings.ToLower(token) == token
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if plain(c) {
			b.WriteByte(c)
			continue
		}
		if c != '=' || i+2 >= len(token) {
			return "", false, false
		}
		hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if hi < 0 || lo < 0 {
			return "", false, false
		}
		d := byte(hi<<4 | lo)
		if plain(d) {
			return "", false, false // not canonical: the encoder would have left it alone
		}
		b.WriteByte(d)
		i += 2
	}
	return b.String(), false, true
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// path is a run's subject without its prefix, and its key in the state bucket.
func path(k frame.Key) string {
	return clientPath(k.Namespace, k.Task, k.Client) + "." + encodeToken(k.Run)
}

// clientPath is what the paths of all runs of a client begin with, without the last dot.
func clientPath(namespace, task, client string) string {
	return encodeToken(namespace) + "." + encodeToken(task) + "." + encodeToken(client)
}

// parsePath undoes path. Hashed names stay hashed. Its error wraps frame.ErrMalformed.
func parsePath(p string) (frame.Key, error) {
	tokens := strings.Split(p, ".")
	if len(tokens) != 4 {
		return frame.Key{}, fmt.Errorf("subject %q: %w: %d tokens, want 4", p, frame.ErrMalformed, len(tokens))
	}
	var names [4]string
	for i, t := range tokens {
		name, _, ok := decodeToken(t)
		if !ok {
			return frame.Key{}, fmt.Errorf("subject %q: %w: token %d", p, frame.ErrMalformed, i+1)
		}
		names[i] = name
	}
	return frame.Key{Namespace: names[0], Task: names[1], Client: names[2], Run: names[3]}, nil
}
