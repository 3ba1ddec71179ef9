package gateway

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/socketio"
)

// grants are the tokens by which a viewer watches, one per task. The socket ends when one of them does: what it has no right to any more
// it must not get, and who wants the rest comes again.
type grants struct {
	mu   sync.Mutex
	all  map[taskKey]*grant
	over bool // the socket is gone
}

type grant struct {
	jti   string
	timer *time.Timer // nil where the token does not expire
}

// event handles one event of a viewer's socket. What a viewer has no business to send is ignored.
func (v *viewer) event(e *socketio.Event) {
	var arg json.RawMessage
	if len(e.Args) > 0 {
		arg = e.Args[0]
	}
	switch e.Name {
	case "authenticate":
		v.authenticate(arg)
	case "attach":
		v.attachEvent(arg)
	case "detach":
		v.detachEvent(arg)
	}
}

// authenticate admits a viewer to a task. Sent again it adds to what the viewer has.
func (v *viewer) authenticate(arg json.RawMessage) {
	if v.leaving {
		return
	}
	h, bad := parseHello(arg)
	claims, err := v.s.verify(v.ctx, h.token, auth.Browser)
	if h.client {
		v.refuse(answer{Error: "this is the address for viewers", Code: "wrong_endpoint"}, "wrong_endpoint")
		return
	}
	if err != nil {
		v.noEntry(h, err)
		return
	}
	if bad != nil {
		v.refuse(answer{Error: bad.Error()}, "bad_request")
		return
	}
	if !claims.Allows(h.task) {
		v.noEntry(h, auth.ErrInvalid)
		return
	}
	task := taskKey{claims.Namespace, h.task}
	v.current = task
	v.v2 = v.v2 || h.v2
	if !v.start() {
		v.conn.Close("shutdown")
		return
	}
	v.grant(task, claims)
	// A revocation that came between the verdict and the grant would have passed unheard.
	if _, err := v.s.verify(v.ctx, h.token, auth.Browser); auth.Code(err) != "" {
		v.noEntry(h, err)
		return
	}
	v.s.m.authentications.WithLabelValues("accepted").Inc()
	a := answer{Task: &answerTask{h.task}, From: h.from, NS: &claims.Namespace}
	if h.v2 {
		a.V = 2
	}
	f := v.flavour(h.want)
	v.do(func() { // in one go, so that who is said to be in is also attached to
		v.sendAny("authenticated", a)
		v.complainAll(h.want.bad)
		runs := v.join(task)
		for _, id := range h.ids {
			v.attach(bus.Client{Namespace: task.ns, Task: task.task, Client: id}, f, h.want, runs[id])
		}
	})
}

// flavour is the form of data that a message asks for.
func (v *viewer) flavour(w want) flavour {
	switch {
	case !v.v2:
		return legacy
	case w.batch:
		return batched
	}
	return single
}

type answer struct {
	Task  *answerTask       `json:"task,omitempty"`
	From  []json.RawMessage `json:"from,omitzero"`
	NS    *string           `json:"ns,omitempty"`
	V     int               `json:"v,omitempty"`
	Error string            `json:"error,omitempty"`
	Code  string            `json:"code,omitempty"`
	Retry int               `json:"retryMs,omitempty"`
}

type answerTask struct {
	Name string `json:"name"`
}

// noEntry ends a socket whose token is not good. Older viewers get no word, as ever.
func (v *viewer) noEntry(h hello, err error) {
	code := auth.Code(err)
	v.leaving = true
	if code == "" {
		v.log().Warn("verify a viewer's token", "err", err)
		v.turnAway("busy")
		if h.v2 {
			v.emit("authenticated", answer{Error: "tokens cannot be verified at the moment", Code: "busy", Retry: 1000})
		}
		v.later(func() { v.conn.Close("busy") }) // not a disconnect: clients come again by themselves
		return
	}
	v.turnAway(code)
	if h.v2 {
		v.emit("authenticated", answer{Error: plain(err), Code: code})
	}
	v.conn.Disconnect()
}

