package ingest

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	clients         *prometheus.GaugeVec   // generation: numbered, plain
	authentications *prometheus.CounterVec // outcome
	records         *prometheus.CounterVec // kind
	refusedPackets  *prometheus.CounterVec // code
	dropped         *prometheus.CounterVec // reason
	bytes           prometheus.Counter
	droppedBytes    prometheus.Counter
	waited          prometheus.Counter
	ignored         prometheus.Counter
	progress        prometheus.Counter
	taken           prometheus.Counter
}

// newMetrics registers what this part counts. No label has a value that a peer can choose.
func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tasktracer", Subsystem: "ingest", Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tasktracer", Subsystem: "ingest", Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		clients: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "tasktracer", Subsystem: "ingest", Name: "clients", Help: "Clients connected, those being accepted and those whose last output is being stored included.",
		}, []string{"generation"}),
		authentications: vec("authentications_total", "Clients that asked to send, by what became of it.", "outcome"),
		records:         vec("records_total", "Records taken from clients.", "kind"),
		refusedPackets:  vec("refused_packets_total", "Packets of numbered records of which nothing was taken.", "code"),
		dropped:         vec("dropped_total", "Times that output was left out: by a client's own limit, or because one message was too large.", "reason"),
		bytes:           counter("bytes_total", "Bytes of records taken from clients."),
		droppedBytes:    counter("dropped_bytes_total", "Bytes that were left out."),
		waited:          counter("backpressure_seconds_total", "Time that connections were not read because the log had not caught up."),
		ignored:         counter("ignored_events_total", "Events that mean nothing from a client."),
		progress:        counter("progress_total", "Times that a client was told to wait for the log."),
		taken:           counter("runs_taken_total", "Runs that went to another connection, or were deleted, while their client was here."),
	}
	// What a panel shows, or an alert counts, is there from the start.
	for vec, values := range map[*prometheus.CounterVec][]string{
		m.authentications: {"accepted", "full", "trouble", "name", "id", "run", "token_missing", "token_invalid", "token_expired", "token_revoked"},
		m.records:         {"STDOUT", "STDERR", "RAW", "NOTE", "EXIT"},
		m.refusedPackets:  {"gap", "too_large", "taken", "malformed"},
		m.dropped:         {"payload_too_large", "client_limit"},
	} {
		for _, value := range values {
			vec.WithLabelValues(value)
		}
	}
	m.clients.WithLabelValues("numbered")
	m.clients.WithLabelValues("plain")
	if reg != nil {
		reg.MustRegister(m.clients, m.authentications, m.records, m.refusedPackets, m.dropped, m.bytes, m.droppedBytes, m.waited, m.ignored, m.progress, m.taken)
	}
	return m
}
