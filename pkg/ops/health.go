package ops

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// checkTime bounds one readiness check: a load balancer asks every second or two.
const checkTime = 2 * time.Second

// Health answers /healthz and /readyz. Alive means that the process serves HTTP at all; ready means that it can do its work and is not about to
// stop. It is safe for concurrent use.
type Health struct {
	mu       sync.Mutex
	checks   map[string]func(context.Context) error
	stopping bool
}

// NewHealth makes a Health without checks: ready until Stopping is called.
func NewHealth() *Health { return &Health{checks: map[string]func(context.Context) error{}} }

// Check adds a named condition of readiness. It is called on every request to /readyz, with 2 s to answer.
func (h *Health) Check(name string, check func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks[name] = check
}

// Stopping makes the process not ready, for good: load balancers send nothing new.
func (h *Health) Stopping() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopping = true
}

// Mount adds the two routes.
func (h *Health) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // a prober that has gone away needs no answer
	})
	mux.HandleFunc("GET /readyz", h.ready)
}

func (h *Health) ready(w http.ResponseWriter, r *http.Request) {
	failed := h.failures(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if len(failed) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"ready": len(failed) == 0, "failed": failed}) // as above
}

// failures runs all checks at once and returns the names of those that failed. The reason is for the log of the part, not for whoever asks.
func (h *Health) failures(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	h.mu.Lock()
	failed := []string{}
	if h.stopping {
		failed = append(failed, "stopping")
	}
	checks := make(map[string]func(context.Context) error, len(h.checks))
	for name, check := range h.checks {
		checks[name] = check
	}
	h.mu.Unlock()

	results := make(chan string, len(checks))
	for name, check := range checks {
		go func() {
			if check(ctx) != nil {
				results <- name
				return
			}
			results <- ""
		}()
	}
	for range checks {
		if name := <-results; name != "" {
			failed = append(failed, name)
		}
	}
	return failed
}
