package socketio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// releaseAfter is how long a polling request is held that comes while a WebSocket is probed: the client waits for its answer before it changes
	// over. The one that waits when the probe succeeds is let go at once.
	releaseAfter = 50 * time.Millisecond
	// answerSize is how much a polling answer carries, one larger message excepted.
	answerSize = 256 << 10
	// rawAnswer is from what size answers to browsers of Engine.IO 3 are made as for binary packets: generation 1 hands the bytes of a text answer to
	// String.fromCharCode as so many arguments, which browsers refuse from about 120,000 on, and then never answers.
	rawAnswer = 64 << 10
)

// maxStamp is how much is remembered of what makes a request's address unique: a time stamp of some kind, as all clients send it.
const maxStamp = 64

// poll answers a polling GET when there is something to send. One that was answered already, and comes again with the same time stamp, was sent again by a
// proxy whose upstream died with the answer: what that carried is gone, and going on would hide it. The session ends, and the client comes anew.
func (c *Conn) poll(w http.ResponseWriter, r *http.Request) {
	c.hear()
	c.mu.Lock()
	c.awaitAnswer(r.Context())
	if c.sock != nil || c.answering {
		overlap := c.sock == nil
		c.mu.Unlock()
		refuse(w, http.StatusBadRequest, codeBadRequest, "Bad request")
		if overlap {
			c.end(ReasonTransportError) // two polls at once: one of the answers would be lost
		}
		return
	}
	stamp := r.URL.Query().Get("t")
	if len(stamp) > maxStamp {
		stamp = ""
	}
	if stamp != "" && stamp == c.answered {
		c.mu.Unlock()
		refuse(w, http.StatusBadRequest, codeBadRequest, "Bad request")
		c.end(ReasonTransportError)
		return
	}
	c.answering, c.stuck = true, 0
	batch, err := c.waitForWork(r.Context())
	c.answered = ""
	if len(batch) > 0 {
		c.answered = strings.Clone(stamp) // not the whole address
	}
	c.mu.Unlock()
	if err == nil {
		err = c.answer(w, batch, !r.URL.Query().Has("b64"))
	}
	c.mu.Lock()
	c.answering = false
	c.out.done(batch)
	done := err == nil && c.leaving && !c.closed && c.out.empty()
	told := c.closed && !c.lingering
	if err == nil && !c.closed {
		c.kick()
	}
	c.mu.Unlock()
	switch {
	case told:
		c.srv.forget(c)
	case err != nil && isTimeout(err):
		c.end(ReasonWriteTimeout)
	case err != nil:
		c.end(ReasonTransportClose)
	case done:
		c.end(ReasonServerDisconnect)
	}
}

// awaitAnswer waits until an answer that is being written is through: the client may have read it, and asked again, before we hear that
// it was written. The caller holds mu, which is given up while waiting.
func (c *Conn) awaitAnswer(ctx context.Context) {
	for c.answering && c.wake == nil && ctx.Err() == nil {
		changed := c.out.wait()
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
}

// waitForWork takes what is to be sent next; nothing, when the request must be let go without. The caller holds mu, which is given up while waiting.
func (c *Conn) waitForWork(ctx context.Context) ([]*Message, error) {
	since := time.Now()
	for {
		switch {
		case c.closed && !c.lingering, c.sock != nil:
			return nil, nil
		case len(c.out.queue) > 0:
			return c.takeAnswer(), nil
		}
		var release <-chan time.Time
		if c.release {
			c.release = false
			return nil, nil
		}
		if c.probing {
			left := releaseAfter - time.Since(since)
			if left <= 0 {
				return nil, nil
			}
			release = time.After(left)
		}
		wake := make(chan struct{})
		c.wake = wake
		c.mu.Unlock()
		var err error
		select {
		case <-wake:
		case <-release:
		case <-ctx.Done():
			err = ctx.Err()
		}
		c.mu.Lock()
		c.wake = nil
		if err != nil {
			return nil, err
		}
	}
}

// takeAnswer takes messages off the queue for one answer. The caller holds mu.
func (c *Conn) takeAnswer() []*Message {
	n, size := 0, 0
	for n < len(c.out.queue) && (n == 0 || size+len(c.out.queue[n].frame) <= answerSize) {
		size += len(c.out.queue[n].frame)
		n++
	}
	batch := c.out.queue[:n:n]
	if c.out.queue = c.out.queue[n:]; len(c.out.queue) == 0 {
		c.out.queue = nil
	}
	return batch
}

// wakePoll lets the waiting polling request look again. The caller holds mu.
func (c *Conn) wakePoll() {
	if c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
}

// answer writes a polling answer: the batch, or a packet that says nothing, or that the session is over. binary says that the client can read binary answers.
func (c *Conn) answer(w http.ResponseWriter, batch []*Message, binary bool) error {
	if len(batch) == 0 {
		batch = []*Message{c.srv.noop}
		if c.isClosed() {
			batch = []*Message{c.srv.hangup}
		}
	}
	size := 0
	for _, m := range batch {
		size += len(m.frame) + 8
	}
	body := bytes.NewBuffer(make([]byte, 0, size))
	contentType := "text/plain; charset=UTF-8"
	raw := c.eio == 3 && binary && size > rawAnswer
	if raw {
		contentType = "application/octet-stream"
	}
	for i, m := range batch {
		switch {
		case raw:
			appendRaw(body, m.oldPolling())
		case c.eio == 3:
			body.Write(m.oldPolling())
		case i > 0:
			body.WriteByte(separator)
			fallthrough
		default:
			body.Write(m.payload())
		}
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteTimeout)) // not every ResponseWriter can; the server's own limits hold then
	n := body.Len()
	if _, err := w.Write(body.Bytes()); err != nil {
		return err
	}
	if err := rc.Flush(); err != nil {
		return err
	}
	c.srv.metrics.written(len(batch), n, 1)
	return nil
}

