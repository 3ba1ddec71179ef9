package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"
)

// deed is one thing that the monkey does.
type deed struct {
	At     time.Duration // from the beginning
	Kind   string        // kill, term, stop, cut, away, detach, blackout
	Target string        // token, gateway, ingest, nats-follower, nats-leader; clients, viewers
	Which  int
	For    time.Duration // how long it is gone or stopped
}

func (d deed) String() string {
	return fmt.Sprintf("%6.1fs  %s %s %d for %v", d.At.Seconds(), d.Kind, d.Target, d.Which, d.For)
}

const (
	maxLeaderDeeds = 10
	leaderApart    = 8 * time.Second
)

// schedule makes the deeds of a seed: everything but who leads NATS at the time follows from it. Of each role at most one process is away at a time.
func schedule(seed uint64, n int, over time.Duration) []deed {
	rng := rand.New(rand.NewPCG(seed, 1))
	var deeds []deed
	busy := map[string]time.Duration{} // until when a role is short of a process
	leaders, lastLeader := 0, -leaderApart
	between := over / time.Duration(n)
	for len(deeds) < n {
		d := deed{At: between*time.Duration(len(deeds)) + time.Duration(rng.Int64N(int64(between)/4+1)), Which: rng.IntN(1 << 16)}
		switch rng.IntN(12) {
		case 0:
			d.Kind, d.Target = "cut", []string{"clients", "viewers"}[rng.IntN(2)]
		case 1:
			d.Kind, d.Target, d.For = "away", "viewers", time.Duration(rng.IntN(3000))*time.Millisecond
		case 2:
			d.Kind, d.Target, d.For = "detach", "viewers", time.Duration(rng.IntN(2000))*time.Millisecond
		default:
			d.Target = []string{"token", "gateway", "gateway", "ingest", "ingest", "nats-follower", "nats-follower", "nats-leader"}[rng.IntN(8)]
			d.Kind = []string{"kill", "kill", "kill", "term", "stop"}[rng.IntN(5)]
			d.For = time.Duration(300+rng.IntN(1500)) * time.Millisecond
			if d.Kind == "stop" {
				d.For = time.Second + time.Duration(rng.ExpFloat64()*4*float64(time.Second))
				d.For = min(d.For, 20*time.Second)
			}
		}
		role := d.Target
		if role == "nats-leader" || role == "nats-follower" {
			role = "nats"
		}
		if busy[role] > d.At {
			continue
		}
		if d.Target == "nats-leader" {
			if leaders == maxLeaderDeeds || d.At-lastLeader < leaderApart {
				continue
			}
			leaders++
			lastLeader = d.At
		}
		if d.Kind == "kill" || d.Kind == "term" || d.Kind == "stop" {
			busy[role] = d.At + d.For + 3*time.Second
		}
		deeds = append(deeds, d)
	}
	return deeds
}

// done is a deed with the time it was done at.
type done struct {
	deed
	when time.Time
	note string
}

// monkey does what the schedule says, to a world and its viewers.
type monkey struct {
	w     *world
	crowd *crowd
	log   func(format string, args ...any)
	rng   *rand.Rand
}

// run does all deeds in time, and returns what was done. A process that does not come up again is an error.
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
		x := done{deed: d, when: time.Now()}
		back := m.do(ctx, d, &x.note)
		m.log("%s  %s", d, x.note)
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

// do does one deed; back undoes it when its time has come.
func (m *monkey) do(ctx context.Context, d deed, note *string) (back func() error) {
	switch d.Kind {
	case "cut":
		p := m.w.clients
		if d.Target == "viewers" {
			p = m.w.viewers
		}
		*note = fmt.Sprintf("%d connections", p.cut(m.rng, 1+d.Which%8))
		return nil
	case "away", "detach":
		*note = m.crowd.disturb(d)
		return nil
	case "blackout":
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
	if !m.intact(ctx, d) {
		*note = "left out: the role was not whole again in time"
		return nil
	}
	n := m.pick(d)
	*note = n.name
	return m.strike(ctx, n, d)
}

// intact waits until no process of the role is away: on a busy machine a start may take longer than the schedule thinks.
func (m *monkey) intact(ctx context.Context, d deed) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	role := strings.TrimSuffix(strings.TrimSuffix(d.Target, "-leader"), "-follower")
	for {
		whole := true
		for _, n := range m.w.of(role) {
			whole = whole && !n.isAway()
		}
		if whole {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m *monkey) pick(d deed) *node {
	if d.Target != "nats-leader" && d.Target != "nats-follower" {
		of := m.w.of(d.Target)
		return of[d.Which%len(of)]
	}
	leader := m.w.leader()
	var others []*node
	for _, n := range m.w.of("nats") {
		if n.name == leader && d.Target == "nats-leader" {
			return n
		}
		if n.name != leader {
			others = append(others, n)
		}
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
