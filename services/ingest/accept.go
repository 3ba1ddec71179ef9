package ingest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

const (
	// errorDelay lets a client read the error before the connection ends; the older system's figure.
	errorDelay = time.Second
	// tokenTime is how long the token service may take; then the client is told to come back.
	tokenTime = 5 * time.Second
	// retryAfter is when a client that was told so comes back.
	retryAfter = time.Second
	// windowBytes is how much a client may have under way without an acknowledgement.
	windowBytes = 1 << 20
)

// Why a client is not accepted, beside the errors of pkg/auth.
var (
	errFull    = errors.New("this ingest serves as many clients as it may, or is stopping")
	errName    = errors.New("invalid task name")
	errID      = errors.New("invalid client id")
	errBadRun  = errors.New("invalid run")
	errTrouble = errors.New("a part of the system does not answer")
)

// accept checks the token and the names, takes the run, and answers. An error says why the client is refused.
func (s *Service) accept(x *session) error {
	stop := x.whileAccepting()
	defer stop()
	claims, resumed, err := s.admit(x)
	if err != nil {
		return err
	}
	x.tokenID.Store(claims.ID)
	answer := authenticated{}
	if answer.URL, err = s.viewURL(x, claims); err != nil && !resumed {
		return fmt.Errorf("%w: %w", errTrouble, err)
	}
	if err := s.take(x); err != nil {
		return err
	}
	if x.hello.v2 {
		answer.V, answer.Run, answer.Next, answer.Window, answer.Now = 2, x.key.Run, x.app.Next(), windowBytes, time.Now().UnixMilli()
		answer.Ended = x.app.Exited()
	}
	stop() // what follows must not come behind progress of old
	s.met.authentications.WithLabelValues("accepted").Inc()
	x.log.Debug("client accepted", "generation", x.generation(), "resumed", resumed)
	x.begin()
	if err := x.conn.Emit(s.work, "authenticated", answer); err != nil {
		x.log.Debug("client went away while it was accepted", "err", err)
	}
	return nil
}

// authenticated is the answer to a client that is accepted.
type authenticated struct {
	URL    string `json:"httpUrl,omitempty"`
	V      int    `json:"v,omitempty"`
	Run    string `json:"run,omitempty"`
	Next   uint64 `json:"next,omitempty"`
	Window int    `json:"window,omitempty"`
	Now    int64  `json:"now,omitempty"`
	Ended  bool   `json:"ended,omitempty"`
}

// admit tells whether the client may send what it wants to send, and names its run.
func (s *Service) admit(x *session) (claims auth.Claims, resumed bool, err error) {
	ctx, cancel := context.WithTimeout(x.conn.Context(), tokenTime)
	defer cancel()
	h := &x.hello
	claims, err = s.deps.Tokens.Verify(ctx, h.token, auth.Client)
	expired := errors.Is(err, auth.ErrExpired) && claims.Type == auth.Client
	if err != nil && !expired {
		if auth.Code(err) == "" {
			return claims, false, fmt.Errorf("%w: %w", errTrouble, err)
		}
		return claims, false, err
	}
	x.key = frame.Key{Namespace: claims.Namespace, Task: h.name, Client: h.id, Run: h.run}
	switch {
	case !h.named || h.task == nil:
		return claims, false, errName
	case !claims.Allows(h.name) || claims.ReadOnly:
		return claims, false, fmt.Errorf("%w: not good for this task", auth.ErrInvalid)
	case h.idErr != nil:
		return claims, false, fmt.Errorf("%w: %w", errID, h.idErr)
	case h.v2 && !runID.MatchString(h.run):
		return claims, false, errBadRun
	case !h.v2:
		x.key.Run = rand.Text()
	}
	x.log = s.log.With("ns", x.key.Namespace, "task", x.key.Task, "client", x.key.Client, "run", x.key.Run, "conn", x.conn.ID())
	if !expired {
		return claims, h.retold, nil
	}
	return claims, true, s.known(ctx, x)
}

// known lets a client with an expired token go on with a run that was accepted before the token expired.
func (s *Service) known(ctx context.Context, x *session) error {
	if !x.hello.v2 {
		return auth.ErrExpired
	}
	_, err := s.deps.Bus.Tail(ctx, x.key)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bus.ErrNotFound), errors.Is(err, bus.ErrDeleted):
		return auth.ErrExpired
	}
	return fmt.Errorf("%w: %w", errTrouble, err)
}

