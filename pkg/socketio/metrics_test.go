package socketio

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// sessions counts what a Server's metrics say is open now, by generation and transport. A count of 0 is left out.
type sessions struct {
	mu      sync.Mutex
	open    map[string]int
	changed chan struct{} // closed and replaced with each change
}

func (s *sessions) add(eio int, transport string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprintf("%d %s", eio, transport)
	if s.open[key] += n; s.open[key] == 0 {
		delete(s.open, key)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sessions) await(t *testing.T, want map[string]int) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		got, changed := maps.Clone(s.open), s.changed
		s.mu.Unlock()
		if maps.Equal(got, want) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("open sessions: %v, want %v", got, want)
		}
	}
}

// TestMetricsTellWhatIsOpen opens sessions of each generation on each transport, has some change over, and ends them in several ways: each is taken off
// where it was put, whatever the way.
func TestMetricsTellWhatIsOpen(t *testing.T) {
	s := &sessions{open: map[string]int{}, changed: make(chan struct{})}
	srv, base := serve(t, Config{ConnectTimeout: time.Hour, Metrics: Metrics{
		Opened:   func(eio int, transport string) { s.add(eio, transport, 1) },
		Upgraded: func(eio int) { s.add(eio, "polling", -1); s.add(eio, "websocket", 1) },
		Closed:   func(eio int, transport, _ string) { s.add(eio, transport, -1) },
	}}, echo)
	var direct, changed []*raw
	staying, changing := map[int]string{}, map[int]string{}
	for _, eio := range []int{3, 4} {
		staying[eio], changing[eio] = pollingSession(t, base, eio), pollingSession(t, base, eio)
		pollingSession(t, base, eio) // left to the shutdown
		direct = append(direct, openRaw(t, base, eio))
	}
	s.await(t, map[string]int{"3 polling": 3, "4 polling": 3, "3 websocket": 1, "4 websocket": 1})
	for _, url := range changing {
		url = strings.Replace(strings.Replace(url, "http:", "ws:", 1), "transport=polling", "transport=websocket", 1)
		ws, _, err := websocket.DefaultDialer.Dial(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ws.Close() })
		r := &raw{t, ws}
		r.send("2probe")
		r.expect("3probe")
		r.send("5")
		changed = append(changed, r)
	}
	s.await(t, map[string]int{"3 polling": 2, "4 polling": 2, "3 websocket": 2, "4 websocket": 2})
	for _, r := range append(direct, changed...) {
		r.ws.Close() // without a word
	}
	s.await(t, map[string]int{"3 polling": 2, "4 polling": 2})
	for eio, url := range staying {
		request(t, "POST", url, map[int]string{3: "1:1", 4: "1"}[eio]) // a close packet
	}
	s.await(t, map[string]int{"3 polling": 1, "4 polling": 1})
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.await(t, map[string]int{})

	// What asks for a WebSocket and then makes none of it is opened and closed on the same transport.
	opened := make(chan string, 1)
	_, base = serve(t, Config{Metrics: Metrics{
		Opened: func(eio int, transport string) { s.add(eio, transport, 1); opened <- transport },
		Closed: func(eio int, transport, _ string) { s.add(eio, transport, -1) },
	}}, echo)
	if status, body, _ := request(t, "GET", base+"/socket.io/?transport=websocket&EIO=4", "", "Connection", "Upgrade", "Upgrade", "websocket"); status != 400 {
		t.Errorf("half an upgrade: %d %s", status, body)
	}
	if transport := <-opened; transport != "websocket" {
		t.Errorf("half an upgrade was opened on %s", transport)
	}
	s.await(t, map[string]int{})
}
