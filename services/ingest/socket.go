package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
	"tasktracer/pkg/socketio"
)

const (
	// byeTime is how long a client may stay after bye; the older system's figure.
	byeTime = 5 * time.Second
	// progressEvery is how often a client with the extension hears of the log while it waits for it. It leaves an ingest that says nothing for 5 s.
	progressEvery = 2 * time.Second
	// maxAnswers is how many acknowledgements may be due to one client; then nothing more is read from it.
	maxAnswers = 1024
)

// session is one client's connection, from authenticate on.
type session struct {
	s       *Service
	conn    *socketio.Conn
	hello   hello
	tokenID atomic.Value // string; the token's id once it is verified
	log     *slog.Logger
	key     frame.Key
	app     *bus.Appender

	// submit ends when there is no use in submitting any more: for clients with the extension with the connection (they send it again), for
	// others with the process.
	submit  context.Context
	gone    chan struct{} // closed when the connection has ended and its last event was handled
	answers chan answer
	waiting atomic.Bool // the event handler waits for the log
}

func (x *session) generation() string {
	if x.hello.v2 {
		return "numbered"
	}
	return "plain"
}

// begin makes the connection a working one. It is called in its event handler.
func (x *session) begin() {
	var cancel context.CancelFunc
	x.submit, cancel = context.WithCancel(x.s.work)
	forget := func() bool { return false }
	if x.hello.v2 {
		forget = context.AfterFunc(x.conn.Context(), cancel)
	}
	x.gone, x.answers = make(chan struct{}), make(chan answer, maxAnswers)
	x.conn.OnEvent(x.event)
	x.conn.OnClose(func(reason string) {
		x.log.Debug("client's connection ended", "reason", reason)
		close(x.gone)
	})
	go func() {
		defer x.s.leave(x)
		defer cancel()
		defer forget()
		x.answer()
		x.release()
	}()
}

// event handles one event of the client; while it waits for the log nothing more is read from the client.
func (x *session) event(e *socketio.Event) {
	switch {
	case e.Name == "data" && x.hello.v2:
		x.numberedData(e)
	case e.Name == "data":
		x.data(e)
	case e.Name == "eof" && x.hello.v2:
		x.numberedEOF(e)
	case e.Name == "eof":
		x.eof(e)
	default:
		x.s.met.ignored.Inc()
	}
}

func (x *session) data(e *socketio.Event) {
	recs, dropped := legacyData(first(e), len(e.Args) > 0, time.Now().UnixMilli())
	if dropped > 0 {
		x.s.met.dropped.WithLabelValues("payload_too_large").Inc()
		x.s.met.droppedBytes.Add(float64(dropped))
		x.log.Warn("a message too large to be kept was left out", "bytes", dropped)
	}
	_ = x.store(recs...) // why it failed closes the connection, see answer
}

func (x *session) eof(e *socketio.Event) {
	info, ok := exitOf(first(e))
	if !ok {
		x.s.met.ignored.Inc()
		return
	}
	x.end(e, frame.Record{At: time.Now().UnixMilli()}, info)
}

func (x *session) numberedData(e *socketio.Event) {
	recs, err := parsePacket(first(e))
	if err == nil {
		err = x.store(recs...)
	}
	if err != nil {
		x.refuse(e, err)
		return
	}
	var last uint64
	for i := range recs {
		last = max(last, recs[i].Src)
	}
	x.owe(answer{event: e, src: last})
}

func (x *session) numberedEOF(e *socketio.Event) {
	m, err := parseNumberedExit(first(e))
	if err != nil {
		x.refuse(e, err)
		return
	}
	x.end(e, frame.Record{Src: m.seq, At: m.at}, m.info)
}

// end stores an EXIT and owes the client its bye.
func (x *session) end(e *socketio.Event, r frame.Record, info frame.ExitInfo) {
	data, err := info.Marshal()
	if err == nil {
		r.Kind, r.Data = frame.Exit, data
		err = x.store(r)
	}
	if err != nil {
		x.refuse(e, err)
		return
	}
	x.owe(answer{event: e, src: r.Src, all: r.Src == 0, bye: bye(info)})
}

// refuse answers a packet of which nothing was taken. Clients go by the code; the sentence is for people.
func (x *session) refuse(e *socketio.Event, err error) {
	code, text := "malformed", "this cannot be read"
	var gap *bus.GapError
	switch {
	case errors.As(err, &gap):
		code, text = "gap", "records before these are missing"
	case errors.Is(err, errTooLarge):
		code, text = "too_large", "a record or the packet is too large"
	case errors.Is(err, bus.ErrTaken), errors.Is(err, bus.ErrDeleted):
		code, text = "taken", "another connection owns the run, or it was deleted"
	case !errors.Is(err, errMalformed):
		return // the connection or the process ends
	}
	x.s.met.refusedPackets.WithLabelValues(code).Inc()
	x.ack(e, map[string]any{"error": text, "code": code, "next": x.app.Next()})
}

func (x *session) ack(e *socketio.Event, arg any) {
	if !e.WantsAck() {
		return
	}
	if err := e.Ack(arg); err != nil && !errors.Is(err, socketio.ErrClosed) {
		x.log.Warn("acknowledge", "err", err)
	}
}

func first(e *socketio.Event) json.RawMessage {
	if len(e.Args) == 0 {
		return nil
	}
	return e.Args[0]
}
