package checks

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tool runs a program that checks a file. Where it is not installed the test is skipped, unless CHECKS=all says that all tools must be there.
func tool(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		if os.Getenv("CHECKS") == "all" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed (make tools installs it)", name)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func TestHAProxyConfiguration(t *testing.T) {
	tool(t, "../haproxy", "haproxy", "-c", "-q", "-f", "haproxy.cfg")
}

// TestHAProxyRepeatsNoRequest: what a poll is answered is taken out of its session. A poll that reached a server and is sent to another one skips that.
func TestHAProxyRepeatsNoRequest(t *testing.T) {
	for _, line := range strings.Split(read(t, "../haproxy/haproxy.cfg"), "\n") {
		if words := strings.Fields(line); len(words) > 0 && words[0] == "retry-on" && strings.Join(words[1:], " ") != "conn-failure" {
			t.Errorf("%s: only what never reached a server may be sent again", strings.TrimSpace(line))
		}
	}
}

func TestPrometheusConfiguration(t *testing.T) {
	tool(t, "../prometheus", "promtool", "check", "config", "prometheus.yml")
}

func TestAlertRules(t *testing.T) {
	tool(t, "../prometheus", "promtool", "test", "rules", "alerts_test.yml")
}

// TestEveryAlertIsTested keeps a rule from being added without its unit test, or without a line that says what to do.
func TestEveryAlertIsTested(t *testing.T) {
	rules, tests := read(t, "../prometheus/alerts.yml"), read(t, "../prometheus/alerts_test.yml")
	parts := strings.Split(rules, "- alert: ")[1:]
	if len(parts) < 5 {
		t.Fatalf("%d alerts found", len(parts))
	}
	for _, part := range parts {
		name, _, _ := strings.Cut(part, "\n")
		if !strings.Contains(part, "runbook:") {
			t.Errorf("alert %s has no runbook", name)
		}
		if !strings.Contains(tests, "alertname: "+name+"\n        exp_alerts:\n") {
			t.Errorf("alert %s has no test in which it fires", name)
		}
	}
}

func TestDashboardsAreJSON(t *testing.T) {
	files, err := filepath.Glob("../grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	for _, f := range files {
		var d struct {
			UID, Title string
			Panels     []struct {
				ID    int
				Type  string
				Title string
			}
		}
		if err := json.Unmarshal([]byte(read(t, f)), &d); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		seen := map[int]bool{}
		for _, p := range d.Panels {
			if seen[p.ID] {
				t.Errorf("%s: panel id %d stands twice", f, p.ID)
			}
			seen[p.ID] = true
		}
		if d.UID == "" || len(d.Panels) < 10 {
			t.Errorf("%s: uid %q with %d panels", f, d.UID, len(d.Panels))
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
