package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
	"tasktracer/pkg/socketio"
)

// answer is what the client is owed once something is durable.
type answer struct {
	event *socketio.Event
	src   uint64 // the record that must be durable
	all   bool   // everything submitted so far must be; for clients that do not number
	bye   map[string]json.RawMessage
}

// store submits records. It waits while too much is under way.
func (x *session) store(recs ...frame.Record) error {
	x.waiting.Store(true)
	defer x.waiting.Store(false)
	begun := time.Now()
	err := x.app.Submit(x.submit, recs...)
	x.s.met.waited.Add(time.Since(begun).Seconds())
	if err != nil {
		return err
	}
	for i := range recs {
		r := &recs[i]
		x.s.met.records.WithLabelValues(r.Kind.String()).Inc()
		x.s.met.bytes.Add(float64(len(r.Data)))
		if r.Kind == frame.Note && x.hello.v2 {
			x.noteLost(r)
		}
	}
	return nil
}

// noteLost counts what a client says that it had to drop.
func (x *session) noteLost(r *frame.Record) {
	n, err := frame.UnmarshalNote(r.Data)
	if err != nil || n.LostBytes == 0 {
		return
	}
	x.s.met.dropped.WithLabelValues("client_limit").Inc()
	x.s.met.droppedBytes.Add(float64(n.LostBytes))
	x.log.Warn("a client dropped output by its own limit", "bytes", n.LostBytes)
}

// owe notes an answer. It waits while too many are due.
func (x *session) owe(a answer) {
	select {
	case x.answers <- a:
	case <-x.conn.Context().Done():
	case <-x.app.Taken():
	case <-x.s.work.Done():
	}
}

// answer gives the client what it is owed, in order, until the connection has ended.
func (x *session) answer() {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	var leave <-chan time.Time // the client should be gone by then
	for {
		select {
		case a := <-x.answers:
			x.settle(a)
			if a.bye != nil && leave == nil {
				leave = time.After(byeTime)
			}
		case <-tick.C:
			x.progress()
		case <-leave:
			x.conn.Disconnect()
			leave = nil
		case <-x.app.Taken():
			x.taken()
			return
		case <-x.gone:
			return
		}
	}
}

// settle waits until what a is about is durable, and says so.
func (x *session) settle(a answer) {
	for {
		err := x.durable(a)
		switch {
		case err == nil:
			src, _ := x.app.Durable()
			x.ack(a.event, map[string]any{"durable": src})
			if a.bye != nil {
				x.emit("bye", a.bye)
			}
			return
		case !errors.Is(err, context.DeadlineExceeded):
			x.refuse(a.event, err)
			return
		}
		select {
		case <-x.gone:
			return
		default:
			x.progress()
		}
	}
}

// durable waits for what a is about, at most until it is time to tell the client that it takes longer.
func (x *session) durable(a answer) error {
	ctx, cancel := context.WithTimeout(x.submit, progressEvery)
	defer cancel()
	if a.all {
		return x.app.Sync(ctx)
	}
	return x.app.WaitDurable(ctx, a.src)
}

// progress tells a client with the extension how far the log is, while it waits for it.
func (x *session) progress() {
	if !x.hello.v2 {
		return
	}
	src, stalled := x.app.Durable()
	if !x.waiting.Load() && src+1 >= x.app.Next() {
		return
	}
	x.tell(src, stalled)
}

func (x *session) tell(durable uint64, stalled bool) {
	m, err := socketio.NewMessage("progress", map[string]any{"durable": durable, "stalled": stalled})
	if err != nil || x.conn.TrySend(m) != nil {
		return // a client that takes nothing hears the next one
	}
	x.s.met.progress.Inc()
}

func (x *session) emit(event string, arg any) {
	if err := x.conn.Emit(x.s.work, event, arg); err != nil {
		x.log.Debug("client went away", "event", event, "err", err)
	}
}

// whileAccepting tells a client that waits for the token service or for its run to be taken that this takes time, and that it is not the connection.
func (x *session) whileAccepting() (stop func()) {
	if !x.hello.v2 {
		return func() {}
	}
	ended, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				x.tell(0, true)
			case <-ended:
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(ended); <-told })
}

// taken is for a run that somebody else owns now, or that was deleted: the client hears it, and the connection is closed.
func (x *session) taken() {
	x.s.met.taken.Inc()
	x.log.Info("run taken", "err", x.app.Err())
	for {
		select {
		case a := <-x.answers:
			x.refuse(a.event, bus.ErrTaken)
		case <-x.gone:
			return
		default:
			x.conn.Close("taken")
			<-x.gone
			return
		}
	}
}

// release lets go of the run when the connection has ended.
func (x *session) release() {
	if err := x.app.Release(x.s.work); err != nil {
		x.log.Warn("release of a run", "err", err)
	}
}
