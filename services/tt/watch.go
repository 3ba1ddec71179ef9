package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/term"

	"tasktracer/pkg/socketio"
)

// watchCommand shows a task's output as it is written, history first.
func watchCommand(ctx context.Context, args []string, sys system) error {
	o := &viewerOptions{}
	fs := newFlagSet("tt watch")
	since := fs.String("since", "", "")
	tail := fs.Int("tail", -1, "")
	exitCode := fs.Bool("exit-code", false, "")
	if err := parseViewer(o, fs, args, sys); err != nil {
		return err
	}
	if o.task == "" {
		return &usageError{errors.New("which task? tt watch NAME [id…]; `tt ls` shows what there is")}
	}
	from, err := parseSince(*since, time.Now())
	if err != nil {
		return &usageError{fmt.Errorf("--since: %w", err)}
	}
	tlsConfig, err := o.tlsConfig()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	w := newWatcher(o, newShow(sys, o.json, len(o.ids) == 1, term.IsTerminal(int(sys.stdout.Fd())) && sys.getenv("NO_COLOR") == ""), from, *tail)
	w.untilEnd = len(o.ids) > 0 || *exitCode
	err = w.run(ctx, socketio.DialConfig{URL: o.url, TLS: tlsConfig})
	w.show.flush()
	if err != nil && ctx.Err() == nil {
		return err
	}
	if *exitCode {
		if ctx.Err() != nil {
			return codeError(130)
		}
		return codeError(w.code)
	}
	return nil
}

// parseSince reads a time ago (10m) or a time (2006-01-02T15:04:05, with or without a zone). It is 0 for the empty text.
func parseSince(text string, now time.Time) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d).UnixMilli(), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t.UnixMilli(), nil
		}
	}
	return 0, fmt.Errorf("%q is neither a duration such as 10m nor a time such as 2006-01-02T15:04:05", text)
}

// watcher follows a task over any number of connections: where one ends, the next goes on by cursor.
type watcher struct {
	o        *viewerOptions
	show     *show
	since    int64
	tail     int
	untilEnd bool

	runs map[string]*watchedRun
	// wanted are the clients attached to; the value tells whether their history has been seen.
	wanted map[string]bool
	code   int
	events chan *socketio.Event
}

type watchedRun struct {
	from, cursor string
	ended        bool
	reading      bool           // history is coming
	past         []viewerRecord // with --tail: history that is being read, until it is known which lines are the last
}

func newWatcher(o *viewerOptions, s *show, since int64, tail int) *watcher {
	w := &watcher{o: o, show: s, since: since, tail: tail, runs: map[string]*watchedRun{}, wanted: map[string]bool{}}
	for _, id := range o.ids {
		w.wanted[id] = false
	}
	return w
}

// errFinal ends watching; another connection would end the same way.
type errFinal struct{ error }

