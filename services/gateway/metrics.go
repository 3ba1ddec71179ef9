package gateway

import "github.com/prometheus/client_golang/prometheus"

// Metrics is what the gateway counts. No label is taken from a token, a task or a client.
type Metrics struct {
	viewers, behind, feeds, runs, ringBytes, cacheBytes prometheus.Gauge

	chunks, repeats, encodings, reads, cacheHits, lagged, missed prometheus.Counter
	events, eventBytes, deleted, stalled                         prometheus.Counter

	authentications, gaps, retries, refused, ended, http *prometheus.CounterVec

	delay prometheus.Histogram
}

// NewMetrics registers the gateway's metrics with reg; nil registers them nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	const ns, sub = "tasktracer", "gateway"
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	m := &Metrics{
		viewers:    gauge("viewers", "Authenticated viewer sockets."),
		behind:     gauge("viewers_behind", "Of these, those who are being sent from the log what they have missed."),
		feeds:      gauge("feeds", "Clients that somebody watches."),
		runs:       gauge("runs", "Runs in the roster."),
		ringBytes:  gauge("ring_bytes", "What the recent chunks of all feeds are charged with."),
		cacheBytes: gauge("history_cache_bytes", "What the chunks read back and kept are charged with."),

		chunks:     counter("chunks_total", "Chunks heard live."),
		repeats:    counter("feed_repeats_total", "Chunks heard that were there already; NATS sends some twice."),
		encodings:  counter("encodings_total", "Chunks encoded; far fewer than events sent, as viewers share them."),
		reads:      counter("history_reads_total", "Reads of the log for viewers behind the feed."),
		cacheHits:  counter("history_cache_hits_total", "Times that such a viewer needed no read."),
		lagged:     counter("feed_lags_total", "Times that chunks may have been missed (slow consumer, reconnect)."),
		missed:     counter("feed_missed_total", "Times that a chunk was known to be stored and had not been heard."),
		events:     counter("events_total", "Events handed to viewer sockets."),
		eventBytes: counter("event_bytes_total", "Bytes of their arguments."),
		deleted:    counter("deletions_total", "Runs deleted through the API."),
		stalled:    counter("http_stalled_total", "HTTP callers let go because they took nothing of their answer."),

		authentications: vec("authentications_total", "Viewers that asked to watch a task, by what became of it.", "outcome"),

		gaps:    vec("gaps_total", "Gaps that viewers were told of.", "reason"),
		retries: vec("retries_total", "Requests to NATS made again.", "op"),
		refused: vec("refused_total", "What viewers and API callers asked for and did not get.", "reason"),
		ended:   vec("viewers_ended_total", "Viewer sockets ended by the gateway.", "reason"),
		http:    vec("http_requests_total", "HTTP requests to the page and the read API.", "route", "code"),

		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "delay_seconds",
			Help:    "From ingest handing a chunk to the log to its being in a live viewer's socket buffer, by the clocks of both hosts.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30},
		}),
	}
	reg.MustRegister(m.delay)
	// Each value is there, at 0, from the start: a rate needs something to begin from, and a panel something to show. Of HTTP's routes and codes only
	// those that come.
	tokens := []string{"token_missing", "token_invalid", "token_expired", "token_revoked"}
	begin := func(vec *prometheus.CounterVec, values ...string) {
		for _, value := range values {
			vec.WithLabelValues(value)
		}
	}
	begin(m.authentications, append(tokens, "accepted", "bad_request", "wrong_endpoint", "busy")...)
	begin(m.refused, append(tokens, "bad_request", "bad_cursor", "forbidden", "not_found", "ambiguous", "gone", "range_not_satisfiable", "too_many", "unreadable", "busy")...)
	begin(m.ended, append(tokens, "bad_request", "wrong_endpoint", "busy", "expired", "revoked")...)
	begin(m.gaps, "retention")
	begin(m.retries, "read", "locate", "subscribe", "tail", "processes")
	return m
}
