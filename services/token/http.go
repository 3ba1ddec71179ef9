package token

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tasktracer/pkg/auth"
)

// maxBody bounds a request's body; a token has at most 8 KiB.
const maxBody = 64 << 10

// Mount adds the routes.
func (s *Service) Mount(mux *http.ServeMux) {
	mux.HandleFunc("POST /tokens/generate", s.handle("generate", s.generate))
	mux.HandleFunc("POST /tokens/share", s.handle("share", s.share))
	mux.HandleFunc("POST /tokens/revoke", s.handle("revoke", s.revokeHTTP))
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", "public, max-age=300")
		_, _ = w.Write(s.cfg.Keys.JWKS()) // a reader that has gone away needs no answer
	})
}

// refusal is an answer that is not 200. Its text is for whoever asked.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

// handle reads the body, calls fn, and writes what it returns as JSON, or {"error"}.
func (s *Service) handle(action string, fn func(*http.Request, body) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, status, outcome := any(nil), http.StatusOK, "good"
		in, err := readBody(w, r)
		if err == nil {
			answer, err = fn(r, in)
		}
		var no refusal
		switch {
		case errors.As(err, &no):
			status, outcome, answer = no.status, "refused", map[string]string{"error": no.text}
		case err != nil:
			s.log.Error("token request failed", "action", action, "err", err)
			status, outcome, answer = http.StatusServiceUnavailable, "failed", map[string]string{"error": "the service is busy, try again"}
		}
		s.metrics.http.WithLabelValues(action, outcome).Inc()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer) // as above
	}
}

// body is a request's fields, whatever form they came in. A field that is not text is not there.
type body map[string]string

func readBody(w http.ResponseWriter, r *http.Request) (body, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, refusal{http.StatusRequestEntityTooLarge, "the body is too large"}
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // one that cannot be parsed says nothing
	text := strings.TrimSpace(string(raw))
	if kind == "application/json" || strings.HasPrefix(text, "{") {
		return jsonBody(text)
	}
	form, err := url.ParseQuery(text)
	if err != nil {
		return nil, refusal{http.StatusBadRequest, "the body is not a form"}
	}
	b := body{}
	for k, v := range form {
		if len(v) == 1 {
			b[k] = v[0]
		}
	}
	return b, nil
}

func jsonBody(text string) (body, error) {
	b := body{}
	if text == "" {
		return b, nil
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return nil, refusal{http.StatusBadRequest, "the body is not a JSON object"}
	}
	for k, v := range fields {
		if s, ok := v.(string); ok {
			b[k] = s
		}
	}
	return b, nil
}

// base verifies the body's base token.
func (s *Service) base(b body) (auth.Claims, error) {
	if b["baseToken"] == "" {
		return auth.Claims{}, refusal{http.StatusBadRequest, "no base token found"}
	}
	c, err := s.verify(b["baseToken"], auth.Base)
	switch {
	case errors.Is(err, auth.ErrExpired):
		return auth.Claims{}, refusal{http.StatusBadRequest, "TOKEN has already expired!"}
	case err != nil:
		return auth.Claims{}, refusal{http.StatusBadRequest, "Invalid base token"}
	}
	return c, nil
}

