// Package tracetest is the server's side of package trace, for tests: it speaks the client's extension of the wire over real sockets, keeps what it gets in
// memory, checks every number, and fails in the ways that a test asks for. It is not a server to run.
package tracetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"tasktracer/pkg/socketio"
)

// Record is one record as it came.
type Record struct {
	Seq  uint64  `json:"seq"`
	At   int64   `json:"at"`
	Type string  `json:"type"`
	Data *string `json:"data"`
	B64  []byte  `json:"b64"`
	Lost *Lost   `json:"lost"`
}

// Lost is what a NOTE stands for.
type Lost struct {
	From  uint64 `json:"from"`
	To    uint64 `json:"to"`
	Bytes uint64 `json:"bytes"`
}

// Bytes is the record's data.
func (r *Record) Bytes() []byte {
	if r.Data != nil {
		return []byte(*r.Data)
	}
	return r.B64
}

// Run is what the server has of one run.
type Run struct {
	ID, Client string
	Task       json.RawMessage
	Records    []Record
	Next       uint64
	Code       *int
	Signal     string
	// Late: it was said with a connection that the run's own process has ended.
	Late bool
	// Connections counts those on which the run was accepted.
	Connections int
}

// Faults is how a server misbehaves.
type Faults struct {
	// Silent: authenticate is never answered. Deaf: nothing is stored and nothing acknowledged, and no progress is told.
	Silent, Deaf bool
	// Refuse is the code with which every authenticate is answered; RefuseTokens with what some tokens are.
	Refuse       string
	RefuseTokens map[string]string
	// CutEvery closes the connection at every so many data packets: in turn before it is stored, and after but before it is acknowledged.
	CutEvery int
	// MaxRecord is the size past which a record is refused as too large; 0: none.
	MaxRecord int
	// StoreUpTo: records with a greater number are neither stored nor acknowledged, and a packet may be stored in part; 0: all are.
	StoreUpTo uint64
	// Skew is how far the server's clock is ahead, by the date of its web answers.
	Skew time.Duration
	// Delay is waited before each event is handled.
	Delay time.Duration
}

// Server is a server under test.
type Server struct {
	URL string
	// Authority signs the certificate, where there is one.
	Authority *x509.Certificate

	mu     sync.Mutex
	faults Faults
	runs   map[string]*Run
	hellos []json.RawMessage
	conns  map[*socketio.Conn]bool
	news   *sync.Cond
	errs   []string
}

// Start starts a server on a port of its own.
func Start(t testing.TB, faults Faults) *Server { return start(t, faults, nil, false) }

// StartFrom starts one that has what another one's State was.
func StartFrom(t testing.TB, state []Run) *Server { return start(t, Faults{}, state, false) }

// StartTLS starts one with a certificate that nobody trusts who is not told to.
func StartTLS(t testing.TB, faults Faults) *Server { return start(t, faults, nil, true) }

func start(t testing.TB, faults Faults, state []Run, secure bool) *Server {
	t.Helper()
	s := &Server{faults: faults, runs: map[string]*Run{}, conns: map[*socketio.Conn]bool{}}
	for _, r := range state {
		s.runs[r.ID] = &r
	}
	s.news = sync.NewCond(&s.mu)
	io, err := socketio.NewServer(socketio.Config{Log: slog.New(slog.DiscardHandler)}, s.accept)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		skew := s.faults.Skew
		s.mu.Unlock()
		if skew != 0 {
			w.Header().Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
		}
		io.ServeHTTP(w, r)
	}))
	h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	// A client that has lost an earlier server on this port may be here before Start returns: what it reads is set first.
	if secure {
		s.URL = "https://" + h.Listener.Addr().String()
		h.TLS = &tls.Config{}
		h.StartTLS()
		s.Authority = h.Certificate()
	} else {
		s.URL = "http://" + h.Listener.Addr().String()
		h.Start()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = io.Shutdown(ctx) // a client under test may hold on
		h.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range s.errs {
			t.Error(e)
		}
	})
	return s
}

// Set changes how the server misbehaves.
func (s *Server) Set(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Cut closes all connections.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		go c.Close("cut by the test")
	}
}

// Wait waits until ok says so of one of the runs, which it returns a copy of.
func (s *Server) Wait(t testing.TB, what string, ok func(*Run) bool) *Run {
	t.Helper()
	return s.WaitFor(t, what, 2*time.Minute, ok)
}

