package main

import (
	"fmt"
	"math"
	"os"
	"time"
)

// late measures the time from when an event was due to its receipt: at a steady rate that every peer can do, and at half of what the peer does at its
// best, there with pkg/socketio at the same rate right after it.
func late(s *process, p peer, t *table) error {
	const viewers, size, common = 200, 200, 20_000
	c, err := gather(s.addr, p.wire, viewers, 16<<10)
	if err != nil {
		return err
	}
	defer c.close()
	best, err := c.best(s, size)
	if err != nil {
		return err
	}
	at := func(c *crowd, s *process, row string, rate float64) error {
		l, lost, err := c.steady(s, rate, size, 4*time.Second)
		if err != nil {
			return fmt.Errorf("%s: %w", row, err)
		}
		if lost > 0 {
			return fmt.Errorf("%s: %d not delivered", row, lost)
		}
		t.add(row+": p99 ms", p.name, ms(l.quantile(0.99)))
		t.add("  p50 ms", p.name, ms(l.quantile(0.5)))
		return nil
	}
	if err := at(c, s, "20,000 events/s to 200 viewers", common); err != nil {
		return err
	}
	if err := at(c, s, "half of the own best, to 200 viewers", best/2); err != nil {
		return err
	}
	t.add("  (events a second)", p.name, best/2)
	ours := peers()[0]
	if p.name == ours.name {
		return nil
	}
	c.close()
	s.stop()
	if s, err = start(ours); err != nil {
		return err
	}
	defer s.stop()
	if c, err = gather(s.addr, ours.wire, viewers, 16<<10); err != nil {
		return err
	}
	defer c.close()
	return at(c, s, "pkg/socketio at the same rate", best/2)
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// best is how many events a second the peer delivers when it is told to emit as fast as it can.
func (c *crowd) best(s *process, size int) (float64, error) {
	const n = 200
	c.got.Store(0)
	began := time.Now()
	for sent := int64(0); time.Since(began) < time.Second; {
		if err := s.fan(n, size, 0); err != nil {
			return 0, err
		}
		sent += int64(n * len(c.conns))
		if got := c.await(sent, fanLimit); got != sent {
			return 0, fmt.Errorf("%d of %d delivered", got, sent)
		}
	}
	return float64(c.got.Load()) / time.Since(began).Seconds(), nil
}

// steady has the peer emit so that rate events a second are delivered, for so long and half a second before, which is not counted.
func (c *crowd) steady(s *process, rate float64, size int, long time.Duration) (l *latencies, lost int64, err error) {
	gap := time.Duration(float64(time.Second) * float64(len(c.conns)) / rate)
	for _, d := range []time.Duration{time.Second / 2, long} {
		l = new(latencies)
		c.late.Store(l)
		c.got.Store(0)
		n := int(d / gap)
		if err := s.fan(n, size, gap); err != nil {
			return nil, 0, err
		}
		want := int64(n * len(c.conns))
		if lost = want - c.await(want, 5*time.Second); lost > 0 {
			break
		}
	}
	c.late.Store(nil)
	return l, lost, nil
}

// stalled measures what one viewer that does not read costs the others: by turns without and with it.
func stalled(s *process, p peer, t *table) error {
	const viewers, rate, size, turns = 199, 20_000, 2000, 4
	c, err := gather(s.addr, p.wire, viewers, 64<<10)
	if err != nil {
		return err
	}
	defer c.close()
	var alone, beside latencies
	var more int
	lost := int64(0)
	for turn := range turns {
		l, missing, err := c.steady(s, rate, size, 2*time.Second)
		if err != nil {
			return fmt.Errorf("without a viewer that does not read: %w", err)
		}
		if missing > 0 {
			return fmt.Errorf("without a viewer that does not read: %d not delivered within 5 s", missing)
		}
		alone.merge(l)
		before := s.resident()
		if l, missing, err = c.besideLazy(s, p, rate, size); err != nil {
			fmt.Fprintf(os.Stderr, "%s, with a viewer that does not read: %v\n", p.name, err)
			t.add("199 viewers beside one that does not read: p99 ms", p.name, math.Inf(1))
			return nil
		}
		lost += missing
		beside.merge(l)
		if turn == 0 {
			more = s.resident() - before
		}
	}
	with, without := ms(beside.quantile(0.99)), ms(alone.quantile(0.99))
	t.add("199 viewers beside one that does not read: p99 ms", p.name, with)
	t.add("  p99 ms without it", p.name, without)
	t.add("  the one by the other", p.name, with/without)
	t.add("  lost by the 199", p.name, float64(lost))
	t.add("  server's memory, MiB more", p.name, float64(more)/(1<<20))
	return nil
}

// besideLazy is steady beside a viewer that does not read and whose buffers are full already.
func (c *crowd) besideLazy(s *process, p peer, rate float64, size int) (*latencies, int64, error) {
	const fill, large = 400, 16 << 10 // the kernel keeps up to 4 MiB for it
	lazy, err := openLazy(s.addr, p.wire)
	if err != nil {
		return nil, 0, err
	}
	defer lazy.nc.Close()
	c.got.Store(0)
	if err := s.fan(fill, large, 0); err != nil {
		return nil, 0, err
	}
	want := int64(fill * len(c.conns))
	missing := want - c.await(want, fanLimit)
	l, lost, err := c.steady(s, rate, size, 2*time.Second)
	return l, missing + lost, err
}
