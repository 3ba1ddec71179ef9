package main

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/natsd"
	"tasktracer/services/gateway"
	"tasktracer/services/ingest"
	"tasktracer/services/token"
)

// described remembers what is registered: the labels of each metric by its name. It is a prometheus.Registerer.
type described map[string][]string

var descForm = regexp.MustCompile(`fqName: "([^"]+)".*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

func (d described) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 100)
	c.Describe(descs)
	close(descs)
	for desc := range descs {
		m := descForm.FindStringSubmatch(desc.String())
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' })
		for _, l := range strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' }) {
			name, _, _ := strings.Cut(l, "=")
			labels = append(labels, name)
		}
		d[m[1]] = labels
	}
	return nil
}

func (d described) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = d.Register(c) // never fails
	}
}
func (d described) Unregister(prometheus.Collector) bool { return false }

// everyMetric builds all parts and returns what they registered.
func everyMetric(t *testing.T) described {
	t.Helper()
	d := described{}
	log := slog.New(slog.DiscardHandler)
	nats, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	b, err := bus.Open(t.Context(), bus.Config{InProcess: nats, Metrics: d})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	cfg, err := parseConfig([]byte(olderConfig), ".")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewKeyring(cfg.Keys)
	if err != nil {
		t.Fatal(err)
	}
	var a allConfig
	fs := (&call{}).flags("all")
	a.register(fs)
	tokens := auth.NewRemote(b)
	newDoorMetrics(d)
	watchCache(d, tokens)
	if _, err := token.New(token.Config{Keys: keys, ShareLife: time.Hour, MaxShareLife: time.Hour}, token.Deps{Bus: b, Log: log, Metrics: d}); err != nil {
		t.Fatal(err)
	}
	if _, err := ingest.New(a.ingest, ingest.Deps{Bus: b, Tokens: tokens, Log: log, Metrics: d}); err != nil {
		t.Fatal(err)
	}
	if _, err := gateway.New(a.gateway, gateway.Deps{Bus: b, Tokens: tokens, Log: log, Metrics: d}); err != nil {
		t.Fatal(err)
	}
	return d
}

var (
	metricName   = regexp.MustCompile(`^tasktracer_(bus|ingest|gateway|token|door|auth)_[a-z][a-z_]*[a-z]$`)
	metricInFile = regexp.MustCompile(`tasktracer_[a-z_]+`)
	series       = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// TestMetricsAreBounded holds that no label's values can come from outside: a task, a client or a token would be a new series each.
func TestMetricsAreBounded(t *testing.T) {
	fixed := []string{"reason", "outcome", "answer", "what", "who", "kind", "type", "eio", "transport", "cache", "code", "route", "op", "action", "generation"}
	metrics := everyMetric(t)
	if len(metrics) < 40 {
		t.Fatalf("%d metrics are registered: want those of all parts", len(metrics))
	}
	for name, labels := range metrics {
		if !metricName.MatchString(name) {
			t.Errorf("%s: want tasktracer_<part>_<thing>_<unit>", name)
		}
		for _, l := range labels {
			if !slices.Contains(fixed, l) {
				t.Errorf("%s has the label %q: want one of %v", name, l, fixed)
			}
		}
	}
}

// TestDashboardsAndAlertsNameWhatIsThere keeps a renamed metric from leaving an empty panel, or an alert that never fires.
func TestDashboardsAndAlertsNameWhatIsThere(t *testing.T) {
	metrics := everyMetric(t)
	for _, file := range []string{"../../deploy/grafana/dashboards/tasktracer.json", "../../deploy/prometheus/alerts.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricInFile.FindAllString(string(text), -1) {
			_, plain := metrics[name]
			_, histogram := metrics[series.ReplaceAllString(name, "")]
			if !plain && !histogram && name != "tasktracer_build_info" {
				t.Errorf("%s asks for %s, which no part has", file, name)
			}
		}
	}
}
