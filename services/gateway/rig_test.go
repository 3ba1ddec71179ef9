package gateway

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
	"tasktracer/pkg/socketio"
	pb "tasktracer/proto/tasktracer/v1"
)

// rig is a real NATS with a token service, and gateways on it as the test asks for.
type rig struct {
	t    testing.TB
	nats *natsd.Server
	dir  string   // of its files
	bus  *bus.Bus // of the side that writes
	keys *auth.Keyring
	log  *slog.Logger
	ctx  context.Context // of the writers
	conf []func(*bus.Config)
}

func newRig(t testing.TB, change ...func(*bus.Config)) *rig {
	t.Helper()
	r := &rig{t: t, conf: change, log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	r.dir = t.TempDir()
	nats, err := natsd.Start(t.Context(), natsd.Config{Dir: r.dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	r.nats = nats
	r.bus = r.open()
	keys := map[auth.Type][]auth.Key{}
	for _, typ := range auth.Types() {
		k, err := auth.NewSecretKey("", "HS256", secret(typ))
		if err != nil {
			t.Fatal(err)
		}
		keys[typ] = []auth.Key{k}
	}
	if r.keys, err = auth.NewKeyring(keys); err != nil {
		t.Fatal(err)
	}
	r.serveTokens()
	return r
}

func (r *rig) open() *bus.Bus {
	cfg := bus.Config{Name: "test", InProcess: r.nats, MaxBytes: 2 << 30, Log: r.log}
	for _, c := range r.conf {
		c(&cfg)
	}
	b, err := bus.Open(within(r.t), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(b.Close)
	return b
}

// serveTokens answers as the token service does.
func (r *rig) serveTokens() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.bus.Serve(ctx, "tokens", "1.0.0", bus.Endpoint{Name: "verify", Subject: auth.SubjectVerify, Handle: func(_ context.Context, data []byte) ([]byte, error) {
			var req pb.VerifyRequest
			if err := proto.Unmarshal(data, &req); err != nil {
				return nil, err
			}
			c, err := r.keys.Verify(req.Token, auth.Type(req.Type))
			resp := &pb.VerifyResponse{Error: auth.Code(err)}
			if err == nil {
				resp.Claims = c.Proto()
			}
			return proto.Marshal(resp)
		}})
	}()
	r.t.Cleanup(func() { cancel(); <-done })
	for deadline := within(r.t); ; pause(deadline, 5*time.Millisecond) {
		if _, err := r.bus.Request(deadline, auth.SubjectVerify, nil); !errors.Is(err, bus.ErrNoService) {
			return
		}
	}
}

func (r *rig) token(c auth.Claims, life time.Duration) string {
	r.t.Helper()
	t, _, err := r.keys.Sign(c, life)
	if err != nil {
		r.t.Fatal(err)
	}
	return t
}

func secret(typ auth.Type) []byte {
	return []byte("a secret of at least thirty-two bytes for " + string(typ))
}

// until makes a browser token by hand: one that ended long ago, or ends in a moment.
func until(ns string, end time.Time) string {
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(`{"typ":"JWT","alg":"HS256"}`)) + "." + enc(fmt.Appendf(nil, `{"type":"browser_token","ns":%s,"iat":1,"exp":%d}`, quote(ns), end.Unix()))
	mac := hmac.New(sha256.New, secret(auth.Browser))
	mac.Write([]byte(text))
	return text + "." + enc(mac.Sum(nil))
}

func (r *rig) browser(ns string) string {
	return r.token(auth.Claims{Type: auth.Browser, Namespace: ns}, time.Hour)
}

// gate is one gateway, as a process has it.
type gate struct {
	*rig
	s      *Service
	url    string
	tokens *auth.Remote
	stop   func()
}

func (r *rig) gateway(change ...func(*Config)) *gate {
	r.t.Helper()
	var cfg Config
	cfg.Register(flag.NewFlagSet("", flag.ContinueOnError))
	for _, c := range change {
		c(&cfg)
	}
	b := r.open()
	tokens := auth.NewRemote(b)
	s, err := New(cfg, Deps{Bus: b, Tokens: tokens, Log: r.log, Metrics: prometheus.NewRegistry()})
	if err != nil {
		r.t.Fatal(err)
	}
	sio, err := socketio.NewServer(socketio.Config{Log: r.log, WriteTimeout: 5 * time.Minute}, func(c *socketio.Conn) {
		c.OnEvent(func(e *socketio.Event) {
			if e.Name != "authenticate" {
				return
			}
			var arg json.RawMessage
			if len(e.Args) > 0 {
				arg = e.Args[0]
			}
			s.Serve(c, arg)
		})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", sio)
	s.Mount(mux)
	srv := httptest.NewServer(mux)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	wg.Go(func() {
		_ = b.WatchRevoked(ctx, tokens.Revoked, nil)
	})
	g := &gate{rig: r, s: s, url: srv.URL, tokens: tokens}
	g.stop = sync.OnceFunc(func() {
		_ = sio.Shutdown(within(r.t))
		cancel()
		wg.Wait()
		srv.Close()
	})
	r.t.Cleanup(g.stop)
	eventually(r.t, "the roster is there", func() bool { return s.Ready(ctx) == nil })
	return g
}

// within is the context of what must not hang.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for ctx := within(t); !ok(); pause(ctx, 2*time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("it did not come about that %s", what)
		}
	}
}

