package bus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pb "tasktracer/proto/tasktracer/v1"
)

// Condition is how a process is judged by what this reader has itself seen.
type Condition int

// The conditions of a process.
const (
	Live    Condition = iota // heard of within 3 s
	Suspect                  // silent for 3 s
	Dead                     // silent for 30 s, or its lease deleted, or never heard of since this reader started 30 s ago
)

func (c Condition) String() string {
	switch c {
	case Live:
		return "live"
	case Suspect:
		return "suspect"
	case Dead:
		return "dead"
	}
	return fmt.Sprintf("condition(%d)", int(c))
}

const (
	suspectAfter = 3 * time.Second
	deadAfter    = 30 * time.Second
	judgeEvery   = 250 * time.Millisecond
	// judgePause is a gap between two judgements that says that this process itself stood still, and must listen anew.
	judgePause = 2 * time.Second
)

// Processes watches leases and heartbeats of all processes. A lease's being there proves nothing, and nobody's clock is trusted but the reader's own:
// what counts is when this reader heard of a process last.
type Processes struct {
	b       *Bus
	changed func()
	dead    time.Duration // deadAfter; tests of what follows a death do not wait that long

	mu    sync.Mutex
	since time.Time // when this reader began to listen, the last time
	known map[string]*peer
}

type peer struct {
	p       Process
	heard   time.Time
	deleted bool // its lease was deleted, and nothing was heard since
	leased  bool // there is a lease
	beat    uint64
	was     Condition
}

// WatchProcesses listens until ctx ends. It returns when it listens and knows the leases. changed, which may be nil, is called after any process's
// condition or address changed.
func (b *Bus) WatchProcesses(ctx context.Context, changed func()) (*Processes, error) {
	return b.watchProcesses(ctx, changed, deadAfter)
}

func (b *Bus) watchProcesses(ctx context.Context, changed func(), dead time.Duration) (*Processes, error) {
	if changed == nil {
		changed = func() {}
	}
	p := &Processes{b: b, changed: changed, dead: dead, since: time.Now(), known: map[string]*peer{}}
	if err := b.beats.listen(); err != nil {
		return nil, err
	}
	undo := []func(){b.beats.each(p.heardOf), b.live.onReconnect(p.anew)}
	ctx, cancel := context.WithCancel(ctx)
	synced, ended := make(chan struct{}), make(chan error, 1)
	b.spawn(func() {
		defer cancel()
		ended <- b.watchBucket(ctx, leaseBucket, prefixLease, p.leaseChanged, func() { close(synced) })
	})
	b.spawn(func() {
		p.judgeAll(ctx)
		for _, u := range undo {
			u()
		}
	})
	select {
	case <-synced:
		return p, nil
	case err := <-ended:
		if err == nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("watch processes: %w", err)
	}
}

// Lookup tells what is known of a process, and how it is judged.
func (p *Processes) Lookup(incarnation string) (Process, Condition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.known[incarnation]; k != nil {
		return k.p, p.judge(k)
	}
	return Process{Incarnation: incarnation}, p.judge(&peer{})
}

// judge is by the time that passed since the process was heard of, or since this reader began to listen, if that is later. p.mu is held.
func (p *Processes) judge(k *peer) Condition {
	if k.deleted {
		return Dead
	}
	from := k.heard
	if p.since.After(from) {
		from = p.since
	}
	switch silent := time.Since(from); {
	case silent < suspectAfter:
		return Live
	case silent < p.dead || !p.b.live.nc.IsConnected(): // who is not connected hears nobody
		return Suspect
	}
	return Dead
}

func (p *Processes) peer(incarnation string) *peer {
	k := p.known[incarnation]
	if k == nil {
		k = &peer{p: Process{Incarnation: incarnation}}
		p.known[incarnation] = k
	}
	return k
}

func (p *Processes) heardOf(incarnation string) {
	p.mu.Lock()
	k := p.peer(incarnation)
	k.heard, k.deleted = time.Now(), false
	changed := p.rejudge(k)
	p.mu.Unlock()
	if changed {
		p.changed()
	}
}

func (p *Processes) leaseChanged(v watched) {
	incarnation, _, ok := decodeToken(v.path)
	if !ok {
		return
	}
	p.mu.Lock()
	k := p.peer(incarnation)
	changed := false
	if v.header.Get(hdrKVOp) != "" {
		k.deleted, k.leased = true, false
	} else {
		var l pb.Lease
		if err := proto.Unmarshal(v.data, &l); err != nil {
			p.mu.Unlock()
			return
		}
		is := Process{Name: l.Name, Incarnation: l.Incarnation, Role: l.Role, Address: l.Address}
		changed = k.p != is
		if k.leased && l.Beat > k.beat { // rewritten under our eyes; the first one seen may be old
			k.heard = time.Now()
		}
		k.p, k.beat, k.leased, k.deleted = is, l.Beat, true, false
	}
	changed = p.rejudge(k) || changed
	p.mu.Unlock()
	if changed {
		p.changed()
	}
}

// rejudge tells whether a process's condition is another one. p.mu is held.
func (p *Processes) rejudge(k *peer) bool {
	is := p.judge(k)
	changed := is != k.was
	k.was = is
	return changed
}

// anew counts from now on: this reader was not listening.
func (p *Processes) anew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Now()
}

// judgeAll looks at everybody now and then: silence is no event.
func (p *Processes) judgeAll(ctx context.Context) {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.b.ctx.Done():
			return
		case <-tick.C:
		}
		if time.Since(last) > judgePause {
			p.anew()
		}
		last = time.Now()
		if p.judgeOnce() {
			p.changed()
		}
	}
}

func (p *Processes) judgeOnce() (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, k := range p.known {
		changed = p.rejudge(k) || changed
		if !k.leased && k.was == Dead && time.Since(k.heard) > beatForget && time.Since(p.since) > beatForget {
			delete(p.known, i)
		}
	}
	return changed
}

// deadLeases are the processes that are dead, and whose lease is still there.
func (p *Processes) deadLeases() (dead []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, k := range p.known {
		if k.leased && p.judge(k) == Dead {
			dead = append(dead, i)
		}
	}
	return dead
}
