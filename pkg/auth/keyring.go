package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// MaxToken is the length of the longest token that is looked at, in bytes.
const MaxToken = 8 << 10

// Keyring holds the keys of every type of token. It is immutable and safe for concurrent use.
type Keyring struct {
	keys   map[Type][]Key
	parser *jwt.Parser
}

// NewKeyring takes the keys of each type: the first signs, all verify. So a key is rotated by putting the new one in front of the old one,
// and taking the old one away when its last token has expired. Two types may not share a key: a token of one would pass for the other's.
func NewKeyring(keys map[Type][]Key) (*Keyring, error) {
	for i, t := range Types() {
		ks := keys[t]
		if len(ks) == 0 {
			return nil, fmt.Errorf("no key for %s", t)
		}
		if !ks[0].signs() {
			return nil, fmt.Errorf("first key for %s cannot sign: it is a public key", t)
		}
		if err := distinct(ks); err != nil {
			return nil, fmt.Errorf("keys for %s: %w", t, err)
		}
		for _, other := range Types()[:i] {
			if overlap(ks, keys[other]) {
				return nil, fmt.Errorf("%s and %s share a key: every type wants its own", other, t)
			}
		}
	}
	// What the token says of "iat" is told, not judged: clocks differ.
	return &Keyring{keys: keys, parser: jwt.NewParser()}, nil
}

func distinct(ks []Key) error {
	for i, k := range ks {
		for _, other := range ks[:i] {
			if k.id == other.id {
				return fmt.Errorf("key id %q stands twice", k.id)
			}
		}
	}
	return nil
}

func overlap(a, b []Key) bool {
	return slices.ContainsFunc(a, func(x Key) bool { return slices.ContainsFunc(b, func(y Key) bool { return sameKey(x, y) }) })
}

func sameKey(a, b Key) bool {
	if (a.alg == "EdDSA") != (b.alg == "EdDSA") {
		return false
	}
	if a.alg == "EdDSA" {
		return bytes.Equal(a.public, b.public)
	}
	return subtle.ConstantTimeCompare(a.secret, b.secret) == 1
}

// payload is a token's payload; its first fields and their order are the older system's.
type payload struct {
	Type      Type             `json:"type"`
	Namespace string           `json:"ns"`
	Tasks     []string         `json:"tasks,omitempty"`
	ReadOnly  bool             `json:"ro,omitempty"`
	ID        string           `json:"jti,omitempty"`
	Issued    *jwt.NumericDate `json:"iat,omitempty"`
	Expires   *jwt.NumericDate `json:"exp,omitempty"`
	NotBefore *jwt.NumericDate `json:"nbf,omitempty"`
}

func (p *payload) GetExpirationTime() (*jwt.NumericDate, error) { return p.Expires, nil }
func (p *payload) GetIssuedAt() (*jwt.NumericDate, error)       { return p.Issued, nil }
func (p *payload) GetNotBefore() (*jwt.NumericDate, error)      { return p.NotBefore, nil }
func (p *payload) GetIssuer() (string, error)                   { return "", nil }
func (p *payload) GetSubject() (string, error)                  { return "", nil }
func (p *payload) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

// Sign makes a token with the first key of its type. IssuedAt is set to the present second, Expires to life after it; a life of 0 never ends.
// A plain token has exactly the payload of the older system: {"type","ns","iat","exp"}; jti, tasks and ro stand only in tokens that have them.
func (k *Keyring) Sign(c Claims, life time.Duration) (token string, issued Claims, err error) {
	if life < 0 {
		return "", Claims{}, fmt.Errorf("life of %v: want 0 or more", life)
	}
	ks := k.keys[c.Type]
	if len(ks) == 0 {
		return "", Claims{}, fmt.Errorf("token type %q: want %v", c.Type, Types())
	}
	key := ks[0]
	c.IssuedAt, c.Expires = time.Now().Truncate(time.Second), time.Time{}
	p := payload{Type: c.Type, Namespace: c.Namespace, Tasks: c.Tasks, ReadOnly: c.ReadOnly, ID: c.ID, Issued: jwt.NewNumericDate(c.IssuedAt)}
	if life > 0 {
		c.Expires = c.IssuedAt.Add(life)
		p.Expires = jwt.NewNumericDate(c.Expires)
	}
	t := jwt.NewWithClaims(jwt.GetSigningMethod(key.alg), &p)
	if key.id != "" {
		t.Header["kid"] = key.id
	}
	token, err = t.SignedString(key.signing())
	if err != nil {
		return "", Claims{}, fmt.Errorf("sign %s: %w", c.Type, err)
	}
	if len(token) > MaxToken {
		return "", Claims{}, fmt.Errorf("sign %s: token of %d bytes, want at most %d", c.Type, len(token), MaxToken)
	}
	if c.ID == "" {
		c.ID = textID(token)
	}
	return token, c, nil
}

