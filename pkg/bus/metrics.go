package bus

import "github.com/prometheus/client_golang/prometheus"

// metrics counts what an operator asks about the log.
type metrics struct {
	chunks, records, bytes         prometheus.Counter
	retries                        *prometheus.CounterVec // reason: timeout, fence, refused
	resolved                       *prometheus.CounterVec // answer: mine, absent, taken, deleted, tail_gone, rebased
	taken, reconnects              prometheus.Counter
	stateWrites, stateConflicts    prometheus.Counter
	slow, healed                   prometheus.Counter
	readBytes, readRetries, yields prometheus.Counter
	goneRecords                    prometheus.Counter
	settled                        *prometheus.CounterVec // what: detached, lost, exited, disconnected
	erased                         prometheus.Counter
	cutRuns, cutBytes              *prometheus.CounterVec // reason: runs, namespace, stream, run, age
	repeated                       prometheus.Counter
	reading                        prometheus.Gauge
	append, size                   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	c := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "tasktracer_bus_" + name, Help: help})
	}
	// Each value is there, at 0, from the start: a rate needs something to begin from, and a panel something to show.
	v := func(name, label, help string, values ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tasktracer_bus_" + name, Help: help}, []string{label})
		for _, value := range values {
			vec.WithLabelValues(value)
		}
		return vec
	}
	m := &metrics{
		chunks:         c("append_chunks_total", "Chunks stored."),
		records:        c("append_records_total", "Records stored."),
		bytes:          c("append_bytes_total", "Bytes of record data stored."),
		retries:        v("append_retries_total", "reason", "Publishes tried again.", "timeout", "fence", "refused"),
		resolved:       v("append_resolved_total", "answer", "Ambiguous publishes, by what the leader said.", "mine", "absent", "taken", "tail_gone", "rebased"),
		taken:          c("append_taken_total", "Runs that another process took over."),
		reconnects:     c("reconnects_total", "Connections to NATS that came back."),
		stateWrites:    c("state_writes_total", "Run states stored."),
		stateConflicts: c("state_conflicts_total", "Run states that had changed since they were read."),
		slow:           c("follow_slow_total", "Times that a subscription lost chunks because it was not emptied fast enough."),
		healed:         c("follow_healed_total", "Times that heartbeats came back after a silence."),
		readBytes:      c("history_read_bytes_total", "Bytes of chunks read back."),
		readRetries:    c("history_retries_total", "History reads tried again."),
		yields:         c("history_yields_total", "Readers that were sent back to the queue because their viewer was slow."),
		goneRecords:    c("history_gone_records_total", "Records that readers were told are gone."),
		settled:        v("settled_total", "what", "Runs whose state was settled for them.", "detached", "lost", "exited", "disconnected"),
		cutRuns:        v("janitor_runs_total", "reason", "Runs removed by retention.", "runs", "namespace", "stream", "run", "age"),
		cutBytes:       v("janitor_bytes_total", "reason", "Bytes of the log, as stored, removed by retention.", "runs", "namespace", "stream", "run", "age"),
		append: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tasktracer_bus_append_seconds", Help: "From the hand-over of a chunk to its being durable.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2, 5, 10, 20},
		}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tasktracer_bus_append_chunk_bytes", Help: "Size of the chunks stored, headers included.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 6), // to 256 KiB
		}),
		erased:   c("erased_messages_total", "Messages of deleted runs that were overwritten."),
		repeated: c("append_repeated_records_total", "Records that a client sent again, though they were taken; left out."),
		reading:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "tasktracer_bus_history_readers", Help: "Reads of the log under way."}),
	}
	if reg != nil {
		reg.MustRegister(m.chunks, m.records, m.bytes, m.retries, m.resolved, m.taken, m.reconnects, m.stateWrites, m.stateConflicts, m.slow, m.healed,
			m.readBytes, m.readRetries, m.yields, m.goneRecords, m.settled, m.cutRuns, m.cutBytes, m.erased, m.repeated, m.reading, m.append, m.size)
	}
	return m
}

// watchOwned shows how many runs wait for the log. A run counts from when its chunk has been under way for 2 s until it is stored, however often it is
// tried, so this is what says that the log takes nothing.
func (o *owned) watchOwned(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tasktracer_bus_append_stalled_runs", Help: "Runs of which a chunk has been on its way to the log for more than 2 s.",
	}, func() float64 { return float64(o.stalled()) }))
}
