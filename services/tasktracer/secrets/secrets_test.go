package secrets

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"
)

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", e.Name(), info.Mode())
		}
		files[e.Name()] = string(b)
	}
	return files
}

func TestGenerateOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := Generate(dir, []string{"nats-1", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	first := read(t, dir)
	if err := Generate(dir, []string{"nats-1", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(first, read(t, dir)); d != "" {
		t.Errorf("a second Generate changed what was there (-first +second):\n%s", d)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := Generate(other, nil); err != nil {
		t.Fatal(err)
	}
	if read(t, other)[ConfigFile] == first[ConfigFile] {
		t.Error("two deployments have the same token secrets")
	}
}

func TestGenerateKeepsIdentities(t *testing.T) {
	dir := t.TempDir()
	if err := Generate(dir, nil); err != nil {
		t.Fatal(err)
	}
	files := read(t, dir)
	// The file for NATS is lost: it is made again from the seeds that the services hold.
	if err := os.Remove(filepath.Join(dir, NATSFile)); err != nil {
		t.Fatal(err)
	}
	if err := Generate(dir, nil); err != nil {
		t.Fatal(err)
	}
	again := read(t, dir)
	for _, role := range roles {
		pair, err := nkeys.FromSeed([]byte(files[role+seedSuffix]))
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(again[NATSFile], strings.ToUpper(role)+"_NKEY: "+public+"\n") {
			t.Errorf("%s does not name %s's key %s", NATSFile, role, public)
		}
	}
}

func TestCertificateIsGood(t *testing.T) {
	dir := t.TempDir()
	if err := Generate(dir, Hosts("nats-1,nats-2,,127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, CAFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	for host, good := range map[string]bool{"nats-1": true, "nats-2": true, "127.0.0.1": true, "nats-4": false} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host})
		if (err == nil) != good {
			t.Errorf("Verify for %s = %v, want good: %v", host, err, good)
		}
	}
}

func TestConfigForm(t *testing.T) {
	dir := t.TempDir()
	if err := Generate(dir, nil); err != nil {
		t.Fatal(err)
	}
	var c struct {
		JWT map[string]struct{ Secret string }
	}
	if err := json.Unmarshal([]byte(read(t, dir)[ConfigFile]), &c); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, name := range []string{"clientToken", "browserToken", "baseToken"} {
		s := c.JWT[name].Secret
		if len(s) < 40 || seen[s] {
			t.Errorf("%s has the secret %q: short, or used twice", name, s)
		}
		seen[s] = true
	}
}
