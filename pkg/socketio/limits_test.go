package socketio

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// raw is a peer that does what it likes.
type raw struct {
	t  *testing.T
	ws *websocket.Conn
}

func openRaw(t *testing.T, base string, eio int) *raw {
	t.Helper()
	u := "ws" + strings.TrimPrefix(base, "http") + fmt.Sprintf("/socket.io/?transport=websocket&EIO=%d", eio)
	ws, _, err := websocket.DefaultDialer.Dial(u, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	r := &raw{t, ws}
	r.expect("0{")
	if eio == 4 {
		r.send("40")
	}
	r.expect("40")
	return r
}

func (r *raw) send(text string) {
	r.t.Helper()
	if err := r.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		r.t.Fatalf("send %.40q: %v", text, err)
	}
}

func (r *raw) expect(prefix string) string {
	r.t.Helper()
	_ = r.ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		_, p, err := r.ws.ReadMessage()
		switch {
		case err == nil && strings.HasPrefix(string(p), prefix):
			return string(p)
		case err == nil && (string(p) == "2" || string(p) == "6"): // a heartbeat
		default:
			r.t.Fatalf("read %.60q, %v, want %q", p, err, prefix)
		}
	}
}

// ended waits for the end of the connection and gives the close code, 0 where there was none.
func (r *raw) ended() int {
	r.t.Helper()
	_ = r.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		_, _, err := r.ws.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case err == nil:
			continue
		case errors.As(err, &closed):
			return closed.Code
		case isTimeout(err):
			r.t.Fatal("connection did not end within 10 s")
		}
		return 0
	}
}

// request makes one HTTP request and gives status and body.
func request(t *testing.T, method, url, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

// pollingSession makes a handshake and gives the URL of the session.
func pollingSession(t *testing.T, base string, eio int) string {
	t.Helper()
	u := fmt.Sprintf("%s/socket.io/?transport=polling&EIO=%d", base, eio)
	status, body, _ := request(t, "GET", u, "")
	_, rest, ok := strings.Cut(body, `"sid":"`)
	if status != 200 || !ok {
		t.Fatalf("handshake: %d %s", status, body)
	}
	sid, _, _ := strings.Cut(rest, `"`)
	u += "&sid=" + url.QueryEscape(sid)
	if eio == 4 {
		if status, body, _ := request(t, "POST", u, "40"); status != 200 {
			t.Fatalf("CONNECT: %d %s", status, body)
		}
		request(t, "GET", u, "")
	}
	return u
}

// TestBrokenPeers: each of these ends its own connection, with a reason; the server goes on and serves the next.
func TestBrokenPeers(t *testing.T) {
	const limit = 64 << 10
	for _, tc := range []struct {
		name   string
		eio    int
		send   func(r *raw)
		reason string
		code   int
	}{
		{"too large", 4, func(r *raw) { r.send(`42["a","` + strings.Repeat("x", limit) + `"]`) }, ReasonTooLarge, 1009},
		{"too large by attachments", 4, func(r *raw) {
			r.send(`452-["a"]`)
			for range 2 {
				_ = r.ws.WriteMessage(websocket.BinaryMessage, make([]byte, limit*2/3)) // the second may come too late
			}
		}, ReasonTooLarge, 1009},
		{"too many attachments", 4, func(r *raw) { r.send(`459999999999-["a",{"_placeholder":true,"num":0}]`) }, ReasonMalformed, 1002},
		{"attachment of nothing", 4, func(r *raw) { _ = r.ws.WriteMessage(websocket.BinaryMessage, []byte("x")) }, ReasonMalformed, 1002},
		{"attachment of nothing, EIO3", 3, func(r *raw) { _ = r.ws.WriteMessage(websocket.BinaryMessage, []byte("\x04x")) }, ReasonMalformed, 1002},
		{"empty binary, EIO3", 3, func(r *raw) { _ = r.ws.WriteMessage(websocket.BinaryMessage, nil) }, ReasonMalformed, 1002},
		{"text among attachments", 4, func(r *raw) { r.send(`451-["a"]`); r.send(`42["b"]`) }, ReasonMalformed, 1002},
		{"not JSON", 4, func(r *raw) { r.send(`42["a",`) }, ReasonMalformed, 1002},
		{"no name", 4, func(r *raw) { r.send(`42[]`) }, ReasonMalformed, 1002},
		{"name is a number", 4, func(r *raw) { r.send(`42[1]`) }, ReasonMalformed, 1002},
		{"unknown packet", 4, func(r *raw) { r.send(`9`) }, ReasonMalformed, 1002},
		{"empty packet", 4, func(r *raw) { r.send(``) }, ReasonMalformed, 1002},
		{"unknown kind", 4, func(r *raw) { r.send(`49`) }, ReasonMalformed, 1002},
		{"ack without a number", 4, func(r *raw) { r.send(`43["a"]`) }, ReasonMalformed, 1002},
		{"panic", 4, func(r *raw) { r.send(`42["panic"]`) }, ReasonPanic, 1011},
		{"says goodbye", 4, func(r *raw) { r.send(`41`) }, ReasonClientDisconnect, 1000},
		{"closes the transport", 3, func(r *raw) { r.send(`1`) }, ReasonTransportClose, 1000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reasons := make(chan string, 1)
			_, url := serve(t, Config{MaxMessage: limit}, func(c *Conn) {
				c.OnClose(func(reason string) { reasons <- reason })
				c.OnEvent(func(e *Event) {
					if e.Name == "panic" {
						panic("on purpose")
					}
				})
			})
			r := openRaw(t, url, tc.eio)
			tc.send(r)
			if got := r.ended(); got != tc.code {
				t.Errorf("close code = %d, want %d", got, tc.code)
			}
			if got := <-reasons; got != tc.reason {
				t.Errorf("reason = %q, want %q", got, tc.reason)
			}
			openRaw(t, url, tc.eio)
		})
	}
}

