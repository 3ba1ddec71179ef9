package bus

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
)

// The model: a client that numbers its records, and sends them by one ingest after another while everything between them and the log fails.
// The oracle is the list of what the client made. -rapid.checks says how many schedules each worker runs.

// node is an ingest: its access to NATS goes through a proxy of its own.
type node struct {
	name  string
	proxy *proxy
	bus   *Bus
}

// session is one connection of the client to an ingest.
type session struct {
	a    *Appender
	sent uint64 // highest src given to it
}

type model struct {
	nodes []*node
	run   frame.Run
	ctx   context.Context

	made    uint64     // records that the client has made
	durable uint64     // highest src that any session called durable
	current *session   // the connection that the client believes in
	zombies []*session // sessions that the client left, and whose ingest does not know
	takes   int
	holds   []chan struct{}
}

// modelWorkers is how many schedules run side by side, whatever the number of cores; most of a schedule is waiting for what was lost.
const modelWorkers = 16

func TestModel(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f == checks })
	if !given {
		if err := checks.Value.Set("32"); err != nil { // each worker; more when there is time
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range modelWorkers {
		wg.Go(func() { t.Run(fmt.Sprintf("worker %d", i), runModel) })
	}
	wg.Wait()
}

func runModel(t *testing.T) {
	s := startServer(t, natsd.Config{Listen: "127.0.0.1:0"})
	direct := open(t, s)
	var nodes []*node
	for i := range 3 {
		p := startProxy(t, s.ClientURL())
		b := open(t, nil, func(c *Config) { c.URL, c.attempt, c.Log = p.url(), 60*time.Millisecond, nil })
		nodes = append(nodes, &node{name: fmt.Sprintf("ing-%d", i), proxy: p, bus: b})
	}
	var schedules atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		schedules.Add(1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		m := &model{nodes: nodes, ctx: ctx, run: frame.Run{Key: frame.Key{Namespace: "model", Task: "t", Client: "c", Run: "run-" + newID()}}}
		defer m.heal()
		rt.Repeat(map[string]func(*rapid.T){
			"connect":        m.connect,
			"send":           m.send,
			"send again":     m.sendAgain,
			"sync":           m.sync,
			"release":        m.release,
			"leave":          m.leave,
			"ingest dies":    m.die,
			"zombie sends":   m.zombieSends,
			"lose a publish": m.fault(func(x msg) bool { return x.chunkOf("") }, verdict{drop: true}),
			"lose an ack":    m.fault(msg.ack, verdict{drop: true}),
			"cut at publish": m.fault(func(x msg) bool { return x.chunkOf("") }, verdict{cut: true}),
			"cut after it":   m.fault(func(x msg) bool { return x.chunkOf("") }, verdict{cutB: true}),
			"cut at ack":     m.fault(msg.ack, verdict{cut: true}),
			"hold a publish": m.holdPublish,
			"let go":         func(*rapid.T) { m.letGo() },
			"lose a state":   m.fault(func(x msg) bool { return x.up && strings.HasPrefix(x.subject, prefixKV) }, verdict{drop: true}),
			"":               m.check,
		})
		m.finish(rt)
		m.compare(rt, t, direct)
	})
	t.Logf("%d schedules", schedules.Load())
}

// heal takes all faults away.
func (m *model) heal() {
	m.letGo()
	for _, n := range m.nodes {
		n.proxy.set(nil)
	}
	for _, z := range append(m.zombies, m.current) {
		if z != nil {
			z.a.cancel()
		}
	}
}

func (m *model) letGo() {
	for _, h := range m.holds {
		close(h)
	}
	m.holds = nil
}

// fault has the next message of a kind meet its fate at one of the ingests.
func (m *model) fault(is func(msg) bool, v verdict) func(*rapid.T) {
	return func(rt *rapid.T) {
		f, _ := once(1, is, v)
		rapid.SampledFrom(m.nodes).Draw(rt, "node").proxy.set(f)
	}
}

func (m *model) holdPublish(rt *rapid.T) {
	h := make(chan struct{})
	m.holds = append(m.holds, h)
	f, _ := once(1, func(x msg) bool { return x.chunkOf("") }, verdict{hold: h})
	rapid.SampledFrom(m.nodes).Draw(rt, "node").proxy.set(f)
}

// connect takes the run by some ingest, as a client does whose connection failed. A client gives up on an ingest that does not answer.
func (m *model) connect(rt *rapid.T) {
	n := rapid.SampledFrom(m.nodes).Draw(rt, "node")
	m.take(rt, n, 150*time.Millisecond)
}

func (m *model) take(rt *rapid.T, n *node, patience time.Duration) {
	ctx, cancel := context.WithTimeout(m.ctx, patience)
	defer cancel()
	m.takes++
	a, err := n.bus.Take(ctx, fmt.Sprintf("%s-%d", n.name, m.takes), m.run)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrTaken) { // when its time was over, the error may be that of the last try
			rt.Fatalf("Take: %v", err)
		}
		return
	}
	if m.current != nil {
		m.zombies = append(m.zombies, m.current)
	}
	m.current = &session{a: a, sent: a.Next() - 1}
	if next := a.Next(); next <= m.durable || next > m.made+1 {
		rt.Fatalf("the log wants %d next, but %d were acknowledged and %d made", next, m.durable, m.made)
	}
}

func (m *model) records(from, n uint64) []frame.Record {
	recs := make([]frame.Record, 0, n)
	for src := from; src < from+n; src++ {
		recs = append(recs, out(src, fmt.Sprintf("<%d>", src)))
	}
	return recs
}

func (m *model) send(rt *rapid.T) {
	n := uint64(rapid.IntRange(1, 5).Draw(rt, "records"))
	m.made = max(m.made, m.sentBy(m.current)+n)
	m.submit(rt, m.current, n)
}

