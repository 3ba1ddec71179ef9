package bus

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"tasktracer/pkg/frame"
	pb "tasktracer/proto/tasktracer/v1"
)

// JanitorConfig are the limits that are kept in fairness, before the stream's own, which take from whoever is oldest, are reached.
// A limit of 0 is none. Sweeping begins at 80 % of a limit, so that the limit itself is not passed between two rounds.
type JanitorConfig struct {
	RunBytes       int64         // bytes kept of one run, as they are stored; its oldest part goes first
	Runs           int           // runs kept; the oldest that have ended go first
	NamespaceBytes int64         // bytes kept of one namespace, as they are stored; the oldest runs that have ended go first
	Every          time.Duration // a round; 5 s where 0
}

// Defaults of the janitor, and its pace.
const (
	defaultRunBytes = 1 << 30
	defaultRuns     = 100_000
	janitorEvery    = 5 * time.Second
	janitorAtOnce   = 500 // runs removed in one round
	highMark        = 0.8 // of a limit: where sweeping begins, and ends
	cutTo           = 0.7 // of a run's limit: what is left of it, so that it is not cut every round
	// janitorKey is the key of the lease bucket by which one process at a time sweeps. It is no incarnation's: no token begins like that.
	janitorKey = "=janitor"
	// How long a marker is kept in the place of a removed run's state. One that somebody deleted must not come back when a host that was switched off is
	// found again; one that retention took may, and then goes on counting where it was.
	keepDeleted = 30 * 24 * time.Hour
	keepEvicted = 24 * time.Hour
)

// Register adds the flags to fs.
func (c *JanitorConfig) Register(fs *flag.FlagSet) {
	fs.Int64Var(&c.RunBytes, "run-max-bytes", orDefault(c.RunBytes, defaultRunBytes), "`bytes` kept of one run, as they are stored; 0: no limit")
	fs.IntVar(&c.Runs, "max-runs", orDefault(c.Runs, defaultRuns), "`runs` kept; 0: no limit")
	fs.Int64Var(&c.NamespaceBytes, "namespace-max-bytes", c.NamespaceBytes, "`bytes` kept of one namespace, as they are stored; 0: no limit")
}

// Validate names the first flag whose value cannot be used.
func (c *JanitorConfig) Validate() error {
	switch {
	case c.RunBytes < 0:
		return fmt.Errorf("-run-max-bytes: %d is negative", c.RunBytes)
	case c.RunBytes > 0 && c.RunBytes < 4*frame.MaxChunk:
		return fmt.Errorf("-run-max-bytes: %d is less than %d, four chunks", c.RunBytes, 4*frame.MaxChunk)
	case c.Runs < 0:
		return fmt.Errorf("-max-runs: %d is negative", c.Runs)
	case c.NamespaceBytes < 0:
		return fmt.Errorf("-namespace-max-bytes: %d is negative", c.NamespaceBytes)
	}
	return nil
}