// WaitFor is Wait with a time.
func (s *Server) WaitFor(t testing.TB, what string, d time.Duration, ok func(*Run) bool) *Run {
	t.Helper()
	r := s.TryWait(d, ok)
	if r == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Fatalf("%s: did not happen; runs: %s", what, s.describe())
	}
	return r
}

// TryWait is WaitFor without an end of the test: nil where it did not happen.
func (s *Server) TryWait(d time.Duration, ok func(*Run) bool) *Run {
	late := false
	timer := time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.news.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for _, r := range s.runs {
			if ok(r) {
				c := *r
				return &c
			}
		}
		if late {
			return nil
		}
		s.news.Wait()
	}
}

func (s *Server) describe() string {
	text := ""
	for _, r := range s.runs {
		text += fmt.Sprintf("[%s next %d, ended %v] ", r.ID, r.Next, r.Code != nil)
	}
	return text
}

// State is a copy of what the server has.
func (s *Server) State() (runs []Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		c := *r
		c.Records = slices.Clone(r.Records)
		runs = append(runs, c)
	}
	return runs
}

// WaitHello waits until n authenticate messages have come, and returns them.
func (s *Server) WaitHello(t testing.TB, n int) []json.RawMessage {
	t.Helper()
	hellos := s.TryHello(2*time.Minute, n)
	if len(hellos) < n {
		t.Fatalf("%d authenticate messages, want %d", len(hellos), n)
	}
	return hellos
}

// TryHello is WaitHello without an end of the test.
func (s *Server) TryHello(d time.Duration, n int) []json.RawMessage {
	late := false
	timer := time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.news.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.hellos) < n && !late {
		s.news.Wait()
	}
	return s.hellos
}

// Ended tells that the run's exit has come.
func Ended(r *Run) bool { return r.Code != nil }

// Output is the bytes of one kind (STDOUT, STDERR, NOTE), or of both outputs ("").
func (r *Run) Output(kind string) []byte {
	var b []byte
	for i := range r.Records {
		rec := &r.Records[i]
		if rec.Type == kind || kind == "" && rec.Type != "NOTE" {
			b = append(b, rec.Bytes()...)
		}
	}
	return b
}

// LostBytes is how many bytes the run's notes say were lost.
func (r *Run) LostBytes() (n uint64) {
	for _, rec := range r.Records {
		if rec.Lost != nil {
			n += rec.Lost.Bytes
		}
	}
	return n
}

func (s *Server) fail(format string, args ...any) {
	s.errs = append(s.errs, fmt.Sprintf(format, args...))
}

func (s *Server) accept(c *socketio.Conn) {
	x := &peer{s: s, c: c}
	s.mu.Lock()
	s.conns[c] = true
	s.mu.Unlock()
	c.OnEvent(x.event)
	c.OnClose(func(string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
		if x.stop != nil {
			close(x.stop)
		}
	})
}

// peer is one connection.
type peer struct {
	s       *Server
	c       *socketio.Conn
	run     *Run
	packets int
	stop    chan struct{}
}

func (x *peer) event(e *socketio.Event) {
	x.s.mu.Lock()
	delay := x.s.faults.Delay
	x.s.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-x.c.Context().Done():
		}
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	defer x.s.news.Broadcast()
	switch e.Name {
	case "authenticate":
		x.authenticate(e.Args[0])
	case "data":
		x.data(e)
	case "eof":
		x.eof(e)
	}
}

func (x *peer) emit(event string, arg any) {
	_ = x.c.Emit(x.c.Context(), event, arg) // a client that is gone is gone
}

func (x *peer) authenticate(arg json.RawMessage) {
	x.s.hellos = append(x.s.hellos, append(json.RawMessage(nil), arg...))
	f := x.s.faults
	var h struct {
		Type, Token, ID, Run string
		V                    int
		Next                 uint64
		Late                 bool
		Task                 json.RawMessage
	}
	if err := json.Unmarshal(arg, &h); err != nil || h.Type != "client" || h.V != 2 || h.Run == "" || h.Next == 0 {
		x.s.fail("bad authenticate: %v %s", err, arg)
		return
	}
	if f.Silent {
		return
	}
	code := f.Refuse
	if c, ok := f.RefuseTokens[h.Token]; ok && (c != "token_expired" || x.s.runs[h.Run] == nil) {
		code = c
	}
	if code != "" {
		x.emit("authenticated", map[string]any{"error": "refused by the test", "code": code, "retryMs": map[bool]int{true: 50}[code == "busy"]})
		return
	}
	r := x.s.runs[h.Run]
	if r == nil {
		r = &Run{ID: h.Run, Client: h.ID, Task: append(json.RawMessage(nil), h.Task...), Next: 1}
		x.s.runs[h.Run] = r
	}
	r.Connections++
	r.Late = r.Late || h.Late
	x.run = r
	x.stop = make(chan struct{})
	go x.progress()
	x.emit("authenticated", map[string]any{"httpUrl": x.s.URL + "/tasks/x/?accessToken=t&id=" + h.ID, "v": 2, "run": h.Run, "next": r.Next, "window": 1 << 20, "now": time.Now().UnixMilli(), "ended": r.Code != nil})
}

