package socketio

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestPeer: a request goes to the address that Peer gives, and to no other; whatever the id says, whatever headers come with it.
func TestPeer(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	var visits atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits.Add(1)
		fmt.Fprintf(w, "owner got %s", r.URL.Query().Get("sid"))
	}))
	t.Cleanup(elsewhere.Close)
	_, base := serve(t, Config{Name: "here", Peer: func(name string) (string, bool) {
		mu.Lock()
		asked = append(asked, name)
		mu.Unlock()
		switch name {
		case "there":
			return elsewhere.URL, true
		case "dead":
			return "http://127.0.0.1:1", true
		case "broken":
			return "no url at all", true
		}
		return "", false
	}}, echo)
	const tail = ".AAAAAAAAAAAAAAAAAAAAAAAA"
	for _, tc := range []struct {
		name   string
		sid    string
		header []string
		status int
		body   string
		asked  string // the name that Peer was asked for, "" for not at all
	}{
		{"owner", "there" + tail, nil, 200, "owner got there" + tail, "there"},
		{"unknown name", "nobody" + tail, nil, 400, "Session ID unknown", "nobody"},
		{"dead owner", "dead" + tail, nil, 502, "Session ID unknown", "dead"},
		{"owner without an address", "broken" + tail, nil, 400, "Session ID unknown", "broken"},
		{"passed on once already", "there" + tail, []string{passedOn, "x"}, 400, "Session ID unknown", ""},
		{"our own, not there", "here" + tail, nil, 400, "Session ID unknown", ""},
		{"an address for a name", "127.0.0.1:80" + tail, nil, 400, "Session ID unknown", ""},
		{"a URL for a name", "http%3A%2F%2F192.0.2.1%2F" + tail, nil, 400, "Session ID unknown", ""},
		{"a path for a name", "..%2Fthere" + tail, nil, 400, "Session ID unknown", ""},
		{"name too long", strings.Repeat("a", 65) + tail, nil, 400, "Session ID unknown", ""},
		{"no secret", "there.", nil, 400, "Session ID unknown", ""},
		{"no dot", "there", nil, 400, "Session ID unknown", ""},
		{"host of the request", "nobody" + tail, []string{"X-Forwarded-Host", elsewhere.Listener.Addr().String()}, 400, "Session ID unknown", "nobody"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mu.Lock()
			asked = nil
			mu.Unlock()
			visits.Store(0)
			status, body, _ := request(t, "GET", base+"/socket.io/?EIO=4&transport=polling&sid="+tc.sid, "", tc.header...)
			if status != tc.status || !strings.Contains(body, tc.body) {
				t.Errorf("answer = %d %s, want %d %s", status, body, tc.status, tc.body)
			}
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(asked, " "); got != tc.asked {
				t.Errorf("Peer was asked for %q, want %q", got, tc.asked)
			}
			if want := int64(0); status == 200 {
				want = 1
				if visits.Load() != want {
					t.Errorf("%d visits, want %d", visits.Load(), want)
				}
			} else if visits.Load() != 0 {
				t.Errorf("%d visits, want none", visits.Load())
			}
		})
	}
}

// TestNoLoop: two processes that each take the other for the owner pass a request on once, and no more.
func TestNoLoop(t *testing.T) {
	var urls [2]string
	var forwarded atomic.Int64
	for i := range 2 {
		_, urls[i] = serve(t, Config{
			Name:    fmt.Sprintf("p%d", i),
			Peer:    func(string) (string, bool) { return urls[1-i], true },
			Metrics: Metrics{Forwarded: func(string) { forwarded.Add(1) }},
		}, echo)
	}
	status, _, _ := request(t, "GET", urls[0]+"/socket.io/?EIO=4&transport=polling&sid=third.AAAAAAAAAAAAAAAAAAAAAAAA", "")
	if status != 400 || forwarded.Load() != 1 {
		t.Errorf("status %d after %d times passed on, want 400 after 1", status, forwarded.Load())
	}
}