// Janitor keeps the limits until ctx ends. Every ingest may run it; one of them sweeps at a time.
func (b *Bus) Janitor(ctx context.Context, cfg JanitorConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	j := &janitor{b: b, cfg: cfg, me: b.beats.who() + "-" + newID(), runs: map[string]*kept{}, markers: map[string]marker{}, expires: map[string]time.Time{}}
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	synced, ended := make(chan struct{}), make(chan error, 2)
	go func() { ended <- b.watchBucket(wctx, stateBucket, prefixState, j.changed, func() { close(synced) }) }()
	go func() { ended <- b.watchBucket(wctx, revokeBucket, "", j.revoked, nil) }()
	select {
	case <-synced:
	case err := <-ended:
		return err
	}
	defer j.letGo()
	tick := time.NewTicker(orDefault(cfg.Every, janitorEvery))
	defer tick.Stop()
	for {
		if j.leads(ctx) {
			if err := j.round(ctx); err != nil && ctx.Err() == nil {
				b.log.Warn("janitor", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(<-ended, <-ended)
		case err := <-ended:
			return err
		case <-tick.C:
		}
	}
}

type janitor struct {
	b   *Bus
	cfg JanitorConfig
	me  string

	leading bool      // at the last look
	seen    uint64    // revision of somebody else's lease
	seenAt  time.Time // since when it is that

	mu      sync.Mutex
	runs    map[string]*kept // by path
	markers map[string]marker
	expires map[string]time.Time // by key: when a revocation may be forgotten
}

// kept is a run that the log holds something of.
type kept struct {
	path string
	run  frame.Run
	cut  uint64 // what was cut off its beginning, as it was stored
}

// held is how much of the log the run still takes, as far as is known.
func (k *kept) held() int64 {
	return int64(k.run.Checkpoint.Held - min(k.cut, k.run.Checkpoint.Held))
}

func (k *kept) ended() bool { return k.run.Phase.Ended() && !k.run.Connected }

type marker struct {
	why  string
	at   time.Time
	upTo uint64 // stream sequence of the run's last chunk when it was removed
	key  frame.Key
	seen bool // its log has been looked at: nothing of it is left
}

func (j *janitor) changed(v watched) {
	e, err := decodeState(v.seq, v.header, v.data)
	if err != nil {
		return // a later version's: not ours to judge
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.why != "" {
		delete(j.runs, v.path)
		m := marker{why: e.why, at: time.Now()}
		if e.run != nil && !e.run.Changed.IsZero() {
			m.at = e.run.Changed
		}
		if e.run != nil {
			m.upTo, m.key = e.run.Checkpoint.StreamSeq, e.run.Key
		}
		j.markers[v.path] = m
		return
	}
	delete(j.markers, v.path)
	k := j.runs[v.path]
	if k == nil {
		k = &kept{path: v.path}
		j.runs[v.path] = k
	}
	k.run = *e.run
}

// revoked remembers when a revocation is needed no longer.
func (j *janitor) revoked(v watched) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.expires, v.path)
	var r pb.Revocation
	if v.header.Get(hdrKVOp) != "" || proto.Unmarshal(v.data, &r) != nil || r.ExpiresAt == 0 {
		return // swept, not ours to judge, or for good
	}
	if until := j.b.revokedUntil(time.Unix(r.ExpiresAt, 0), v.at); !until.IsZero() {
		j.expires[v.path] = until
	}
}

// leads tells whether this process is the one that sweeps. The lease is rewritten every round; somebody else's counts as long as this process sees it change.
func (j *janitor) leads(ctx context.Context) bool {
	is := j.lead(ctx)
	if is != j.leading {
		j.b.log.Info("janitor", "sweeps", is)
	}
	j.leading = is
	return is
}

func (j *janitor) lead(ctx context.Context) bool {
	subject := prefixKV + leaseBucket + "." + janitorKey
	m, err := j.b.fromLeader(ctx, j.b.live, leaseStream, getRequest{LastFor: subject})
	if err != nil {
		return false
	}
	fence := uint64(0)
	if m != nil {
		fence = m.seq
		free := m.header.Get(hdrKVOp) != "" || string(m.data) == j.me
		if !free && m.seq != j.seen {
			j.seen, j.seenAt = m.seq, time.Now()
		}
		if !free && time.Since(j.seenAt) < deadAfter {
			return false
		}
	}
	_, err = j.b.publish(ctx, subject, fence, nil, []byte(j.me))
	return err == nil
}

// letGo lets another process sweep at once.
func (j *janitor) letGo() {
	if !j.leading {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptWithin)
	defer cancel()
	subject := prefixKV + leaseBucket + "." + janitorKey
	m, err := j.b.fromLeader(ctx, j.b.live, leaseStream, getRequest{LastFor: subject})
	if err != nil || m == nil || string(m.data) != j.me {
		return
	}
	_, _ = j.b.publish(ctx, subject, m.seq, nats.Header{hdrKVOp: {"DEL"}}, nil) // else it runs out
}

// round sweeps once.
func (j *janitor) round(ctx context.Context) error {
	info, err := j.b.logInfo(ctx, j.b.live)
	if err != nil {
		return err
	}
	left := janitorAtOnce
	return errors.Join(
		j.sweepAged(ctx, info, &left),
		j.sweepLong(ctx),
		j.sweepMany(ctx, &left),
		j.sweepNamespaces(ctx, &left),
		j.sweepLog(ctx, info, &left),
		j.sweepLeftovers(ctx, &left),
		j.sweepMarkers(ctx, &left),
		j.sweepRevoked(ctx, &left),
	)
}

// all gives the runs for which ok holds, those that ended first at the beginning, those still in at the end.
func (j *janitor) all(ok func(*kept) bool) (list []*kept) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, k := range j.runs {
		if ok(k) {
			c := *k
			list = append(list, &c)
		}
	}
	sort.Slice(list, func(x, y int) bool {
		a, b := list[x], list[y]
		if a.ended() != b.ended() {
			return a.ended()
		}
		if !a.run.Ended.Equal(b.run.Ended) {
			return a.run.Ended.Before(b.run.Ended)
		}
		return a.path < b.path
	})
	return list
}

// sweepAged removes the states of runs whose log has left the stream by age or size.
func (j *janitor) sweepAged(ctx context.Context, info logInfo, left *int) error {
	aged := j.all(func(k *kept) bool { return k.ended() && k.run.Checkpoint.StreamSeq < info.first })
	return j.evictSome(ctx, aged, "age", left, func() bool { return true })
}