// writer is a client's run, as ingest has it.
type writer struct {
	r   *rig
	key frame.Key
	a   *bus.Appender
	src uint64
}

func (r *rig) run(key frame.Key, change ...func(*frame.Run)) *writer {
	r.t.Helper()
	if key.Run == "" {
		key.Run = "run-" + rid()
	}
	run := frame.Run{Key: key, Task: []byte(`{"name":"` + "t" + `","cmd":"echo hi"}`)}
	for _, c := range change {
		c(&run)
	}
	a, err := r.bus.Take(within(r.t), "ingest-1", run)
	if err != nil {
		r.t.Fatal(err)
	}
	return &writer{r: r, key: key, a: a}
}

func rid() string { return strings.ToLower(rand.Text()) }

func (w *writer) records(recs ...frame.Record) {
	w.r.t.Helper()
	for i := range recs {
		w.src++
		recs[i].Src, recs[i].At = w.src, 1000+int64(w.src)
	}
	if err := w.a.Submit(w.r.ctx, recs...); err != nil {
		w.r.t.Fatal(err)
	}
}

func (w *writer) out(text string) *writer {
	w.r.t.Helper()
	w.records(frame.Record{Kind: frame.Stdout, Data: []byte(text)})
	return w
}

func (w *writer) err(text string) *writer {
	w.r.t.Helper()
	w.records(frame.Record{Kind: frame.Stderr, Data: []byte(text)})
	return w
}

// sync waits until all is durable.
func (w *writer) sync() *writer {
	w.r.t.Helper()
	if err := w.a.Sync(w.r.ctx); err != nil {
		w.r.t.Fatal(err)
	}
	return w
}

func (w *writer) exit(code string) *writer {
	w.r.t.Helper()
	data, err := frame.ExitInfo{Code: []byte(code)}.Marshal()
	if err != nil {
		w.r.t.Fatal(err)
	}
	w.records(frame.Record{Kind: frame.Exit, Data: data})
	return w.sync()
}

func (w *writer) leave() *writer {
	w.r.t.Helper()
	if err := w.a.Release(within(w.r.t)); err != nil {
		w.r.t.Fatal(err)
	}
	return w
}

// known waits until the gateway's roster has the run in a state.
func (w *writer) known(g *gate, what string, ok func(frame.Run) bool) *writer {
	w.r.t.Helper()
	eventually(w.r.t, "the roster knows of a run that "+what, func() bool {
		st, found := g.s.roster.get(w.key)
		return found && ok(*st.run)
	})
	return w
}

func gone(r frame.Run) bool { return !r.Connected }

// eye is a viewer's client.
type eye struct {
	t  testing.TB
	c  *socketio.Client
	mu sync.Mutex
	ev []ev
	// held, when locked, keeps the client from reading.
	held sync.Mutex
}

