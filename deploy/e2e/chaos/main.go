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
	"strconv"
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
	Mortal   int
	Viewers  int
	Page     bool
	Blackout time.Duration
	Settle   time.Duration
	Keep     bool
	Plan     bool
	Verbose  bool
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
		fmt.Println("not ok chaos:", err)
		os.Exit(1)
	}
}

func generateArgs(args []string) error {
	if len(args) != 5 {
		return errors.New("usage: chaos generate SEED BYTES BLOCK PAUSE TIMES")
	}
	seed, err1 := strconv.ParseUint(args[0], 10, 64)
	bytes, err2 := strconv.Atoi(args[1])
	block, err3 := strconv.Atoi(args[2])
	pause, err4 := time.ParseDuration(args[3])
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	return generate(profile{Bytes: bytes, Block: block, Pause: pause}, seed, args[4])
}

func run(ctx context.Context, args []string) error {
	var cfg config
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.Uint64Var(&cfg.Seed, "seed", 0, "of the schedule and of all output; 0: a random one, which is printed")
	fs.DurationVar(&cfg.Over, "over", 130*time.Second, "how long the monkey is at work")
	fs.IntVar(&cfg.Deeds, "deeds", 62, "how often it strikes in that time, at least")
	fs.IntVar(&cfg.Megs, "mb", 200, "megabytes that the commands write, together")
	fs.IntVar(&cfg.Commands, "commands", 20, "commands under tt")
	fs.IntVar(&cfg.Mortal, "mortal", 4, "further commands, whose tt is killed")
	fs.IntVar(&cfg.Viewers, "viewers", 40, "viewers")
	fs.BoolVar(&cfg.Page, "page", true, "and the page in Chromium, whose silences are measured")
	fs.DurationVar(&cfg.Blackout, "blackout", 0, "instead of a schedule: all of NATS is down for so long, once")
	fs.DurationVar(&cfg.Settle, "settle", 2*time.Minute, "how long everything may take to arrive when the monkey has gone")
	fs.BoolVar(&cfg.Keep, "keep", false, "keep the working directory")
	fs.BoolVar(&cfg.Verbose, "v", false, "print each deed as it is done; else they are printed if anything is wrong")
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
	fmt.Printf("chaos, seed %d: %d deeds in %v, %d MB by %d commands, %d viewers\n", cfg.Seed, len(deeds), cfg.Over, cfg.Megs, cfg.Commands+cfg.Mortal, cfg.Viewers)
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
	var kept []string
	say := func(format string, args ...any) {
		line := fmt.Sprintf("%6.1fs  %s", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
		if cfg.Verbose {
			fmt.Println(line)
			return
		}
		kept = append(kept, line)
	}
	defer func() {
		if err != nil {
			for _, line := range kept {
				fmt.Println(line)
			}
		}
	}()
	commands := plan(cfg, deeds)
	crowd, err := seat(ctx, w, cfg, commands)
	if err != nil {
		return err
	}
	defer crowd.close()
	defer func() {
		for _, c := range commands {
			if c.tt != nil {
				_ = c.tt.Signal(syscall.SIGCONT) // it may have ended
				c.tt.Kill()
			}
		}
	}()
	token, err := stage.MakeToken(w.binaries, w.config, "chaos", "client_token")
	if err != nil {
		return err
	}
	for _, c := range commands {
		if err := c.begin(w, dir, token); err != nil {
			return err
		}
	}
	ended := tend(ctx, w, commands)
	if err := crowd.await(ctx); err != nil {
		return err
	}
	say("everything runs, and everybody sees it")
	m := &monkey{w: w, crowd: crowd, commands: commands, log: say, rng: mathrand.New(mathrand.NewPCG(cfg.Seed, 2))}
	did, monkeyErr := m.run(ctx, deeds)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	say("the monkey has gone; waiting for the rest")
	j, all, waitErr := settle(ctx, cfg, commands, crowd, ended)
	if all == nil || ctx.Err() != nil {
		return errors.Join(ctx.Err(), monkeyErr, waitErr)
	}
	return report(cfg, crowd, commands, j, all, did, errors.Join(monkeyErr, waitErr), time.Since(begun))
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
		// A fifth, half of them on 1.4.8, ask for nothing new.
		switch i % 5 {
		case 0, 1:
			s.Alias = "go"
		case 2:
			s.Alias, s.V2 = "sio1", i%2 == 0
		case 3:
			s.Alias, s.V2 = "sio4", i%2 == 0
		default:
			s.Alias, s.Transports = "sio4", []string{"websocket"}
		}
		// What they have in all is to stay below 2 GB.
		several := 2
		if i%3 == 0 && s.V2 {
			several = 3
		}
		for k := range several {
			if id := commands[(i*3+k)%cfg.Commands].id; id != s.Pulse {
				s.From = append(s.From, id)
			}
		}
		if cfg.Mortal > 0 {
			s.From = append(s.From, commands[cfg.Commands+i%cfg.Mortal].id)
		}
		specs = append(specs, s)
	}
	if cfg.Page {
		specs = append(specs, spec{ID: "page", Alias: "page", URL: w.viewers.url(), Token: token, Task: task, V2: true, Pulse: commands[0].id})
	}
	return newCrowd(ctx, specs)
}

