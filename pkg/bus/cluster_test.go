package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
)

// TestMain turns the test binary into a NATS server, or into a backup or a restore, where the environment says so: real processes can be killed for real.
func TestMain(m *testing.M) {
	if spec := os.Getenv("BUS_TEST_COPY"); spec != "" {
		if err := runCopy(strings.Split(spec, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if spec := os.Getenv("BUS_TEST_NATSD"); spec != "" {
		if err := runServer(strings.Split(spec, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runServer serves until its standard input ends: it must not outlive the test.
func runServer(spec []string) error {
	s, err := natsd.Start(context.Background(), natsd.Config{
		Dir: spec[0], Listen: spec[1], Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Cluster: &natsd.Cluster{Name: spec[2], Listen: spec[3], Routes: strings.Split(spec[4], ",")},
	})
	if err != nil {
		return err
	}
	defer s.Stop()
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // whatever ends it
	return nil
}

// cluster is three servers, each a process.
type cluster struct {
	t     testing.TB
	names []string
	specs []string
	urls  []string
	cmds  []*exec.Cmd
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := startingCluster(t)
	c.launch(0, 1, 2)
	return c
}

// launch starts servers, and waits until they serve.
func (c *cluster) launch(servers ...int) {
	var ready sync.WaitGroup
	for _, i := range servers {
		ready.Go(func() { c.start(i) })
	}
	ready.Wait()
}

// startingCluster is one that is not launched yet.
func startingCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, cmds: make([]*exec.Cmd, 3)}
	dir := t.TempDir()
	var routes, listens []string
	for range 3 {
		r := freeAddr(t)
		listens = append(listens, r)
		routes = append(routes, "nats://"+r)
	}
	for i := range 3 {
		name, addr := fmt.Sprintf("n%d", i), freeAddr(t)
		c.names = append(c.names, name)
		c.urls = append(c.urls, "nats://"+addr)
		c.specs = append(c.specs, strings.Join([]string{filepath.Join(dir, name), addr, name, listens[i], strings.Join(routes, ",")}, "|"))
	}
	t.Cleanup(func() {
		for i := range c.cmds {
			c.kill(i)
		}
	})
	return c
}

func (c *cluster) start(i int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BUS_TEST_NATSD="+c.specs[i])
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Error(err)
		return
	}
	_ = in // closed with this process
	cmd.Stderr = c.t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		c.t.Error(err)
		return
	}
	c.cmds[i] = cmd
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		c.t.Errorf("server %d: %q, %v", i, line, err)
	}
}

// kill is kill -9.
func (c *cluster) kill(i int) {
	if c.cmds[i] == nil {
		return
	}
	_ = c.cmds[i].Process.Signal(syscall.SIGKILL) // it may have ended by itself
	_ = c.cmds[i].Wait()
	c.cmds[i] = nil
}

// leader is the number of the server that leads the log's stream.
func (c *cluster) leader(b *Bus) int {
	c.t.Helper()
	at := -1
	eventually(c.t, "the log has a leader", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := b.js.Stream(ctx, logStream)
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		for i, n := range c.names {
			if n == s.CachedInfo().Cluster.Leader {
				at = i
			}
		}
		return at >= 0
	})
	return at
}

func TestClusterLosesItsLeader(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	c := startCluster(t)
	url := strings.Join(c.urls, ",")
	connect := func(cfg *Config) { cfg.URL, cfg.MaxBytes, cfg.Log = url, 128<<20, nil }
	ingest, gateway := open(t, nil, connect), open(t, nil, connect)
	if s, err := ingest.js.Stream(deadline(t), logStream); err != nil || s.CachedInfo().Config.Replicas != 3 {
		t.Fatalf("stream: %v, want 3 replicas", err)
	}
	hold(t, ingest, Process{Name: "ing", Incarnation: "ing-1"})

	const writers = 6
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wants := make([]strings.Builder, writers)
	srcs := make([]uint64, writers)
	runs := make([]frame.Run, writers)
	var followers []*follower
	for i := range writers {
		runs[i] = frame.Run{Key: frame.Key{Namespace: "n", Task: "cluster", Client: fmt.Sprint(i), Run: fmt.Sprintf("run-%08d", i)}}
		followers = append(followers, following(t, gateway, runs[i].Key))
		a, err := ingest.Take(ctx, "ing-1", runs[i])
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					if err := a.Sync(ctx); err != nil {
						t.Errorf("writer %d: %v", i, err)
					}
					return
				default:
				}
				srcs[i]++
				text := fmt.Sprintf("%d/%d\n", i, srcs[i])
				wants[i].WriteString(text)
				if err := a.Submit(ctx, out(srcs[i], text)); err != nil {
					t.Errorf("writer %d: %v", i, err)
					return
				}
				if i%2 == 0 {
					if err := a.Sync(ctx); err != nil && !errors.Is(err, context.Canceled) {
						t.Errorf("writer %d: %v", i, err)
						return
					}
				} else if srcs[i]%64 == 0 {
					if sleep(ctx, time.Millisecond) != nil {
						return
					}
				}
			}
		})
	}
	progress := func(what string) {
		t.Helper()
		was := followers[0].have()
		begun := time.Now()
		eventually(t, what, func() bool { return followers[0].have() > was+20 })
		t.Logf("%s: after %v", what, time.Since(begun).Round(time.Millisecond))
	}
	progress("output flows")
	leader := c.leader(ingest)
	c.kill(leader)
	progress("output flows again after the leader was killed")
	c.start(leader)
	follower := (c.leader(ingest) + 1) % 3
	c.kill(follower)
	progress("output flows again after a follower was killed")
	c.start(follower)
	close(stop)
	wg.Wait()
	for i := range writers {
		followers[i].await(t, srcs[i]+1)
		if followers[i].output() != wants[i].String() || len(followers[i].h.gone) != 0 {
			t.Errorf("follower %d got %d bytes, gone %v, want %d", i, len(followers[i].output()), followers[i].h.gone, wants[i].Len())
		}
		h := read(t, gateway, runs[i].Key, 0, 0)
		h.dense(t, 1)
		if h.output() != wants[i].String() {
			t.Errorf("the log of run %d holds %d bytes, want %d", i, len(h.output()), wants[i].Len())
		}
		if err := onceInTheStream(ctx, ingest, path(runs[i].Key)); err != nil {
			t.Errorf("run %d: %v", i, err)
		}
	}
	t.Logf("records: %v", srcs)
}

