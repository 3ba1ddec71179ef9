package socketio

// Metrics is what a Server tells about itself; nil functions are skipped. They are called from many goroutines and must not block. Each session is
// opened once and closed once; Closed may be called before Opened or Upgraded, where a session ends while it begins or changes.
type Metrics struct {
	Opened    func(eio int, transport string)         // a session began; transport is "polling" or "websocket"
	Upgraded  func(eio int)                           // a session went from polling to WebSocket
	Closed    func(eio int, transport, reason string) // a session ended on that transport; reason is one of the Reason constants, or what Close was given
	Refused   func(reason string)                     // a request was refused: "origin", "rate", "conns", "protocol", "method", "session", "peer", "shutdown", "jsonp"
	Forwarded func(outcome string)                    // a request went to the owner of its session: "ok", "failed"
	Received  func(bytes int)                         // a message was read
	Written   func(messages, bytes, writes int)       // messages were handed to the transport, in so many system calls or polling answers
	Panicked  func()                                  // a handler panicked; its connection is closed
}

func (m *Metrics) opened(eio int, transport string) {
	if m.Opened != nil {
		m.Opened(eio, transport)
	}
}

func (m *Metrics) upgraded(eio int) {
	if m.Upgraded != nil {
		m.Upgraded(eio)
	}
}

func (m *Metrics) closed(eio int, transport, reason string) {
	if m.Closed != nil {
		m.Closed(eio, transport, reason)
	}
}

func (m *Metrics) refused(reason string) {
	if m.Refused != nil {
		m.Refused(reason)
	}
}

func (m *Metrics) forwarded(outcome string) {
	if m.Forwarded != nil {
		m.Forwarded(outcome)
	}
}

func (m *Metrics) received(bytes int) {
	if m.Received != nil {
		m.Received(bytes)
	}
}

func (m *Metrics) written(messages, bytes, writes int) {
	if m.Written != nil {
		m.Written(messages, bytes, writes)
	}
}

func (m *Metrics) panicked() {
	if m.Panicked != nil {
		m.Panicked()
	}
}
