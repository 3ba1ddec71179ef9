package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tasktracer/pkg/frame"
)

// The stream and the buckets. A bucket is a stream too, with one message per key.
const (
	logStream    = "TT_OUTPUT"
	stateBucket  = "tt_state"
	leaseBucket  = "tt_lease"
	revokeBucket = "tt_revoked"
	stateStream  = "KV_" + stateBucket
	leaseStream  = "KV_" + leaseBucket
	revokeStream = "KV_" + revokeBucket
	prefixKV     = "$KV."
)

// Codes of JetStream's API that are told apart.
const (
	codeNoMessage    = 10037
	codeNoSpace      = 10047 // the account or the server has less room than the stream asks for
	codeWrongLast    = 10071 // the fence did not hold
	codeWrongLastNow = 10164 // the same, from a cluster, where another publish to the subject was still under way
	codeNotFound     = 10059
	codeNoSequence   = 10043
	codeReplicas     = 10074
)

// setup creates what is missing and reads the limits that are in force. Two processes may do it at the same time.
func (b *Bus) setup(ctx context.Context) error {
	js, err := jetstream.New(b.live.nc)
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	b.js = js
	if n := b.live.nc.MaxPayload(); n < leastPayload {
		return fmt.Errorf("the NATS server takes messages of at most %d bytes, at least %d are needed (its max_payload)", n, leastPayload)
	}
	told := ""
	return retry(ctx, func() error {
		// A server without a leader does not answer at all: each try has a time-out of its own.
		actx, cancel := context.WithTimeout(ctx, setupWithin)
		defer cancel()
		if b.cfg.NoCreate {
			return b.readLimits(actx)
		}
		return b.create(actx)
	}, func(err error) bool {
		again := b.setupAgain(err)
		if text := err.Error(); again && text != told {
			told = text
			b.log.Warn("the log is not there yet", "err", err)
		}
		return again
	})
}

// setupAgain tells whether setting up is worth another try. Who creates what is missing is not told for good that something is: in a cluster, a server that
// did not hear yet of what another process has just made says so.
func (b *Bus) setupAgain(err error) bool {
	return transient(err) || !b.cfg.NoCreate && errors.Is(err, jetstream.ErrStreamNotFound)
}

// leastPayload has room for the largest chunk: its data, and what its records cost beside.
const leastPayload = 2 * frame.MaxChunk

// setupWithin bounds one try to create what is missing; making three replicas takes longer than a publish.
const setupWithin = 5 * time.Second

func (b *Bus) create(ctx context.Context) error {
	// A stream that is made empty where a restore was to bring it would stand in the way of the restore, and of what is stored into it.
	switch _, err := b.js.Stream(ctx, restoreStream); {
	case err == nil:
		return errUnfinished
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("stream %s: %w", restoreStream, err)
	}
	replicas, err := b.ensureLog(ctx)
	if err != nil {
		return err
	}
	for _, kv := range buckets(replicas) {
		if err := b.ensureBucket(ctx, kv); err != nil {
			return err
		}
	}
	return b.readLimits(ctx)
}

func (b *Bus) wantLog() jetstream.StreamConfig {
	replicas := b.cfg.Replicas
	if replicas == 0 {
		replicas = 1
		if b.live.nc.ConnectedClusterName() != "" {
			replicas = 3
		}
	}
	return jetstream.StreamConfig{
		Name: logStream, Description: "output of runs, one chunk of records a message", Subjects: []string{prefixIn + ">"},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxAge: orDefault(b.cfg.MaxAge, defaultMaxAge), MaxBytes: orDefault(b.cfg.MaxBytes, defaultMaxBytes), Replicas: replicas,
		// Publishing names its predecessor, which makes the server's own table of message ids useless; the shortest that the server takes.
		Duplicates:  100 * time.Millisecond,
		AllowDirect: true,
		RePublish:   &jetstream.RePublish{Source: prefixIn + ">", Destination: prefixOut + ">"},
	}
}

