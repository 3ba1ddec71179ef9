// Command socketio compares pkg/socketio with other servers, all in one run on one machine, and prints a table.
//
// What is counted is events delivered per second of the server's own processor time, so that the generator beside it, and whatever else runs, matters little.
// The bare loops show what the wire costs, and that the generator is not the bottleneck.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func peers() []peer {
	return []peer{
		{name: "pkg/socketio", wire: eio4, start: startOurs},
		{name: "bare, coalescing", wire: eio4, start: startBare(true)},
		{name: "bare, one by one", wire: eio4, start: startBare(false)},
		{name: "centrifuge 0.40.1", wire: centri, start: startCentrifuge},
		{name: "node socket.io 4.8.3", wire: eio4},
		{name: "zishang v3.0.2", wire: eio4, start: startZishang},
		{name: "googollee v1.7.0", wire: eio3, start: startGoogollee},
	}
}

func main() {
	only := flag.String("serve", "", "serve as this peer (used by the benchmark itself)")
	pick := flag.String("peers", "", "peers whose names contain one of these words, with commas between; all")
	parts := flag.String("parts", strings.Join(partNames(), ","), "what to measure")
	rounds := flag.Int("rounds", 3, "rounds; the median is shown")
	flag.Parse()
	if err := run(*only, *pick, *parts, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(only, pick, parts string, rounds int) error {
	all := peers()
	if only != "" {
		i := slices.IndexFunc(all, func(p peer) bool { return p.name == only })
		if i < 0 {
			return fmt.Errorf("no peer %q", only)
		}
		return serve(all[i])
	}
	if pick != "" {
		all = slices.DeleteFunc(all, func(p peer) bool {
			return !slices.ContainsFunc(strings.Split(pick, ","), func(w string) bool { return strings.Contains(p.name, w) })
		})
	}
	if err := installNode(); err != nil {
		return err
	}
	t := &table{rows: map[string]map[string][]float64{}}
	for _, name := range partNames() {
		if !slices.Contains(strings.Split(parts, ","), name) {
			continue
		}
		for range rounds {
			for _, p := range all {
				began := time.Now()
				if err := measure(name, p, t); err != nil {
					fmt.Fprintf(os.Stderr, "%s, %s: %v\n", p.name, name, err)
				}
				fmt.Fprintf(os.Stderr, "%-8s %-22s %6.1f s\n", name, p.name, time.Since(began).Seconds())
			}
		}
	}
	t.print(os.Stdout, all)
	return nil
}

func installNode() error {
	if _, err := os.Stat(filepath.Join(nodeDir(), "node_modules", "socket.io")); err == nil {
		return nil
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir, cmd.Stdout, cmd.Stderr = nodeDir(), os.Stderr, os.Stderr
	return cmd.Run()
}

func partNames() []string {
	return []string{"fan200", "fan2000", "fan16k", "idle", "hands", "late", "stall"}
}

func measure(part string, p peer, t *table) error {
	s, err := start(p)
	if err != nil {
		return err
	}
	defer s.stop()
	switch part {
	case "fan200":
		return fanOut(s, p, t, "200 viewers, 200 B: events/CPU s", 200, 1000, 200)
	case "fan2000":
		return fanOut(s, p, t, "2000 viewers, 200 B: events/CPU s", 2000, 200, 200)
	case "fan16k":
		return fanOut(s, p, t, "200 viewers, 16 KiB: events/CPU s", 200, 100, 16<<10)
	case "idle":
		return idle(s, p, t)
	case "hands":
		return handshakes(s, p, t)
	case "late":
		return late(s, p, t)
	case "stall":
		return stalled(s, p, t)
	}
	return fmt.Errorf("no part %q", part)
}

// fanOut measures n events of size bytes to viewers, flat out.
func fanOut(s *process, p peer, t *table, row string, viewers, n, size int) error {
	c, err := gather(s.addr, p.wire, viewers, 64<<10)
	if err != nil {
		return err
	}
	defer c.close()
	if err := s.fan(20, size, 0); err != nil { // warm
		return err
	}
	c.await(int64(20*viewers), 20*time.Second)
	c.got.Store(0)
	before, mine, began := s.cpu(), cpuOf(os.Getpid()), time.Now()
	var want, got int64
	// Again and again until there is enough to measure: the clock of processor time ticks every 10 ms.
	for got == want && s.cpu()-before < time.Second && c.lost.Load() == 0 {
		if err := s.fan(n, size, 0); err != nil {
			return err
		}
		want += int64(n * viewers)
		got = c.await(want, 60*time.Second)
	}
	wall, used, own := time.Since(began), s.cpu()-before, cpuOf(os.Getpid())-mine
	if got != want {
		fmt.Fprintf(os.Stderr, "%s: %s: %d of %d delivered, %d viewers lost\n", p.name, row, got, want, c.lost.Load())
		if got == 0 {
			return nil
		}
	}
	t.add(row, p.name, float64(got)/used.Seconds())
	t.add("  (events a second)", p.name, float64(got)/wall.Seconds())
	t.add("  (generator's CPU, µs an event)", p.name, own.Seconds()*1e6/float64(got))
	return nil
}

// idle measures the resident memory of 5,000 connections that do nothing.
func idle(s *process, p peer, t *table) error {
	const n = 5000
	before := s.resident()
	c, err := gather(s.addr, p.wire, n, 256)
	if err != nil {
		return err
	}
	defer c.close()
	time.Sleep(8 * time.Second) // what the handshakes left behind may go
	t.add("idle connection: KiB resident", p.name, float64(s.resident()-before)/n/1024)
	return nil
}

// handshakes measures connections made and dropped.
func handshakes(s *process, p peer, t *table) error {
	if strings.HasPrefix(p.name, "bare") {
		return nil
	}
	const n = 3000
	per := func(row string, one func() (*conn, error)) error {
		used := s.cpu()
		var failed atomic.Int64
		var wg sync.WaitGroup
		errs := make(chan error, 16)
		for range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range n / 16 {
					c, err := one()
					if err == nil {
						c.nc.Close()
						continue
					}
					if failed.Add(1) > n/20 { // a peer that loses one now and then is still measured
						errs <- err
						return
					}
				}
			}()
		}
		wg.Wait()
		select {
		case err := <-errs:
			return fmt.Errorf("%s: %w", row, err)
		default:
		}
		t.add(row, p.name, n/16*16/(s.cpu()-used).Seconds())
		t.add("  failed, of 2,992", p.name, float64(failed.Load()))
		return nil
	}
	if err := per("handshakes/CPU s, WebSocket", func() (*conn, error) { return open(s.addr, p.wire, 1024) }); err != nil {
		return err
	}
	if p.wire == centri {
		return nil // it has no such thing
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	return per("handshakes/CPU s, polling then upgrade", func() (*conn, error) { return pollThenUpgrade(client, s.addr, p.wire) })
}
