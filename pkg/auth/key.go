package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// MaxKeyID is the length of the longest key id, in bytes.
const MaxKeyID = 128

// Key signs and verifies tokens. Its algorithm is its own: a token that names another one is never checked against it.
type Key struct {
	id      string
	alg     string
	secret  []byte             // HS256, HS384, HS512
	private ed25519.PrivateKey // EdDSA; nil where the key only verifies
	public  ed25519.PublicKey
}

// NewSecretKey makes a key of a shared secret. alg is HS256 (also where empty), HS384 or HS512. A key without id puts no kid into its tokens, as in the older system.
func NewSecretKey(id, alg string, secret []byte) (Key, error) {
	switch alg {
	case "":
		alg = "HS256"
	case "HS256", "HS384", "HS512":
	default:
		return Key{}, fmt.Errorf("algorithm %q: want HS256, HS384 or HS512 for a secret", alg)
	}
	if len(secret) == 0 {
		return Key{}, errors.New("secret is empty")
	}
	if len(id) > MaxKeyID {
		return Key{}, fmt.Errorf("key id of %d bytes: want at most %d", len(id), MaxKeyID)
	}
	return Key{id: id, alg: alg, secret: secret}, nil
}

// NewEdDSAKey makes a key of an Ed25519 private key in PKCS #8 PEM form, or of a public one in PKIX PEM form, which then only verifies. It needs an id.
func NewEdDSAKey(id string, text []byte) (Key, error) {
	if id == "" || len(id) > MaxKeyID {
		return Key{}, fmt.Errorf("key id of %d bytes: an EdDSA key wants 1 to %d", len(id), MaxKeyID)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return Key{}, errors.New("not a PEM block")
	}
	k := Key{id: id, alg: "EdDSA"}
	switch block.Type {
	case "PRIVATE KEY":
		v, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return Key{}, fmt.Errorf("parse private key: %w", err)
		}
		private, ok := v.(ed25519.PrivateKey)
		if !ok {
			return Key{}, fmt.Errorf("private key is %T: want Ed25519", v)
		}
		k.private, k.public = private, private.Public().(ed25519.PublicKey)
	case "PUBLIC KEY":
		v, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return Key{}, fmt.Errorf("parse public key: %w", err)
		}
		public, ok := v.(ed25519.PublicKey)
		if !ok {
			return Key{}, fmt.Errorf("public key is %T: want Ed25519", v)
		}
		k.public = public
	default:
		return Key{}, fmt.Errorf("PEM block %q: want PRIVATE KEY or PUBLIC KEY", block.Type)
	}
	return k, nil
}

// NewEdDSAPEM makes a fresh Ed25519 private key, in PKCS #8 PEM form.
func NewEdDSAPEM() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate Ed25519 key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encode Ed25519 key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// signs tells whether the key can sign, not only verify.
func (k Key) signs() bool { return k.alg != "EdDSA" || k.private != nil }

// signing is the key as the JWT library wants it for signing.
func (k Key) signing() any {
	if k.alg == "EdDSA" {
		return k.private
	}
	return k.secret
}

// verifying is the key as the JWT library wants it for verifying.
func (k Key) verifying() any {
	if k.alg == "EdDSA" {
		return k.public
	}
	return k.secret
}
