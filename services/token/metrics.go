package token

import (
	"github.com/prometheus/client_golang/prometheus"

	"tasktracer/pkg/auth"
)

type metrics struct {
	verdicts    *prometheus.CounterVec
	issued      *prometheus.CounterVec
	http        *prometheus.CounterVec
	revocations prometheus.Counter
	revoked     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasktracer_token_verdicts_total", Help: "Tokens verified, by the type asked for and the outcome.",
		}, []string{"type", "outcome"}),
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasktracer_token_issued_total", Help: "Tokens issued, by type.",
		}, []string{"type"}),
		http: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasktracer_token_http_requests_total", Help: "HTTP requests, by what was asked for and the outcome.",
		}, []string{"action", "outcome"}),
		revocations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tasktracer_token_revocations_total", Help: "Tokens revoked through this replica.",
		}),
		revoked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tasktracer_token_revoked_tokens", Help: "Revoked tokens that this replica remembers.",
		}),
	}
	// Each value is there, at 0, from the start: a rate needs something to begin from, and a panel something to show.
	for _, want := range append(auth.Types(), unknownType) {
		for _, outcome := range []string{"good", "token_missing", "token_invalid", "token_expired", "token_revoked"} {
			m.verdicts.WithLabelValues(string(want), outcome)
		}
	}
	for _, t := range auth.Types() {
		m.issued.WithLabelValues(string(t))
	}
	for _, action := range []string{"generate", "share", "revoke"} {
		for _, outcome := range []string{"good", "refused", "failed"} {
			m.http.WithLabelValues(action, outcome)
		}
	}
	reg.MustRegister(m.verdicts, m.issued, m.http, m.revocations, m.revoked)
	return m
}

// unknownType stands for a type that there is not.
const unknownType auth.Type = "unknown"

// verified counts a verdict. The type comes from outside: only the known ones become a label.
func (m *metrics) verified(want auth.Type, err error) {
	label := string(unknownType)
	for _, t := range auth.Types() {
		if t == want {
			label = string(t)
		}
	}
	outcome := auth.Code(err)
	if err == nil {
		outcome = "good"
	}
	m.verdicts.WithLabelValues(label, outcome).Inc()
}
