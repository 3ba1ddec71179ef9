package whole

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"tasktracer/deploy/e2e/stage"
)

// TestBadInput: every wrong message gets its answer, the process lives, and the next client is served.
func TestBadInput(t *testing.T) {
	t.Parallel()
	config := stage.Config(t)
	all := stage.NewServer(t, binaries, "all", "--data", t.TempDir(), "--config", config)
	tok := newTokens(t, config, "default")
	p := stage.NewPeers(t)
	in, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	const plain = `{"alg":"HS256","typ":"JWT"}`
	enc := base64.RawURLEncoding.EncodeToString
	bad := map[string]any{
		"rubbish":           "rubbish",
		"missing":           nil,
		"a number":          12,
		"expired":           stage.OlderToken("client_token", "default", stage.ClientSecret, past),
		"by another":        stage.OlderToken("client_token", "default", "another secret", in),
		"by viewers' key":   stage.OlderToken("client_token", "default", stage.BrowserSecret, in),
		"of a viewer":       tok.browser,
		"base token":        stage.OlderToken("base_token", "default", stage.BaseSecret, in),
		"unknown type":      stage.OlderToken("root", "default", stage.ClientSecret, in),
		"alg none":          enc([]byte(`{"alg":"none"}`)) + "." + enc([]byte(`{"type":"client_token","ns":"default"}`)) + ".",
		"alg none, signed":  stage.SignHS256(`{"alg":"none"}`, `{"type":"client_token","ns":"default"}`, stage.ClientSecret),
		"alg RS256":         stage.SignHS256(`{"alg":"RS256"}`, `{"type":"client_token","ns":"default"}`, stage.ClientSecret),
		"payload no object": stage.SignHS256(plain, `[]`, stage.ClientSecret),
	}
	task := object{"name": "t"}
	for name, token := range bad {
		c := p.Connect("sio1", all.URL, object{"reconnection": false})
		c.Hear(":connect")
		c.Emit("authenticate", object{"type": "client", "token": token, "id": "x", "task": task})
		c.Hear(":disconnect")
		if l := seen(c); len(l) > 0 || heard(c, "authenticated") > 0 {
			t.Errorf("client with a token that is %s heard %q", name, l)
		}
		if name == "of a viewer" {
			token = tok.client
		}
		v := p.Connect("sio4", all.URL, object{"reconnection": false})
		v.Hear(":connect")
		v.Emit("authenticate", object{"type": "browser_token", "token": token, "watch": object{"task": "t", "from": []string{"x"}}})
		if got := string(v.Hear(":disconnect")); got != `"io server disconnect"` || heard(v, "authenticated") > 0 {
			t.Errorf("viewer with a token that is %s: %s, %d answers", name, got, heard(v, "authenticated"))
		}
	}
	for _, tc := range []struct {
		name string
		args []any
		want string // the answer, "" for none
	}{
		{"nothing", nil, ""},
		{"null", []any{nil}, ""},
		{"text", []any{"x"}, ""},
		{"array", []any{[]int{1}}, ""},
		{"viewer without watch", []any{object{"type": "browser_token", "token": tok.browser}}, `{"error":"browser data error"}`},
		{"viewer without from", []any{object{"token": tok.browser, "watch": object{"task": "t"}}}, `{"error":"browser data error"}`},
		{"viewer with an empty from", []any{object{"token": tok.browser, "watch": object{"task": "t", "from": []string{}}}}, `{"error":"browser data error"}`},
		{"viewer with a from of text", []any{object{"token": tok.browser, "watch": object{"task": "t", "from": "x"}}}, `{"error":"browser data error"}`},
		{"viewer without task", []any{object{"token": tok.browser, "watch": object{"from": []string{"x"}}}}, `{"error":"browser data error"}`},
		{"client without task", []any{object{"type": "client", "token": tok.client}},
			`{"error":"invalid task name[], task name can only have '.-_a-zA-Z' and start with chars!"}`},
		{"client with a bad name", []any{object{"type": "client", "token": tok.client, "task": object{"name": "-x"}}},
			`{"error":"invalid task name[-x], task name can only have '.-_a-zA-Z' and start with chars!"}`},
	} {
		c := p.Connect("sio4", all.URL, object{"reconnection": false})
		c.Hear(":connect")
		c.Emit("authenticate", tc.args...)
		if tc.want != "" {
			if got := string(c.Hear("authenticated")); got != tc.want {
				t.Errorf("%s: answered %s, want %s", tc.name, got, tc.want)
			}
		}
		if got := string(c.Hear(":disconnect")); got != `"io server disconnect"` {
			t.Errorf("%s: disconnected for %s", tc.name, got)
		}
	}
	// Events that nobody expects, of types that nobody expects, before and after authenticate.
	v := p.Connect("sio4", all.URL, nil)
	v.Hear(":connect")
	c := p.Connect("sio4", all.URL, nil)
	c.Hear(":connect")
	odd := func() {
		for _, peer := range []*stage.Peer{v, c} {
			for _, event := range []string{"attach", "detach", "nonsense", "", "authenticated", "bye"} {
				for _, args := range [][]any{nil, {nil}, {12}, {"x"}, {object{"from": 1}}, {object{"from": nil}}, {object{"from": []any{nil, 1, object{}}}}, {1, 2, 3}} {
					peer.Emit(event, args...)
				}
			}
		}
	}
	odd()
	v.Emit("authenticate", object{"token": tok.browser, "watch": object{"task": "odd", "from": []any{nil, "x"}}})
	v.Hear("authenticated")
	odd()
	c.Emit("authenticate", object{"type": "client", "token": tok.client, "id": "x", "task": object{"name": "odd"}})
	c.Hear("authenticated")
	odd()
	c.Emit("eof")
	c.Emit("eof", nil)
	c.Emit("data", stdout("still here"))
	if got := textOf(v.Hear("data")); got != "still here" {
		t.Errorf("after all that the viewer got %q", got)
	}
	malformed(t, all.URL)
	rubbishForTokens(t, all.URL)

	select {
	case <-all.Ended():
		t.Fatalf("the server ended\n%s", all.Tail(30))
	default:
	}
	next := older(p, all.URL, tok.client, "next", "t")
	next.Hear("authenticated")
	if strings.Contains(all.Stderr(), "panic") {
		t.Errorf("a handler panicked:\n%s", all.Stderr())
	}
}

