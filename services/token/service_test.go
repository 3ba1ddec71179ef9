package token

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/natsd"
)

// rig is two replicas on one real NATS, and a gateway's view of them.
type rig struct {
	nats   *natsd.Server
	keys   *auth.Keyring
	remote *auth.Remote
	urls   []string // of the replicas
}

func newRig(t *testing.T) *rig {
	t.Helper()
	nats, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	r := &rig{nats: nats, keys: testKeys(t)}
	for range 2 {
		r.urls = append(r.urls, r.replica(t, nats))
	}
	b := openBus(t, nats)
	r.remote = auth.NewRemote(b)
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan error, 1)
	go func() { watched <- b.WatchRevoked(ctx, r.remote.Revoked, func() {}) }()
	t.Cleanup(func() {
		cancel()
		<-watched
	})
	return r
}

func (r *rig) replica(t *testing.T, nats *natsd.Server) string {
	t.Helper()
	s, err := New(Config{
		Keys: r.keys, Life: map[auth.Type]time.Duration{auth.Browser: 24 * time.Hour, auth.Client: 365 * 24 * time.Hour},
		ShareLife: time.Hour, MaxShareLife: 48 * time.Hour,
	}, Deps{Bus: openBus(t, nats), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	<-s.synced
	mux := http.NewServeMux()
	s.Mount(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func openBus(t *testing.T, nats *natsd.Server) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{InProcess: nats, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func testKeys(t *testing.T) *auth.Keyring {
	t.Helper()
	key := func(secret string) []auth.Key {
		k, err := auth.NewSecretKey("", "", []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return []auth.Key{k}
	}
	keys, err := auth.NewKeyring(map[auth.Type][]auth.Key{auth.Client: key("c"), auth.Browser: key("b"), auth.Base: key("base")})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (r *rig) sign(t *testing.T, c auth.Claims, life time.Duration) string {
	t.Helper()
	token, _, err := r.keys.Sign(c, life)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// post sends a body and returns status and answer.
func post(t *testing.T, url, contentType, body string, header ...string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("POST %s answered %d %q: no JSON", url, resp.StatusCode, text)
	}
	return resp.StatusCode, answer
}

// wait tries until ok, or until the test's deadline.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// ready waits until a replica answers on the bus.
func (r *rig) ready(t *testing.T) {
	t.Helper()
	wait(t, "a token service answers", func() bool {
		_, err := r.remote.Verify(t.Context(), "x", auth.Client)
		return auth.Code(err) != ""
	})
}

func TestVerifyAndIssueOverTheBus(t *testing.T) {
	r := newRig(t)
	r.ready(t)
	token, issued, err := r.remote.Issue(t.Context(), auth.Claims{Type: auth.Browser, Namespace: "n1", ID: "chosen by the asker"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if life := issued.Expires.Sub(issued.IssuedAt); life != 24*time.Hour {
		t.Errorf("default life is %v, want 24h", life)
	}
	c, err := r.remote.Verify(t.Context(), token, auth.Browser)
	if err != nil || c.Namespace != "n1" || c.ID == "chosen by the asker" {
		t.Errorf("Verify = %+v, %v, want namespace n1 and an id of the service's own", c, err)
	}
	if _, _, err := r.remote.Issue(t.Context(), auth.Claims{Type: auth.Base, Namespace: "n1"}, time.Hour); err == nil {
		t.Error("a base token was issued over the bus")
	}
	if _, _, err := r.remote.Issue(t.Context(), auth.Claims{Type: "strange"}, time.Hour); err == nil {
		t.Error("a token of a strange type was issued")
	}
}

func TestGenerate(t *testing.T) {
	r := newRig(t)
	base := r.sign(t, auth.Claims{Type: auth.Base, Namespace: "team a"}, time.Hour)
	quote := func(s string) string { return `{"baseToken":"` + s + `"}` }
	tests := []struct {
		name, query, contentType, body string
		types                          []string // answered
		days                           int
	}{
		{"json", "?type=clientToken&days=7", "application/json", quote(base), []string{"clientToken"}, 7},
		{"form", "?type=browserToken&days=30", "application/x-www-form-urlencoded", "baseToken=" + url.QueryEscape(base), []string{"browserToken"}, 30},
		{"base", "?type=baseToken&days=360", "application/json", quote(base), []string{"baseToken"}, 360},
		{"no type", "", "application/json", quote(base), []string{"browserToken", "clientToken"}, 180},
		{"unknown type, days not in the list", "?type=x&days=8", "application/json; charset=utf-8", quote(base), []string{"browserToken", "clientToken"}, 180},
	}
	wire := map[string]auth.Type{"clientToken": auth.Client, "browserToken": auth.Browser, "baseToken": auth.Base}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := post(t, r.urls[0]+"/tokens/generate"+tt.query, tt.contentType, tt.body)
			if status != http.StatusOK || len(answer) != len(tt.types) {
				t.Fatalf("answered %d %v, want 200 with %v", status, answer, tt.types)
			}
			for _, name := range tt.types {
				token, _ := answer[name].(string)
				c, err := r.keys.Verify(token, wire[name])
				if err != nil || c.Namespace != "team a" || c.Expires.Sub(c.IssuedAt) != time.Duration(tt.days)*24*time.Hour {
					t.Errorf("%s = %+v, %v, want namespace team a for %d days", name, c, err, tt.days)
				}
			}
		})
	}
}

func TestGenerateRefuses(t *testing.T) {
	r := newRig(t)
	client := r.sign(t, auth.Claims{Type: auth.Client}, time.Hour)
	expired := expiredBase(t)
	tests := []struct{ name, contentType, body, want string }{
		{"nothing", "application/json", "", "no base token found"},
		{"empty object", "application/json", "{}", "no base token found"},
		{"a number", "application/json", `{"baseToken":7}`, "no base token found"},
		{"null", "application/json", `{"baseToken":null}`, "no base token found"},
		{"empty form", "application/x-www-form-urlencoded", "", "no base token found"},
		{"given twice", "application/x-www-form-urlencoded", "baseToken=a&baseToken=b", "no base token found"},
		{"rubbish", "application/json", `{"baseToken":"rubbish"}`, "Invalid base token"},
		{"another type", "application/json", `{"baseToken":"` + client + `"}`, "Invalid base token"},
		{"expired", "application/json", `{"baseToken":"` + expired + `"}`, "TOKEN has already expired!"},
		{"no JSON", "application/json", `{"baseToken":`, "the body is not a JSON object"},
		{"an array", "application/json", `[1]`, "the body is not a JSON object"},
		{"a broken form", "application/x-www-form-urlencoded", "baseToken=%zz", "the body is not a form"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := post(t, r.urls[0]+"/tokens/generate", tt.contentType, tt.body)
			if diff := cmp.Diff(map[string]any{"error": tt.want}, answer); status != http.StatusBadRequest || diff != "" {
				t.Errorf("answered %d, want 400 (-want +got):\n%s", status, diff)
			}
		})
	}
	status, _ := post(t, r.urls[0]+"/tokens/generate", "application/json", `{"baseToken":"`+strings.Repeat("x", maxBody)+`"}`)
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("a huge body was answered with %d, want 413", status)
	}
}

// expiredBase is a token whose life was over in 1970.
func expiredBase(t *testing.T) string {
	t.Helper()
	// {"type":"base_token","ns":"a","iat":1,"exp":2}, HS256 with the secret "base".
	const token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoiYmFzZV90b2tlbiIsIm5zIjoiYSIsImlhdCI6MSwiZXhwIjoyfQ."
	return token + hmacOf(token[:len(token)-1], "base")
}

func TestShare(t *testing.T) {
	r := newRig(t)
	browser := r.sign(t, auth.Claims{Type: auth.Browser, Namespace: "n"}, 3*time.Hour)
	scoped := r.sign(t, auth.Claims{Type: auth.Browser, Namespace: "n", Tasks: []string{"b"}, ID: "s1"}, 3*time.Hour)
	share := func(token, body string) (int, map[string]any) {
		return post(t, r.urls[1]+"/tokens/share", "application/json", body, "Authorization", "Bearer "+token)
	}
	tests := []struct {
		name, token, body string
		status            int
		life              time.Duration
	}{
		{"default life", browser, `{"task":"a/b c"}`, 200, time.Hour},
		{"chosen life", browser, `{"task":"b","life":"30 minutes"}`, 200, 30 * time.Minute},
		{"never longer than its parent", browser, `{"task":"b","life":"1 year"}`, 200, 3 * time.Hour},
		{"within scope", scoped, `{"task":"b"}`, 200, time.Hour},
		{"out of scope", scoped, `{"task":"a"}`, 403, 0},
		{"no task", browser, `{}`, 400, 0},
		{"endless task", browser, `{"task":"` + strings.Repeat("x", 1025) + `"}`, 400, 0},
		{"strange life", browser, `{"task":"b","life":"for ever"}`, 400, 0},
		{"no token", "", `{"task":"b"}`, 401, 0},
		{"client token", r.sign(t, auth.Claims{Type: auth.Client}, time.Hour), `{"task":"b"}`, 401, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := share(tt.token, tt.body)
			if status != tt.status {
				t.Fatalf("answered %d %v, want %d", status, answer, tt.status)
			}
			if status != http.StatusOK {
				return
			}
			token, _ := answer["token"].(string)
			c, err := r.keys.Verify(token, auth.Browser)
			if err != nil {
				t.Fatal(err)
			}
			if !c.ReadOnly || len(c.Tasks) != 1 || c.Namespace != "n" || c.ID != answer["id"] {
				t.Errorf("share token is %+v, want one task of n, read-only, with the id %v", c, answer["id"])
			}
			if life := c.Expires.Sub(c.IssuedAt); life > tt.life || life < tt.life-5*time.Second {
				t.Errorf("life is %v, want %v", life, tt.life)
			}
			if again, _ := share(token, tt.body); again != http.StatusForbidden {
				t.Errorf("a share token made a further one: %d", again)
			}
		})
	}
}

func TestRevokeReachesEveryReplicaAndGateway(t *testing.T) {
	r := newRig(t)
	r.ready(t)
	base := r.sign(t, auth.Claims{Type: auth.Base, Namespace: "n"}, time.Hour)
	browser := r.sign(t, auth.Claims{Type: auth.Browser, Namespace: "n"}, time.Hour)
	if _, err := r.remote.Verify(t.Context(), browser, auth.Browser); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 4)
	defer r.remote.OnRevoked(func(jti string) { heard <- jti })()
	status, answer := post(t, r.urls[0]+"/tokens/revoke", "application/json", `{"baseToken":"`+base+`","token":"`+browser+`"}`)
	if status != http.StatusOK {
		t.Fatalf("revoke answered %d %v", status, answer)
	}
	if jti := <-heard; jti != answer["revoked"] {
		t.Errorf("heard of %s, want %s", jti, answer["revoked"])
	}
	if _, err := r.remote.Verify(t.Context(), browser, auth.Browser); auth.Code(err) != "token_revoked" {
		t.Errorf("the gateway still says %v", err)
	}
	wait(t, "both replicas refuse the token", func() bool {
		for _, u := range r.urls {
			if status, _ := post(t, u+"/tokens/share", "application/json", `{"task":"a","accessToken":"`+browser+`"}`); status != http.StatusUnauthorized {
				return false
			}
		}
		return true
	})
}

func TestRevokeByID(t *testing.T) {
	r := newRig(t)
	r.ready(t)
	base := r.sign(t, auth.Claims{Type: auth.Base, Namespace: "n"}, time.Hour)
	foreign := r.sign(t, auth.Claims{Type: auth.Base, Namespace: "m"}, time.Hour)
	token, c, err := r.remote.Issue(t.Context(), auth.Claims{Type: auth.Browser, Namespace: "n", Tasks: []string{"a"}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"of another namespace, by id":    `{"baseToken":"` + foreign + `","id":"` + c.ID + `"}`,
		"of another namespace, by token": `{"baseToken":"` + foreign + `","token":"` + token + `"}`,
		"nothing named":                  `{"baseToken":"` + base + `"}`,
		"rubbish":                        `{"baseToken":"` + base + `","token":"rubbish"}`,
	} {
		if status, answer := post(t, r.urls[0]+"/tokens/revoke", "application/json", body); status != http.StatusBadRequest {
			t.Errorf("%s: answered %d %v, want 400", name, status, answer)
		}
	}
	if _, err := r.remote.Verify(t.Context(), token, auth.Browser); err != nil {
		t.Fatalf("after refused revocations: %v", err)
	}
	if status, answer := post(t, r.urls[0]+"/tokens/revoke", "application/json", `{"baseToken":"`+base+`","id":"`+c.ID+`"}`); status != http.StatusOK {
		t.Fatalf("answered %d %v, want 200", status, answer)
	}
	wait(t, "the token is refused", func() bool {
		_, err := r.remote.Verify(t.Context(), token, auth.Browser)
		return auth.Code(err) == "token_revoked"
	})
}

// A run that was accepted may go on when its token has expired; not when that was revoked, also by a service that was not there then.
func TestRevocationOutlivesItsToken(t *testing.T) {
	r := newRig(t)
	r.ready(t)
	base := r.sign(t, auth.Claims{Type: auth.Base, Namespace: "n"}, time.Hour)
	revoke := func(token string) {
		t.Helper()
		if status, answer := post(t, r.urls[0]+"/tokens/revoke", "application/json", `{"baseToken":"`+base+`","token":"`+token+`"}`); status != http.StatusOK {
			t.Fatalf("revoke answered %d %v", status, answer)
		}
	}
	before := r.sign(t, auth.Claims{Type: auth.Client, Namespace: "n"}, time.Second)
	behind := r.sign(t, auth.Claims{Type: auth.Client, Namespace: "n", Tasks: []string{"a"}}, time.Second)
	revoke(before)
	wait(t, "the tokens have expired", func() bool {
		_, err := r.keys.Verify(behind, auth.Client)
		return errors.Is(err, auth.ErrExpired)
	})
	revoke(behind)
	again, err := New(Config{Keys: r.keys, ShareLife: time.Hour, MaxShareLife: time.Hour}, Deps{Bus: openBus(t, r.nats), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go again.Run(ctx) //nolint:errcheck // ends with the test
	wait(t, "the new service is ready", func() bool { return again.Ready(ctx) == nil })
	for what, token := range map[string]string{"before": before, "behind": behind} {
		if c, err := again.verify(token, auth.Client); !errors.Is(err, auth.ErrRevoked) {
			t.Errorf("a token that was revoked %s its end: %+v, %v, want %v", what, c, err, auth.ErrRevoked)
		}
	}
}

func TestJWKSRoute(t *testing.T) {
	resp, err := http.Get(newRig(t).urls[0] + "/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Contains(text, []byte(`{"keys":[]}`)) {
		t.Errorf("JWKS of secrets is %q, %v, want an empty set", text, err)
	}
}