// generate makes tokens of the base token's namespace: ?type=clientToken|browserToken|baseToken (else client and browser) &days=7|30|180|360 (else 180).
func (s *Service) generate(r *http.Request, b body) (any, error) {
	base, err := s.base(b)
	if err != nil {
		return nil, err
	}
	life := lives(r.URL.Query().Get("days"))
	types := map[string]auth.Type{"clientToken": auth.Client, "browserToken": auth.Browser, "baseToken": auth.Base}
	want := []string{"clientToken", "browserToken"}
	if asked := r.URL.Query().Get("type"); types[asked] != "" {
		want = []string{asked}
	}
	tokens := map[string]string{}
	for _, name := range want {
		// A base token that is itself restricted makes tokens with the same restrictions.
		c := auth.Claims{Type: types[name], Namespace: base.Namespace, Tasks: base.Tasks, ReadOnly: base.ReadOnly}
		if tokens[name], _, err = s.issue(c, life); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// lives are the four that may be asked for; anything else is the longest but one, as in the older system.
func lives(days string) time.Duration {
	const day = 24 * time.Hour
	switch days {
	case "7":
		return 7 * day
	case "30":
		return 30 * day
	case "360":
		return 360 * day
	}
	return 180 * day
}

// share makes a browser token that is good for one task, read-only, for a short time, from a browser token that may see the task:
// {"task", "life"?: "2 hours"}, the token as Authorization: Bearer or as "accessToken". It never outlives the token it comes from.
func (s *Service) share(r *http.Request, b body) (any, error) {
	parent, err := s.sharer(r, b)
	if err != nil {
		return nil, err
	}
	task := b["task"]
	if task == "" {
		return nil, refusal{http.StatusBadRequest, "task is missing"}
	}
	if len(task) > 1024 {
		return nil, refusal{http.StatusBadRequest, "task is longer than 1024 bytes"}
	}
	if !parent.Allows(task) {
		return nil, refusal{http.StatusForbidden, "the token does not cover this task"}
	}
	life, err := s.shareLife(b["life"], parent)
	if err != nil {
		return nil, err
	}
	token, issued, err := s.issue(auth.Claims{Type: auth.Browser, Namespace: parent.Namespace, Tasks: []string{task}, ReadOnly: true}, life)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"token": token, "id": issued.ID, "task": task, "expiresAt": issued.Expires.UnixMilli(),
		"path": "/tasks/" + url.PathEscape(task) + "/?accessToken=" + token,
	}, nil
}

func (s *Service) sharer(r *http.Request, b body) (auth.Claims, error) {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		text = b["accessToken"]
	}
	c, err := s.verify(text, auth.Browser)
	if err != nil {
		return auth.Claims{}, refusal{http.StatusUnauthorized, auth.Code(err)}
	}
	if c.ReadOnly {
		return auth.Claims{}, refusal{http.StatusForbidden, "a share token makes no further ones"}
	}
	return c, nil
}

func (s *Service) shareLife(text string, parent auth.Claims) (time.Duration, error) {
	life := s.cfg.ShareLife
	if text != "" {
		asked, err := auth.ParsePeriod(text)
		if err != nil {
			return 0, refusal{http.StatusBadRequest, err.Error()}
		}
		life = asked
	}
	life = min(life, s.cfg.MaxShareLife)
	if !parent.Expires.IsZero() {
		life = min(life, time.Until(parent.Expires))
	}
	return max(life.Truncate(time.Second), time.Second), nil
}

// revokeHTTP revokes a token of the base token's namespace: {"baseToken", "token"}, or {"baseToken", "id"} where only the jti is known.
func (s *Service) revokeHTTP(r *http.Request, b body) (any, error) {
	base, err := s.base(b)
	if err != nil {
		return nil, err
	}
	if len(base.Tasks) > 0 || base.ReadOnly {
		return nil, refusal{http.StatusForbidden, "a restricted base token does not revoke"}
	}
	id, expires, err := s.toRevoke(base, b)
	if err != nil {
		return nil, err
	}
	err = s.revoke(r.Context(), id, expires)
	if errors.Is(err, errFull) {
		return nil, refusal{http.StatusServiceUnavailable, err.Error()}
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("token revoked", "ns", base.Namespace, "id", id)
	return map[string]string{"revoked": id}, nil
}

// toRevoke finds the id of what shall be revoked, and until when that must be remembered (zero: for good).
func (s *Service) toRevoke(base auth.Claims, b body) (id string, expires time.Time, err error) {
	if id := b["id"]; id != "" {
		if len(id) > 128 || !strings.HasPrefix(id, namespaceMark(base.Namespace)) {
			return "", time.Time{}, refusal{http.StatusBadRequest, "no such token in this namespace"}
		}
		return id, time.Now().Add(maxRestricted), nil
	}
	if b["token"] == "" {
		return "", time.Time{}, refusal{http.StatusBadRequest, "no token to revoke: give token, or id"}
	}
	for _, t := range auth.Types() {
		c, err := s.cfg.Keys.Verify(b["token"], t)
		// Also one that has expired: runs that it opened may still come back.
		if (err == nil || errors.Is(err, auth.ErrExpired)) && c.Namespace == base.Namespace {
			return c.ID, c.Expires, nil
		}
	}
	return "", time.Time{}, refusal{http.StatusBadRequest, "no such token in this namespace"}
}
