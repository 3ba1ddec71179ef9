package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"syscall"
	"time"
)

// deed is one thing that is done to the world, or that a viewer does of its own will.
type deed struct {
	At     time.Duration // from the beginning
	Kind   string        // kill, term, stop, cut, blackout: strikes; away, detach: what viewers do
	Target string        // token, gateway, ingest, nats-follower, nats-leader, tt; clients, viewers, nats
	Which  int
	For    time.Duration // how long it is gone or stopped
}

func (d deed) String() string {
	return fmt.Sprintf("%6.1fs  %s %s %d for %v", d.At.Seconds(), d.Kind, d.Target, d.Which, d.For)
}

// strike tells whether the deed is the monkey's.
func (d deed) strike() bool { return d.Kind != "away" && d.Kind != "detach" }

// role is what must be whole before the deed is done.
func (d deed) role() string {
	if d.Kind == "cut" || !d.strike() {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSuffix(d.Target, "-leader"), "-follower")
}

const (
	leaderApart = 8 * time.Second
	// leaderPlanned is how far apart they are planned, so that the silence after one has an end before the next.
	leaderPlanned = 13 * time.Second
	// recovers is how long a role is left alone when its process is back.
	recovers = 3 * time.Second
)

// card is a kind of deed, and how often it is among sixty-six.
type card struct {
	kind, target string
	n            int
}

// calm are deeds that stall no more than the connections of their target; rough ones hold up everybody for longer, so that while they last nothing is
// learnt of the others. The rough ones come in the later part, among calm ones.
var (
	calm = []card{
		{"kill", "gateway", 8}, {"kill", "ingest", 7}, {"kill", "token", 5}, {"kill", "nats-follower", 6}, {"kill", "tt", 4},
		{"term", "gateway", 3}, {"term", "ingest", 3}, {"term", "token", 2}, {"term", "nats-follower", 1}, {"stop", "tt", 3}, {"stop", "token", 1},
		{"cut", "clients", 3}, {"cut", "viewers", 3}, {"cut", "nats", 3},
	}
	rough = []card{
		{"kill", "nats-leader", 3}, {"term", "nats-leader", 1}, {"stop", "nats-leader", 1}, {"stop", "nats-follower", 2},
		{"stop", "gateway", 3}, {"stop", "ingest", 4},
	}
)

// deal makes a shuffled hand of about n of 66.
func deal(rng *rand.Rand, cards []card, n int) (hand []deed) {
	for _, c := range cards {
		for range (c.n*n + 65) / 66 {
			hand = append(hand, deed{Kind: c.kind, Target: c.target})
		}
	}
	rng.Shuffle(len(hand), func(i, j int) { hand[i], hand[j] = hand[j], hand[i] })
	return hand
}

// schedule makes the deeds of a seed, n strikes or a few more: everything but who leads NATS at the time follows from it. Of each role at most one process
// is away at a time.
func schedule(seed uint64, n int, over time.Duration) []deed {
	rng := rand.New(rand.NewPCG(seed, 1))
	quiet, wild := deal(rng, calm, n), deal(rng, rough, n)
	first := len(quiet) / 2
	rest := append(append([]deed(nil), quiet[first:]...), wild...)
	rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	between := over / time.Duration(len(quiet)+len(wild))
	deeds, t := place(rng, quiet[:first], between, 0, nil)
	deeds, t = place(rng, rest, between, t, deeds)
	for i := range n / 4 { // viewers that leave and come back
		d := deed{At: time.Duration(rng.Int64N(int64(t))), Kind: "away", Target: "viewers", Which: rng.IntN(1 << 16), For: time.Duration(rng.IntN(3000)) * time.Millisecond}
		if i%2 == 0 {
			d.Kind = "detach"
		}
		deeds = append(deeds, d)
	}
	sort.SliceStable(deeds, func(i, j int) bool { return deeds[i].At < deeds[j].At })
	return deeds
}

// place gives each deed of a hand its time, taking the first that may come next.
func place(rng *rand.Rand, hand []deed, between, t time.Duration, deeds []deed) ([]deed, time.Duration) {
	busy := map[string]time.Duration{} // until when a role is short of a process
	lastLeader := -leaderPlanned
	for _, d := range deeds {
		if r := d.role(); r != "" {
			busy[r] = d.At + d.For + recovers
		}
	}
	for len(hand) > 0 {
		i := 0
		for ; i < len(hand); i++ {
			d := hand[i]
			if busy[d.role()] <= t && (d.Target != "nats-leader" || t-lastLeader >= leaderPlanned) {
				break
			}
		}
		if i == len(hand) {
			t += between / 8
			continue
		}
		d := hand[i]
		hand = append(hand[:i:i], hand[i+1:]...)
		d.At, d.Which = t, rng.IntN(1<<16)
		switch d.Kind {
		case "stop":
			d.For = min(time.Second+time.Duration(rng.ExpFloat64()*4*float64(time.Second)), 20*time.Second)
		case "kill", "term":
			d.For = time.Duration(300+rng.IntN(1500)) * time.Millisecond
		}
		if r := d.role(); r != "" {
			busy[r] = t + d.For + recovers
		}
		if d.Target == "nats-leader" {
			lastLeader = t
		}
		deeds = append(deeds, d)
		t += between*7/8 + time.Duration(rng.Int64N(int64(between)/4+1))
	}
	return deeds, t
}

// done is a deed with the time it was done at.
type done struct {
	deed
	when time.Time
	note string
}

