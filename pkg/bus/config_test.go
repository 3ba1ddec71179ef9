package bus

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"tasktracer/pkg/natsd"
)

func TestConfigFlags(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"", ""},
		{"-nats nats://a:1,nats://b:2 -log-max-age 24h -log-max-bytes 1000000 -log-replicas 3 -run-window 1 -history-readers 2", ""},
		{"-log-max-age 1ms", "-log-max-age"},
		{"-log-max-bytes -1", "-log-max-bytes"},
		{"-log-replicas 9", "-log-replicas"},
		{"-run-window -1", "-run-window"},
		{"-history-readers -1", "-history-readers"},
		{"-nats-cert a", "-nats-cert"},
		{"-nats-nkey a -nats-creds b", "-nats-nkey"},
		{"-nats-inbox-prefix a.>", "-nats-inbox-prefix"},
	} {
		var c Config
		fs := flag.NewFlagSet("x", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		c.Register(fs)
		if err := fs.Parse(strings.Fields(tc.args)); err != nil {
			t.Fatal(err)
		}
		err := c.Validate()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: Validate = %v, want it to name %q", tc.args, err, tc.want)
		}
	}
	var j JanitorConfig
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	j.Register(fs)
	if err := fs.Parse([]string{"-run-max-bytes", "5"}); err != nil {
		t.Fatal(err)
	}
	if err := j.Validate(); err == nil || !strings.Contains(err.Error(), "-run-max-bytes") {
		t.Errorf("Validate = %v, want it to name -run-max-bytes", err)
	}
	if _, err := Open(deadline(t), Config{}); err == nil || !strings.Contains(err.Error(), "-nats") {
		t.Errorf("Open without an address = %v", err)
	}
}

// pki makes a certificate authority, and a certificate for 127.0.0.1 that is good for servers and clients.
func pki(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	write := func(name, kind string, der []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	sign := func(tmpl, parent *x509.Certificate, pub any, by *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, leafKey := newKey(), newKey()
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	caTmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: from, NotAfter: to, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return write("ca.pem", "CERTIFICATE", sign(caTmpl, caTmpl, &caKey.PublicKey, caKey)),
		write("leaf.pem", "CERTIFICATE", sign(leaf, caTmpl, &leafKey.PublicKey, caKey)), write("leaf.key", "PRIVATE KEY", keyDER)
}

// How we are known to NATS: each way works, and a wrong secret does not.
func TestConnectionSecurity(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := pki(t, dir)
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := kp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seedFile := filepath.Join(dir, "seed")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, server string
		right, wrong func(*Config)
	}{
		{"user and password", `authorization { user: u, password: p }`, func(c *Config) { c.User, c.Password = "u", "p" }, func(c *Config) { c.User, c.Password = "u", "x" }},
		{"token", `authorization { token: s3cret }`, func(c *Config) { c.Token = "s3cret" }, func(c *Config) { c.Token = "other" }},
		{"nkey, and an inbox prefix", fmt.Sprintf(`authorization { users: [ { nkey: %s, permissions: { publish: ">", subscribe: ["_INBOX_ours.>", "tt.>"] } } ] }`, pub),
			func(c *Config) { c.NkeyFile, c.InboxPrefix = seedFile, "_INBOX_ours" }, func(*Config) {}},
		{"TLS, both sides verified", fmt.Sprintf(`tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }`, cert, key, ca),
			func(c *Config) { c.CAFile, c.CertFile, c.KeyFile = ca, cert, key }, func(c *Config) { c.CAFile = ca }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "nats.conf")
			if err := os.WriteFile(file, []byte(tc.server), 0o600); err != nil {
				t.Fatal(err)
			}
			s := startServer(t, natsd.Config{Listen: "127.0.0.1:0", ConfigFile: file})
			url := func(c *Config) { c.URL = strings.Replace(s.ClientURL(), "tls:", "nats:", 1) }
			b := open(t, nil, url, tc.right)
			a := take(t, b, "ing-1", newRun(t))
			submit(t, a, out(1, "x"))
			sync_(t, a)
			checkLog(t, b, a.run.Key, "x")
			ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
			defer cancel()
			c := Config{Name: "wrong"}
			url(&c)
			tc.wrong(&c)
			if b, err := Open(ctx, c); err == nil {
				b.Close()
				t.Error("a wrong secret was let in")
			}
		})
	}
	none := filepath.Join(dir, "none")
	for flag, change := range map[string]func(*Config){
		"-nats-nkey":  func(c *Config) { c.NkeyFile = none },
		"-nats-ca":    func(c *Config) { c.CAFile = none },
		"-nats-cert":  func(c *Config) { c.CertFile, c.KeyFile = none, key },
		"-nats-creds": func(c *Config) { c.CredsFile = none },
	} {
		c := Config{URL: "nats://127.0.0.1:1"}
		change(&c)
		if _, err := Open(deadline(t), c); err == nil || !strings.Contains(err.Error(), flag) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open with a file that is not there = %v, want it to name %s at once", err, flag)
		}
	}
}

// A gateway that started beside four others on a new cluster ended with "bucket tt_lease: stream not found": it had been told that the bucket exists, and then,
// asking for its number of copies, that it does not.
func TestSetupAgain(t *testing.T) {
	notFound := fmt.Errorf("bucket %s: %w", leaseBucket, jetstream.ErrStreamNotFound)
	for name, tc := range map[string]struct {
		noCreate bool
		err      error
		want     bool
	}{
		"who creates":             {false, notFound, true},
		"who must find it":        {true, notFound, false},
		"no leader":               {true, nats.ErrNoResponders, true},
		"a stream that is not so": {false, jetstream.ErrStreamNameAlreadyInUse, false},
	} {
		b := &Bus{cfg: Config{NoCreate: tc.noCreate}}
		if got := b.setupAgain(tc.err); got != tc.want {
			t.Errorf("%s: %v is worth another try: %v, want %v", name, tc.err, got, tc.want)
		}
	}
}

// unseen is a connection to a server that does not know of a bucket yet which another server of its cluster has: the first questions for it find nothing.
type unseen struct {
	from interface{ InProcessConn() (net.Conn, error) }
	left *atomic.Int32
}

func (u unseen) InProcessConn() (net.Conn, error) {
	c, err := u.from.InProcessConn()
	return unseenConn{c, u.left}, err
}

type unseenConn struct {
	net.Conn
	left *atomic.Int32
}

func (c unseenConn) Write(b []byte) (int, error) {
	ask := []byte("$JS.API.STREAM.INFO." + leaseStream)
	if bytes.Contains(b, ask) && c.left.Add(-1) >= 0 {
		b = bytes.ReplaceAll(b, ask, []byte("$JS.API.STREAM.INFO.KV_tt_nosee"))
	}
	return c.Conn.Write(b)
}

// Two processes start at once on a new cluster: what one has made, the server that the other one asks does not know yet.
func TestBucketThatIsNotSeenYet(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Config{})
	first := open(t, s)
	if err := first.js.DeleteKeyValue(deadline(t), leaseBucket); err != nil {
		t.Fatal(err)
	}
	if _, err := first.js.CreateKeyValue(deadline(t), jetstream.KeyValueConfig{Bucket: leaseBucket, Description: "made by another"}); err != nil {
		t.Fatal(err)
	}
	left := &atomic.Int32{}
	left.Store(3)
	second := open(t, nil, func(c *Config) { c.InProcess, c.Replicas = unseen{s, left}, 1 })
	if left.Load() > 0 {
		t.Error("it was seen at once: this test shows nothing")
	}
	if err := second.Ready(deadline(t)); err != nil {
		t.Error(err)
	}
}
