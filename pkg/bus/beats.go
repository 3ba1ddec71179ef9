package bus

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	pb "tasktracer/proto/tasktracer/v1"
)

// beats hears the heartbeats of all processes: they tell who lives, and name the tails of runs that advanced.
type beats struct {
	b *Bus

	mu     sync.Mutex
	sub    *nats.Subscription // nil until somebody is interested
	last   map[string]time.Time
	subs   map[string]map[*Subscription]struct{} // by client path
	onBeat map[int]func(incarnation string)
	seq    int
	own    string // the incarnation that this process holds, "" for none
}

// beatReturn is the silence after which a heartbeat that is heard again says that others may have been lost with it;
// beatForget is when a process that is silent is forgotten.
const (
	beatReturn = 3 * time.Second
	beatForget = 10 * time.Minute
)

func newBeats(b *Bus) *beats {
	return &beats{b: b, last: map[string]time.Time{}, subs: map[string]map[*Subscription]struct{}{}, onBeat: map[int]func(string){}}
}

func (h *beats) listen() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sub != nil {
		return nil
	}
	sub, err := h.b.live.nc.Subscribe(prefixBeat+">", h.received)
	if err != nil {
		return fmt.Errorf("subscribe to heartbeats: %w", err)
	}
	h.sub = sub
	return nil
}

// self remembers who this process is.
func (h *beats) self(incarnation string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own = incarnation
}

// who is the incarnation that this process holds; a name of chance where it holds none.
func (h *beats) who() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.own == "" {
		h.own = "unnamed-" + strings.ToLower(newID())
	}
	return h.own
}

// add has a subscription told of the tails of its client's runs.
func (h *beats) add(s *Subscription) (remove func()) {
	p := strings.TrimSuffix(s.prefix, ".")
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs[p] == nil {
		h.subs[p] = map[*Subscription]struct{}{}
	}
	h.subs[p][s] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs[p], s)
		if len(h.subs[p]) == 0 {
			delete(h.subs, p)
		}
	}
}

// each has fn called with every heartbeat's sender.
func (h *beats) each(fn func(incarnation string)) (remove func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	id := h.seq
	h.onBeat[id] = fn
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.onBeat, id)
	}
}

// heard is when a process was last heard of; zero where never.
func (h *beats) heard(incarnation string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last[incarnation]
}

func (h *beats) received(m *nats.Msg) {
	var beat pb.Heartbeat
	if err := proto.Unmarshal(m.Data, &beat); err != nil {
		h.b.log.Warn("a heartbeat that cannot be read", "subject", m.Subject, "err", err)
		return
	}
	told, returned := h.note(&beat)
	for _, fn := range told {
		fn(beat.Incarnation)
	}
	if returned {
		h.b.met.healed.Inc()
		for _, s := range h.all() {
			s.lagged()
		}
	}
	for _, t := range beat.Tails {
		client, run, ok := cutLast(t.Subject)
		if !ok {
			continue
		}
		for _, s := range h.of(client) {
			s.advanced(run, t.LastSeq)
		}
	}
}

// note remembers a heartbeat. returned says that the sender had been silent.
func (h *beats) note(beat *pb.Heartbeat) (told []func(string), returned bool) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	was, known := h.last[beat.Incarnation]
	h.last[beat.Incarnation] = now
	for _, fn := range h.onBeat {
		told = append(told, fn)
	}
	for i, at := range h.last {
		if now.Sub(at) > beatForget {
			delete(h.last, i)
		}
	}
	return told, known && now.Sub(was) > beatReturn
}

func (h *beats) all() (subs []*Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.subs {
		for s := range m {
			subs = append(subs, s)
		}
	}
	return subs
}

func (h *beats) of(client string) (subs []*Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs[client] {
		subs = append(subs, s)
	}
	return subs
}

// cutLast parts a run's path into its client's and the run.
func cutLast(path string) (client, run string, ok bool) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", "", false
	}
	run, _, ok = decodeToken(path[i+1:])
	return path[:i], run, ok
}
