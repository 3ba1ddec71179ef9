package checks

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
	"tasktracer/services/tasktracer/secrets"
)

// nodes starts three real nodes from deploy/nats, with fresh secrets; only addresses and folders are replaced. It returns their URLs and the
// folder of the secrets.
func nodes(t *testing.T) (urls, secretsDir string) {
	t.Helper()
	dir := t.TempDir()
	secretsDir = filepath.Join(dir, "secrets")
	if err := secrets.Generate(secretsDir, []string{"localhost", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "accounts.conf"), []byte(read(t, "../nats/accounts.conf")), 0o600); err != nil {
		t.Fatal(err)
	}
	client, route := freePorts(t, 3), freePorts(t, 3)
	var servers []*server.Server
	var all []string
	for i := range 3 {
		t.Setenv("NODE", fmt.Sprintf("nats-%d", i+1))
		conf := strings.NewReplacer(
			"/etc/nats/secrets", secretsDir, `"/data"`, fmt.Sprintf("%q", filepath.Join(dir, fmt.Sprint("js", i))),
			"0.0.0.0:4222", client[i], "0.0.0.0:8222", "127.0.0.1:-1", "0.0.0.0:6222", route[i],
			"nats-1:6222", route[0], "nats-2:6222", route[1], "nats-3:6222", route[2],
		).Replace(read(t, "../nats/nats.conf"))
		path := filepath.Join(dir, fmt.Sprintf("nats-%d.conf", i+1))
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		opts, err := server.ProcessConfigFile(path)
		if err != nil {
			t.Fatalf("deploy/nats/nats.conf: %v", err)
		}
		opts.NoSigs, opts.NoLog = true, true
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers, all = append(servers, s), append(all, "tls://"+client[i])
	}
	until(t, "the nodes have found each other", func() bool {
		for _, s := range servers {
			if s.NumRoutes() == 0 || !s.JetStreamIsCurrent() {
				return false
			}
		}
		return true
	})
	return strings.Join(all, ","), secretsDir
}