// appendRaw writes a packet of Engine.IO 3, given as length:text, in the form for binary answers: 0 for text, the digits of the length as
// numbers, 255, the text.
func appendRaw(body *bytes.Buffer, packet []byte) {
	digits, text, _ := bytes.Cut(packet, []byte{':'})
	body.WriteByte(0)
	for _, d := range digits {
		body.WriteByte(d - '0')
	}
	body.WriteByte(255)
	body.Write(text)
}

// post takes a polling POST. It is answered when all its packets have been handled: so a busy handler holds the client back, and
// nothing that the client sends later by another way can overtake it.
func (c *Conn) post(w http.ResponseWriter, r *http.Request) {
	c.hear()
	c.mu.Lock()
	if c.sock != nil || c.posting {
		overlap := c.posting
		c.mu.Unlock()
		refuse(w, http.StatusBadRequest, codeBadRequest, "Bad request")
		if overlap {
			c.end(ReasonTransportError) // two at once: their order is not known
		}
		return
	}
	c.posting = true
	c.mu.Unlock()
	body, err := c.body(w, r)
	if err == nil {
		err = c.receiveBody(r.Header.Get("Content-Type"), body)
	}
	c.mu.Lock()
	c.posting = false // before the answer: the client may send again as soon as it has it
	c.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, errGone):
		w.Header().Set("Content-Type", "text/html") // what generation 1 clients were given
		_, _ = io.WriteString(w, "ok")              // a client that does not hear it gives up by itself
		return
	case errors.Is(err, errTooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, codeBadRequest, "Too large")
	default:
		refuse(w, http.StatusBadRequest, codeBadRequest, "Bad request")
	}
	c.fail(err)
}

// body reads a request's body, within its size and time.
func (c *Conn) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := int64(c.srv.cfg.MaxBody)
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(c.srv.cfg.BodyTimeout)) // not every ResponseWriter can
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(min(r.ContentLength, 64<<10)) + bytes.MinRead) // no more on a promise alone
	}
	n, err := buf.ReadFrom(io.LimitReader(r.Body, limit+1))
	_ = rc.SetReadDeadline(time.Time{})
	if err != nil {
		return nil, transportError{err}
	}
	if n > limit {
		return nil, errTooLarge
	}
	return buf.Bytes(), nil
}

// receiveBody handles the packets of a body.
func (c *Conn) receiveBody(contentType string, body []byte) (err error) {
	c.recv.Lock()
	defer c.recv.Unlock()
	c.hear()
	limit := c.srv.cfg.MaxPackets
	switch {
	case c.eio == 4:
		return decodePayload4(body, limit, c.receive)
	case strings.HasPrefix(contentType, "application/octet-stream"):
		return decodeBinaryPayload3(body, limit, c.receive)
	default:
		c.raw, err = decodePayload3(body, c.raw, limit, c.receive)
		return err
	}
}