// run watches until all is seen, or ctx ends.
func (w *watcher) run(ctx context.Context, cfg socketio.DialConfig) error {
	wait, reached := 200*time.Millisecond, false
	for {
		c, err := socketio.Dial(ctx, cfg)
		if err == nil {
			reached, wait = true, 200*time.Millisecond
			err = w.connection(ctx, c)
			c.Close() //nolint:errcheck // it is over
		}
		var final errFinal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &final):
			return final.error
		case !reached || ctx.Err() != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// connection watches on one connection; nil when all is seen.
func (w *watcher) connection(ctx context.Context, c *socketio.Client) error {
	w.events = make(chan *socketio.Event, 64)
	c.OnEvent(func(e *socketio.Event) {
		select {
		case w.events <- e:
		case <-c.Done():
		case <-ctx.Done():
		}
	})
	if err := c.Emit(ctx, "authenticate", w.hello()); err != nil {
		return err
	}
	// Where all clients are meant, those that have run before and do not run now are named by the API, and the others announce themselves.
	if len(w.o.ids) == 0 {
		if err := w.attachKnown(ctx, c); err != nil {
			return err
		}
	}
	for {
		select {
		case e := <-w.events:
			if done, err := w.event(ctx, c, e); done || err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-c.Done():
			if err := w.rest(ctx, c); err != nil {
				return err
			}
			if err := c.Err(); err != nil {
				return err
			}
			return socketio.ErrClosed
		}
	}
}

// rest handles what had come before the connection ended: it may say why.
func (w *watcher) rest(ctx context.Context, c *socketio.Client) error {
	for {
		select {
		case e := <-w.events:
			if _, err := w.event(ctx, c, e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (w *watcher) hello() map[string]any {
	from := []any{nil} // a list of nobody, but no empty one
	for id := range w.wanted {
		from = append(from, id)
	}
	return map[string]any{"type": "browser_token", "token": w.o.token, "v": 2, "watch": w.want(map[string]any{"task": w.o.task, "from": from})}
}

// want adds to an attachment where to begin.
func (w *watcher) want(m map[string]any) map[string]any {
	m["batch"] = true
	m["history"] = "all"
	if w.tail >= 0 {
		m["history"] = map[string]any{"tail": w.tail}
	}
	after := map[string][]string{}
	for _, r := range w.runs {
		if r.cursor != "" {
			after[r.from] = append(after[r.from], r.cursor)
		}
	}
	if len(after) > 0 {
		m["after"] = after
	}
	return m
}

func (w *watcher) attach(ctx context.Context, c *socketio.Client, id string) error {
	if _, ok := w.wanted[id]; ok {
		return nil
	}
	w.wanted[id] = false
	return c.Emit(ctx, "attach", w.want(map[string]any{"from": []string{id}}))
}

func (w *watcher) attachKnown(ctx context.Context, c *socketio.Client) error {
	a, err := w.o.api()
	if err != nil {
		return errFinal{err}
	}
	clients, err := a.clients(ctx, w.o.task)
	var p *problem
	if errors.As(err, &p) && p.Status < 500 && p.Status != 429 {
		return errFinal{err}
	}
	if err != nil {
		return err
	}
	for _, known := range clients {
		if err := w.attach(ctx, c, known.Client); err != nil {
			return err
		}
	}
	if w.untilEnd && len(clients) == 0 {
		return errFinal{fmt.Errorf("nothing has run under the name %s", w.o.task)}
	}
	return nil
}

// viewerEvent is any event's argument.
type viewerEvent struct {
	From, Run, Cursor, State string
	Data                     []viewerRecord
	Code                     json.RawMessage
	Signal                   *string
	Message                  string
	FromSeq, ToSeq           uint64
	Bytes                    *uint64
	Reason                   string
}

type viewerRecord struct {
	Seq  uint64          `json:"seq"`
	At   int64           `json:"at"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data,omitempty"`
	B64  []byte          `json:"b64,omitempty"`
}

func (w *watcher) event(ctx context.Context, c *socketio.Client, e *socketio.Event) (done bool, err error) {
	if len(e.Args) == 0 {
		return false, nil
	}
	if e.Name == "authenticated" {
		var m struct{ Error, Code string }
		if err := json.Unmarshal(e.Args[0], &m); err == nil && m.Error != "" && m.Code != "busy" {
			return false, errFinal{&problem{Code: m.Code, Detail: m.Error}}
		}
		return false, nil
	}
	var m viewerEvent
	if err := json.Unmarshal(e.Args[0], &m); err != nil {
		return false, errFinal{fmt.Errorf("%s from the server: %w", e.Name, err)}
	}
	r := w.runs[m.Run]
	if r == nil && m.Run != "" {
		r = &watchedRun{from: m.From}
		w.runs[m.Run] = r
	}
	if m.Cursor != "" {
		r.cursor = m.Cursor
	}
	switch e.Name {
	case "problem":
		if code := text(m.Code); code != "bad_cursor" {
			return false, errFinal{&problem{Code: map[string]string{"expired": "token_expired", "revoked": "token_revoked"}[code], Detail: m.Message}}
		}
		for run, r := range w.runs { // its place is unknown there: from the beginning
			if r.from == m.From {
				delete(w.runs, run)
			}
		}
	case "workerIn":
		if len(w.o.ids) == 0 {
			return false, w.attach(ctx, c, m.From)
		}
	case "start":
		r.ended = false
		r.reading = true
		w.show.start(m.From, m.Run, e.Args[0])
	case "data":
		r.ended = false
		for i := range m.Data {
			switch {
			case m.Data[i].At < w.since:
			case w.tail >= 0 && r.reading:
				r.past = append(r.past, m.Data[i])
			default:
				w.show.record(m.From, m.Run, &m.Data[i])
			}
		}
	case "gap":
		w.show.gap(m.From, m.Run, &m, e.Args[0])
	case "eof":
		r.ended = true
		w.showTail(m.Run, r)
		if code := exitCodeOf(m.Code); code != 0 {
			w.code = code
		}
		w.show.eof(m.From, m.Run, &m, e.Args[0])
	case "live":
		w.showTail(m.Run, r)
	}
	if m.From != "" && (e.Name == "live" || e.Name == "eof") {
		w.wanted[m.From] = true
	}
	return w.untilEnd && w.over(), nil
}

// showTail shows the last lines of a history that has come to its end. The server begins where its log allows, some lines too early.
func (w *watcher) showTail(run string, r *watchedRun) {
	past := r.past
	r.reading, r.past = false, nil
	left := w.tail
	for i := len(past) - 1; i >= 0 && left > 0; i-- {
		data := past[i].bytes()
		for at := len(data) - 1; at >= 0; at-- {
			// The line feed that ends everything begins no line.
			if data[at] != '\n' || i == len(past)-1 && at == len(data)-1 {
				continue
			}
			if left--; left == 0 {
				past[i].Data, past[i].B64 = nil, data[at+1:]
				past = past[i:]
				break
			}
		}
	}
	for i := range past {
		w.show.record(r.from, run, &past[i])
	}
}

// over tells that all runs of all clients that are watched have been seen to their end.
func (w *watcher) over() bool {
	for _, seen := range w.wanted {
		if !seen {
			return false
		}
	}
	for _, r := range w.runs {
		if !r.ended {
			return false
		}
	}
	return len(w.runs) > 0
}

// bytes is the record's output; nothing for what is none.
func (r *viewerRecord) bytes() []byte {
	if r.B64 != nil {
		return r.B64
	}
	return []byte(text(r.Data))
}

func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// exitCodeOf is the number that a process can exit with; what is none counts as failure.
func exitCodeOf(raw json.RawMessage) int {
	var n int
	if json.Unmarshal(raw, &n) != nil {
		return exitFailure
	}
	if n < 0 || n > 255 {
		return 255
	}
	return n
}
