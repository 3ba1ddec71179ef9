package socketio

// outbox is a connection's bounded send queue. Its connection's mutex guards it.
type outbox struct {
	queue   []*Message
	bytes   int           // cost of what is queued or being written
	queued  uint64        // messages ever taken
	written uint64        // messages ever handed to the transport
	changed chan struct{} // closed when bytes or written change; nil while nobody waits
	writing bool          // a writing goroutine runs
}

func (o *outbox) empty() bool { return o.queued == o.written }

// fits says whether a message of this cost is taken: within the limit, or alone.
func (o *outbox) fits(cost, limit int) bool { return o.bytes == 0 || o.bytes+cost <= limit }

func (o *outbox) add(m *Message) {
	o.queue = append(o.queue, m)
	o.bytes += m.cost()
	o.queued++
}

// take takes what is to be written next off the queue, no more than limit bytes; nothing, if the next message alone is larger.
func (o *outbox) take(limit int) []*Message {
	n, size := 0, 0
	for n < len(o.queue) && size+len(o.queue[n].frame) <= limit {
		size += len(o.queue[n].frame)
		n++
	}
	batch := o.queue[:n:n]
	if o.queue = o.queue[n:]; len(o.queue) == 0 {
		o.queue = nil
	}
	return batch
}

// done counts messages as handed to the transport.
func (o *outbox) done(ms []*Message) {
	for _, m := range ms {
		o.bytes -= m.cost()
	}
	o.written += uint64(len(ms))
	o.wakeAll()
}

// wait gives a channel that is closed at the next change.
func (o *outbox) wait() <-chan struct{} {
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.changed
}

func (o *outbox) wakeAll() {
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

func (o *outbox) drop() {
	o.queue = nil
	o.wakeAll()
}
