package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
	"tasktracer/pkg/socketio"
)

// metric is one, as the list in the docs has it, or as a process exposes it.
type metric struct {
	typ, help, unit string
	labels          map[string]map[string]bool // the values by label
}

// anyOf are values that a label may have where they are not listed one by one.
var anyOf = map[string]*regexp.Regexp{
	"an HTTP status":      regexp.MustCompile(`^[1-5]\d\d$`),
	"one, of what is run": regexp.MustCompile(`^\S+$`),
}

// listed reads docs/metrics.md: the metrics by section.
func listed(t *testing.T) map[string]map[string]metric {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(stage.Root(), "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	out, section := map[string]map[string]metric{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if head, ok := strings.CutPrefix(line, "## "); ok {
			section = head
			out[section] = map[string]metric{}
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if !strings.HasPrefix(line, "| `") || len(cells) != 5 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		m := metric{typ: cells[1], unit: cells[3], help: cells[4], labels: map[string]map[string]bool{}}
		for _, l := range strings.Split(cells[2], "; ") {
			if l == "" {
				continue
			}
			name, values, ok := strings.Cut(l, ": ")
			if !ok {
				t.Fatalf("labels %q: want `label`: values", l)
			}
			set := map[string]bool{}
			for _, v := range strings.Split(values, ", ") {
				if anyOf[values] != nil {
					v = values
				}
				set[v] = true
			}
			m.labels[strings.Trim(name, "`")] = set
		}
		out[section][strings.Trim(cells[0], "`")] = m
	}
	return out
}