func (x *peer) progress() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-x.stop:
			return
		case <-tick.C:
			x.s.mu.Lock()
			durable, deaf := x.run.Next-1, x.s.faults.Deaf
			x.s.mu.Unlock()
			if !deaf {
				x.emit("progress", map[string]any{"durable": durable, "stalled": false})
			}
		}
	}
}

func (x *peer) data(e *socketio.Event) {
	var recs []Record
	if err := json.Unmarshal(e.Args[0], &recs); err != nil || len(recs) == 0 || x.run == nil {
		x.s.fail("bad data: %v %.200s", err, e.Args[0])
		return
	}
	f := x.s.faults
	if f.Deaf {
		return
	}
	x.packets++
	cut := f.CutEvery > 0 && x.packets >= f.CutEvery
	if cut && x.run.Connections%2 == 0 {
		x.c.Close("cut by the test")
		return
	}
	if len(e.Args[0]) > 1<<20 {
		x.s.fail("a packet of %d bytes", len(e.Args[0]))
	}
	for i := range recs {
		if max := f.MaxRecord; max > 0 && len(recs[i].Bytes()) > max {
			x.ack(e, map[string]any{"error": "too large", "code": "too_large", "next": x.run.Next})
			return
		}
	}
	next := x.run.Next
	for i := range recs {
		r := &recs[i]
		from := r.Seq
		if r.Lost != nil {
			from = r.Lost.From
			if r.Lost.To != r.Seq || r.Lost.From > r.Lost.To {
				x.s.fail("bad lost: %+v at seq %d", r.Lost, r.Seq)
			}
		}
		if from > next {
			x.ack(e, map[string]any{"error": "gap", "code": "gap", "next": x.run.Next})
			return
		}
		if r.Lost != nil && r.Seq >= next && from < next {
			x.s.fail("lost from %d, but the server has up to %d", from, next-1)
		}
		next = max(next, r.Seq+1)
	}
	for _, r := range recs {
		if r.Seq >= x.run.Next && x.run.Code != nil {
			x.s.fail("record %d (%s) comes after the run's end", r.Seq, r.Type)
		}
		if f.StoreUpTo > 0 && r.Seq > f.StoreUpTo {
			return
		}
		if r.Seq >= x.run.Next {
			x.run.Records = append(x.run.Records, r)
			x.run.Next = r.Seq + 1
		}
	}
	if cut {
		x.c.Close("cut by the test")
		return
	}
	x.ack(e, map[string]any{"durable": x.run.Next - 1})
}

func (x *peer) ack(e *socketio.Event, arg any) {
	_ = e.Ack(arg) // a client that is gone is gone
}

func (x *peer) eof(e *socketio.Event) {
	var m struct {
		Seq    uint64
		Code   int
		Signal string
	}
	if err := json.Unmarshal(e.Args[0], &m); err != nil || x.run == nil {
		x.s.fail("bad eof: %v %s", err, e.Args[0])
		return
	}
	if f := x.s.faults; f.Deaf || f.StoreUpTo > 0 && m.Seq > f.StoreUpTo {
		return
	}
	if m.Seq > x.run.Next {
		x.ack(e, map[string]any{"error": "gap", "code": "gap", "next": x.run.Next})
		return
	}
	if m.Seq == x.run.Next {
		if x.run.Code != nil {
			x.s.fail("a second end (code %d)", m.Code)
		}
		x.run.Next++
		x.run.Code, x.run.Signal = &m.Code, m.Signal
	}
	x.ack(e, map[string]any{"durable": x.run.Next - 1})
	x.emit("bye", map[string]any{"code": m.Code})
}

// Runs is how many runs the server has seen.
func (s *Server) Runs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.runs)
}
