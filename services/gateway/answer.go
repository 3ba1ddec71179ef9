package gateway

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"
)

// counted counts requests by route and status, and lets go of callers that do not take their answers: a log or a search that nobody
// reads would keep its place from those who wait for one.
func (s *Service) counted(route string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answerWriter{ResponseWriter: w, conn: http.NewResponseController(w), within: s.cfg.WriteTimeout, status: http.StatusOK}
		defer func() {
			s.m.http.WithLabelValues(route, strconv.Itoa(a.status)).Inc()
			if a.stalled {
				s.m.stalled.Inc()
			}
		}()
		next.ServeHTTP(a, r)
	})
}

// pieceSize is how much a caller must take within the write time-out; small, so that a slow line is none that stalls.
const pieceSize = 32 << 10

// answerWriter remembers the status, and gives the caller a bounded time for each piece.
type answerWriter struct {
	http.ResponseWriter
	conn    *http.ResponseController
	within  time.Duration
	status  int
	stalled bool
}

func (a *answerWriter) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answerWriter) Write(b []byte) (n int, err error) {
	for {
		piece := b[n:min(n+pieceSize, len(b))]
		// Not every writer can: a test's recorder never stalls. The server takes the deadline back before the connection's next request.
		_ = a.conn.SetWriteDeadline(time.Now().Add(a.within))
		m, err := a.ResponseWriter.Write(piece)
		n += m
		if err != nil {
			a.stalled = errors.Is(err, os.ErrDeadlineExceeded)
			return n, err
		}
		if n == len(b) {
			return n, nil
		}
	}
}

// Unwrap lets http.ResponseController through.
func (a *answerWriter) Unwrap() http.ResponseWriter { return a.ResponseWriter }