// plain is the sentence for people; the error itself may say more than they should know.
func plain(err error) string {
	for _, e := range []error{auth.ErrMissing, auth.ErrExpired, auth.ErrRevoked} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return auth.ErrInvalid.Error()
}

// refuse answers with an error and disconnects a little later.
func (v *viewer) refuse(a answer, reason string) {
	v.leaving = true
	v.turnAway(reason)
	v.emit("authenticated", a)
	v.later(v.conn.Disconnect)
}

// turnAway counts a viewer that is not let in, and whose socket ends with it.
func (v *viewer) turnAway(why string) {
	v.s.m.authentications.WithLabelValues(why).Inc()
	v.s.m.ended.WithLabelValues(why).Inc()
}

func (v *viewer) later(fn func()) {
	t := time.AfterFunc(goneIn, fn)
	v.conn.OnClose(func(string) { t.Stop() })
}

// attachEvent and detachEvent concern the task that the viewer authenticated for last.
func (v *viewer) attachEvent(arg json.RawMessage) {
	ids, w, ok := parseFrom(arg)
	if !ok || !v.started || v.leaving {
		return
	}
	task, f := v.current, v.flavour(w)
	v.do(func() {
		v.complainAll(w.bad)
		for _, id := range ids {
			c := bus.Client{Namespace: task.ns, Task: task.task, Client: id}
			v.attach(c, f, w, v.s.roster.ofClient(c))
		}
	})
}

func (v *viewer) detachEvent(arg json.RawMessage) {
	ids, _, ok := parseFrom(arg)
	if !ok || !v.started || v.leaving {
		return
	}
	task := v.current
	v.do(func() {
		for _, id := range ids {
			v.detach(bus.Client{Namespace: task.ns, Task: task.task, Client: id})
		}
	})
}

// grant has the socket end with the token.
func (v *viewer) grant(task taskKey, c auth.Claims) {
	g := &grant{jti: c.ID}
	v.grants.mu.Lock()
	defer v.grants.mu.Unlock()
	if old := v.grants.all[task]; old != nil && old.timer != nil {
		old.timer.Stop()
	}
	if !c.Expires.IsZero() && !v.grants.over {
		g.timer = time.AfterFunc(time.Until(c.Expires), func() { v.tokenEnds("expired", auth.ErrExpired) })
	}
	if v.grants.all == nil {
		v.grants.all = map[taskKey]*grant{}
	}
	v.grants.all[task] = g
}

func (v *viewer) revoked(jti string) {
	if jti != "" && v.grants.has(jti) {
		v.tokenEnds("revoked", auth.ErrRevoked)
	}
}

func (g *grants) has(jti string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, g := range g.all {
		if g.jti == jti {
			return true
		}
	}
	return false
}

func (v *viewer) dropGrants() {
	v.grants.mu.Lock()
	defer v.grants.mu.Unlock()
	v.grants.over = true
	for _, g := range v.grants.all {
		if g.timer != nil {
			g.timer.Stop()
		}
	}
}

// tokenEnds tells why, if there is room, and ends the socket; a viewer that takes nothing must not keep it open.
func (v *viewer) tokenEnds(code string, why error) {
	v.s.m.ended.WithLabelValues(code).Inc()
	if v.v2sure.Load() {
		if m, err := socketio.NewMessage("problem", problem{Code: code, Message: why.Error()}); err == nil {
			_ = v.conn.TrySend(m) // a full buffer; the disconnect says it, too
		}
	}
	v.conn.Disconnect()
}

type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	From    string `json:"from,omitempty"`
}

// emit sends from the socket's own handler.
func (v *viewer) emit(event string, arg any) {
	_ = v.conn.Emit(v.ctx, event, arg) // fails only when the connection is gone, and its pump ends by itself
}
