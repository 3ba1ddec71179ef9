package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// The few JetStream requests that the log is made of: a fenced publish, and reading a message from the stream's leader.
// They are spoken directly, because what matters here is what exactly an answer, or its absence, means.

// attemptWithin bounds one request. An election takes longer; the callers try again.
const attemptWithin = 2 * time.Second

const (
	hdrFence = "Nats-Expected-Last-Subject-Sequence"
	hdrID    = "Tt-Id"        // who sent this message: tells "mine" from everybody else's after an ambiguous answer
	hdrKVOp  = "KV-Operation" // a bucket's deletion marker
	hdrSeq   = "Nats-Sequence"
	hdrPrev  = "Nats-Last-Sequence"
	hdrSubj  = "Nats-Subject"
	hdrWhy   = "Tt-Reason" // on a deletion marker: why
)

// apiError is JetStream's answer that something could not be done: nothing was stored.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// fenced tells whether err says that the fence did not hold.
func fenced(err error) bool {
	var e *apiError
	return errors.As(err, &e) && (e.ErrCode == codeWrongLast || e.ErrCode == codeWrongLastNow)
}

// message is one message of a stream.
type message struct {
	subject string
	seq     uint64
	header  nats.Header
	data    []byte
	at      time.Time
}

// publish stores data if the subject's last message is fence (0: if it has none), and returns its stream sequence.
// An *apiError says that it was not stored; any other error leaves it open.
func (b *Bus) publish(ctx context.Context, subject string, fence uint64, h nats.Header, data []byte) (uint64, error) {
	if h == nil {
		h = nats.Header{}
	}
	h.Set(hdrFence, strconv.FormatUint(fence, 10))
	return b.publishAny(ctx, subject, h, data)
}

func (b *Bus) publishAny(ctx context.Context, subject string, h nats.Header, data []byte) (uint64, error) {
	r, err := b.live.request(ctx, &nats.Msg{Subject: subject, Header: h, Data: data}, b.cfg.attempt)
	if err != nil {
		return 0, err
	}
	var ack struct {
		Error *apiError `json:"error"`
		Seq   uint64    `json:"seq"`
	}
	if err := json.Unmarshal(r.Data, &ack); err != nil {
		return 0, fmt.Errorf("publish: answer: %w", err)
	}
	if ack.Error != nil {
		return 0, ack.Error
	}
	if ack.Seq == 0 {
		return 0, errors.New("publish: answer without a sequence")
	}
	return ack.Seq, nil
}

// getRequest asks a stream for a message, or several.
type getRequest struct {
	Seq      uint64 `json:"seq,omitempty"`
	LastFor  string `json:"last_by_subj,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"`
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`
}

// fromLeader reads one message from the stream's leader. It returns nil where there is none.
// nats.go's own call may be answered by a replica that lags behind, which is of no use to somebody who must know.
func (b *Bus) fromLeader(ctx context.Context, l *link, stream string, req getRequest) (*message, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	r, err := l.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + stream, Data: body}, b.cfg.attempt)
	if err != nil {
		return nil, err
	}
	var resp struct {
		Error   *apiError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(r.Data, &resp); err != nil {
		return nil, fmt.Errorf("get message: answer: %w", err)
	}
	switch {
	case resp.Error != nil && resp.Error.ErrCode == codeNoMessage:
		return nil, nil
	case resp.Error != nil:
		return nil, resp.Error
	case resp.Message == nil:
		return nil, errors.New("get message: answer without a message")
	}
	m := &message{subject: resp.Message.Subject, seq: resp.Message.Seq, data: resp.Message.Data, at: resp.Message.Time}
	if len(resp.Message.Header) > 0 {
		if m.header, err = nats.DecodeHeadersMsg(resp.Message.Header); err != nil {
			return nil, fmt.Errorf("get message: header: %w", err)
		}
	}
	return m, nil
}

// lastMessage is fromLeader for a subject's last message, tried until there is an answer or ctx ends.
func (b *Bus) lastMessage(ctx context.Context, stream, subject string) (m *message, err error) {
	err = retry(ctx, func() error {
		m, err = b.fromLeader(ctx, b.live, stream, getRequest{LastFor: subject})
		return err
	}, func(error) bool { return ctx.Err() == nil && b.ctx.Err() == nil })
	return m, err
}

// purge removes what is stored on the subject; below keep only, where keep is not 0.
func (b *Bus) purge(ctx context.Context, stream, subject string, below uint64) error {
	body, err := json.Marshal(struct {
		Filter string `json:"filter"`
		Seq    uint64 `json:"seq,omitempty"`
	}{subject, below})
	if err != nil {
		return err
	}
	return retry(ctx, func() error {
		r, err := b.live.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.PURGE." + stream, Data: body}, 5*attemptWithin)
		if err != nil {
			return err
		}
		var resp struct {
			Error *apiError `json:"error"`
		}
		if err := json.Unmarshal(r.Data, &resp); err != nil {
			return err
		}
		if resp.Error != nil {
			return resp.Error
		}
		return nil
	}, func(err error) bool { return ctx.Err() == nil && b.ctx.Err() == nil })
}