// freePorts finds addresses for servers that must know each other's before they start.
func freePorts(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

func TestRolesAtNATS(t *testing.T) {
	urls, dir := nodes(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	open := func(t *testing.T, role string, create bool) *bus.Bus {
		t.Helper()
		cfg := bus.Config{URL: urls, CAFile: filepath.Join(dir, secrets.CAFile), NkeyFile: filepath.Join(dir, role+".nk"), Name: role, NoCreate: !create}
		if create {
			cfg.Replicas = 3
		} else {
			cfg.InboxPrefix = "_INBOX_" + role
		}
		b, err := bus.Open(ctx, cfg)
		if err != nil {
			t.Fatalf("open as %s: %v", role, err)
		}
		t.Cleanup(b.Close)
		return b
	}
	open(t, "operator", true)
	ingest, gateway, token := open(t, "ingest", false), open(t, "gateway", false), open(t, "token", false)
	t.Run("each role can do its work", func(t *testing.T) { works(ctx, t, ingest, gateway, token) })
	t.Run("and nothing else", func(t *testing.T) { refused(t, urls, dir) })
}

// works does what the parts do, as their roles.
func works(ctx context.Context, t *testing.T, ingest, gateway, token *bus.Bus) {
	background := func(what string, fn func(context.Context) error) {
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- fn(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	heardOf := func(b *bus.Bus, incarnation string) *bus.Processes {
		p, err := b.WatchProcesses(ctx, nil)
		if err != nil {
			t.Fatalf("watch processes: %v", err)
		}
		until(t, "the lease of "+incarnation+" is seen", func() bool {
			q, condition := p.Lookup(incarnation)
			return q.Address != "" && condition == bus.Live
		})
		return p
	}
	background("hold a lease as ingest", func(ctx context.Context) error {
		return ingest.Hold(ctx, bus.Process{Name: "i", Incarnation: "i-1", Role: "ingest", Address: "http://i"})
	})
	background("hold a lease as gateway", func(ctx context.Context) error {
		return gateway.Hold(ctx, bus.Process{Name: "g", Incarnation: "g-1", Role: "gateway", Address: "http://g"})
	})
	processes := heardOf(ingest, "g-1")
	heardOf(gateway, "i-1")
	background("settle", func(ctx context.Context) error { return ingest.Settle(ctx, processes, time.Minute) })

	// Output: stored by ingest, seen live and read back by a gateway, deleted by it.
	key := frame.Key{Namespace: "n", Task: "t", Client: "c", Run: "r1"}
	chunks, states := make(chan bus.Stored, 100), make(chan bus.RunChange, 100)
	sub, err := gateway.Subscribe(ctx, bus.Client{Namespace: "n", Task: "t", Client: "c"}, bus.Handler{
		Chunk: func(s bus.Stored) { chunks <- s }, Advanced: func(string, uint64) {}, Lagged: func() {},
	})
	if err != nil {
		t.Fatalf("subscribe as gateway: %v", err)
	}
	defer sub.Close()
	background("watch runs", func(ctx context.Context) error {
		return gateway.WatchRuns(ctx, func(c bus.RunChange) { states <- c }, func() {})
	})
	a, err := ingest.Take(ctx, "i-1", frame.Run{Key: key, Task: []byte(`{"name":"t"}`)})
	if err != nil {
		t.Fatalf("take a run as ingest: %v", err)
	}
	if err := a.Submit(ctx, frame.Record{Src: 1, Kind: frame.Stdout, Data: []byte("hello\n")}); err != nil {
		t.Fatalf("submit as ingest: %v", err)
	}
	if err := a.Sync(ctx); err != nil {
		t.Fatalf("sync as ingest: %v", err)
	}
	for c := range chunks {
		if n := len(c.Chunk.Records); n > 0 && string(c.Chunk.Records[n-1].Data) == "hello\n" {
			break
		}
	}
	seen := ""
	err = gateway.Read(ctx, key, 0, 0, func(s bus.Stored) error {
		for _, r := range s.Chunk.Records {
			if r.Kind == frame.Stdout {
				seen += string(r.Data)
			}
		}
		return nil
	}, func(bus.Gone) error { return nil })
	if err != nil || seen != "hello\n" {
		t.Errorf("read as gateway = %q, %v", seen, err)
	}
	if _, err := gateway.Tail(ctx, key); err != nil {
		t.Errorf("tail as gateway: %v", err)
	}
	if err := a.Release(ctx); err != nil {
		t.Errorf("release as ingest: %v", err)
	}
	if err := gateway.DeleteRun(ctx, key); err != nil {
		t.Errorf("delete as gateway: %v", err)
	}
	for c := range states {
		if c.Deleted {
			break
		}
	}

	// Tokens: asked for by both, revoked by the token service, heard by both.
	background("serve tokens", func(ctx context.Context) error {
		return token.Serve(ctx, "tokens", "1.0.0",
			bus.Endpoint{Name: "verify", Subject: "tt.svc.tokens.verify", Handle: func(context.Context, []byte) ([]byte, error) { return []byte("yes"), nil }},
			bus.Endpoint{Name: "issue", Subject: "tt.svc.tokens.issue", Handle: func(context.Context, []byte) ([]byte, error) { return []byte("here"), nil }})
	})
	for _, ask := range []struct {
		b       *bus.Bus
		subject string
	}{{ingest, "tt.svc.tokens.verify"}, {ingest, "tt.svc.tokens.issue"}, {gateway, "tt.svc.tokens.verify"}} {
		until(t, "an answer on "+ask.subject, func() bool { _, err := ask.b.Request(ctx, ask.subject, []byte("?")); return err == nil })
	}
	heard := make(chan string, 10)
	for _, b := range []*bus.Bus{ingest, gateway, token} {
		background("watch revocations", func(ctx context.Context) error {
			return b.WatchRevoked(ctx, func(jti string, _ time.Time) { heard <- jti }, func() {})
		})
	}
	if err := token.Revoke(ctx, "j1", time.Now().Add(time.Hour)); err != nil {
		t.Fatalf("revoke as token service: %v", err)
	}
	for range 3 {
		select {
		case <-heard:
		case <-ctx.Done():
			t.Fatal("not everybody heard of the revocation")
		}
	}
	for role, b := range map[string]*bus.Bus{"ingest": ingest, "gateway": gateway, "token": token} {
		if err := b.Ready(ctx); err != nil {
			t.Errorf("ready as %s: %v", role, err)
		}
	}
}

// refused tries what each role must not do, on a connection of its own.
func refused(t *testing.T, urls, dir string) {
	tests := map[string]struct{ publish, subscribe []string }{
		"ingest": {
			publish: []string{
				"tt.out.n.t.c.r", "$KV.tt_revoked.j", "tt.svc.other", "tt.anything",
				"$JS.API.STREAM.DELETE.TT_OUTPUT", "$JS.API.STREAM.UPDATE.TT_OUTPUT", "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.SNAPSHOT.TT_OUTPUT",
				"$JS.API.STREAM.DELETE.KV_tt_state", "$JS.API.CONSUMER.CREATE.TT_OUTPUT.mine", "$SYS.REQ.SERVER.PING",
			},
			subscribe: []string{">", "tt.>", "tt.in.>", "tt.out.>", "tt.svc.tokens.verify", "_INBOX_gateway.>", "_INBOX_token.>", "_INBOX.>", "$KV.>"},
		},
		"gateway": {
			publish: []string{
				"tt.in.n.t.c.r", "tt.out.n.t.c.r", "$KV.tt_revoked.j", "tt.svc.tokens.issue",
				"$JS.API.STREAM.DELETE.TT_OUTPUT", "$JS.API.STREAM.CREATE.MINE", "$JS.API.CONSUMER.CREATE.TT_OUTPUT.mine", "$SYS.REQ.SERVER.PING",
			},
			subscribe: []string{">", "tt.in.>", "tt.svc.tokens.verify", "_INBOX_ingest.>", "_INBOX_token.>", "$KV.>"},
		},
		"token": {
			publish: []string{
				"tt.in.n.t.c.r", "tt.out.n.t.c.r", "$KV.tt_state.r", "$KV.tt_lease.p", "tt.hb.p", "tt.svc.tokens.verify",
				"$JS.API.STREAM.DELETE.TT_OUTPUT", "$JS.API.STREAM.PURGE.TT_OUTPUT", "$JS.API.STREAM.MSG.DELETE.TT_OUTPUT", "$JS.API.DIRECT.GET.TT_OUTPUT", "$JS.API.STREAM.MSG.GET.TT_OUTPUT",
			},
			subscribe: []string{">", "tt.in.>", "tt.out.>", "_INBOX_ingest.>", "_INBOX_gateway.>"},
		},
	}
	for role, tt := range tests {
		t.Run(role, func(t *testing.T) {
			violations := make(chan string, 100)
			nkey, err := nats.NkeyOptionFromSeed(filepath.Join(dir, role+".nk"))
			if err != nil {
				t.Fatal(err)
			}
			nc, err := nats.Connect(urls, nkey, nats.RootCAs(filepath.Join(dir, secrets.CAFile)), nats.CustomInboxPrefix("_INBOX_"+role),
				nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err.Error() }))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			expect := func(verb, subject string) {
				t.Helper()
				if err := nc.FlushTimeout(5 * time.Second); err != nil {
					t.Fatal(err)
				}
				// The server writes its refusal before the answer to the flush, but it is reported by another goroutine.
				timer := time.NewTimer(5 * time.Second)
				defer timer.Stop()
				select {
				case v := <-violations:
					if !strings.Contains(strings.ToLower(v), "permissions violation") || !strings.Contains(v, subject) {
						t.Errorf("%s %s was answered %q", verb, subject, v)
					}
				case <-timer.C:
					t.Errorf("%s may %s %s", role, verb, subject)
				}
			}
			for _, subject := range tt.publish {
				if err := nc.Publish(subject, nil); err != nil {
					t.Fatal(err)
				}
				expect("publish", subject)
			}
			for _, subject := range tt.subscribe {
				if _, err := nc.SubscribeSync(subject); err != nil {
					t.Fatal(err)
				}
				expect("subscribe", subject)
			}
		})
	}
	t.Run("a stranger", func(t *testing.T) {
		if nc, err := nats.Connect(urls, nats.RootCAs(filepath.Join(dir, secrets.CAFile))); err == nil {
			nc.Close()
			t.Error("connects without a key")
		}
		if nc, err := nats.Connect(strings.ReplaceAll(urls, "tls://", "nats://"), nats.Secure()); err == nil {
			nc.Close()
			t.Error("a certificate that nobody knows was accepted")
		}
	})
}