// sweepLong cuts the beginnings of runs that are too long.
func (j *janitor) sweepLong(ctx context.Context) error {
	if j.cfg.RunBytes == 0 {
		return nil
	}
	limit := float64(j.cfg.RunBytes)
	var errs []error
	for _, k := range j.all(func(k *kept) bool { return float64(k.held()) > highMark*limit }) {
		errs = append(errs, j.cutRun(ctx, k, int64(cutTo*limit), "run"))
	}
	return errors.Join(errs...)
}

// sweepMany removes runs while there are too many.
func (j *janitor) sweepMany(ctx context.Context, left *int) error {
	if j.cfg.Runs == 0 {
		return nil
	}
	limit := int(highMark * float64(j.cfg.Runs))
	all := j.all((*kept).ended)
	j.mu.Lock()
	over := len(j.runs) - limit
	j.mu.Unlock()
	return j.evictSome(ctx, all, "runs", left, func() bool { over--; return over >= 0 })
}

// sweepNamespaces removes what a namespace has too much.
func (j *janitor) sweepNamespaces(ctx context.Context, left *int) error {
	if j.cfg.NamespaceBytes == 0 {
		return nil
	}
	var errs []error
	for ns, held := range j.namespaces() {
		over := held - int64(highMark*float64(j.cfg.NamespaceBytes))
		if over > 0 {
			errs = append(errs, j.free(ctx, ns, over, "namespace", left))
		}
	}
	return errors.Join(errs...)
}

// sweepLog makes room before the stream itself would take the oldest of whoever wrote it: the namespace that holds the most gives first.
func (j *janitor) sweepLog(ctx context.Context, info logInfo, left *int) error {
	if info.maxBytes <= 0 {
		return nil
	}
	over := int64(info.bytes) - int64(highMark*float64(info.maxBytes))
	if over <= 0 {
		return nil
	}
	most, held := "", int64(-1)
	for ns, h := range j.namespaces() {
		if h > held || h == held && ns < most {
			most, held = ns, h
		}
	}
	if held <= 0 {
		return nil
	}
	return j.free(ctx, most, min(over, held), "stream", left)
}

// namespaces gives what each namespace holds.
func (j *janitor) namespaces() map[string]int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := map[string]int64{}
	for _, k := range j.runs {
		m[k.run.Key.Namespace] += k.held()
	}
	return m
}

// free makes room in one namespace: runs that have ended go first, the oldest before all; if that is not enough, the beginnings of the longest that are in.
func (j *janitor) free(ctx context.Context, ns string, over int64, why string, left *int) error {
	list := j.all(func(k *kept) bool { return k.run.Key.Namespace == ns })
	ended := sort.Search(len(list), func(i int) bool { return !list[i].ended() })
	i := 0
	err := j.evictSome(ctx, list[:ended], why, left, func() bool {
		if over <= 0 {
			return false
		}
		over -= list[i].held()
		i++
		return true
	})
	if over <= 0 || err != nil || *left <= 0 {
		return err
	}
	in := list[ended:]
	sort.Slice(in, func(x, y int) bool { return in[x].held() > in[y].held() })
	var errs []error
	for _, k := range in {
		if over <= 0 {
			break
		}
		keep := max(k.held()-over, k.held()/2) // never all of one, while others have much, too
		over -= k.held() - keep
		errs = append(errs, j.cutRun(ctx, k, keep, why))
	}
	return errors.Join(errs...)
}

// evictSome removes runs from the front of the list while more says so.
func (j *janitor) evictSome(ctx context.Context, list []*kept, why string, left *int, more func() bool) error {
	var errs []error
	for _, k := range list {
		if *left <= 0 || ctx.Err() != nil || !more() {
			break
		}
		*left--
		errs = append(errs, j.evict(ctx, k, why))
	}
	return errors.Join(errs...)
}

// evict removes a run that has ended, log and state together. A run that comes back at this moment keeps what it appends from now on.
func (j *janitor) evict(ctx context.Context, k *kept, why string) error {
	t, err := j.b.readTail(ctx, k.path)
	if err != nil {
		return fmt.Errorf("evict %s: %w", k.run.Key, err)
	}
	evicted := false
	_, err = j.b.changeState(ctx, k.path, nil, func(cur stateEntry) (*stateEntry, error) {
		evicted = false
		r := cur.live()
		if r == nil || !r.Phase.Ended() || r.Connected || r.Epoch != k.run.Epoch {
			return nil, nil
		}
		evicted = true
		mark := frame.Run{ // what a run that comes back goes on with
			Key: r.Key, Phase: r.Phase, Epoch: r.Epoch, Checkpoint: r.Checkpoint, Changed: time.Now(),
			Started: r.Started, FirstStreamSeq: r.FirstStreamSeq, Late: r.Late, Later: r.Later,
		}
		return &stateEntry{run: &mark, why: whyEvicted}, nil
	})
	if err != nil || !evicted {
		return err
	}
	if t != nil {
		if err := j.b.purge(ctx, logStream, prefixIn+k.path, t.seq+1); err != nil {
			return fmt.Errorf("evict %s: %w", k.run.Key, err)
		}
	}
	j.b.met.cutRuns.WithLabelValues(why).Inc()
	j.b.met.cutBytes.WithLabelValues(why).Add(float64(k.held()))
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.runs, k.path)
	return nil
}

