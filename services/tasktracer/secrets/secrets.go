// Package secrets makes what a deployment must keep to itself: the token secrets, the NATS identities of the roles, and the TLS
// certificates of the NATS nodes. Each is made once, at random, into a folder; nothing here has a default, and nothing is ever made again
// over what is there. It knows nothing of the services that read the folder.
package secrets

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
)

// Roles are the users that NATS knows; each has an nkey of its own.
var roles = []string{"operator", "ingest", "gateway", "token"}

// Files in the folder.
const (
	ConfigFile  = "config.json"       // token secrets, in the form of the server's --config
	NATSFile    = "nats-secrets.conf" // variables for the NATS nodes' configuration: the public nkeys
	CAFile      = "ca.crt"            // who signed the NATS nodes' certificate
	certFile    = "nats.crt"
	keyFile     = "nats.key"
	seedSuffix  = ".nk" // ROLE.nk holds the role's nkey seed
	lifeOfCerts = 10 * 365 * 24 * time.Hour
)

// Generate fills dir with all that is missing in it. hosts are the names the NATS certificate is good for. It is safe to call on every start:
// what exists stays as it is. The folder is made with mode 0700, the files with 0600.
func Generate(dir string, hosts []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the secrets folder: %w", err)
	}
	if _, err := Tokens(filepath.Join(dir, ConfigFile)); err != nil {
		return err
	}
	if err := identities(dir); err != nil {
		return err
	}
	return certificates(dir, hosts)
}

// Tokens writes a configuration with one random secret for each token type to path, in the form of the server's --config, unless there is a file;
// made says whether there was none.
func Tokens(path string) (made bool, err error) {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	type options struct {
		Algorithm string `json:"algorithm"`
		ExpiresIn string `json:"expiresIn"`
	}
	type key struct {
		Secret  string  `json:"secret"`
		Options options `json:"options"`
	}
	var c struct {
		JWT struct {
			Client  key `json:"clientToken"`
			Browser key `json:"browserToken"`
			Base    key `json:"baseToken"`
		} `json:"jwt"`
	}
	c.JWT.Client = key{random(), options{"HS256", "1 year"}}
	c.JWT.Browser = key{random(), options{"HS256", "1 day"}}
	c.JWT.Base = key{random(), options{"HS256", "1 year"}}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return false, fmt.Errorf("encode the token secrets: %w", err)
	}
	return true, write(path, append(b, '\n'))
}

// identities makes an nkey for each role, and the file in which the NATS nodes find the public halves.
func identities(dir string) error {
	var conf strings.Builder
	for _, role := range roles {
		path := filepath.Join(dir, role+seedSuffix)
		pair, err := nkeys.CreateUser()
		if err != nil {
			return fmt.Errorf("make the nkey of %s: %w", role, err)
		}
		seed, err := pair.Seed()
		if err != nil {
			return fmt.Errorf("make the nkey of %s: %w", role, err)
		}
		if err := writeOnce(path, seed); err != nil {
			return err
		}
		kept, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the nkey of %s: %w", role, err)
		}
		if pair, err = nkeys.FromSeed(kept); err != nil {
			return fmt.Errorf("%s holds no nkey seed: %w", path, err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			return fmt.Errorf("%s holds no nkey seed: %w", path, err)
		}
		fmt.Fprintf(&conf, "%s_NKEY: %s\n", strings.ToUpper(role), public)
	}
	return writeOnce(filepath.Join(dir, NATSFile), []byte(conf.String()))
}

// certificates makes a certificate authority that signs one certificate, shared by the NATS nodes, and is then thrown away.
func certificates(dir string, hosts []string) error {
	if _, err := os.Stat(filepath.Join(dir, certFile)); err == nil {
		return nil
	}
	now := time.Now()
	template := func(name string) (*x509.Certificate, error) {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		return &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"TaskTracer"}},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifeOfCerts), BasicConstraintsValid: true,
		}, err
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the certificate authority's key: %w", err)
	}
	ca, err := template("TaskTracer NATS authority")
	if err != nil {
		return fmt.Errorf("make a serial number: %w", err)
	}
	ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("sign the certificate authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the NATS key: %w", err)
	}
	leaf, err := template("nats")
	if err != nil {
		return fmt.Errorf("make a serial number: %w", err)
	}
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	// Nodes are servers to clients, and both sides of the routes between them.
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
			continue
		}
		leaf.DNSNames = append(leaf.DNSNames, h)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("sign the NATS certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode the NATS key: %w", err)
	}
	// The certificate comes last: where it is, the others are too.
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{CAFile, "CERTIFICATE", caDER}, {keyFile, "PRIVATE KEY", keyDER}, {certFile, "CERTIFICATE", der}} {
		b := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})
		if err := write(filepath.Join(dir, f.name), b); err != nil {
			return err
		}
	}
	return nil
}

// random gives 256 bits as text that needs no quoting anywhere.
func random() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails, by its documentation
	return base64.RawURLEncoding.EncodeToString(b)
}

// writeOnce leaves an existing file alone.
func writeOnce(path string, b []byte) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return write(path, b)
}

// write puts the file there whole or not at all: a start that was cut off leaves no half secret behind.
func write(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Hosts splits a comma-separated list, dropping what is empty.
func Hosts(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ","), func(h string) bool { return strings.TrimSpace(h) == "" })
}
