package whole

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
)

// TestOlderClient runs the older system's client, as scripted from what it sends, on its own library and with its default transports,
// against the parts as processes of their own. Viewers of the oldest and the newest library see the same.
func TestOlderClient(t *testing.T) {
	t.Parallel()
	s := stage.NewSplit(t, binaries, 1, 1)
	tok := newTokens(t, s.Config, "default")
	p := stage.NewPeers(t)
	var viewers []*stage.Peer
	for _, alias := range []string{"sio1", "sio4"} {
		viewers = append(viewers, viewer(p, alias, s.Gateways[0].URL, tok.browser, "test", "cli-1"))
	}
	c := older(p, s.Ingest[0].URL, tok.client, "cli-1", "test")
	var answer struct{ HTTPURL string }
	if err := json.Unmarshal(c.Hear("authenticated"), &answer); err != nil {
		t.Fatal(err)
	}
	payloads := []any{stdout("hi\n"), object{"type": "STDERR", "data": "oops ü😀\n"}, "plain", 12, nil, []string{"a"}, object{"type": "STDOUT", "data": "x", "extra": true}}
	for _, d := range payloads {
		c.Emit("data", d)
	}
	c.Emit("eof", object{"code": 2, "signal": "SIGTERM"})
	if got := string(c.Hear("bye")); got != `{"code":2,"signal":"SIGTERM"}` {
		t.Errorf("bye %s", got)
	}
	c.Close()
	want := []string{
		`workerIn {"from":"cli-1"}`,
		`start {"from":"cli-1","task":{"cmd":"echo hi","name":"test"}}`,
		`data {"from":"cli-1","data":{"type":"STDOUT","data":"hi\n"}}`,
		`data {"from":"cli-1","data":{"type":"STDERR","data":"oops ü😀\n"}}`,
		`data {"from":"cli-1","data":"plain"}`,
		`data {"from":"cli-1","data":12}`,
		`data {"from":"cli-1","data":null}`,
		`data {"from":"cli-1","data":["a"]}`,
		`data {"from":"cli-1","data":{"type":"STDOUT","data":"x","extra":true}}`,
		`eof {"from":"cli-1","code":2,"signal":"SIGTERM"}`,
		`workerOut {"from":"cli-1"}`,
	}
	for _, v := range viewers {
		v.Hear("workerOut")
		diff(t, v.Alias+" viewer", normal(t, want), normal(t, seen(v)))
	}

	// Where the client was sent, there is the page.
	u, err := url.Parse(answer.HTTPURL)
	if err != nil || u.Path != "/tasks/test/" || u.Query().Get("id") != "cli-1" || !strings.HasPrefix(answer.HTTPURL, s.Gateways[0].URL) {
		t.Fatalf("httpUrl %q, %v", answer.HTTPURL, err)
	}
	resp, err := http.Get(answer.HTTPURL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("GET httpUrl = %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
}

// normal parses the arguments and writes them anew, so that the order of keys does not matter.
func normal(t testing.TB, lines []string) []string {
	t.Helper()
	out := make([]string, len(lines))
	for i, l := range lines {
		name, arg, _ := strings.Cut(l, " ")
		var v any
		if err := json.Unmarshal([]byte(arg), &v); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		b, _ := json.Marshal(v)
		out[i] = name + " " + string(b)
	}
	return out
}

// TestOlderClientIsLost: no eof before the end of the connection.
func TestOlderClientIsLost(t *testing.T) {
	t.Parallel()
	s := stage.NewSplit(t, binaries, 1, 1)
	tok := newTokens(t, s.Config, "default")
	p := stage.NewPeers(t)
	v := viewer(p, "sio1", s.Gateways[0].URL, tok.browser, "test", "cli-1")
	c := older(p, s.Ingest[0].URL, tok.client, "cli-1", "test")
	c.Emit("data", stdout("a"))
	v.Hear("data")
	begun := time.Now()
	c.Close()
	if got := string(v.Hear("eof")); normal(t, []string{"eof " + got})[0] != `eof {"code":999,"from":"cli-1","message":"Lost connection with cli-1 unexpected!"}` {
		t.Errorf("eof %s", got)
	}
	v.Hear("workerOut")
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("it took %v to notice", d)
	}
	// It comes back: to the system it is another.
	c = older(p, s.Ingest[0].URL, tok.client, "cli-1", "test")
	v.Hear("workerIn")
	v.Hear("start")
	c.Emit("eof", object{"code": 0})
	v.Hear("eof")
}
