// Package dashboard puts load on the parts, has a real Prometheus scrape them, and asks it for everything that the dashboard shows.
package dashboard

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tasktracer/deploy/e2e/clients"
	"tasktracer/deploy/e2e/stage"
)

var binaries stage.Binaries

func TestMain(m *testing.M) { os.Exit(stage.Main(m, &binaries)) }

// TestEveryPanelShowsSomething runs every query of every panel. What counts faults may say 0, but it must say it.
func TestEveryPanelShowsSomething(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	clients.Install(t)
	s := stage.NewSplit(t, binaries, 1, 2)
	p := stage.NewPrometheus(t, map[string][]*stage.Server{"token": {s.Token}, "gateway": s.Gateways, "ingest": s.Ingest})
	browser, client := stage.Token(t, binaries, s.Config, "default", "browser_token"), stage.Token(t, binaries, s.Config, "default", "client_token")

	viewers := stage.NewBalancer(t)
	viewers.Set(s.Gateways...)
	watcher := stage.Watch(ctx, t, viewers.URL, browser, "panels", "host-1")
	tt := stage.Talk(t, binaries, s.Ingest[0].URL, client, "panels", "0.02", "")
	stage.Progress(ctx, t, []*stage.Watcher{watcher}, 50)
	late := stage.Watch(ctx, t, viewers.URL, browser, "panels", "host-1") // reads what the other heard
	stage.Progress(ctx, t, []*stage.Watcher{watcher, late}, 50)
	compose := filepath.Join(stage.Root(), "deploy", "e2e", "compose")
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "node", args...)
		cmd.Dir = compose
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// Viewers and senders of all generations, through the balancer, so that sessions are passed on as well.
	out, err := run("senders.js", viewers.URL, s.Ingest[0].URL, browser, client, "1")
	if err != nil {
		t.Fatalf("senders.js: %v\n%s", err, out)
	}
	stage.Until(ctx, t, "Prometheus has seen it twice", func() bool {
		return p.Sum(ctx, t, `min(count_over_time(tasktracer_gateway_delay_seconds_count[1h]))`) >= 10 && p.Sum(ctx, t, `sum(tasktracer_token_verdicts_total)`) > 0
	})
	out, err = run("panels.js", p.URL, "20s")
	t.Log(out)
	if err != nil {
		t.Errorf("panels.js: %v; a panel without data:\n%s", err, out)
	}
	// These have a value under load, not only a 0.
	for _, expr := range []string{
		`sum(rate(tasktracer_bus_append_records_total[20s]))`, `sum(tasktracer_ingest_clients)`, `sum(tasktracer_gateway_viewers)`,
		`sum(rate(tasktracer_gateway_events_total[20s]))`, `sum(tasktracer_gateway_history_reads_total)`, `sum(tasktracer_door_requests_forwarded_total{outcome="ok"})`,
		`histogram_quantile(0.5, sum by (le) (rate(tasktracer_bus_append_chunk_bytes_bucket[20s])))`,
	} {
		stage.Until(ctx, t, expr+" is not 0", func() bool { return p.Sum(ctx, t, expr) > 0 }) // a scrape that came too late leaves nothing until the next
	}
	text := tt.Finish(ctx, t)
	if got := watcher.Wait(ctx, t); string(got.Stdout) != text {
		t.Errorf("the viewer has %d bytes, the command wrote %d", len(got.Stdout), len(text))
	}
}
