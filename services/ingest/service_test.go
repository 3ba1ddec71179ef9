package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
	"tasktracer/pkg/socketio"
	pb "tasktracer/proto/tasktracer/v1"
)

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func testRing(t testing.TB) *auth.Keyring {
	t.Helper()
	keys := map[auth.Type][]auth.Key{}
	for _, typ := range auth.Types() {
		k, err := auth.NewSecretKey("", "HS256", []byte("the secret of "+string(typ)))
		if err != nil {
			t.Fatal(err)
		}
		keys[typ] = []auth.Key{k}
	}
	ring, err := auth.NewKeyring(keys)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// serveTokens answers as the token service does.
func serveTokens(t testing.TB, b *bus.Bus, ring *auth.Keyring) {
	verify := func(_ context.Context, data []byte) ([]byte, error) {
		var req pb.VerifyRequest
		if err := proto.Unmarshal(data, &req); err != nil {
			return nil, err
		}
		c, err := ring.Verify(req.Token, auth.Type(req.Type))
		return proto.Marshal(&pb.VerifyResponse{Claims: c.Proto(), Error: auth.Code(err)})
	}
	issue := func(_ context.Context, data []byte) ([]byte, error) {
		var req pb.IssueRequest
		if err := proto.Unmarshal(data, &req); err != nil {
			return nil, err
		}
		token, c, err := ring.Sign(auth.ClaimsFromProto(req.Claims), time.Hour)
		if err != nil {
			return nil, err
		}
		return proto.Marshal(&pb.IssueResponse{Token: token, Claims: c.Proto()})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := b.Serve(ctx, "tokens", "1.0.0",
			bus.Endpoint{Name: "verify", Subject: auth.SubjectVerify, Handle: verify}, bus.Endpoint{Name: "issue", Subject: auth.SubjectIssue, Handle: issue})
		if err != nil {
			t.Errorf("token service: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func verifyNothing(t testing.TB, tokens *auth.Remote) error {
	_, err := tokens.Verify(deadline(t), "nothing", auth.Client)
	return err
}

// station is a whole ingest, on real NATS and real sockets.
type station struct {
	bus    *bus.Bus
	ring   *auth.Keyring
	tokens *auth.Remote
	url    string
	self   bus.Process
	reg    *prometheus.Registry
	stop   func() // ends Run and waits for it
}

func openBus(t testing.TB, n *natsd.Server) *bus.Bus {
	t.Helper()
	b, err := bus.Open(deadline(t), bus.Config{URL: n.ClientURL(), Name: t.Name(), MaxBytes: 256 << 20, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func startNATS(t testing.TB, dir, listen string) *natsd.Server {
	t.Helper()
	n, err := natsd.Start(t.Context(), natsd.Config{Dir: dir, Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

func start(t testing.TB, b *bus.Bus, change ...func(*Config)) *station {
	t.Helper()
	st := &station{bus: b, ring: testRing(t), tokens: auth.NewRemote(b), reg: prometheus.NewRegistry(),
		self: bus.Process{Name: "ing", Incarnation: "ing-" + strings.ToLower(t.Name()[4:8]), Role: "ingest"}}
	serveTokens(t, b, st.ring)
	for auth.Code(verifyNothing(t, st.tokens)) == "" {
		<-time.After(5 * time.Millisecond) // it is not heard of yet
	}
	ctx, cancel := context.WithCancel(context.Background())
	procs, err := b.WatchProcesses(ctx, func() {})
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.PublicURL = "http://view.example/"
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg, Deps{Bus: b, Tokens: st.tokens, Processes: procs, Self: st.self, Log: testLog(t), Metrics: st.reg})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := socketio.NewServer(socketio.Config{Name: "ing", Log: testLog(t)}, func(c *socketio.Conn) {
		c.OnEvent(func(e *socketio.Event) {
			if e.Name == "authenticate" {
				s.Serve(c, first(e))
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(srv)
	st.url = web.URL
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run = %v", err)
		}
	}()
	st.stop = sync.OnceFunc(func() { cancel(); <-ran })
	t.Cleanup(func() {
		st.stop()
		sctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = srv.Shutdown(sctx)
		web.Close()
	})
	return st
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (st *station) token(t testing.TB, c auth.Claims) string {
	t.Helper()
	token, _, err := st.ring.Sign(c, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// heard is one event that a peer got.
type heard struct{ name, arg string }

// peer is a client on a real socket.
type peer struct {
	t      testing.TB
	c      *socketio.Client
	events chan heard
}

func (st *station) dial(t testing.TB) *peer {
	t.Helper()
	c, err := socketio.Dial(deadline(t), socketio.DialConfig{URL: st.url, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, c: c, events: make(chan heard, 100)}
	c.OnEvent(func(e *socketio.Event) { p.events <- heard{e.Name, string(first(e))} })
	t.Cleanup(func() { _ = c.Close() })
	return p
}

func (p *peer) emit(event string, args ...any) {
	p.t.Helper()
	if err := p.c.Emit(deadline(p.t), event, args...); err != nil {
		p.t.Fatalf("emit %s: %v", event, err)
	}
}

// ask emits, and returns the acknowledgement.
func (p *peer) ask(event string, arg string) string {
	p.t.Helper()
	args, err := p.c.EmitAck(deadline(p.t), event, json.RawMessage(arg))
	if err != nil || len(args) != 1 {
		p.t.Fatalf("%s: acknowledged by %q, %v", event, args, err)
	}
	return string(args[0])
}

// hear returns the next event of that name; others before it are dropped.
func (p *peer) hear(name string) string {
	p.t.Helper()
	for {
		select {
		case e := <-p.events:
			if e.name == name {
				return e.arg
			}
		case <-p.c.Done():
			select {
			case e := <-p.events:
				if e.name == name {
					return e.arg
				}
				continue
			default:
			}
			p.t.Fatalf("connection ended (%v) before %s", p.c.Err(), name)
		case <-time.After(30 * time.Second):
			p.t.Fatalf("no %s", name)
		}
	}
}

func (p *peer) ended() error {
	p.t.Helper()
	select {
	case <-p.c.Done():
	case <-time.After(30 * time.Second):
		p.t.Fatal("connection did not end")
	}
	return p.c.Err()
}

// plain authenticates as an older client.
func (st *station) plain(t testing.TB, id, task string) *peer {
	p := st.dial(t)
	p.emit("authenticate", map[string]any{"type": "client", "token": st.token(t, auth.Claims{Type: auth.Client, Namespace: "ns"}), "id": id,
		"task": map[string]any{"name": task, "cmd": "x", "env": map[string]string{"SECRET": "y"}}})
	return p
}

// numbered authenticates as a client with the extension, and returns what it was answered.
func (st *station) numbered(t testing.TB, token, run string, next int) (*peer, map[string]any) {
	p := st.dial(t)
	p.emit("authenticate", map[string]any{"type": "client", "token": token, "id": "cli-1", "v": 2, "run": run, "next": next, "now": 1,
		"task": map[string]any{"name": "task"}})
	var answer map[string]any
	if err := json.Unmarshal([]byte(p.hear("authenticated")), &answer); err != nil {
		t.Fatal(err)
	}
	return p, answer
}

// logOf is what the log holds of a run, in words.
func (st *station) logOf(t testing.TB, key frame.Key) (lines []string) {
	t.Helper()
	err := st.bus.Read(deadline(t), key, 0, 0, func(s bus.Stored) error {
		for _, r := range s.Chunk.Records {
			switch r.Kind {
			case frame.Start:
				info, _ := frame.UnmarshalStart(r.Data)
				lines = append(lines, fmt.Sprintf("START %s", info.Task))
			case frame.Exit, frame.Lost:
				info, _ := frame.UnmarshalExit(r.Data)
				lines = append(lines, fmt.Sprintf("%s %s %s %s", r.Kind, info.Code, info.Signal, info.Message))
			case frame.Note:
				n, _ := frame.UnmarshalNote(r.Data)
				lines = append(lines, fmt.Sprintf("NOTE %s %d-%d %d", n.Text, n.LostFrom, n.LostTo, n.LostBytes))
			default:
				lines = append(lines, fmt.Sprintf("%s %q", r.Kind, r.Data))
			}
		}
		return nil
	}, func(g bus.Gone) error { return fmt.Errorf("gone: %+v", g) })
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// runs collects the states of all runs.
type runs struct {
	mu   sync.Mutex
	byID map[string]frame.Run
}

func (st *station) watch(t testing.TB) *runs {
	r := &runs{byID: map[string]frame.Run{}}
	ctx, cancel := context.WithCancel(context.Background())
	synced, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = st.bus.WatchRuns(ctx, func(c bus.RunChange) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.byID[c.Run.Key.Run] = c.Run
		}, func() { close(synced) })
	}()
	<-synced
	t.Cleanup(func() { cancel(); <-ended })
	return r
}

// await returns the first run for which ok holds.
func (r *runs) await(t testing.TB, what string, ok func(frame.Run) bool) frame.Run {
	t.Helper()
	give := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		for _, run := range r.byID {
			if ok(run) {
				r.mu.Unlock()
				return run
			}
		}
		r.mu.Unlock()
		select {
		case <-time.After(10 * time.Millisecond):
		case <-give:
			t.Fatalf("no run is %s", what)
		}
	}
}

func TestPlainClient(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")))
	states := st.watch(t)
	p := st.plain(t, "a b/ü", "x/y z")
	// All of it is sent before the answer comes, and stays in order.
	for _, arg := range []string{`{"type":"STDOUT","data":"hi ü\n"}`, `{"type":"STDERR","data":"oops\n"}`, `"plain"`, `null`} {
		p.emit("data", json.RawMessage(arg))
	}
	p.emit("data")
	p.emit("nonsense", 1)
	p.emit("authenticate", 1)
	p.emit("eof") // without an argument: ignored
	p.emit("eof", json.RawMessage(`{"code":2,"signal":null}`))
	p.emit("data", json.RawMessage(`{"type":"STDOUT","data":"late"}`))
	p.emit("eof", json.RawMessage(`{"code":7}`))

	var answer struct{ HTTPURL string }
	if err := json.Unmarshal([]byte(p.hear("authenticated")), &answer); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(answer.HTTPURL)
	if err != nil || u.EscapedPath() != "/tasks/x%2Fy%20z/" || u.Query().Get("id") != "a b/ü" || u.Host != "view.example" {
		t.Errorf("httpUrl %q, %v", answer.HTTPURL, err)
	}
	if c, err := st.tokens.Verify(t.Context(), u.Query().Get("accessToken"), auth.Browser); err != nil || c.Namespace != "ns" {
		t.Errorf("token of httpUrl: %+v, %v", c, err)
	}
	if got := p.hear("bye"); got != `{"code":2,"signal":null}` {
		t.Errorf("first bye %s", got)
	}
	byed := time.Now()
	if got := p.hear("bye"); got != `{"code":7}` {
		t.Errorf("second bye %s", got)
	}
	run := states.await(t, "exited", func(r frame.Run) bool { return r.Phase == frame.Exited })
	want := []string{`START {"cmd":"x","name":"x/y z"}`, `STDOUT "hi ü\n"`, `STDERR "oops\n"`, `RAW "\"plain\""`, `RAW "null"`, `RAW ""`,
		`EXIT 2 null `, `STDOUT "late"`, `EXIT 7  `}
	if d := cmp.Diff(want, st.logOf(t, run.Key)); d != "" {
		t.Errorf("log differs (-want +got):\n%s", d)
	}
	if run.Key.Namespace != "ns" || run.Key.Task != "x/y z" || run.Key.Client != "a b/ü" || !run.Legacy {
		t.Errorf("run %+v", run)
	}
	if err := p.ended(); !errors.Is(err, socketio.ErrServerDisconnect) {
		t.Errorf("connection ended by %v, want the server's disconnect", err)
	}
	if d := time.Since(byed); d < byeTime-time.Second || d > byeTime+5*time.Second {
		t.Errorf("disconnected %v after bye, want %v", d, byeTime)
	}
	states.await(t, "let go of", func(r frame.Run) bool { return r.Key == run.Key && !r.Connected })
}

func TestPlainClientIsLost(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")))
	states := st.watch(t)
	p := st.plain(t, "cli-9", "task")
	p.emit("data", json.RawMessage(`{"type":"STDOUT","data":"a"}`))
	p.hear("authenticated")
	_ = p.c.Close()
	run := states.await(t, "lost", func(r frame.Run) bool { return r.Phase == frame.Gone })
	want := []string{`START {"cmd":"x","name":"task"}`, `STDOUT "a"`, `LOST 999  Lost connection with cli-9 unexpected!`}
	if d := cmp.Diff(want, st.logOf(t, run.Key)); d != "" {
		t.Errorf("log differs (-want +got):\n%s", d)
	}
	again := st.plain(t, "cli-9", "task")
	again.hear("authenticated")
	states.await(t, "another", func(r frame.Run) bool { return r.Key.Run != run.Key.Run && r.Phase == frame.Running })
}

func TestRefused(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")))
	good := st.token(t, auth.Claims{Type: auth.Client, Namespace: "ns"})
	browser := st.token(t, auth.Claims{Type: auth.Browser, Namespace: "ns"})
	elsewhere := st.token(t, auth.Claims{Type: auth.Client, Namespace: "ns", Tasks: []string{"other"}})
	revoked, claims, _ := st.ring.Sign(auth.Claims{Type: auth.Client, ID: "j1"}, time.Hour)
	st.tokens.Revoked("j1", claims.Expires)
	if _, err := st.tokens.Verify(t.Context(), revoked, auth.Client); !errors.Is(err, auth.ErrRevoked) {
		t.Fatal(err)
	}
	const nameText = `invalid task name[-x], task name can only have '.-_a-zA-Z' and start with chars!`
	for _, tc := range []struct {
		name, token, rest string
		code, plain       string // plain: what an older client is told, "" for nothing
	}{
		{"no token", "", `"task":{"name":"t"}`, "token_missing", ""},
		{"rubbish", "x.y.z", `"task":{"name":"t"}`, "token_invalid", ""},
		{"browser token", browser, `"task":{"name":"t"}`, "token_invalid", ""},
		{"another task's", elsewhere, `"task":{"name":"t"}`, "token_invalid", ""},
		{"revoked", revoked, `"task":{"name":"t"}`, "token_revoked", ""},
		{"no task", good, `"x":1`, "name_invalid", strings.Replace(nameText, "-x", "", 1)},
		{"bad name", good, `"task":{"name":"-x"}`, "name_invalid", nameText},
		{"bad id", good, `"task":{"name":"t"},"id":{}`, "name_invalid", "invalid client id: a name or an id must be text"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			msg := func(more string) json.RawMessage {
				return json.RawMessage(fmt.Sprintf(`{"type":"client","token":%q,%s%s}`, tc.token, tc.rest, more))
			}
			p := st.dial(t)
			begun := time.Now()
			p.emit("authenticate", msg(""))
			if tc.plain == "" {
				if err := p.ended(); !errors.Is(err, socketio.ErrServerDisconnect) || len(p.events) > 0 {
					t.Errorf("older client: ended by %v after %d events, want a disconnect at once", err, len(p.events))
				}
			} else {
				var answer map[string]string
				if err := json.Unmarshal([]byte(p.hear("authenticated")), &answer); err != nil || cmp.Diff(map[string]string{"error": tc.plain}, answer) != "" {
					t.Errorf("older client is told %v, %v, want error %q", answer, err, tc.plain)
				}
				p.emit("data", "ignored")
				if err := p.ended(); !errors.Is(err, socketio.ErrServerDisconnect) || time.Since(begun) < errorDelay {
					t.Errorf("older client: ended by %v after %v", err, time.Since(begun))
				}
			}
			p = st.dial(t)
			p.emit("authenticate", msg(`,"v":2,"run":"abcdefgh"`))
			var answer struct{ Error, Code string }
			if err := json.Unmarshal([]byte(p.hear("authenticated")), &answer); err != nil || answer.Code != tc.code || answer.Error == "" {
				t.Errorf("client with the extension is told %+v, %v, want code %s", answer, err, tc.code)
			}
			if err := p.ended(); !errors.Is(err, socketio.ErrServerDisconnect) {
				t.Errorf("client with the extension: ended by %v", err)
			}
		})
	}
	for _, run := range []string{"", "short", "has space", strings.Repeat("x", 65), "a.b.c.d.e"} {
		if _, answer := st.numbered(t, good, run, 1); answer["code"] != "bad_run" {
			t.Errorf("run %q is answered %v, want bad_run", run, answer)
		}
	}
	p := st.dial(t)
	p.emit("authenticate") // no argument at all
	if err := p.ended(); !errors.Is(err, socketio.ErrServerDisconnect) {
		t.Errorf("authenticate without an argument: ended by %v", err)
	}
}

func TestNumberedClient(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")))
	token := st.token(t, auth.Claims{Type: auth.Client, Namespace: "ns"})
	p, answer := st.numbered(t, token, "run-00000001", 1)
	if answer["v"] != 2.0 || answer["next"] != 1.0 || answer["run"] != "run-00000001" || answer["window"] != 1048576.0 || answer["now"] == nil || answer["httpUrl"] == nil {
		t.Errorf("answer %v", answer)
	}
	for _, tc := range []struct{ what, event, arg, want string }{
		{"records", "data", `[{"seq":1,"at":5,"type":"STDOUT","data":"a"},{"seq":2,"at":6,"type":"STDERR","b64":"/wA="}]`, `{"durable":2}`},
		{"again, and one more", "data", `[{"seq":2,"at":6,"type":"STDERR","b64":"/wA="},{"seq":3,"at":7,"type":"STDOUT","data":"c"}]`, `{"durable":3}`},
		{"nothing", "data", `[]`, `{"durable":3}`},
		{"ahead", "data", `[{"seq":9,"type":"STDOUT","data":"x"}]`, `{"code":"gap","next":4}`},
		{"hole inside", "data", `[{"seq":4,"type":"STDOUT","data":"x"},{"seq":6,"type":"STDOUT","data":"x"}]`, `{"code":"gap","next":4}`},
		{"rubbish", "data", `{"type":"STDOUT","data":"x"}`, `{"code":"malformed","next":4}`},
		{"too large", "data", `[{"seq":4,"type":"STDOUT","data":"` + strings.Repeat("x", frame.MaxRecord+1) + `"}]`, `{"code":"too_large","next":4}`},
		{"lost", "data", `[{"seq":8,"at":8,"type":"NOTE","data":"spool full","lost":{"from":4,"to":8,"bytes":77}}]`, `{"durable":8}`},
		{"eof ahead", "eof", `{"seq":11,"code":0}`, `{"code":"gap","next":9}`},
		{"eof of rubbish", "eof", `{"code":0}`, `{"code":"malformed","next":9}`},
	} {
		if got := withoutSentence(t, p.ask(tc.event, tc.arg)); got != tc.want {
			t.Errorf("%s: acknowledged %s, want %s", tc.what, got, tc.want)
		}
	}
	// The connection is lost; another goes on with the same run.
	_ = p.c.Close()
	p, answer = st.numbered(t, token, "run-00000001", 4)
	if answer["next"] != 9.0 || answer["ended"] != nil {
		t.Errorf("next after coming back %v, want 9; ended: %v", answer["next"], answer["ended"])
	}
	if got := p.ask("eof", `{"seq":9,"at":9,"code":3,"signal":"SIGTERM"}`); got != `{"durable":9}` {
		t.Errorf("eof is acknowledged %s", got)
	}
	if got := p.hear("bye"); got != `{"code":3,"signal":"SIGTERM"}` {
		t.Errorf("bye %s", got)
	}
	if got := p.ask("eof", `{"seq":9,"at":9,"code":3,"signal":"SIGTERM"}`); got != `{"durable":9}` {
		t.Errorf("the same eof again is acknowledged %s", got)
	}
	p.hear("bye")
	// Who comes with what a power cut left of the run hears that it is whole.
	_ = p.c.Close()
	if _, answer = st.numbered(t, token, "run-00000001", 4); answer["next"] != 10.0 || answer["ended"] != true {
		t.Errorf("after the end: next %v, ended %v; want 10, true", answer["next"], answer["ended"])
	}
	want := []string{`START {"name":"task"}`, `STDOUT "a"`, `STDERR "\xff\x00"`, `STDOUT "c"`, `NOTE spool full 4-8 77`, `EXIT 3 "SIGTERM" `}
	if d := cmp.Diff(want, st.logOf(t, frame.Key{Namespace: "ns", Task: "task", Client: "cli-1", Run: "run-00000001"})); d != "" {
		t.Errorf("log differs (-want +got):\n%s", d)
	}
}

// withoutSentence takes out of an acknowledgement what is for people; a code without one is a mistake.
func withoutSentence(t *testing.T, ack string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(ack), &m); err != nil {
		t.Fatalf("acknowledgement %s: %v", ack, err)
	}
	if (m["code"] == nil) != (m["error"] == nil) {
		t.Errorf("acknowledgement %s: a code and a sentence come together", ack)
	}
	delete(m, "error")
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What a process left behind is stored as delivered late, also where the run began live.
func TestLateRun(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")))
	states := st.watch(t)
	token := st.token(t, auth.Claims{Type: auth.Client, Namespace: "ns"})
	p, _ := st.numbered(t, token, "run-00000001", 1)
	p.ask("data", `[{"seq":1,"type":"STDOUT","data":"a"}]`)
	states.await(t, "runs", func(r frame.Run) bool { return r.Phase == frame.Running && !r.Late && r.Connected })
	_ = p.c.Close()
	states.await(t, "is detached", func(r frame.Run) bool { return r.Phase == frame.Detached && !r.Late && !r.Connected })
	p = st.dial(t)
	p.emit("authenticate", json.RawMessage(`{"type":"client","token":"`+token+`","id":"cli-1","task":{"name":"task"},"v":2,"run":"run-00000001","next":2,"late":true}`))
	p.hear("authenticated")
	states.await(t, "is delivered late", func(r frame.Run) bool { return r.Phase == frame.Detached && r.Late && r.Connected })
	if got := p.ask("eof", `{"seq":2,"at":9,"code":3}`); got != `{"durable":2}` {
		t.Errorf("eof is acknowledged %s", got)
	}
	_ = p.c.Close()
	states.await(t, "has ended", func(r frame.Run) bool { return r.Phase == frame.Exited && r.Late && !r.Connected })
}

func TestRunIsTaken(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")))
	token := st.token(t, auth.Claims{Type: auth.Client, Namespace: "ns"})
	old, _ := st.numbered(t, token, "run-00000001", 1)
	old.ask("data", `[{"seq":1,"type":"STDOUT","data":"a"}]`)
	p, answer := st.numbered(t, token, "run-00000001", 1)
	if answer["next"] != 2.0 {
		t.Errorf("next %v, want 2", answer["next"])
	}
	if err := old.ended(); errors.Is(err, socketio.ErrServerDisconnect) {
		t.Errorf("the old connection was told to stay away: %v", err)
	}
	if got := p.ask("data", `[{"seq":2,"type":"STDOUT","data":"b"}]`); got != `{"durable":2}` {
		t.Errorf("the new connection is acknowledged %s", got)
	}
}

func TestExpiredTokenGoesOn(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")))
	token, _, err := st.ring.Sign(auth.Claims{Type: auth.Client, Namespace: "ns"}, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := st.numbered(t, token, "run-00000001", 1)
	p.ask("data", `[{"seq":1,"type":"STDOUT","data":"a"}]`)
	claims, err := st.ring.Verify(token, auth.Client)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Until(claims.Expires) + 10*time.Millisecond)
	if got := p.ask("data", `[{"seq":2,"type":"STDOUT","data":"b"}]`); got != `{"durable":2}` {
		t.Errorf("after the token's end the connection is acknowledged %s", got)
	}
	_ = p.c.Close()
	if _, answer := st.numbered(t, token, "run-00000001", 1); answer["next"] != 3.0 {
		t.Errorf("coming back with an expired token is answered %v", answer)
	}
	if _, answer := st.numbered(t, token, "run-00000002", 1); answer["code"] != "token_expired" {
		t.Errorf("a new run with an expired token is answered %v", answer)
	}
	st.tokens.Revoked(claims.ID, time.Now().Add(time.Hour))
	if _, answer := st.numbered(t, token, "run-00000001", 1); answer["code"] != "token_revoked" {
		t.Errorf("coming back with a revoked token is answered %v", answer)
	}
}

func TestRevocationEndsConnections(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")))
	bad, good := st.token(t, auth.Claims{Type: auth.Client, ID: "leaked"}), st.token(t, auth.Claims{Type: auth.Client})
	p, _ := st.numbered(t, bad, "run-00000001", 1)
	other, _ := st.numbered(t, good, "run-00000002", 1)
	st.tokens.Revoked("leaked", time.Now().Add(time.Hour))
	p.ended()
	if got := other.ask("data", `[{"seq":1,"type":"STDOUT","data":"a"}]`); got != `{"durable":1}` {
		t.Errorf("another token's client is acknowledged %s", got)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")), func(c *Config) { c.MaxRuns = 1 })
	token := st.token(t, auth.Claims{Type: auth.Client})
	st.numbered(t, token, "run-00000001", 1)
	p, answer := st.numbered(t, token, "run-00000002", 1)
	if answer["code"] != "busy" || answer["retryMs"] == nil {
		t.Errorf("one client too many is answered %v, want busy", answer)
	}
	if err := p.ended(); errors.Is(err, socketio.ErrServerDisconnect) {
		t.Errorf("one client too many was told not to come back")
	}
	if err := st.plain(t, "a", "b").ended(); errors.Is(err, socketio.ErrServerDisconnect) {
		t.Errorf("one older client too many was told not to come back")
	}
}

// A run that an ingest of a later version had is left to one that knows it: the client is to try elsewhere, and to keep what it has.
func TestRunOfALaterVersion(t *testing.T) {
	t.Parallel()
	b := openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0"))
	st := start(t, b)
	token := st.token(t, auth.Claims{Type: auth.Client, Namespace: "ns"})
	p, _ := st.numbered(t, token, "run-00000001", 1)
	p.c.Close()
	later, err := proto.Marshal(&pb.Chunk{Version: 2, Epoch: 2, Owner: "ing-2", FirstSeq: 2})
	if err != nil {
		t.Fatal(err)
	}
	key := frame.Key{Namespace: "ns", Task: "task", Client: "cli-1", Run: "run-00000001"}
	_, _ = b.Request(deadline(t), "tt.in.ns.task.cli-1.run-00000001", later) // what JetStream answers is none of a service's; whether it is stored is looked at
	if _, err := b.Tail(deadline(t), key); !errors.Is(err, frame.ErrVersion) {
		t.Fatalf("Tail = %v, want %v", err, frame.ErrVersion)
	}
	p, answer := st.numbered(t, token, "run-00000001", 1)
	if answer["code"] != "busy" || answer["retryMs"] == nil {
		t.Errorf("its client is answered %v, want busy", answer)
	}
	if err := p.ended(); errors.Is(err, socketio.ErrServerDisconnect) {
		t.Error("its client was told not to come back")
	}
	if _, err := b.Tail(deadline(t), key); !errors.Is(err, frame.ErrVersion) {
		t.Errorf("Tail = %v: something was written behind what cannot be read", err)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	st := start(t, openBus(t, startNATS(t, t.TempDir(), "127.0.0.1:0")))
	states := st.watch(t)
	plain := st.plain(t, "plain", "task")
	plain.hear("authenticated")
	plain.emit("data", json.RawMessage(`{"type":"STDOUT","data":"a"}`))
	p, _ := st.numbered(t, st.token(t, auth.Claims{Type: auth.Client, Namespace: "ns"}), "run-00000001", 1)
	p.ask("data", `[{"seq":1,"type":"STDOUT","data":"a"}]`)
	begun := time.Now()
	st.stop()
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("stopping took %v", d)
	}
	for _, c := range []*peer{p, plain} {
		if err := c.ended(); errors.Is(err, socketio.ErrServerDisconnect) {
			t.Error("a client was told not to come back")
		}
	}
	states.await(t, "detached", func(r frame.Run) bool {
		return r.Key.Run == "run-00000001" && r.Phase == frame.Detached && !r.Connected
	})
	states.await(t, "lost", func(r frame.Run) bool { return r.Key.Client == "plain" && r.Phase == frame.Gone })
}

// TestLogAway takes NATS away under a client: it is kept, told how things stand, not read any more, and nothing is lost or doubled.
func TestLogAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startNATS(t, dir, "127.0.0.1:0")
	addr := strings.TrimPrefix(n.ClientURL(), "nats://")
	st := start(t, openBus(t, n))
	p, _ := st.numbered(t, st.token(t, auth.Claims{Type: auth.Client, Namespace: "ns"}), "run-00000001", 1)
	p.ask("data", `[{"seq":1,"type":"STDOUT","data":"0;"}]`)
	n.Stop()

	const packets, size = 30, 100 << 10
	var want strings.Builder
	want.WriteString("0;")
	texts := make([]string, packets)
	for i := range texts {
		texts[i] = fmt.Sprintf("%d;%s", i+1, strings.Repeat("x", size))
		want.WriteString(texts[i])
	}
	acked := make(chan string, 1)
	go func() { // in order, and the last one is to be acknowledged; it waits when the socket takes no more
		defer close(acked)
		packet := func(i int) []map[string]any {
			return []map[string]any{{"seq": i + 2, "type": "STDOUT", "data": texts[i]}}
		}
		for i := range packets - 1 {
			if err := p.c.Emit(deadline(t), "data", packet(i)); err != nil {
				t.Errorf("packet %d: %v", i, err)
				return
			}
		}
		args, err := p.c.EmitAck(deadline(t), "data", packet(packets-1))
		if err != nil || len(args) != 1 {
			t.Errorf("last packet: %q, %v", args, err)
			return
		}
		acked <- string(args[0])
	}()
	var told struct {
		Durable uint64
		Stalled bool
	}
	for range 3 {
		if err := json.Unmarshal([]byte(p.hear("progress")), &told); err != nil {
			t.Fatal(err)
		}
	}
	if told.Durable != 1 || !told.Stalled {
		t.Errorf("progress %+v while NATS is away, want durable 1, stalled", told)
	}
	if len(acked) > 0 {
		t.Error("acknowledged without a log")
	}
	startNATS(t, dir, addr)
	if got, want := <-acked, fmt.Sprintf(`{"durable":%d}`, packets+1); got != want {
		t.Errorf("after NATS came back the last packet is acknowledged %s, want %s", got, want)
	}
	var got strings.Builder
	err := st.bus.Read(deadline(t), frame.Key{Namespace: "ns", Task: "task", Client: "cli-1", Run: "run-00000001"}, 0, 0, func(s bus.Stored) error {
		for _, r := range s.Chunk.Records {
			if r.Kind == frame.Stdout {
				got.Write(r.Data)
			}
		}
		return nil
	}, func(g bus.Gone) error { return fmt.Errorf("gone: %+v", g) })
	if err != nil || got.String() != want.String() {
		t.Errorf("log of %d bytes, want %d, the same: %v; %v", got.Len(), want.Len(), got.String() == want.String(), err)
	}
}
