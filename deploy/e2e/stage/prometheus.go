package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Hurry is how many times faster than as deployed a Prometheus of tests is: the spans of the alert rules are so much shorter, and it scrapes and evaluates
// more often.
const Hurry = 10

// Prometheus is a real one, with the alert rules as deployed, but for Hurry.
type Prometheus struct {
	*Process
	URL string
}

// NewPrometheus starts one that scrapes the servers, by their job.
func NewPrometheus(t testing.TB, targets map[string][]*Server) *Prometheus {
	t.Helper()
	dir := t.TempDir()
	rules, err := os.ReadFile(filepath.Join(Root(), "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	// A scrape may take a second, for on a busy machine it does; one that fails makes an alert that is pending begin anew.
	conf := "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}\nrule_files: [alerts.yml]\nscrape_configs:\n"
	for job, servers := range targets {
		var addrs []string
		for _, s := range servers {
			addrs = append(addrs, strconv.Quote(strings.TrimPrefix(s.URL, "http://")))
		}
		conf += fmt.Sprintf("  - {job_name: %s, static_configs: [{targets: [%s]}]}\n", job, strings.Join(addrs, ", "))
	}
	for name, text := range map[string]string{"alerts.yml": Hurried(t, string(rules)), "prometheus.yml": conf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p := &Prometheus{URL: fmt.Sprintf("http://127.0.0.1:%d", port)}
	p.Process = Start(t, "prometheus", nil, nil, "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port))
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	if _, err := p.Line(ctx, "readiness", func(l string) (string, bool) {
		return "", strings.Contains(l, "Server is ready to receive web requests")
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

var spans = regexp.MustCompile(`(\[|for: )(\d+)(s|m|h)`)

// Hurried shortens the ranges of expressions, and the spans of `for`.
func Hurried(t testing.TB, text string) string {
	t.Helper()
	return spans.ReplaceAllStringFunc(text, func(span string) string {
		m := spans.FindStringSubmatch(span)
		d, err := time.ParseDuration(m[2] + m[3])
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s%ds", m[1], int((d / Hurry).Seconds()))
	})
}

// Query evaluates an expression, and gives the values by their labels.
func (p *Prometheus) Query(ctx context.Context, expr string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var a struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, err
	}
	if a.Error != "" {
		return nil, fmt.Errorf("%s: %s", expr, a.Error)
	}
	out := map[string]float64{}
	for _, r := range a.Data.Result {
		labels, err := json.Marshal(r.Metric)
		if err != nil {
			return nil, err
		}
		text, _ := r.Value[1].(string)
		if out[string(labels)], err = strconv.ParseFloat(text, 64); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Sum is the sum of what an expression gives; 0 for nothing.
func (p *Prometheus) Sum(ctx context.Context, t testing.TB, expr string) (sum float64) {
	t.Helper()
	values, err := p.Query(ctx, expr)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		sum += v
	}
	return sum
}

// Firing tells whether an alert is.
func (p *Prometheus) Firing(ctx context.Context, t testing.TB, alert string) bool {
	t.Helper()
	return p.Sum(ctx, t, fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing"}`, alert)) > 0
}

// Until waits for a condition that is worth asking for ten times a second.
func Until(ctx context.Context, t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