// viewURL is the address at which the run can be watched, with a fresh token of the client's namespace.
func (s *Service) viewURL(x *session, c auth.Claims) (string, error) {
	ctx, cancel := context.WithTimeout(x.conn.Context(), tokenTime)
	defer cancel()
	token, _, err := s.deps.Tokens.Issue(ctx, auth.Claims{Type: auth.Browser, Namespace: c.Namespace, Tasks: c.Tasks}, 0)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s/tasks/%s/?accessToken=%s&id=%s", strings.TrimRight(s.cfg.PublicURL, "/"),
		url.PathEscape(x.key.Task), url.QueryEscape(token), url.QueryEscape(x.key.Client)), nil
}

// take makes this process the run's owner. It goes on when the client leaves meanwhile: a claim that may have been stored is better finished,
// and released properly, than left behind.
func (s *Service) take(x *session) error {
	app, err := s.deps.Bus.Take(s.work, s.deps.Self.Incarnation, frame.Run{Key: x.key, Task: x.hello.task, Legacy: !x.hello.v2, Late: x.hello.late})
	switch {
	case err == nil:
		x.app = app
		return nil
	case errors.Is(err, frame.ErrVersion):
		return fmt.Errorf("%w: %w", errTrouble, err) // an ingest of a later version had the run, and will have it again
	case errors.Is(err, bus.ErrDeleted), errors.Is(err, frame.ErrMalformed):
		return fmt.Errorf("%w: %w", errBadRun, err)
	}
	return fmt.Errorf("%w: %w", errTrouble, err)
}

// refusal is how one reason is told.
type refusal struct {
	reason string // for the metric
	code   string // for clients with the extension
	text   string // for people
	tell   bool   // also the older clients hear it; without, they are disconnected at once
	retry  bool   // the client shall come back
}

func refusalFor(x *session, err error) refusal {
	switch {
	case errors.Is(err, errFull):
		return refusal{reason: "full", code: "busy", text: "this server is busy, try again", retry: true}
	case errors.Is(err, errTrouble):
		return refusal{reason: "trouble", code: "busy", text: "the server is not ready, try again", retry: true}
	case errors.Is(err, errName):
		text := "invalid task name[" + clip(x.hello.name, 200) + "], task name can only have '.-_a-zA-Z' and start with chars!"
		return refusal{reason: "name", code: "name_invalid", text: text, tell: true}
	case errors.Is(err, errID):
		return refusal{reason: "id", code: "name_invalid", text: err.Error(), tell: true}
	case errors.Is(err, errBadRun):
		return refusal{reason: "run", code: "bad_run", text: "invalid run, or one that was deleted"}
	case auth.Code(err) != "":
		return refusal{reason: auth.Code(err), code: auth.Code(err), text: err.Error()}
	}
	return refusal{reason: "trouble", code: "busy", text: "the server is not ready, try again", retry: true}
}

// refuse tells a client why it is not accepted, as far as its generation is told, and ends the connection.
func (s *Service) refuse(x *session, err error) {
	r := refusalFor(x, err)
	s.met.authentications.WithLabelValues(r.reason).Inc()
	s.log.Info("client refused", "reason", r.reason, "err", err, "conn", x.conn.ID(), "remote", x.conn.Info().Remote)
	end := x.conn.Disconnect
	if r.retry {
		end = func() { x.conn.Close("busy") } // after a plain close clients come back
	}
	if !x.hello.v2 && !r.tell {
		end()
		return
	}
	answer := map[string]any{"error": r.text}
	if x.hello.v2 {
		answer["code"] = r.code
		if r.retry {
			answer["retryMs"] = retryAfter.Milliseconds()
		}
	}
	if x.conn.Emit(s.work, "authenticated", answer) != nil {
		return // gone
	}
	s.later(x.conn, errorDelay, end)
}

// bye is what the client is told at the end: what it said itself. Null and nothing are kept apart.
func bye(info frame.ExitInfo) map[string]json.RawMessage {
	m := map[string]json.RawMessage{}
	if len(info.Code) > 0 {
		m["code"] = info.Code
	}
	if len(info.Signal) > 0 {
		m["signal"] = info.Signal
	}
	return m
}