// TestHarmless: what old or odd clients send without meaning harm is answered or passed over, and the connection stays.
func TestHarmless(t *testing.T) {
	for _, tc := range []struct {
		name   string
		eio    int
		send   string
		answer string // "" for none
	}{
		{"ping of Engine.IO 3", 3, "2", "3"},
		{"second CONNECT", 4, "40", ""},
		{"other namespace", 4, `40/admin,{"token":1}`, `44/admin,{"message":"Invalid namespace"}`},
		{"other namespace, old", 3, `40/admin?a=b,`, `44/admin,"Invalid namespace"`},
		{"event to another namespace", 4, `42/admin,["a"]`, ""},
		{"unasked acknowledgement", 4, `4377["a"]`, ""},
		{"placeholder out of range", 4, `42["a",{"_placeholder":true,"num":-9}]`, ""},
		{"noop", 3, "6", ""},
		{"attachment as base64", 4, `451-1["a",{"_placeholder":true,"num":0}]` + "\n" + `bAQID`, `431["heard"]`},
		{"attachment as base64, EIO3", 3, `451-1["a",{"_placeholder":true,"num":0}]` + "\n" + `b4AQID`, `431["heard"]`},
		{"acknowledgement number beyond any", 4, `42999999999999["a"]`, `43999999999999["heard"]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, url := serve(t, Config{}, func(c *Conn) {
				c.OnEvent(func(e *Event) {
					if len(e.Bins) > 0 && string(e.Bins[0]) != "\x01\x02\x03" {
						t.Errorf("attachment %q", e.Bins)
					}
					if e.WantsAck() {
						_ = e.Ack("heard")
					}
				})
			})
			r := openRaw(t, url, tc.eio)
			for text := range strings.SplitSeq(tc.send, "\n") {
				r.send(text)
			}
			if tc.answer != "" {
				if got := r.expect(tc.answer[:1]); got != tc.answer {
					t.Errorf("answer = %q, want %q", got, tc.answer)
				}
			}
			r.send(`421["still there"]`)
			r.expect(`431["heard"]`)
		})
	}
}

func TestPollingLimits(t *testing.T) {
	cfg := Config{MaxMessage: 1000, MaxBody: 5000, MaxPackets: 10}
	for _, tc := range []struct {
		name   string
		eio    int
		body   string
		status int
		reason string
	}{
		{"message", 4, `42["a","` + strings.Repeat("x", 1000) + `"]`, 413, ReasonTooLarge},
		{"body", 4, strings.Repeat("x", 5001), 413, ReasonTooLarge},
		{"packets", 4, strings.Repeat("6\x1e", 10) + "6", 413, ReasonTooLarge},
		{"packets, EIO3", 3, strings.Repeat("1:6", 11), 413, ReasonTooLarge},
		{"length", 3, "7:42", 400, ReasonMalformed},
		{"length beyond numbers", 3, "99999999999999999999:42", 400, ReasonMalformed},
		{"base64", 4, "b****", 400, ReasonMalformed},
		{"empty", 4, "", 400, ReasonMalformed},
		{"goodbye", 4, "1", 200, ReasonTransportClose},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reasons := make(chan string, 1)
			_, base := serve(t, cfg, func(c *Conn) { c.OnClose(func(reason string) { reasons <- reason }) })
			u := pollingSession(t, base, tc.eio)
			status, _, _ := request(t, "POST", u, tc.body)
			if status != tc.status {
				t.Errorf("status = %d, want %d", status, tc.status)
			}
			if got := <-reasons; got != tc.reason {
				t.Errorf("reason = %q, want %q", got, tc.reason)
			}
		})
	}
}

// TestLargeOldAnswers: large answers to browsers of Engine.IO 3 have the binary form, all others that of text.
func TestLargeOldAnswers(t *testing.T) {
	for _, tc := range []struct {
		name        string
		eio, size   int
		b64         string
		contentType string
	}{
		{"small", 3, 1000, "", "text/plain; charset=UTF-8"},
		{"large", 3, 200_000, "", "application/octet-stream"},
		{"large, text wanted", 3, 200_000, "&b64=1", "text/plain; charset=UTF-8"},
		{"large, Engine.IO 4", 4, 200_000, "", "text/plain; charset=UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conns := make(chan *Conn, 1)
			_, base := serve(t, Config{}, func(c *Conn) { conns <- c })
			u := pollingSession(t, base, tc.eio)
			c := <-conns
			ms := []*Message{NewRawMessage("data", []byte(`"ü`+strings.Repeat("x", tc.size)+`"`)), NewRawMessage("data", []byte(`"next"`))}
			if _, err := c.SendAll(t.Context(), ms[:1]); err != nil {
				t.Fatal(err)
			}
			if tc.size < 100_000 { // else it is alone in the buffer
				if err := c.Send(t.Context(), ms[1]); err != nil {
					t.Fatal(err)
				}
			} else {
				ms = ms[:1]
			}
			status, body, header := request(t, "GET", u+tc.b64, "")
			if got := header.Get("Content-Type"); status != 200 || got != tc.contentType {
				t.Fatalf("answer = %d, %s, want %s", status, got, tc.contentType)
			}
			var got []collected
			var err error
			switch {
			case tc.contentType == "application/octet-stream":
				err = decodeBinaryPayload3([]byte(body), 10, collect(&got))
			case tc.eio == 3:
				_, err = decodePayload3([]byte(body), true, 10, collect(&got))
			default:
				err = decodePayload4([]byte(body), 10, collect(&got))
			}
			if err != nil || len(got) != len(ms) {
				t.Fatalf("%d packets, %v, want %d", len(got), err, len(ms))
			}
			for i, p := range got {
				want := string(ms[i].payload())
				if tc.eio == 3 {
					want = string(escapeASCII(ms[i].payload()))
				}
				if !p.Text || p.Data != want {
					t.Errorf("packet %d: %.40q, %d bytes, want %.40q, %d bytes", i, p.Data, len(p.Data), want, len(want))
				}
			}
		})
	}
}

// TestRefusals: what is refused at the door, and how that is counted.
func TestRefusals(t *testing.T) {
	const polling = "/socket.io/?EIO=4&transport=polling"
	for _, tc := range []struct {
		name   string
		cfg    Config
		before int // handshakes made first
		method string
		path   string
		header []string
		status int
		reason string
	}{
		{"rate", Config{HandshakeRate: 0.001, HandshakeBurst: 3}, 3, "GET", polling, nil, 429, "rate"},
		{"rate, another address", Config{HandshakeRate: 0.001, HandshakeBurst: 3, TrustedProxies: 1}, 3, "GET", polling, []string{"X-Forwarded-For", "192.0.2.7"}, 200, ""},
		{"rate, forged address", Config{HandshakeRate: 0.001, HandshakeBurst: 3}, 3, "GET", polling, []string{"X-Forwarded-For", "192.0.2.7"}, 429, "rate"},
		{"conns", Config{MaxConns: 2}, 2, "GET", polling, nil, 503, "conns"},
		{"origin", Config{Origins: []string{"https://good.example"}}, 0, "GET", polling, []string{"Origin", "https://evil.example"}, 403, "origin"},
		{"good origin", Config{Origins: []string{"https://good.example"}}, 0, "GET", polling, []string{"Origin", "https://good.example"}, 200, ""},
		{"no origin", Config{Origins: []string{"https://good.example"}}, 0, "GET", polling, nil, 200, ""},
		{"version", Config{}, 0, "GET", "/socket.io/?EIO=2&transport=polling", nil, 400, "protocol"},
		{"transport", Config{}, 0, "GET", "/socket.io/?EIO=4&transport=flashsocket", nil, 400, "protocol"},
		{"websocket without upgrade", Config{}, 0, "GET", "/socket.io/?EIO=4&transport=websocket", nil, 400, "protocol"},
		{"jsonp", Config{}, 0, "GET", "/socket.io/?EIO=3&transport=polling&j=0", nil, 400, "jsonp"},
		{"method", Config{}, 0, "POST", polling, nil, 400, "method"},
		{"session", Config{}, 0, "GET", polling + "&sid=s.AAAAAAAAAAAAAAAAAAAAAAAA", nil, 400, "session"},
		{"session of no process", Config{}, 0, "GET", polling + "&sid=other.AAAAAAAAAAAAAAAAAAAAAAAA", nil, 400, "session"},
		{"session of no form", Config{}, 0, "GET", polling + "&sid=http://192.0.2.1/", nil, 400, "session"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var reason atomic.Value
			reason.Store("")
			tc.cfg.Metrics.Refused = func(r string) { reason.Store(r) }
			_, base := serve(t, tc.cfg, echo)
			for range tc.before {
				if status, body, _ := request(t, "GET", base+polling, ""); status != 200 {
					t.Fatalf("before: %d %s", status, body)
				}
			}
			status, body, _ := request(t, tc.method, base+tc.path, "", tc.header...)
			if status != tc.status || reason.Load() != tc.reason {
				t.Errorf("answer = %d %s (counted as %q), want %d (%q)", status, body, reason.Load(), tc.status, tc.reason)
			}
		})
	}
}

// TestOneAddress: what counts as one address for the limit of handshakes.
func TestOneAddress(t *testing.T) {
	for _, tc := range []struct {
		name, one, other string
		same             bool
	}{
		{"same", "192.0.2.1", "192.0.2.1", true},
		{"neighbours", "192.0.2.1", "192.0.2.2", false},
		{"IPv4 in IPv6", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"one network", "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true},
		{"two networks", "2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"zone", "fe80::1%eth0", "fe80::1%eth1", true},
		{"no addresses", "unix", "@", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLimiter(0.001, 1)
			now := time.Now()
			if !l.allow(tc.one, now) {
				t.Fatal("the first handshake was refused")
			}
			if got := !l.allow(tc.other, now); got != tc.same {
				t.Errorf("%s and %s count as one: %v, want %v", tc.one, tc.other, got, tc.same)
			}
		})
	}
}

func TestCORS(t *testing.T) {
	_, base := serve(t, Config{}, echo)
	const origin = "https://page.example"
	for _, method := range []string{"GET", "OPTIONS"} {
		_, _, h := request(t, method, base+"/socket.io/?EIO=3&transport=polling", "", "Origin", origin, "Access-Control-Request-Headers", "x-a")
		if h.Get("Access-Control-Allow-Origin") != origin || h.Get("Access-Control-Allow-Credentials") != "true" {
			t.Errorf("%s: headers %v", method, h)
		}
		if method == "OPTIONS" && h.Get("Access-Control-Allow-Headers") != "x-a" {
			t.Errorf("preflight: headers %v", h)
		}
	}
}

func TestConnectTimeout(t *testing.T) {
	closed := make(chan string, 1)
	_, base := serve(t, Config{ConnectTimeout: 50 * time.Millisecond, Metrics: Metrics{Closed: func(_ int, _, r string) { closed <- r }}}, echo)
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(base, "http")+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if got := <-closed; got != ReasonConnectTimeout {
		t.Errorf("reason = %q, want %q", got, ReasonConnectTimeout)
	}
}

func TestSessionIDsSayNothing(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		sid := newSID("node-1")
		if name, ok := ownerOf(sid); !ok || name != "node-1" || len(sid) != len("node-1.")+24 || seen[sid] {
			t.Fatalf("sid %q", sid)
		}
		seen[sid] = true
	}
}

// A poll that was answered, and is asked again word for word, as a proxy does that repeats requests, would go on behind what the first answer carried. It ends the
// session instead.
func TestRepeatedPoll(t *testing.T) {
	for _, eio := range []int{3, 4} {
		t.Run(fmt.Sprint("EIO", eio), func(t *testing.T) {
			conns, closed := make(chan *Conn, 1), make(chan string, 1)
			_, base := serve(t, Config{Metrics: Metrics{Closed: func(_ int, _, r string) { closed <- r }}}, func(c *Conn) { conns <- c })
			session := pollingSession(t, base, eio)
			if eio == 4 {
				request(t, "POST", session, "40")
			}
			c := <-conns
			poll := func(stamp, want string) {
				t.Helper()
				if err := c.Emit(t.Context(), "say", want); err != nil {
					t.Fatal(err)
				}
				for {
					status, body, _ := request(t, "GET", session+"&t="+stamp, "")
					if status != http.StatusOK {
						t.Fatalf("poll %s: %d %s", stamp, status, body)
					}
					if strings.Contains(body, want) {
						return
					}
					stamp += "+" // the first one may hear of the connection only
				}
			}
			poll("a", "one")
			poll("b", "two")
			poll("", "three") // some have no stamp
			poll("", "four")
			poll("c", "five")
			if err := c.Emit(t.Context(), "say", "six"); err != nil {
				t.Fatal(err)
			}
			if status, body, _ := request(t, "GET", session+"&t=c", ""); status != http.StatusBadRequest || strings.Contains(body, "six") {
				t.Errorf("the poll that was asked again: %d %s", status, body)
			}
			if reason := <-closed; reason != ReasonTransportError {
				t.Errorf("closed: %s", reason)
			}
		})
	}
}
