// Command chaos breaks a whole system, again and again, and then proves that nothing was lost, doubled or put out of order.
//
// Three nats-servers, two of each of our services, commands under tt that write a known output, and viewers on the oldest and the newest npm library
// and on our own client, all as real processes. A monkey, whose schedule follows from a seed, kills, stops and cuts. At the end the SHA-256 of what each
// viewer has of each run is compared with that of what the command wrote.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"tasktracer/deploy/e2e/clients"
	"tasktracer/deploy/e2e/stage"
)

type config struct {
	Seed     uint64
	Over     time.Duration
	Deeds    int
	Megs     int
	Commands int
	Viewers  int
	Blackout time.Duration
	Settle   time.Duration
	Keep     bool
	Plan     bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "generate" {
		if err := generateArgs(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func generateArgs(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: chaos generate SEED BYTES BLOCK PAUSE")
	}
	seed, err1 := strconv.ParseUint(args[0], 10, 64)
	bytes, err2 := strconv.Atoi(args[1])
	block, err3 := strconv.Atoi(args[2])
	pause, err4 := time.ParseDuration(args[3])
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	return generate(profile{Bytes: bytes, Block: block, Pause: pause}, seed)
}

func run(ctx context.Context, args []string) error {
	var cfg config
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.Uint64Var(&cfg.Seed, "seed", 0, "of the schedule and of all output; 0: a random one, which is printed")
	fs.DurationVar(&cfg.Over, "over", 150*time.Second, "how long the monkey is at work")
	fs.IntVar(&cfg.Deeds, "deeds", 60, "what it does in that time")
	fs.IntVar(&cfg.Megs, "mb", 200, "megabytes that the commands write, together")
	fs.IntVar(&cfg.Commands, "commands", 20, "commands under tt")
	fs.IntVar(&cfg.Viewers, "viewers", 40, "viewers")
	fs.DurationVar(&cfg.Blackout, "blackout", 0, "instead of a schedule: all of NATS is down for so long, once")
	fs.DurationVar(&cfg.Settle, "settle", 2*time.Minute, "how long everything may take to arrive when the monkey has gone")
	fs.BoolVar(&cfg.Keep, "keep", false, "keep the working directory")
	fs.BoolVar(&cfg.Plan, "plan", false, "print the schedule, and do nothing")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if cfg.Seed == 0 {
		var b [4]byte
		rand.Read(b[:]) // never fails, by its documentation
		cfg.Seed = uint64(binary.LittleEndian.Uint32(b[:])) + 1
	}
	deeds := schedule(cfg.Seed, cfg.Deeds, cfg.Over)
	if cfg.Blackout > 0 {
		deeds = []deed{{At: cfg.Over / 3, Kind: "blackout", Target: "nats", For: cfg.Blackout}}
	}
	fmt.Printf("seed %d: %d deeds in %v, %d MB by %d commands, %d viewers\n", cfg.Seed, len(deeds), cfg.Over, cfg.Megs, cfg.Commands, cfg.Viewers)
	if cfg.Plan {
		for _, d := range deeds {
			fmt.Println(d)
		}
		return nil
	}
	dir, err := os.MkdirTemp("", "tasktracer-chaos-")
	if err != nil {
		return err
	}
	if !cfg.Keep {
		defer os.RemoveAll(dir)
	}
	return chaos(ctx, cfg, dir, deeds)
}

// command is one wrapped command.
type command struct {
	id   string
	p    profile
	seed uint64
	want map[string]*expected
	tt   *stage.Process
}

const task = "chaos"

func chaos(ctx context.Context, cfg config, dir string, deeds []deed) (err error) {
	if err := installed(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := newWorld(ctx, dir)
	if w != nil {
		defer w.down()
	}
	if err != nil {
		return err
	}
	begun := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
	}
	commands := plan(cfg)
	crowd, err := seat(ctx, w, cfg, commands)
	if err != nil {
		return err
	}
	defer crowd.close()
	defer func() {
		for _, c := range commands {
			if c.tt != nil {
				c.tt.Kill()
			}
		}
	}()
	if err := begin(w, dir, commands); err != nil {
		return err
	}
	say("everything runs")
	m := &monkey{w: w, crowd: crowd, log: say, rng: mathrand.New(mathrand.NewPCG(cfg.Seed, 2))}
	did, monkeyErr := m.run(ctx, deeds)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	say("the monkey has gone; waiting for the rest")
	all, waitErr := settle(ctx, cfg, commands, crowd)
	return report(cfg, crowd, commands, all, did, errors.Join(monkeyErr, waitErr), time.Since(begun))
}

// plan decides what is written: a pulse, trickles, bursts and floods, spread over the time that the monkey is at work.
func plan(cfg config) []*command {
	var out []*command
	total := cfg.Megs << 20
	over := cfg.Over + 15*time.Second
	paced := func(name string, bytes, block int) profile {
		writes := max(bytes/block, 1)
		return profile{name, bytes, block, over / time.Duration(writes)}
	}
	for i := range cfg.Commands {
		var p profile
		switch {
		case i == 0: // by which silences are measured
			p = profile{"pulse", int(over/(50*time.Millisecond)) * 40, 30, 50 * time.Millisecond}
		case i%10 == 1:
			p = paced("flood", total*7/20/max(cfg.Commands/10, 1), 64<<10)
		case i%5 == 2:
			p = profile{"burst", total * 8 / 20 / max(cfg.Commands/5, 1), 1 << 20, 0}
			p.Pause = over / time.Duration(max(p.Bytes/p.Block, 1))
		case i%2 == 0:
			p = paced("steady", total*5/20/max(cfg.Commands*3/10, 1), 2000)
		default:
			p = paced("trickle", 60_000, 100)
		}
		c := &command{id: fmt.Sprintf("host-%02d", i), p: p, seed: cfg.Seed + uint64(i)*1000}
		c.want = expect(p, c.seed)
		out = append(out, c)
	}
	return out
}

// seat brings the viewers: each watches the pulse and a few others.
func seat(ctx context.Context, w *world, cfg config, commands []*command) (*crowd, error) {
	token, err := stage.MakeToken(w.binaries, w.config, "chaos", "browser_token")
	if err != nil {
		return nil, err
	}
	var specs []spec
	for i := range cfg.Viewers {
		s := spec{ID: fmt.Sprintf("viewer-%02d", i), URL: w.viewers.url(), Token: token, Task: task, V2: true, Pulse: commands[0].id, From: []string{commands[0].id}}
		switch i % 5 {
		case 0, 1:
			s.Alias = "go"
		case 2:
			s.Alias, s.V2 = "sio1", i%2 == 0 // half of them ask for nothing new
		case 3:
			s.Alias = "sio4"
		default:
			s.Alias, s.Transports = "sio4", []string{"websocket"}
		}
		for k := range 3 {
			if id := commands[(i*3+k)%len(commands)].id; id != s.Pulse {
				s.From = append(s.From, id)
			}
		}
		specs = append(specs, s)
	}
	return newCrowd(ctx, specs)
}

// begin starts the commands under tt, each with a spool of its own.
func begin(w *world, dir string, commands []*command) error {
	token, err := stage.MakeToken(w.binaries, w.config, "chaos", "client_token")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, c := range commands {
		home := filepath.Join(dir, c.id)
		if err := os.MkdirAll(home, 0o700); err != nil {
			return err
		}
		c.tt, err = stage.Launch(c.id, nil, []string{"HOME=" + home}, "/bin/sh", "-c", `exec "$@" >/dev/null`, "sh", w.binaries.TT,
			"-n", task, "--id", c.id, "--url", w.clients.url(), "--token", token, "--spool-dir", home, "--linger", "10m", "--spool-limit", "1GiB", "--redact-env", "off",
			"--", self, "generate", strconv.FormatUint(c.seed, 10), strconv.Itoa(c.p.Bytes), strconv.Itoa(c.p.Block), c.p.Pause.String())
		if err != nil {
			return err
		}
	}
	return nil
}

// settle waits until all commands have ended and all viewers that resume have seen that.
func settle(ctx context.Context, cfg config, commands []*command, crowd *crowd) (map[string]status, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Settle)
	defer cancel()
	var waitErr error
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, c := range commands {
		wg.Go(func() {
			code, err := c.tt.Wait(ctx)
			if err == nil && code != 0 {
				err = fmt.Errorf("%s: tt exits %d\n%s", c.id, code, c.tt.Tail(10))
			}
			mu.Lock()
			defer mu.Unlock()
			waitErr = errors.Join(waitErr, err)
		})
	}
	wg.Wait()
	for {
		all, err := crowd.status()
		if err != nil {
			return nil, errors.Join(waitErr, err)
		}
		if allEnded(crowd.specs, all) || ctx.Err() != nil || waitErr != nil {
			return all, waitErr
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// allEnded tells whether all viewers that resume have seen the end of all that they watch.
func allEnded(specs []spec, all map[string]status) bool {
	for _, s := range specs {
		ended := 0
		for _, r := range all[s.ID].Runs {
			if r.Ended {
				ended++
			}
		}
		if s.V2 && ended < len(s.From) {
			return false
		}
	}
	return true
}

// report says what was found; an error if anything was lost, doubled or out of order.
func report(cfg config, crowd *crowd, commands []*command, all map[string]status, did []done, waitErr error, took time.Duration) error {
	want, written := map[string]map[string]*expected{}, 0
	for _, c := range commands {
		want[c.id] = c.want
		written += c.p.Bytes
	}
	var bad []string
	delivered, compared, connects := 0, 0, 0
	for _, s := range crowd.specs {
		st := all[s.ID]
		bad = append(bad, faults(s, st, want, true)...)
		connects += st.Connects
		for _, r := range st.Runs {
			compared++
			for _, stream := range r.Streams {
				delivered += stream.Bytes
			}
		}
	}
	silences(os.Stdout, crowd.specs, all, did)
	fmt.Printf("\nseed %d, %.0f s: %d deeds; %.0f MB written by %d commands, %.0f MB held by %d viewers; %d runs compared; %d connections made\n",
		cfg.Seed, took.Seconds(), len(did), float64(written)/1e6, len(commands), float64(delivered)/1e6, len(crowd.specs), compared, connects)
	if waitErr != nil {
		bad = append(bad, waitErr.Error())
	}
	if len(bad) > 0 {
		for _, b := range bad[:min(len(bad), 60)] {
			fmt.Println("FAULT", b)
		}
		return fmt.Errorf("%d faults; replay with --seed %d", len(bad), cfg.Seed)
	}
	fmt.Println("0 bytes lost, 0 twice, 0 out of order")
	return nil
}

func installed() error {
	if _, err := exec.LookPath("node"); err != nil {
		return fmt.Errorf("the viewers of the npm libraries need node: %w", err)
	}
	return clients.EnsureInstalled()
}
