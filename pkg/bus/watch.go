package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// watched is one value of a bucket.
type watched struct {
	path   string // the key
	seq    uint64
	header nats.Header
	data   []byte
	at     time.Time // when it was stored, by the server's clock; zero where it came by core NATS
}

// watchQuiet is after how long without a word from the server a watch is begun anew.
const watchQuiet = 10 * time.Second

// watchIdle is a pause in the first delivery of a bucket that says that it is over.
const watchIdle = 3 * time.Second

// watchBucket calls fn with every value of a bucket, deletion markers too, then synced once, then fn with each change, until ctx ends. Changes of one key
// come in order, and none is older than one that came before; intermediate ones may be skipped. The bucket itself is followed by a consumer, which
// heals across reconnects and elections, but may be late; out, where the bucket republishes, is heard as well, for speed. Calls do not overlap.
func (b *Bus) watchBucket(ctx context.Context, bucket, out string, fn func(watched), synced func()) error {
	w := &bucketWatch{b: b, bucket: bucket, fn: fn, newest: map[string]uint64{}, synced: synced}
	if out != "" {
		sub, err := b.live.nc.Subscribe(out+">", func(m *nats.Msg) {
			w.offer(watched{path: strings.TrimPrefix(m.Subject, out), seq: parseSeq(m.Header, hdrSeq), header: m.Header, data: m.Data})
		})
		if err != nil {
			return fmt.Errorf("watch %s: %w", bucket, err)
		}
		defer sub.Unsubscribe() //nolint:errcheck // the connection is gone, then so is the subscription
	}
	for wait := retryFirst; ; wait = min(2*wait, retryLast) {
		begun := time.Now()
		err := w.follow(ctx)
		if ctx.Err() != nil || b.ctx.Err() != nil {
			return nil
		}
		if time.Since(begun) > watchQuiet {
			wait = retryFirst
		}
		b.log.Debug("watch is begun anew", "bucket", bucket, "err", err)
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

type bucketWatch struct {
	b      *Bus
	bucket string
	fn     func(watched)
	last   uint64 // stream sequence up to which the consumer has come

	mu     sync.Mutex
	newest map[string]uint64 // by key: the sequence passed on last
	synced func()            // nil once called
}

// inSync says that all that was there has been passed on.
func (w *bucketWatch) inSync() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.synced != nil {
		w.synced()
		w.synced = nil
	}
}

func (w *bucketWatch) offer(v watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v.seq <= w.newest[v.path] {
		return
	}
	w.newest[v.path] = v.seq
	w.fn(v)
}

// follow reads the bucket from where it left off, by one consumer, until that fails.
func (w *bucketWatch) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.b.ctx, cancel)()
	s, err := w.b.js.Stream(ctx, "KV_"+w.bucket)
	if err != nil {
		return err
	}
	if w.last > s.CachedInfo().State.LastSeq {
		w.last = 0 // the bucket was restored from a copy, or made anew
		w.mu.Lock()
		clear(w.newest)
		w.mu.Unlock()
	}
	cfg := jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubject: prefixKV + w.bucket + ".>",
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	}
	if w.last > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, w.last+1
	}
	c, err := s.CreateConsumer(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptWithin)
		defer cancel()
		_ = s.DeleteConsumer(dctx, c.CachedInfo().Name) // else the server does, by its inactivity
	}()
	pending := c.CachedInfo().NumPending
	if pending == 0 {
		w.inSync()
	}
	// Values that are removed while they are awaited never come: a pause says the same.
	idle := time.AfterFunc(watchIdle, w.inSync)
	defer idle.Stop()
	it, err := c.Messages(jetstream.PullHeartbeat(watchQuiet/4), jetstream.PullExpiry(3*watchQuiet), jetstream.PullMaxMessages(1024))
	if err != nil {
		return err
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)()
	for due := uint64(1); ; due++ {
		m, err := it.Next()
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != due {
			return errors.New("messages were lost on the way")
		}
		w.last = meta.Sequence.Stream
		w.offer(watched{path: strings.TrimPrefix(m.Subject(), prefixKV+w.bucket+"."), seq: w.last, header: m.Headers(), data: m.Data(), at: meta.Timestamp})
		if pending > 0 {
			pending--
			idle.Reset(watchIdle)
			if pending == 0 || meta.NumPending == 0 {
				pending = 0
				w.inSync()
			}
		}
	}
}
