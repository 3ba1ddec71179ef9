package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"tasktracer/deploy/e2e/stage"
)

// node is one server process of the world: it can be killed, stopped for a while, and started again at the same address.
type node struct {
	name, role string
	start      func(ctx context.Context) (*stage.Process, error)

	mu   sync.Mutex
	p    *stage.Process
	away bool // struck, and not back yet
}

func (n *node) setAway(away bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = away
}

func (n *node) isAway() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.away
}

func (n *node) up(ctx context.Context) error {
	p, err := n.start(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.p = p
	return nil
}

func (n *node) process() *stage.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.p
}

// world is the system under test.
type world struct {
	dir      string
	binaries stage.Binaries
	config   string
	nodes    []*node
	natsURLs string
	monitors []string // of the nats-servers, in order
	clients  *proxy
	viewers  *proxy
	toNATS   [][2]*proxy // in front of each nats-server: for our services, and for its peers
}

func newWorld(ctx context.Context, dir string) (*world, error) {
	w := &world{dir: dir}
	var err error
	if w.binaries, err = stage.Build(dir); err != nil {
		return nil, err
	}
	if w.config, err = stage.WriteConfig(dir); err != nil {
		return nil, err
	}
	if err := w.addNATS(); err != nil {
		return nil, err
	}
	if _, err := w.addServers("token", 2, "--config", w.config); err != nil {
		return nil, err
	}
	gateways, err := w.addServers("gateway", 2)
	if err != nil {
		return nil, err
	}
	if w.viewers, err = newProxy(gateways); err != nil {
		return nil, err
	}
	ingests, err := w.addServers("ingest", 2, "--public-url", w.viewers.url())
	if err != nil {
		return nil, err
	}
	if w.clients, err = newProxy(ingests); err != nil {
		return nil, err
	}
	return w, w.up(ctx)
}

func ports(n int) ([]int, error) {
	out := make([]int, n)
	for i := range out {
		var err error
		if out[i], err = stage.FreePort(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (w *world) addNATS() error {
	p, err := ports(9)
	if err != nil {
		return err
	}
	var routes, urls []string
	for i := range 3 {
		var both [2]*proxy
		for k := range both {
			if both[k], err = newProxy([]string{fmt.Sprintf("127.0.0.1:%d", p[3*k+i])}); err != nil {
				return err
			}
			both[k].unasked = true
		}
		w.toNATS = append(w.toNATS, both)
		urls = append(urls, "nats://"+both[0].addr())
		routes = append(routes, "nats://"+both[1].addr())
		w.monitors = append(w.monitors, fmt.Sprintf("http://127.0.0.1:%d", p[6+i]))
	}
	w.natsURLs = strings.Join(urls, ",")
	for i := range 3 {
		name := fmt.Sprintf("nats-%d", i)
		conf := filepath.Join(w.dir, name+".conf")
		text := fmt.Sprintf("server_name: %s\nlisten: 127.0.0.1:%d\nhttp: 127.0.0.1:%d\njetstream { store_dir: %q, max_file_store: 8GB }\ncluster { name: chaos, listen: 127.0.0.1:%d, advertise: %q, no_advertise: true, routes: [%s] }\n",
			name, p[i], p[6+i], filepath.Join(w.dir, name), p[3+i], w.toNATS[i][1].addr(), strings.Join(routes, ", "))
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return err
		}
		w.nodes = append(w.nodes, &node{name: name, role: "nats", start: func(context.Context) (*stage.Process, error) {
			return stage.Launch(name, nil, nil, w.binaries.NATS, "-c", conf)
		}})
	}
	return nil
}

// addServers adds processes of one role, and returns their addresses.
func (w *world) addServers(role string, n int, args ...string) ([]string, error) {
	p, err := ports(n)
	if err != nil {
		return nil, err
	}
	var addrs []string
	for i := range n {
		name, addr := fmt.Sprintf("%s-%d", role, i), fmt.Sprintf("127.0.0.1:%d", p[i])
		addrs = append(addrs, addr)
		w.nodes = append(w.nodes, &node{name: name, role: role, start: func(ctx context.Context) (*stage.Process, error) {
			all := append([]string{"--nats", w.natsURLs, "--log-replicas", "3", "--log-max-bytes", "2000000000"}, args...)
			if role != "token" {
				all = append(all, "--drain", "1s")
			}
			s, err := stage.LaunchServer(ctx, w.binaries, name, role, addr, all...)
			if err != nil {
				return nil, err
			}
			return s.Process, nil
		}})
	}
	return addrs, nil
}

// up starts everything, NATS first, the rest at once.
func (w *world) up(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(w.nodes))
	for _, both := range w.toNATS {
		for _, p := range both {
			go p.run(ctx)
		}
	}
	for _, n := range w.nodes {
		if n.role == "nats" {
			if err := n.up(ctx); err != nil {
				return err
			}
			continue
		}
		wg.Go(func() { errs <- n.up(ctx) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	go w.clients.run(ctx)
	go w.viewers.run(ctx)
	return nil
}

func (w *world) down() {
	for _, n := range w.nodes {
		if p := n.process(); p != nil {
			_ = p.Signal(syscall.SIGCONT)
			p.Kill()
		}
	}
}

func (w *world) of(role string) (out []*node) {
	for _, n := range w.nodes {
		if n.role == role {
			out = append(out, n)
		}
	}
	return out
}

// cut cuts some connections: of clients, of viewers, or of a nats-server with our services and with its peers.
func (w *world) cut(rng *rand.Rand, d deed) int {
	n := 1 + d.Which%8
	switch d.Target {
	case "clients":
		return w.clients.cut(rng, n)
	case "viewers":
		return w.viewers.cut(rng, n)
	}
	both := w.toNATS[d.Which%len(w.toNATS)]
	return both[0].cut(rng, n) + both[1].cut(rng, 1+d.Which%3)
}

// leader is the name of the nats-server that leads the log's stream, as most see it; "" where they do not agree.
func (w *world) leader() string {
	votes := map[string]int{}
	for _, m := range w.monitors {
		votes[leaderBy(m)]++
	}
	for name, n := range votes {
		if name != "" && n > len(w.monitors)/2 {
			return name
		}
	}
	return ""
}

// leaderBy asks one of them.
func leaderBy(monitor string) string {
	client := &http.Client{Timeout: time.Second}
	resp, err := client.Get(monitor + "/jsz?streams=true")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var j struct {
		Accounts []struct {
			Streams []struct {
				Name    string `json:"name"`
				Cluster struct {
					Leader string `json:"leader"`
				} `json:"cluster"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if json.NewDecoder(resp.Body).Decode(&j) != nil {
		return ""
	}
	for _, a := range j.Accounts {
		for _, s := range a.Streams {
			if !strings.HasPrefix(s.Name, "KV_") && s.Cluster.Leader != "" {
				return s.Cluster.Leader
			}
		}
	}
	return ""
}