// monkey does what the schedule says, to a world, its commands and its viewers.
type monkey struct {
	w        *world
	crowd    *crowd
	commands []*command
	log      func(format string, args ...any)
	rng      *rand.Rand

	lastLeader time.Time
}

// run does all deeds in time, and returns what was done. A process that does not come up again is an error. Where one deed is late all later ones
// are, so that they keep their distance.
func (m *monkey) run(ctx context.Context, deeds []deed) ([]done, error) {
	begun := time.Now()
	var did []done
	failed := make(chan error, len(deeds))
	pending := 0
	for _, d := range deeds {
		select {
		case <-time.After(time.Until(begun.Add(d.At))):
		case <-ctx.Done():
			return did, ctx.Err()
		}
		x := done{deed: d}
		back := m.do(ctx, &x)
		m.log("%s  %s", d, x.note)
		if x.when.IsZero() {
			continue
		}
		if late := x.when.Sub(begun) - d.At; late > 500*time.Millisecond {
			begun = begun.Add(late)
		}
		did = append(did, x)
		if back != nil {
			pending++
			go func() { failed <- back() }()
		}
	}
	var errs []error
	for range pending {
		errs = append(errs, <-failed)
	}
	return did, errors.Join(errs...)
}

// do does one deed, and notes when; back undoes it when its time has come. A deed that cannot be done has no time.
func (m *monkey) do(ctx context.Context, x *done) (back func() error) {
	d := x.deed
	switch {
	case d.Kind == "cut":
		x.when = time.Now()
		x.note = fmt.Sprintf("%d connections", m.w.cut(m.rng, d))
		return nil
	case !d.strike():
		x.when = time.Now()
		x.note = m.crowd.disturb(d)
		return nil
	case d.Target == "tt":
		return m.strikeTT(ctx, x)
	case d.Kind == "blackout":
		x.when = time.Now()
		var backs []func() error
		for _, n := range m.w.of("nats") {
			backs = append(backs, m.strike(ctx, n, d))
		}
		return func() error {
			for _, back := range backs {
				if err := back(); err != nil {
					return err
				}
			}
			return nil
		}
	}
	n := m.pick(ctx, d)
	if n == nil {
		x.note = "left out: the role was not whole in time, or nobody led"
		return nil
	}
	x.when, x.note = time.Now(), n.name
	return m.strike(ctx, n, d)
}

// pick waits until no process of the role is away (on a busy machine a start may take longer than the schedule thinks), and, where it matters, until it is
// known who leads and the leader may be struck again.
func (m *monkey) pick(ctx context.Context, d deed) *node {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if n := m.candidate(d); n != nil {
			return n
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (m *monkey) candidate(d deed) *node {
	of := m.w.of(d.role())
	for _, n := range of {
		if n.isAway() {
			return nil
		}
	}
	if d.role() != "nats" {
		return of[d.Which%len(of)]
	}
	leader := m.w.leader()
	var others []*node
	for _, n := range of {
		switch {
		case n.name != leader:
			others = append(others, n)
		case d.Target != "nats-leader":
		case time.Since(m.lastLeader) < leaderApart:
			return nil
		default:
			m.lastLeader = time.Now()
			return n
		}
	}
	if leader == "" || d.Target == "nats-leader" {
		return nil
	}
	return others[d.Which%len(others)]
}

// strike hits a process; back brings it back.
func (m *monkey) strike(ctx context.Context, n *node, d deed) (back func() error) {
	p := n.process()
	until := time.Now().Add(d.For)
	n.setAway(true)
	switch d.Kind {
	case "stop":
		_ = p.Signal(syscall.SIGSTOP)
		return func() error {
			defer n.setAway(false)
			time.Sleep(time.Until(until))
			return p.Signal(syscall.SIGCONT)
		}
	case "term":
		_ = p.Signal(syscall.SIGTERM)
		return func() error {
			wctx, cancel := context.WithTimeout(ctx, 40*time.Second)
			defer cancel()
			code, err := p.Wait(wctx)
			if err != nil {
				return fmt.Errorf("%s after SIGTERM: %w", n.name, err)
			}
			if code != 0 && n.role != "nats" {
				return fmt.Errorf("%s after SIGTERM: exit %d\n%s", n.name, code, p.Tail(20))
			}
			return m.again(ctx, n, until)
		}
	}
	p.Kill()
	return func() error { return m.again(ctx, n, until) }
}

func (m *monkey) again(ctx context.Context, n *node, when time.Time) error {
	defer n.setAway(false)
	time.Sleep(time.Until(when))
	uctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	return n.up(uctx)
}

// strikeTT kills a tt for good, with the command left to itself, or stops any for a while.
func (m *monkey) strikeTT(ctx context.Context, x *done) (back func() error) {
	var some []*command
	for _, c := range m.commands {
		if c.running() && (c.mortal || x.Kind == "stop" && !c.pulse) {
			some = append(some, c)
		}
	}
	if len(some) == 0 {
		x.note = "left out: none is left"
		return nil
	}
	c := some[x.Which%len(some)]
	x.when, x.note = time.Now(), c.id
	if x.Kind == "stop" {
		_ = c.tt.Signal(syscall.SIGSTOP)
		return func() error {
			time.Sleep(x.For)
			_ = c.tt.Signal(syscall.SIGCONT) // it may have been killed meanwhile
			return nil
		}
	}
	c.kill()
	return func() error {
		time.Sleep(x.For)
		return c.flush(ctx, m.w, x.Which%2 == 0)
	}
}