func (m *model) sentBy(s *session) uint64 {
	if s == nil {
		return m.made
	}
	return s.sent
}

// submit passes the next n records to a session.
func (m *model) submit(rt *rapid.T, s *session, n uint64) {
	if s == nil || n == 0 {
		return
	}
	err := s.a.Submit(m.ctx, m.records(s.sent+1, n)...)
	switch {
	case err == nil:
		s.sent += n
	case !errors.Is(err, ErrTaken) && !errors.Is(err, ErrReleased):
		rt.Fatalf("Submit: %v", err)
	}
}

// sendAgain repeats what the session has: it is dropped, per record.
func (m *model) sendAgain(rt *rapid.T) {
	if m.current == nil || m.current.sent == 0 {
		return
	}
	from := uint64(rapid.IntRange(1, int(m.current.sent)).Draw(rt, "from"))
	err := m.current.a.Submit(m.ctx, m.records(from, m.current.sent-from+1)...)
	if err != nil && !errors.Is(err, ErrTaken) && !errors.Is(err, ErrReleased) {
		rt.Fatalf("Submit again: %v", err)
	}
}

func (m *model) sync(rt *rapid.T) {
	if m.current == nil {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, 100*time.Millisecond)
	defer cancel()
	_ = m.current.a.Sync(ctx) // it may not get there, while something is held
	m.check(rt)
}

// check hears acknowledgements.
func (m *model) check(rt *rapid.T) {
	for _, s := range append(m.zombies, m.current) {
		if s == nil {
			continue
		}
		d, _ := s.a.Durable()
		if d > m.made {
			rt.Fatalf("%d is durable, %d were made", d, m.made)
		}
		m.durable = max(m.durable, d)
	}
}

func (m *model) release(*rapid.T) {
	if m.current == nil {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, 50*time.Millisecond)
	defer cancel()
	_ = m.current.a.Release(ctx) // what could not be stored is sent again elsewhere
	m.current = nil
}

func (m *model) leave(*rapid.T) {
	if m.current != nil {
		m.zombies = append(m.zombies, m.current)
		m.current = nil
	}
}

func (m *model) die(rt *rapid.T) {
	if m.current == nil {
		return
	}
	m.check(rt)
	m.current.a.cancel()
	m.current = nil
}

// zombieSends is an ingest that still has packets of a connection that the client has left.
func (m *model) zombieSends(rt *rapid.T) {
	if len(m.zombies) == 0 {
		return
	}
	z := rapid.SampledFrom(m.zombies).Draw(rt, "zombie")
	m.submit(rt, z, min(3, m.made-min(m.made, z.sent)))
}

// finish has the client send everything by a last ingest.
func (m *model) finish(rt *rapid.T) {
	m.letGo()
	for _, n := range m.nodes {
		n.proxy.set(nil)
	}
	m.current = nil
	for m.current == nil {
		m.take(rt, m.nodes[0], time.Minute)
	}
	m.submit(rt, m.current, m.made-m.current.sent)
	if err := m.current.a.Submit(m.ctx, exit(m.made+1, "0")); err != nil {
		rt.Fatalf("EXIT: %v", err)
	}
	if err := m.current.a.Sync(m.ctx); err != nil {
		rt.Fatalf("Sync: %v", err)
	}
	if d, _ := m.current.a.Durable(); d != m.made+1 {
		rt.Fatalf("%d is durable at the end, want %d", d, m.made+1)
	}
}

// compare holds the log against the oracle.
func (m *model) compare(rt *rapid.T, t *testing.T, b *Bus) {
	next, src, epoch := uint64(1), uint64(0), uint64(0)
	err := b.Read(m.ctx, m.run.Key, 0, 0, func(s Stored) error {
		if s.Chunk.Epoch < epoch {
			return fmt.Errorf("epoch %d behind %d", s.Chunk.Epoch, epoch)
		}
		epoch = s.Chunk.Epoch
		for _, r := range s.Chunk.Records {
			if r.Seq != next {
				return fmt.Errorf("seq %d, want %d", r.Seq, next)
			}
			next++
			if r.Kind == frame.Start {
				if r.Seq != 1 {
					return fmt.Errorf("START at %d", r.Seq)
				}
				continue
			}
			src++
			want := fmt.Sprintf("<%d>", src)
			if r.Src != src || r.Kind == frame.Stdout && string(r.Data) != want {
				return fmt.Errorf("record %d is src %d, %q, want %d", r.Seq, r.Src, r.Data, src)
			}
		}
		return nil
	}, func(g Gone) error { return fmt.Errorf("gone: %+v", g) })
	if err != nil {
		rt.Fatalf("the log: %v", err)
	}
	if src != m.made+1 {
		rt.Fatalf("the log holds %d records, want %d", src, m.made+1)
	}
	if err := onceInTheStream(m.ctx, b, path(m.run.Key)); err != nil {
		rt.Fatal(err)
	}
}

// onceInTheStream looks at what is stored as it is, without the reader's leniency: each chunk must begin where the one before it ended.
func onceInTheStream(ctx context.Context, b *Bus, path string) error {
	next, place := uint64(1), uint64(1)
	for {
		got, err := b.batch(ctx, b.hist, path, place, 1<<62)
		if err != nil {
			return err
		}
		if len(got) == 0 {
			return nil
		}
		for _, s := range got {
			if s.Chunk.First != next {
				return fmt.Errorf("the chunk at %d begins with %d, want %d", s.StreamSeq, s.Chunk.First, next)
			}
			next, place = s.Chunk.Next(), s.StreamSeq+1
		}
	}
}