// cutRun removes the oldest part of a run so that about keep bytes of it, as stored, are left. Viewers are told by the gap that they read.
func (j *janitor) cutRun(ctx context.Context, k *kept, keep int64, why string) error {
	t, err := j.b.readTail(ctx, k.path)
	if err != nil || t == nil {
		return err
	}
	end := t.chunk.Held + takes(t.size)
	if int64(end) <= keep {
		return nil
	}
	target := end - uint64(keep)
	s, err := j.b.seek(ctx, j.b.live, k.path, t, 0, func(c *frame.Chunk) bool { return c.Held <= target })
	if err != nil {
		return fmt.Errorf("cut %s: %w", k.run.Key, err)
	}
	first, err := j.b.probe(ctx, j.b.live, k.path, 1)
	if err != nil || first == nil || first.Chunk == nil {
		return err
	}
	was, is := first.Chunk.Held, first.Chunk.Held
	if s != nil && s.StreamSeq > first.StreamSeq {
		if err := j.b.purge(ctx, logStream, prefixIn+k.path, s.StreamSeq); err != nil {
			return fmt.Errorf("cut %s: %w", k.run.Key, err)
		}
		is = s.Chunk.Held
		j.b.met.cutBytes.WithLabelValues(why).Add(float64(is - min(was, is)))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if live := j.runs[k.path]; live != nil {
		live.cut = is
	}
	return nil
}

// sweepLeftovers purges the logs of runs whose marker was written by somebody who died before the purge.
func (j *janitor) sweepLeftovers(ctx context.Context, left *int) error {
	due := map[string]marker{}
	j.mu.Lock()
	for p, m := range j.markers {
		if !m.seen && *left > 0 {
			*left--
			due[p] = m
		}
	}
	j.mu.Unlock()
	for p, m := range due {
		first, err := j.b.fromLeader(ctx, j.b.live, logStream, getRequest{Seq: 1, NextFor: prefixIn + p})
		if err != nil {
			return fmt.Errorf("look for what is left of %s: %w", m.key, err)
		}
		below := uint64(0) // all of it
		if m.why == whyEvicted {
			below = m.upTo + 1 // what lies behind was appended since, by a run that came back
		}
		switch {
		case first == nil || below > 0 && first.seq >= below:
		case m.why == whyDeleted:
			j.b.eraseDeleted(p) // whoever deletes it may be at it, too
		default:
			if err := j.b.purge(ctx, logStream, prefixIn+p, below); err != nil {
				return fmt.Errorf("purge what is left of %s: %w", m.key, err)
			}
		}
		j.mu.Lock()
		if m, there := j.markers[p]; there {
			m.seen = true
			j.markers[p] = m
		}
		j.mu.Unlock()
	}
	return nil
}

// sweepMarkers removes what stands in the place of states that were removed long ago.
func (j *janitor) sweepMarkers(ctx context.Context, left *int) error {
	now := time.Now()
	var old []string
	j.mu.Lock()
	for p, m := range j.markers {
		keep := keepEvicted
		if m.why == whyDeleted {
			keep = keepDeleted
		}
		if now.Sub(m.at) > keep && *left > 0 {
			*left--
			old = append(old, p)
		}
	}
	j.mu.Unlock()
	for _, p := range old {
		if err := j.b.purge(ctx, stateStream, stateSubject(p), 0); err != nil {
			return fmt.Errorf("remove a marker: %w", err)
		}
		j.mu.Lock()
		delete(j.markers, p)
		j.mu.Unlock()
	}
	return nil
}

// sweepRevoked removes revocations that are needed no longer.
func (j *janitor) sweepRevoked(ctx context.Context, left *int) error {
	var old []string
	j.mu.Lock()
	for p, at := range j.expires {
		if time.Now().After(at) && *left > 0 {
			*left--
			old = append(old, p)
		}
	}
	j.mu.Unlock()
	for _, p := range old {
		if err := j.b.purge(ctx, revokeStream, prefixKV+revokeBucket+"."+p, 0); err != nil {
			return fmt.Errorf("remove a revocation: %w", err)
		}
		j.mu.Lock()
		delete(j.expires, p)
		j.mu.Unlock()
	}
	return nil
}
