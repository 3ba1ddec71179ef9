package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Cluster is three nats-servers as they are deployed (deploy/nats): TLS, a user of its own for each role, everything held three times. They are
// processes that can be stopped, killed and started again. Only addresses and folders are replaced in the configuration.
type Cluster struct {
	URLs    string
	Config  string // for the token service and tokengen
	Nodes   []*Node
	secrets string
	dir     string // of accounts.conf
	b       Binaries
}

// Node is one of the nats-servers.
type Node struct {
	*Process
	Name  string
	Store string // folder of its JetStream

	conf, monitor, program string
}

// NewCluster starts one whose nodes keep their data in the three folders given, or in temporary ones. The stream and the buckets are made as deployed,
// by the operator's key; the log may have maxBytes.
func NewCluster(t testing.TB, b Binaries, maxBytes int64, stores ...string) *Cluster {
	t.Helper()
	c, err := newCluster(b, t.TempDir(), stores)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			n.Kill()
			if t.Failed() {
				t.Logf("%s said at the end:\n%s", n.Name, n.Tail(30))
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*startWithin)
	defer cancel()
	streams := exec.CommandContext(ctx, b.TaskTracer, append([]string{"streams", "--log-replicas", "3", "--log-max-bytes", fmt.Sprint(maxBytes)}, c.as("operator")...)...)
	if out, err := streams.CombinedOutput(); err != nil {
		t.Fatalf("tasktracer streams: %v\n%s", err, out)
	}
	for _, n := range c.Nodes {
		if err := n.Whole(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func newCluster(b Binaries, dir string, stores []string) (*Cluster, error) {
	c := &Cluster{secrets: filepath.Join(dir, "secrets"), dir: dir, b: b}
	c.Config = filepath.Join(c.secrets, "config.json")
	if err := run(dir, b.TaskTracer, "setup", "--dir", c.secrets, "--hosts", "localhost,127.0.0.1"); err != nil {
		return nil, err
	}
	shipped := filepath.Join(Root(), "deploy", "nats")
	accounts, err := os.ReadFile(filepath.Join(shipped, "accounts.conf"))
	if err != nil {
		return nil, err
	}
	conf, err := os.ReadFile(filepath.Join(shipped, "nats.conf"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "accounts.conf"), accounts, 0o600); err != nil {
		return nil, err
	}
	addrs := make([]string, 9)
	for i := range addrs {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	var urls []string
	for i := range 3 {
		n := &Node{Name: fmt.Sprintf("nats-%d", i+1), Store: filepath.Join(dir, fmt.Sprint("js", i)), monitor: "http://" + addrs[6+i], program: b.NATS}
		if len(stores) > 0 {
			n.Store = stores[i]
		}
		n.conf = filepath.Join(dir, n.Name+".conf")
		text := strings.NewReplacer(
			"/etc/nats/secrets", c.secrets, `"/data"`, fmt.Sprintf("%q", n.Store),
			"0.0.0.0:4222", addrs[i], "0.0.0.0:6222", addrs[3+i], "0.0.0.0:8222", addrs[6+i],
			"nats-1:6222", addrs[3], "nats-2:6222", addrs[4], "nats-3:6222", addrs[5],
		).Replace(string(conf))
		if err := os.WriteFile(n.conf, []byte(text), 0o600); err != nil {
			return nil, err
		}
		c.Nodes, urls = append(c.Nodes, n), append(urls, "tls://"+addrs[i])
	}
	c.URLs = strings.Join(urls, ",")
	return c, nil
}

// as gives the flags with which a role comes to this cluster.
func (c *Cluster) as(role string) []string {
	return []string{"--nats", c.URLs, "--nats-ca", filepath.Join(c.secrets, "ca.crt"), "--nats-nkey", filepath.Join(c.secrets, role+".nk")}
}

// As gives the flags of a server of that role: it may do what its role does, and makes no streams.
func (c *Cluster) As(role string) []string {
	return append(c.as(role), "--nats-inbox-prefix", "_INBOX_"+role, "--nats-no-create")
}

// Operator gives the flags of the user that may do anything.
func (c *Cluster) Operator() []string { return c.as("operator") }

// Reload replaces a text in the configuration of the accounts, which must be there, and has each node read it again.
func (c *Cluster) Reload(t testing.TB, old, new string) {
	t.Helper()
	path := filepath.Join(c.dir, "accounts.conf")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if err := n.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
}

// Leader is the node that leads the log's stream; nil where none is known.
func (c *Cluster) Leader() *Node {
	for _, n := range c.Nodes {
		var j struct {
			Accounts []struct {
				Streams []struct {
					Name    string
					Cluster struct{ Leader string }
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		if n.ask("/jsz?accounts=true&streams=true", &j) != nil {
			continue
		}
		for _, a := range j.Accounts {
			for _, s := range a.Streams {
				for _, of := range c.Nodes {
					if s.Name == "TT_OUTPUT" && s.Cluster.Leader == of.Name {
						return of
					}
				}
			}
		}
	}
	return nil
}

// Launch starts a node that has ended.
func (n *Node) Launch() (err error) {
	n.Process, err = Launch(n.Name, nil, []string{"NODE=" + n.Name}, n.program, "-c", n.conf)
	return err
}

// Stop ends a node as deployed: on SIGTERM it gives up what it leads before it ends, so that nobody waits for an election.
func (n *Node) Stop(ctx context.Context, t testing.TB) {
	t.Helper()
	if err := n.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := n.Wait(ctx); err != nil || code != 0 {
		t.Fatalf("%s ended with %d, %v after SIGTERM\n%s", n.Name, code, err, n.Tail(30))
	}
}

// Start starts a node that has ended, and returns when it holds all that it should.
func (n *Node) Start(ctx context.Context) error {
	if err := n.Launch(); err != nil {
		return err
	}
	return n.Whole(ctx)
}

// Whole waits until the node has everything that it should hold, and is up to date.
func (n *Node) Whole(ctx context.Context) error {
	for {
		var h struct{ Status, Error string }
		err := n.ask("/healthz", &h)
		if err == nil && h.Status == "ok" {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-n.Ended():
			return fmt.Errorf("%s ended\n%s", n.Name, n.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("%s is not whole: %v %v: %w\n%s", n.Name, h, err, ctx.Err(), n.Tail(20))
		}
	}
}

func (n *Node) ask(path string, to any) error {
	client := &http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get(n.monitor + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(to)
}