// tend looks after all commands until they have ended and all of their output is delivered; wait gives what went wrong.
func tend(ctx context.Context, w *world, commands []*command) (wait func(context.Context) error) {
	errs := make(chan error, len(commands))
	for _, c := range commands {
		go func() { errs <- c.tend(ctx, w) }()
	}
	return func(ctx context.Context) (err error) {
		for range commands {
			select {
			case e := <-errs:
				err = errors.Join(err, e)
			case <-ctx.Done():
				return errors.Join(err, errors.New("not all commands have ended"))
			}
		}
		return err
	}
}

// settle waits until all commands have ended and all viewers have seen that.
func settle(ctx context.Context, cfg config, commands []*command, crowd *crowd, ended func(context.Context) error) (*judge, map[string]status, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Settle)
	defer cancel()
	waitErr := ended(ctx)
	truths := map[string]*truth{}
	for _, c := range commands {
		truths[c.id] = c.truth()
	}
	j := newJudge(truths)
	for {
		all, err := crowd.status()
		if err != nil {
			return j, nil, errors.Join(waitErr, err)
		}
		over := true
		for _, s := range crowd.specs {
			over = over && (s.Alias == "page" || j.over(s, all[s.ID]))
		}
		if over || ctx.Err() != nil || waitErr != nil {
			return j, all, waitErr
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// report says what was found; an error if anything was lost, doubled or out of order.
func report(cfg config, crowd *crowd, commands []*command, j *judge, all map[string]status, did []done, waitErr error, took time.Duration) error {
	var bad []string
	if waitErr != nil {
		bad = append(bad, waitErr.Error())
	}
	received, compared, connects := 0, 0, 0
	for _, s := range crowd.specs {
		st := all[s.ID]
		if s.Alias == "page" {
			for _, t := range st.Trouble {
				bad = append(bad, s.ID+": "+t)
			}
			continue
		}
		bad = append(bad, j.faults(s, st)...)
		connects += st.Connects
		received += st.Received
		compared += len(st.Runs)
	}
	begun := time.Now().Add(-took).UnixMilli()
	say := func(format string, at int64, args ...any) {
		fmt.Printf("%6.1fs  %s\n", float64(at-begun)/1e3, fmt.Sprintf(format, args...))
	}
	strikes, leader, killed, later, written := 0, 0, 0, 0, 0
	for _, d := range did {
		if d.strike() {
			strikes++
		}
		if d.Target == "nats-leader" {
			leader++
		}
	}
	for _, c := range commands {
		written += c.p.Bytes
		if !c.cut().IsZero() {
			killed++
		}
		if c.flushedLater() {
			later++
		}
	}
	if strikes < cfg.Deeds && cfg.Blackout == 0 {
		bad = append(bad, fmt.Sprintf("%d strikes were done, want %d", strikes, cfg.Deeds))
	}
	if st := all["page"]; cfg.Verbose {
		for _, g := range st.Gaps {
			say("the page was silent from here for %.2f s", g[0], float64(g[1]-g[0])/1e3)
		}
		for _, l := range st.Link {
			say("the page is %s", l.At, l.Is)
		}
	}
	silences(os.Stdout, crowd.specs, all, did, commands[0].writes())
	fmt.Printf("%.0f s: %d strikes, %d of them on the stream's leader, %d tt killed, %d left something to tt flush; %d times viewers left or let go; %.0f MB written by %d commands, %.0f MB delivered to %d viewers; %d runs compared; %d connections made\n",
		took.Seconds(), strikes, leader, killed, later, len(did)-strikes, float64(written)/1e6, len(commands), float64(received)/1e6, len(crowd.specs), compared, connects)
	if len(bad) > 0 {
		for _, b := range bad[:min(len(bad), 60)] {
			fmt.Println("FAULT", b)
		}
		return fmt.Errorf("%d faults; replay with --seed %d", len(bad), cfg.Seed)
	}
	fmt.Printf("ok chaos, seed %d: 0 bytes lost, 0 twice, 0 out of order\n", cfg.Seed)
	return nil
}

func installed() error {
	if _, err := exec.LookPath("node"); err != nil {
		return fmt.Errorf("the viewers of the npm libraries need node: %w", err)
	}
	return clients.EnsureInstalled()
}