// ev is an event as it came.
type ev struct {
	name string
	arg  json.RawMessage
}

func (e ev) String() string { return e.name + string(e.arg) }

func (e ev) get(field string) string {
	var m map[string]json.RawMessage
	_ = json.Unmarshal(e.arg, &m)
	var s string
	if json.Unmarshal(m[field], &s) == nil {
		return s
	}
	return string(m[field])
}

func (g *gate) dial() *eye {
	g.t.Helper()
	c, err := socketio.Dial(within(g.t), socketio.DialConfig{URL: g.url, Log: g.log, MaxMessage: 16 << 20})
	if err != nil {
		g.t.Fatal(err)
	}
	e := &eye{t: g.t, c: c}
	c.OnEvent(func(x *socketio.Event) {
		e.held.Lock()
		defer e.held.Unlock()
		n := ev{name: x.Name}
		if len(x.Args) > 0 {
			n.arg = bytes.Clone(x.Args[0])
		}
		e.mu.Lock()
		e.ev = append(e.ev, n)
		e.mu.Unlock()
	})
	g.t.Cleanup(func() { c.Close() })
	return e
}

// watch dials and authenticates; extra goes into watch, as JSON fields.
func (g *gate) watch(token, task string, from []string, extra string, v2 bool) *eye {
	g.t.Helper()
	e := g.dial()
	e.authenticate(token, task, from, extra, v2)
	return e
}

func (e *eye) authenticate(token, task string, from []string, extra string, v2 bool) {
	e.t.Helper()
	v := ""
	if v2 {
		v = `,"v":2`
	}
	e.emit("authenticate", fmt.Sprintf(`{"type":"browser_token","token":%s,"watch":{"task":%s,"from":%s%s}%s}`, quote(token), quote(task), quote(from), extra, v))
}

func quote(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func (e *eye) emit(event, arg string) {
	e.t.Helper()
	args := []any{}
	if arg != "" {
		args = append(args, json.RawMessage(arg))
	}
	if err := e.c.Emit(within(e.t), event, args...); err != nil {
		e.t.Fatal(err)
	}
}

func (e *eye) events() []ev {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]ev(nil), e.ev...)
}

// await waits until n events with a name have come, and gives all that have.
func (e *eye) await(name string, n int) []ev {
	e.t.Helper()
	deadline := within(e.t)
	for {
		all := e.events()
		if len(named(all, name)) >= n {
			return all
		}
		if deadline.Err() != nil {
			e.t.Fatalf("%d events %q did not come; %d came in all, named %.600v", n, name, len(all), names(all))
		}
		pause(deadline, 2*time.Millisecond)
	}
}

// end waits until the server has ended the connection.
func (e *eye) end() error {
	e.t.Helper()
	select {
	case <-e.c.Done():
	case <-within(e.t).Done():
		e.t.Fatal("the connection was not ended")
	}
	return e.c.Err()
}

func named(all []ev, name string) (some []ev) {
	for _, e := range all {
		if e.name == name {
			some = append(some, e)
		}
	}
	return some
}

func names(all []ev) (n []string) {
	for _, e := range all {
		n = append(n, e.name)
	}
	return n
}

// bytesOf joins what data events carried, in any form; runs "" means all.
func bytesOf(t testing.TB, all []ev, run string) []byte {
	t.Helper()
	var out []byte
	type rec struct {
		Type string
		Data json.RawMessage
		B64  []byte
	}
	for _, e := range named(all, "data") {
		if run != "" && e.get("run") != run {
			continue
		}
		var m struct{ Data json.RawMessage }
		if err := json.Unmarshal(e.arg, &m); err != nil {
			t.Fatal(err)
		}
		var recs []rec
		if json.Unmarshal(m.Data, &recs) != nil {
			recs = make([]rec, 1)
			if err := json.Unmarshal(m.Data, &recs[0]); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range recs {
			if r.B64 != nil {
				out = append(out, r.B64...)
				continue
			}
			var s string
			_ = json.Unmarshal(r.Data, &s)
			out = append(out, s...)
		}
	}
	return out
}