func heard(p *stage.Peer, name string) (n int) {
	for _, e := range p.Events() {
		if e.Name == name {
			n++
		}
	}
	return n
}

// malformed sends what no library would.
func malformed(t testing.TB, url string) {
	t.Helper()
	for _, text := range []string{
		`42`, `42[`, `42{}`, `42[]`, `42[1]`, `42["authenticate"`, `42["authenticate",{]`, `42["authenticate",` + strings.Repeat("[", 100_000), `451-["x",{"_placeholder":true,"num":9}]`,
		`59999999999-["x"]`, `4`, `9`, `x`, `43[]`, `430[]`, `44`, `42/other,["x"]`, "\x00", `42["\ud800"]`, `4299999999999999999999["x"]`, "42[\"authenticate\",{\"type\":\"client\",\"token\":\"\xff\xfe\"}]",
	} {
		for _, eio := range []string{"3", "4"} {
			ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/socket.io/?transport=websocket&EIO="+eio, nil)
			if err != nil {
				t.Errorf("EIO %s, before %.40q: %v", eio, text, err)
				return
			}
			if eio == "4" {
				_ = ws.WriteMessage(websocket.TextMessage, []byte("40"))
			}
			_ = ws.WriteMessage(websocket.TextMessage, []byte(text)) // the server may have hung up: that is an answer
			_ = ws.WriteMessage(websocket.BinaryMessage, []byte(text))
			_ = ws.Close()
		}
	}
}

func rubbishForTokens(t testing.TB, url string) {
	t.Helper()
	expired := stage.OlderToken("base_token", "default", stage.BaseSecret, time.Now().Add(-time.Hour))
	good := stage.OlderToken("base_token", "default", stage.BaseSecret, time.Now().Add(time.Hour))
	for name, tc := range map[string]struct {
		kind, body string
		status     int
		want       string
	}{
		"nothing":       {"application/json", ``, 400, `no base token found`},
		"not JSON":      {"application/json", `{"baseToken":`, 400, ``},
		"a number":      {"application/json", `{"baseToken":12}`, 400, `no base token found`},
		"rubbish":       {"application/json", `{"baseToken":"rubbish"}`, 400, `Invalid base token`},
		"of a client":   {"application/json", `{"baseToken":"` + stage.OlderToken("client_token", "x", stage.ClientSecret, time.Now().Add(time.Hour)) + `"}`, 400, `Invalid base token`},
		"expired":       {"application/json", `{"baseToken":"` + expired + `"}`, 400, `TOKEN has already expired!`},
		"rubbish form":  {"application/x-www-form-urlencoded", `baseToken=%zz&&&=`, 400, ``},
		"megabytes":     {"application/json", `{"baseToken":"` + strings.Repeat("x", 3<<20) + `"}`, 0, ``},
		"good":          {"application/json", `{"baseToken":"` + good + `"}`, 200, `clientToken`},
		"good, by form": {"application/x-www-form-urlencoded", `baseToken=` + good, 200, `browserToken`},
	} {
		resp, err := http.Post(url+"/tokens/generate?type=x&days=7", tc.kind, strings.NewReader(tc.body))
		if err != nil {
			if tc.status != 0 {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if tc.status != 0 && resp.StatusCode != tc.status || tc.status == 0 && resp.StatusCode < 400 || !strings.Contains(string(body), tc.want) || !json.Valid(body) && tc.status != 0 {
			t.Errorf("%s: %d %.200s, want %d with %q", name, resp.StatusCode, body, tc.status, tc.want)
		}
	}
}