// Verify checks a token against the keys of the type that the caller wants, and that it is of this type. Errors: ErrMissing, ErrInvalid, ErrExpired.
// With ErrExpired the claims are told all the same: everything but the time was right.
func (k *Keyring) Verify(token string, want Type) (Claims, error) {
	if token == "" {
		return Claims{}, ErrMissing
	}
	if len(token) > MaxToken {
		return Claims{}, fmt.Errorf("%w: %d bytes", ErrInvalid, len(token))
	}
	var p payload
	_, err := k.parser.ParseWithClaims(token, &p, func(t *jwt.Token) (any, error) { return k.candidates(t.Header, want) })
	expired := errors.Is(err, jwt.ErrTokenExpired) && p.Type == want // the signature was checked before
	if err != nil && !expired {
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if p.Type != want {
		return Claims{}, fmt.Errorf("%w: its type is %q, not %q", ErrInvalid, p.Type, want)
	}
	c := Claims{Type: p.Type, Namespace: p.Namespace, ID: p.ID, Tasks: p.Tasks, ReadOnly: p.ReadOnly}
	if c.ID == "" {
		c.ID = textID(token)
	}
	if p.Issued != nil {
		c.IssuedAt = p.Issued.Time
	}
	if p.Expires != nil {
		c.Expires = p.Expires.Time
	}
	if expired {
		return c, ErrExpired
	}
	return c, nil
}

// candidates are the keys that may have signed a token with this header: those of the wanted type, of exactly the algorithm it names, and,
// where it names a key that we know, that one. "none" is no key's algorithm.
func (k *Keyring) candidates(header map[string]any, want Type) (jwt.VerificationKeySet, error) {
	alg, _ := header["alg"].(string)
	kid, _ := header["kid"].(string)
	var set jwt.VerificationKeySet
	for _, key := range k.keys[want] {
		if key.alg == alg && (kid == "" || key.id == "" || key.id == kid) {
			set.Keys = append(set.Keys, key.verifying())
		}
	}
	if len(set.Keys) == 0 {
		return set, fmt.Errorf("no key of %s for algorithm %q and key id %q", want, alg, kid)
	}
	return set, nil
}

// JWKS is the public half of the keyring, a JSON Web Key Set (RFC 7517, RFC 8037). Secrets are not in it.
func (k *Keyring) JWKS() []byte {
	type jwk struct {
		KeyType   string `json:"kty"`
		Curve     string `json:"crv"`
		X         string `json:"x"`
		KeyID     string `json:"kid"`
		Algorithm string `json:"alg"`
		Use       string `json:"use"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, t := range Types() {
		for _, key := range k.keys[t] {
			if key.alg != "EdDSA" {
				continue
			}
			set.Keys = append(set.Keys, jwk{"OKP", "Ed25519", base64.RawURLEncoding.EncodeToString(key.public), key.id, key.alg, "sig"})
		}
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic(err) // strings only: cannot fail
	}
	return text
}

// textID makes an id of what the signature covers, for tokens without a jti. The signature itself is left out: its last character can be
// written in several ways. "sha256:" keeps these ids apart from what anybody may put into a jti.
func textID(token string) string {
	signed := token[:max(strings.LastIndexByte(token, '.'), 0)]
	sum := sha256.Sum256([]byte(signed))
	return "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}
