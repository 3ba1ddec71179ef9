package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/socketio"
)

type doorMetrics struct {
	authenticates, opened, closed, refused, forwarded *prometheus.CounterVec
	open                                              *prometheus.GaugeVec
	upgraded, received, receivedBytes                 prometheus.Counter
	written, writtenBytes, writes, panicked           prometheus.Counter
}

func newDoorMetrics(reg prometheus.Registerer) *doorMetrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tasktracer_door_" + name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "tasktracer_door_" + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	m := &doorMetrics{
		authenticates: vec("authenticates_total", "First words of sockets, by who they say they are and what became of them.", "who", "outcome"),
		opened:        vec("sessions_opened_total", "Sessions begun, by Engine.IO generation and first transport.", "eio", "transport"),
		closed:        vec("sessions_closed_total", "Sessions ended, by reason.", "reason"),
		refused:       vec("requests_refused_total", "Requests refused, by reason.", "reason"),
		forwarded:     vec("requests_forwarded_total", "Requests passed to the process that holds their session.", "outcome"),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tasktracer_door_sessions_open", Help: "Sessions now open, by Engine.IO generation and the transport that they are on.",
		}, []string{"eio", "transport"}),
		upgraded:      counter("sessions_upgraded_total", "Sessions that went from polling to WebSocket."),
		received:      counter("messages_received_total", "Messages read."),
		receivedBytes: counter("received_bytes_total", "Bytes of messages read."),
		written:       counter("messages_written_total", "Messages written."),
		writtenBytes:  counter("written_bytes_total", "Bytes of messages written."),
		writes:        counter("writes_total", "System calls or polling answers that messages were written with."),
		panicked:      counter("panics_total", "Event handlers that panicked; each cost one connection."),
	}
	reg.MustRegister(m.open)
	m.begin()
	return m
}

// begin makes the series that a panel shows, or an alert counts, be there from the start.
func (m *doorMetrics) begin() {
	for _, eio := range []string{"3", "4"} {
		for _, transport := range []string{"polling", "websocket"} {
			m.opened.WithLabelValues(eio, transport)
			m.open.WithLabelValues(eio, transport)
		}
	}
	for _, reason := range []string{
		socketio.ReasonClientDisconnect, socketio.ReasonServerDisconnect, socketio.ReasonTransportClose, socketio.ReasonTransportError,
		socketio.ReasonPingTimeout, socketio.ReasonWriteTimeout, socketio.ReasonConnectTimeout, socketio.ReasonTooLarge, socketio.ReasonMalformed, socketio.ReasonPanic, socketio.ReasonShutdown,
		"busy", "taken", "revoked", "stopping", // said by ingest and gateway
	} {
		m.closed.WithLabelValues(reason)
	}
	for _, reason := range []string{"origin", "rate", "conns", "protocol", "method", "session", "peer", "shutdown", "jsonp"} {
		m.refused.WithLabelValues(reason)
	}
	for _, outcome := range []string{"ok", "failed"} {
		m.forwarded.WithLabelValues(outcome)
	}
	for who, outcomes := range map[string][]string{"none": {"timeout", "empty"}, "client": {"routed", "wrong_endpoint"}, "viewer": {"routed", "wrong_endpoint"}} {
		for _, outcome := range outcomes {
			m.authenticates.WithLabelValues(who, outcome)
		}
	}
}

// sockets wires the Socket.IO server's callbacks to the metrics.
func (m *doorMetrics) sockets() socketio.Metrics {
	return socketio.Metrics{
		Opened: func(eio int, transport string) {
			generation := strconv.Itoa(eio)
			m.open.WithLabelValues(generation, transport).Inc()
			m.opened.WithLabelValues(generation, transport).Inc()
		},
		Upgraded: func(eio int) {
			generation := strconv.Itoa(eio)
			m.open.WithLabelValues(generation, "polling").Dec()
			m.open.WithLabelValues(generation, "websocket").Inc()
			m.upgraded.Inc()
		},
		Closed: func(eio int, transport, reason string) {
			m.open.WithLabelValues(strconv.Itoa(eio), transport).Dec()
			m.closed.WithLabelValues(reason).Inc()
		},
		Refused:   func(reason string) { m.refused.WithLabelValues(reason).Inc() },
		Forwarded: func(outcome string) { m.forwarded.WithLabelValues(outcome).Inc() },
		Received:  func(bytes int) { m.received.Inc(); m.receivedBytes.Add(float64(bytes)) },
		Written: func(messages, bytes, writes int) {
			m.written.Add(float64(messages))
			m.writtenBytes.Add(float64(bytes))
			m.writes.Add(float64(writes))
		},
		Panicked: m.panicked.Inc,
	}
}

// watchCache shows what the cache of token verdicts does.
func watchCache(reg prometheus.Registerer, tokens *auth.Remote) {
	show := func(result string, value func() uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "tasktracer_auth_verdicts_total", Help: "Token verdicts, by whether the cache had them.", ConstLabels: prometheus.Labels{"cache": result},
		}, func() float64 { return float64(value()) }))
	}
	show("hit", func() uint64 { hits, _ := tokens.Cache(); return hits })
	show("miss", func() uint64 { _, misses := tokens.Cache(); return misses })
}