var (
	sampleForm = regexp.MustCompile(`^([a-z_0-9]+)(?:\{(.*)\})? \S+$`)
	labelForm  = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
	ofSeries   = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// exposed reads what a process says at /metrics.
func exposed(ctx context.Context, t *testing.T, s *stage.Server) map[string]metric {
	t.Helper()
	_, text := ask(ctx, t, http.MethodGet, s.URL+"/metrics", "", "")
	out := map[string]metric{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if about, ok := strings.CutPrefix(line, "# "); ok {
			what, rest, _ := strings.Cut(about, " ")
			name, value, _ := strings.Cut(rest, " ")
			m := out[name]
			if what == "HELP" {
				m.help = value
			} else {
				m.typ, m.labels = value, map[string]map[string]bool{}
			}
			out[name] = m
			continue
		}
		f := sampleForm.FindStringSubmatch(line)
		if f == nil {
			t.Fatalf("%s says %q", s.Name, line)
		}
		m, ok := out[f[1]]
		if !ok {
			m = out[ofSeries.ReplaceAllString(f[1], "")]
		}
		for _, l := range labelForm.FindAllStringSubmatch(f[2], -1) {
			if l[1] == "le" {
				continue
			}
			if m.labels[l[1]] == nil {
				m.labels[l[1]] = map[string]bool{}
			}
			m.labels[l[1]][l[2]] = true
		}
	}
	return out
}

// ask makes a request and gives status and body.
func ask(ctx context.Context, t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// abuse comes to the parts with names, tokens and requests that nobody has used before: none of them may become a label.
func abuse(ctx context.Context, t *testing.T, s *stage.Split, n int, browser, client, base string) {
	t.Helper()
	name := fmt.Sprintf("odd name %d", n)
	authenticate := func(url string, hello map[string]any, then ...string) {
		t.Helper()
		c, err := socketio.Dial(ctx, socketio.DialConfig{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		answered := make(chan struct{}, 100)
		c.OnEvent(func(e *socketio.Event) { answered <- struct{}{} })
		if err := c.Emit(ctx, "authenticate", hello); err != nil {
			t.Fatal(err)
		}
		select { // with a word, or by being shown the door
		case <-answered:
		case <-c.Done():
		case <-ctx.Done():
			t.Fatalf("%v is not answered", hello)
		}
		for _, event := range then {
			_ = c.Emit(ctx, event, map[string]any{"type": name, "from": []string{name}, "after": map[string][]string{name: {name}}, "code": n}) // it may be over
		}
		_ = c.Close() // it may be over
	}
	sender := func(token, id, task string) map[string]any {
		return map[string]any{"type": "client", "token": token, "id": id, "task": map[string]any{"name": task, "cmd": name}}
	}
	watch := func(token, task string) map[string]any {
		return map[string]any{"type": name, "token": token, "v": 2, "watch": map[string]any{"task": task, "from": []string{name}}}
	}
	ingest, gateway := s.Ingest[0].URL, s.Gateways[0].URL
	authenticate(ingest, sender(client, name, name), "data", "eof", name)
	authenticate(ingest, sender(client, "", name))
	authenticate(ingest, sender(client, name, strings.Repeat("x", 5000)))
	authenticate(ingest, sender("a token "+name, name, name))
	authenticate(ingest, watch(browser, name))
	authenticate(gateway, watch(browser, name), "attach", "detach", name)
	authenticate(gateway, watch("a token "+name, name))
	authenticate(gateway, watch("", name))
	authenticate(gateway, sender(client, name, name))
	for _, url := range []string{ingest, gateway} {
		for _, query := range []string{"EIO=" + fmt.Sprint(n+10), "EIO=4&transport=" + fmt.Sprint("t", n), "EIO=4&transport=polling&sid=" + fmt.Sprint("s", n), "EIO=3&transport=polling&j=1"} {
			ask(ctx, t, http.MethodGet, url+"/socket.io/?"+query, "", "")
		}
	}
	odd := fmt.Sprint("odd-", n)
	for _, path := range []string{
		"/" + odd, "/tasks/" + odd + "/", "/api/v1/" + odd, "/api/v1/token", "/api/v1/tasks", "/api/v1/tasks/" + odd + "/clients", "/api/v1/tasks/" + odd + "/runs",
		"/api/v1/runs/" + odd, "/api/v1/runs/" + odd + "/log", "/api/v1/runs/" + odd + "/search?q=" + odd,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodDelete, fmt.Sprint("METHOD", n)} {
			for _, token := range []string{"", odd, browser, base} {
				ask(ctx, t, method, gateway+path, token, "")
			}
		}
	}
	for _, action := range []string{"generate", "share", "revoke", odd} {
		for _, token := range []string{odd, base, browser} {
			body, err := json.Marshal(map[string]any{"token": token, "ns": odd, "type": odd, "task": odd, "jti": odd, odd: odd})
			if err != nil {
				t.Fatal(err)
			}
			ask(ctx, t, http.MethodPost, s.Token.URL+"/tokens/"+action, token, string(body))
		}
	}
}

// TestMetricsAreAsListed holds docs/metrics.md to what the processes expose, in both directions: names, types, labels and their values. As all values
// are listed, and a process that has met strange names has no other ones, the number of series is bounded.
func TestMetricsAreAsListed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	s := stage.NewSplit(t, binaries, 1, 1)
	token := func(typ string) string { return stage.Token(t, binaries, s.Config, "default", typ) }
	sections := listed(t)
	parts := []struct {
		*stage.Server
		sections []string
	}{
		{s.Ingest[0], []string{"In every process", "Ingest and gateway", "Ingest"}},
		{s.Gateways[0], []string{"In every process", "Ingest and gateway", "Gateway"}},
		{s.Token, []string{"In every process", "Token service"}},
	}
	want := func(names []string) map[string]metric {
		all := map[string]metric{}
		for _, name := range names {
			if len(sections[name]) == 0 {
				t.Fatalf("docs/metrics.md lists nothing under %q", name)
			}
			maps.Copy(all, sections[name])
		}
		return all
	}
	for _, p := range parts {
		compare(t, p.Name+" at its start", want(p.sections), exposed(ctx, t, p.Server), func(metric string) bool { return metric != "tasktracer_gateway_http_requests_total" })
	}
	for n := range 3 {
		abuse(ctx, t, s, n, token("browser_token"), token("client_token"), token("base_token"))
	}
	for _, p := range parts {
		compare(t, p.Name+" after use", want(p.sections), exposed(ctx, t, p.Server), func(string) bool { return true })
	}
	refused := 0
	for line := range strings.Lines(s.Ingest[0].Stderr()) {
		var entry struct{ Msg, Conn string }
		if json.Unmarshal([]byte(strings.TrimSpace(line)), &entry) == nil && entry.Msg == "client refused" {
			if refused++; entry.Conn == "" {
				t.Errorf("the log does not say whose connection: %s", line)
			}
		}
	}
	if refused == 0 {
		t.Error("the log says nothing of clients that were refused")
	}
	for section, metrics := range sections {
		for name, m := range metrics {
			for _, unit := range []string{"seconds", "bytes"} {
				if in := slices.Contains(strings.Split(name, "_"), unit); in != (m.unit == unit) {
					t.Errorf("%s, under %q: its unit is listed as %q", name, section, m.unit)
				}
			}
		}
	}
}

// compare compares what is listed with what is exposed. Of the metrics that are whole, each listed value must be there.
func compare(t *testing.T, who string, want, got map[string]metric, whole func(string) bool) {
	t.Helper()
	foreign := map[string]bool{"go": false, "process": false}
	for name, g := range got {
		if prefix, _, _ := strings.Cut(name, "_"); slices.Contains(slices.Collect(maps.Keys(foreign)), prefix) {
			foreign[prefix] = true
			continue
		}
		w, ok := want[name]
		if !ok {
			t.Errorf("%s exposes %s, which is not listed", who, name)
			continue
		}
		if g.typ != w.typ || g.help != w.help {
			t.Errorf("%s: %s is a %s, %q; listed as a %s, %q", who, name, g.typ, g.help, w.typ, w.help)
		}
		for label, values := range g.labels {
			for v := range values {
				if !allowed(w.labels[label], v) {
					t.Errorf("%s: %s has %s=%q, which is not listed", who, name, label, v)
				}
			}
		}
		for label, values := range w.labels {
			for v := range values {
				if whole(name) && anyOf[v] == nil && !g.labels[label][v] {
					t.Errorf("%s: %s has no %s=%q, which is listed", who, name, label, v)
				}
			}
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok && whole(name) {
			t.Errorf("%s does not expose %s, which is listed", who, name)
		}
	}
	for prefix, there := range foreign {
		if !there {
			t.Errorf("%s exposes nothing that begins with %s_", who, prefix)
		}
	}
}

func allowed(listed map[string]bool, value string) bool {
	if listed[value] {
		return true
	}
	for l := range listed {
		if form := anyOf[l]; form != nil && form.MatchString(value) {
			return true
		}
	}
	return false
}
