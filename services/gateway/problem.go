package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// problemDetails is an error of the read API, after RFC 9457. It is an error, too: handlers return it.
type problemDetails struct {
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Status int        `json:"status"`
	Detail string     `json:"detail,omitempty"`
	Code   string     `json:"code"`
	Runs   []runNames `json:"runs,omitempty"`

	retryAfter int // seconds
	size       int64
}

type runNames struct {
	Task   string `json:"task"`
	Client string `json:"client"`
}

func (p *problemDetails) Error() string { return p.Code + ": " + p.Detail }

func newProblem(status int, code, detail string, args ...any) *problemDetails {
	return &problemDetails{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(detail, args...)}
}

func badRequest(detail string, args ...any) *problemDetails {
	return newProblem(http.StatusBadRequest, "bad_request", detail, args...)
}

// retry says that the same may be asked again, a second later.
func (p *problemDetails) retry() *problemDetails {
	p.retryAfter = 1
	return p
}

// problemFrom maps an error to what an API caller is told.
func problemFrom(err error) *problemDetails {
	var p *problemDetails
	if errors.As(err, &p) {
		return p
	}
	if code := auth.Code(err); code != "" {
		return newProblem(http.StatusUnauthorized, code, "%s", plain(err))
	}
	if errors.Is(err, bus.ErrNotFound) || errors.Is(err, bus.ErrDeleted) {
		return noSuchRun()
	}
	if errors.Is(err, frame.ErrVersion) {
		return newProblem(http.StatusServiceUnavailable, "unreadable", "the output is in a form that this server does not know; another may").retry()
	}
	return newProblem(http.StatusServiceUnavailable, "busy", "the log or the token service does not answer").retry()
}

func noSuchRun() *problemDetails {
	return newProblem(http.StatusNotFound, "not_found", "there is no such run")
}

func (p *problemDetails) write(w http.ResponseWriter) {
	h := w.Header()
	for _, k := range []string{"Content-Length", "Content-Disposition", "Accept-Ranges"} {
		h.Del(k)
	}
	h.Set("Content-Type", "application/problem+json")
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusRequestedRangeNotSatisfiable:
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(p.size, 10))
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // nobody is there to be told
}

func pathUnescape(s string) (string, error) { return url.PathUnescape(s) }