// More copies of the log, asked for later, are more copies of what is known of its runs. A deletion reaches a replica that was away, too. And while the
// log elects a leader, what the replicas have is read.
func TestClusterReplicas(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	c := startCluster(t)
	connect := func(replicas int, urls ...string) *Bus {
		return open(t, nil, func(cfg *Config) {
			cfg.URL, cfg.MaxBytes, cfg.Replicas, cfg.Log = strings.Join(urls, ","), 128<<20, replicas, nil
		})
	}
	streams := []string{logStream, stateStream, leaseStream, revokeStream}
	copies := func(b *Bus, want int) bool {
		for _, name := range streams {
			s, err := b.js.Stream(deadline(t), name)
			if err != nil || s.CachedInfo().Config.Replicas != want || s.CachedInfo().Cluster == nil || len(s.CachedInfo().Cluster.Replicas) != want-1 {
				return false
			}
			for _, r := range s.CachedInfo().Cluster.Replicas {
				if !r.Current || r.Offline {
					return false
				}
			}
		}
		return true
	}
	first := connect(1, c.urls...)
	eventually(t, "there is one copy of everything", func() bool { return copies(first, 1) })
	first.Close()
	b := connect(3, c.urls...)
	eventually(t, "there are three copies of everything", func() bool { return copies(b, 3) })

	secret := newRun(t)
	a := take(t, b, "ing-1", secret)
	submit(t, a, out(1, "a secret"), exit(2, "0"))
	if err := a.Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
	away := (c.leader(b) + 1) % 3
	c.kill(away)
	if err := b.DeleteRun(deadline(t), secret.Key); err != nil {
		t.Fatal(err)
	}
	c.start(away)
	t.Cleanup(func() {
		for _, name := range streams {
			if s, err := b.js.Stream(deadline(t), name); t.Failed() && err == nil && s.CachedInfo().Cluster != nil {
				for _, r := range s.CachedInfo().Cluster.Replicas {
					t.Logf("%s, led by %s: %+v", name, s.CachedInfo().Cluster.Leader, *r)
				}
			}
		}
	})
	eventually(t, "the replica is back", func() bool { return copies(b, 3) })
	for i, url := range c.urls { // a server answers from its own copy first
		near := connect(0, url)
		for range 20 {
			if s, err := near.nearTail(deadline(t), path(secret.Key)); err != nil || s != nil {
				t.Fatalf("by way of server %d a deleted run is still read: %v, %v", i, s, err)
			}
		}
		near.Close()
	}

	run := newRun(t)
	a = take(t, b, "ing-1", run)
	var want strings.Builder
	for src := uint64(1); src <= 50; src++ {
		text := fmt.Sprintf("line %d\n", src)
		want.WriteString(text)
		submit(t, a, out(src, text))
		sync_(t, a)
	}
	eventually(t, "every replica has all", func() bool { return copies(b, 3) })
	leaderless := func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		_, err := b.Tail(ctx, run.Key)
		return err != nil
	}
	proven := false
	for tries := 0; !proven && tries < 3; tries++ {
		leader := c.leader(b)
		c.kill(leader)
		eventually(t, "it is noticed that the leader is gone", leaderless)
		begun := time.Now()
		h := &history{}
		for len(h.recs) < 51 {
			after := uint64(len(h.recs))
			err := b.Catch(deadline(t), run.Key, after, 0, h.add, func(g Gone) error { return fmt.Errorf("told that %v is gone", g) })
			if err != nil {
				t.Fatal(err)
			}
		}
		took := time.Since(begun)
		proven = leaderless()
		h.dense(t, 1)
		if h.output() != want.String() {
			t.Fatalf("read %q", h.output())
		}
		t.Logf("all was read in %v, without a leader: %v", took, proven)
		if proven {
			break
		}
		c.start(leader)
		eventually(t, "there is a leader again", func() bool { return !leaderless() })
	}
	if !proven {
		t.Error("nothing was read while there was no leader")
	}
}

// Whoever starts first makes the stream and the buckets; on a cluster that is only just coming up, several at once, and none may end over it.
func TestClusterIsSetUpByManyAtOnce(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts three servers")
	}
	c := startingCluster(t)
	var wg sync.WaitGroup
	for i := range 9 {
		wg.Go(func() {
			cfg := Config{Name: fmt.Sprint("starts-", i), URL: c.urls[i%2], MaxBytes: 128 << 20, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
			b, err := Open(deadline(t), cfg)
			if err != nil {
				t.Errorf("start %d: %v", i, err)
				return
			}
			defer b.Close()
			for _, name := range []string{logStream, stateStream, leaseStream, revokeStream} {
				err := retry(deadline(t), func() error {
					s, err := b.js.Stream(deadline(t), name)
					if err == nil && s.CachedInfo().Config.Replicas != 3 {
						t.Errorf("start %d: %s has %d replicas, want 3", i, name, s.CachedInfo().Config.Replicas)
					}
					return err
				}, b.setupAgain)
				if err != nil {
					t.Errorf("start %d: %s: %v", i, name, err)
				}
			}
		})
	}
	c.launch(0, 1) // a majority, and too few for three replicas
	c.launch(2)
	wg.Wait()
}