// ensureLog creates the stream, or changes the limits that were asked for in so many words. It returns its number of replicas.
func (b *Bus) ensureLog(ctx context.Context) (replicas int, err error) {
	s, err := b.js.Stream(ctx, logStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return b.createLog(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", logStream, err)
	}
	is := s.CachedInfo().Config
	want := is
	want.MaxAge = orDefault(b.cfg.MaxAge, is.MaxAge)
	want.MaxBytes = orDefault(b.cfg.MaxBytes, is.MaxBytes)
	want.Replicas = orDefault(b.cfg.Replicas, is.Replicas)
	if want.MaxAge == is.MaxAge && want.MaxBytes == is.MaxBytes && want.Replicas == is.Replicas {
		return is.Replicas, nil
	}
	if _, err := b.js.UpdateStream(ctx, want); err != nil {
		return 0, fmt.Errorf("change the limits of stream %s: %w", logStream, err)
	}
	return want.Replicas, nil
}

func (b *Bus) createLog(ctx context.Context) (replicas int, err error) {
	want := b.wantLog()
	for {
		_, err := b.js.CreateStream(ctx, want)
		if err == nil || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return want.Replicas, nil
		}
		var api *jetstream.APIError
		if errors.As(err, &api) && api.ErrorCode == codeNoSpace && b.cfg.MaxBytes == 0 && want.MaxBytes > 64<<20 {
			want.MaxBytes /= 2 // nobody asked for this much; take what the disk has
			continue
		}
		return 0, fmt.Errorf("create stream %s (-log-max-bytes %d, -log-replicas %d): %w", logStream, want.MaxBytes, want.Replicas, err)
	}
}

func buckets(replicas int) []jetstream.KeyValueConfig {
	bucket := func(name, what, out string) jetstream.KeyValueConfig {
		c := jetstream.KeyValueConfig{Bucket: name, Description: what, History: 1, Storage: jetstream.FileStorage, Replicas: replicas}
		if out != "" {
			c.RePublish = &jetstream.RePublish{Source: prefixKV + name + ".>", Destination: out + ">"}
		}
		return c
	}
	return []jetstream.KeyValueConfig{
		bucket(stateBucket, "state of each run", prefixState),
		bucket(leaseBucket, "which processes live", prefixLease),
		bucket(revokeBucket, "tokens that are revoked", ""),
	}
}

func (b *Bus) ensureBucket(ctx context.Context, cfg jetstream.KeyValueConfig) error {
	_, err := b.js.KeyValue(ctx, cfg.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		if _, err = b.js.CreateKeyValue(ctx, cfg); errors.Is(err, jetstream.ErrBucketExists) {
			err = nil
		}
	}
	if err == nil && b.cfg.Replicas != 0 {
		err = b.replicate(ctx, "KV_"+cfg.Bucket, b.cfg.Replicas)
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", cfg.Bucket, err)
	}
	return nil
}

// replicate gives a bucket's stream as many copies as were asked for in so many words: what is known of runs must not die sooner than their log.
func (b *Bus) replicate(ctx context.Context, stream string, copies int) error {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	if cfg.Replicas == copies {
		return nil
	}
	cfg.Replicas = copies
	_, err = b.js.UpdateStream(ctx, cfg)
	return err
}

// readLimits learns what holds, whoever set it.
func (b *Bus) readLimits(ctx context.Context) error {
	s, err := b.js.Stream(ctx, logStream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", logStream, err)
	}
	c := s.CachedInfo().Config
	b.maxAge, b.maxBytes = c.MaxAge, c.MaxBytes
	b.lives, err = parseLives(c.Metadata[livesKey])
	return err
}

// transient tells whether err may go away by itself.
func transient(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code == 503 || api.Code == 500
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, errCut) || errors.Is(err, nats.ErrReconnectBufExceeded) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionReconnecting)
}

// Pauses between tries, doubled from one to the other.
const (
	retryFirst = 50 * time.Millisecond
	retryLast  = time.Second
)

// retry calls fn until it returns nil, an error that again refuses, or ctx ends.
func retry(ctx context.Context, fn func() error, again func(error) bool) error {
	for wait := retryFirst; ; wait = min(2*wait, retryLast) {
		err := fn()
		if err == nil || !again(err) {
			return err
		}
		if werr := sleep(ctx, wait); werr != nil {
			return errors.Join(werr, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
