package outage

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
)

// reader asks a gateway for what was written.
type reader struct {
	url, token string
}

func (r *reader) get(ctx context.Context, path, rng string) (status int, body string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// TestReadingWithoutALeader kills the leader of the log, and reads all that can be read before there is another; then again with one node of three.
func TestReadingWithoutALeader(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	nats := stage.NewCluster(t, binaries, 1<<30)
	w := newWorld(ctx, t, nats)
	r := &reader{w.gateway.URL, stage.Token(t, binaries, nats.Config, "default", "browser_token")}
	var list struct{ Runs []struct{ Run string } }
	_, body := r.get(ctx, "/api/v1/tasks/outage/runs", "")
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Runs) != 1 {
		t.Fatalf("runs: %s", body)
	}
	log := "/api/v1/runs/" + list.Runs[0].Run + "/log"
	w.goesOn()
	_, before := r.get(ctx, log, "")
	second := strings.SplitAfterN(before, "\n", 3)[1]
	questions := []struct {
		path, rng string
		status    int
		good      func(body string) bool
	}{
		{"/readyz", "", 200, func(b string) bool { return true }},
		{"/api/v1/tasks", "", 200, func(b string) bool { return strings.Contains(b, `"running":1`) }},
		{"/api/v1/runs/" + list.Runs[0].Run, "", 200, func(b string) bool { return strings.Contains(b, `"state":"running"`) }},
		{log, "", 200, func(b string) bool { return strings.HasPrefix(b, before) }},
		{log, "bytes=10-20", 206, func(b string) bool { return b == before[10:21] }},
		{log + "?lines=2-2", "", 200, func(b string) bool { return b == second }},
		{log + "?lines=-1", "", 200, func(b string) bool { return strings.HasPrefix(b, "line ") || strings.HasPrefix(b, "warning ") }},
		{strings.TrimSuffix(log, "log") + "search?q=line+3+", "", 200, func(b string) bool { return strings.Contains(b, `"line":3,`) && strings.Contains(b, `"more":false`) }},
	}
	ask := func(when string) {
		var wg sync.WaitGroup
		for _, q := range questions {
			wg.Go(func() {
				status, body := r.get(ctx, q.path, q.rng)
				for q.path == "/readyz" && status != q.status && ctx.Err() == nil { // its connection may have been to the node that was killed
					time.Sleep(20 * time.Millisecond)
					status, body = r.get(ctx, q.path, q.rng)
				}
				if status != q.status || !q.good(body) {
					t.Errorf("%s %s %s = %d, %.200q", q.path, q.rng, when, status, body)
				}
			})
		}
		wg.Wait()
	}
	electing := false
	for tries := 0; !electing && tries < 5; tries++ { // an election may be over before all is read
		killed := nats.Leader()
		began := time.Now()
		killed.Kill()
		ask("after the leader was killed")
		took := time.Since(began)
		l := nats.Leader()
		electing = l == nil || l == killed
		w.goesOn()
		stage.Figure(t, "without a leader: all that can be read was read after %v, output came again after %v", took.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond))
		if err := killed.Start(ctx); err != nil {
			t.Fatal(err)
		}
		w.goesOn()
	}
	if !electing {
		t.Error("each time there was another leader before all was read")
	}

	for _, n := range nats.Nodes[1:] {
		n.Kill()
	}
	ask("with one node of three")
	for _, n := range nats.Nodes[1:] {
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	w.goesOn()
	w.nothingLost()
}
