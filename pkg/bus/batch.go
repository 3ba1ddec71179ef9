package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"tasktracer/pkg/frame"
)

// readAtOnce is how many bytes one history request asks for; with the last chunk, which may go beyond, what a reader holds.
const readAtOnce = 1<<20 - frame.MaxChunk

// errIncomplete says that the answer to a batch had a hole: replies were lost on the way. Nothing of it behind the hole was used.
var errIncomplete = errors.New("batch is incomplete")

// batch reads chunks of one run, in order, from stream sequence from on, at most about 1 MiB, none beyond last. Any replica may answer; one
// that lags answers with less, so an empty batch says nothing. It is not retried.
func (b *Bus) batch(ctx context.Context, l *link, path string, from, last uint64) ([]Stored, error) {
	body, err := json.Marshal(getRequest{Seq: max(from, 1), NextFor: prefixIn + path, Batch: 4096, MaxBytes: readAtOnce})
	if err != nil {
		return nil, err
	}
	inbox := l.nc.NewRespInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is gone, then so is the subscription
	if err := l.nc.PublishRequest("$JS.API.DIRECT.GET."+logStream, inbox, body); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	bctx, cancel := l.bound(ctx, attemptWithin)
	defer cancel()
	var got []Stored
	prev, complete := uint64(0), false
	for !complete {
		m, err := sub.NextMsgWithContext(bctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return got, fmt.Errorf("history: %w", err)
		}
		switch m.Header.Get("Status") {
		case "":
		case "404":
			return got, nil
		case "204":
			if parseSeq(m.Header, hdrPrev) != prev {
				return got, errIncomplete
			}
			return got, nil
		default:
			return got, fmt.Errorf("history: %s %s", m.Header.Get("Status"), m.Header.Get("Description"))
		}
		// In a batch this header names the message sent before: a reply that was lost shows.
		if parseSeq(m.Header, hdrPrev) != prev {
			return got, errIncomplete
		}
		prev = parseSeq(m.Header, hdrSeq)
		if prev > last {
			continue // stored since; the end of the batch is awaited all the same
		}
		s, err := storedFrom(m, prev)
		if err != nil {
			return got, err
		}
		b.met.readBytes.Add(float64(len(m.Data)))
		got = append(got, s)
	}
	return got, nil
}

func storedFrom(m *nats.Msg, seq uint64) (Stored, error) {
	c, err := frame.UnmarshalChunk(m.Data)
	if err != nil {
		return Stored{StreamSeq: seq}, fmt.Errorf("stream sequence %d: %w", seq, err)
	}
	return Stored{StreamSeq: seq, Chunk: c}, nil
}

// chunkFrom is the run's first chunk at or behind a stream sequence, from any replica; nil where that one has none.
func (b *Bus) chunkFrom(ctx context.Context, l *link, path string, from uint64) (*Stored, error) {
	body, err := json.Marshal(getRequest{Seq: max(from, 1), NextFor: prefixIn + path})
	if err != nil {
		return nil, err
	}
	return b.direct(ctx, l, body)
}

// direct has any replica answer a request for one chunk; nil where that one has none. With frame.ErrMalformed it still says where the chunk is.
func (b *Bus) direct(ctx context.Context, l *link, body []byte) (*Stored, error) {
	r, err := l.request(ctx, &nats.Msg{Subject: "$JS.API.DIRECT.GET." + logStream, Data: body}, attemptWithin)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	switch st := r.Header.Get("Status"); st {
	case "":
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("history: %s %s", st, r.Header.Get("Description"))
	}
	s, err := storedFrom(r, parseSeq(r.Header, hdrSeq))
	return &s, err
}

// leaderChunkFrom is chunkFrom, answered by the leader.
func (b *Bus) leaderChunkFrom(ctx context.Context, l *link, path string, from uint64) (*Stored, error) {
	m, err := b.fromLeader(ctx, l, logStream, getRequest{Seq: max(from, 1), NextFor: prefixIn + path})
	if err != nil || m == nil {
		return nil, err
	}
	s, err := storedFrom(&nats.Msg{Data: m.data}, m.seq)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// logInfo is how the stream stands, by its leader.
type logInfo struct {
	first, last, bytes uint64
	maxBytes           int64
}

func (b *Bus) logInfo(ctx context.Context, l *link) (logInfo, error) {
	r, err := l.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.INFO." + logStream}, attemptWithin)
	if err != nil {
		return logInfo{}, fmt.Errorf("stream info: %w", err)
	}
	var resp struct {
		Error  *apiError `json:"error"`
		Config struct {
			MaxBytes int64 `json:"max_bytes"`
		} `json:"config"`
		State struct {
			First uint64 `json:"first_seq"`
			Last  uint64 `json:"last_seq"`
			Bytes uint64 `json:"bytes"`
		} `json:"state"`
	}
	if err := json.Unmarshal(r.Data, &resp); err != nil {
		return logInfo{}, fmt.Errorf("stream info: %w", err)
	}
	if resp.Error != nil {
		return logInfo{}, fmt.Errorf("stream info: %w", resp.Error)
	}
	return logInfo{first: resp.State.First, last: resp.State.Last, bytes: resp.State.Bytes, maxBytes: resp.Config.MaxBytes}, nil
}

// seek finds the last chunk for which before holds, by binary search over the stream between from and tail t; before must hold for a
// beginning of the run and for nothing behind it. It returns nil where it holds for no chunk that the log has. Transient errors are retried; for a
// chunk that cannot be read before does not hold.
func (b *Bus) seek(ctx context.Context, l *link, path string, t *tailOf, from uint64, before func(*frame.Chunk) bool) (*Stored, error) {
	if t.bad == nil && before(t.chunk) {
		return &Stored{StreamSeq: t.seq, Chunk: t.chunk}, nil
	}
	var best *Stored
	lo, hi := max(from, 1), t.seq // the chunk, if any, lies in [lo, hi)
	for lo < hi {
		mid := lo + (hi-lo)/2
		if best == nil && from == 0 {
			mid, from = lo, 1 // the run's first chunk, wherever it lies, before halving a stream that it may fill only the end of
		}
		s, err := b.probe(ctx, l, path, mid)
		if err != nil {
			return nil, err
		}
		switch {
		case s == nil || s.StreamSeq >= t.seq || s.Chunk == nil || !before(s.Chunk):
			if mid == lo && best == nil && s != nil && s.StreamSeq > lo {
				return nil, nil // already the first one is too far
			}
			hi = mid
		default:
			best, lo = s, s.StreamSeq+1
		}
	}
	return best, nil
}

// probe is chunkFrom, tried again through trouble. Of a chunk that cannot be read it gives the place alone; Chunk is nil.
func (b *Bus) probe(ctx context.Context, l *link, path string, at uint64) (s *Stored, err error) {
	err = retry(ctx, func() error {
		if s, err = b.chunkFrom(ctx, l, path, at); errors.Is(err, frame.ErrMalformed) {
			return nil
		}
		return err
	}, func(err error) bool {
		b.met.readRetries.Inc()
		return ctx.Err() == nil && b.ctx.Err() == nil
	})
	return s, err
}
