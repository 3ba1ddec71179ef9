package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	tasktracerv1 "tasktracer/proto/tasktracer/v1"
)

func secretKey(t testing.TB, id, secret string) Key {
	t.Helper()
	k, err := NewSecretKey(id, "HS256", []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func edKey(t testing.TB, id string) Key {
	t.Helper()
	text, err := NewEdDSAPEM()
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewEdDSAKey(id, text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ring(t testing.TB, client ...Key) *Keyring {
	t.Helper()
	if len(client) == 0 {
		client = []Key{secretKey(t, "", "client-secret")}
	}
	k, err := NewKeyring(map[Type][]Key{Client: client, Browser: {secretKey(t, "", "browser-secret")}, Base: {secretKey(t, "", "base-secret")}})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// handmade builds a token by hand, as any other program would, so that the tests do not check the library against itself.
func handmade(header, payload, secret string) string {
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + enc.EncodeToString(mac.Sum(nil))
}

func TestPlainTokenHasTheOlderForm(t *testing.T) {
	token, issued, err := ring(t).Sign(Claims{Type: Client, Namespace: "default"}, 7*day)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	var got map[string]any
	if err := json.Unmarshal(header, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"typ": "JWT", "alg": "HS256"}, got); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	body, _ := base64.RawURLEncoding.DecodeString(parts[1])
	got = nil
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	iat := float64(issued.IssuedAt.Unix())
	if diff := cmp.Diff(map[string]any{"type": "client_token", "ns": "default", "iat": iat, "exp": iat + 7*86400}, got); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	if token != handmade(string(header), string(body), "client-secret") {
		t.Error("signature is not HMAC-SHA256 of header and payload")
	}
}

func TestVerify(t *testing.T) {
	const hs = `{"typ":"JWT","alg":"HS256"}`
	now := time.Now().Unix()
	num := func(n int64) string { b, _ := json.Marshal(n); return string(b) }
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"type":"client_token"}`)) + "."
	tests := []struct {
		name, token string
		want        error
		ns          string
	}{
		{"good", handmade(hs, `{"type":"client_token","ns":"a","iat":1,"exp":`+num(now+60)+`}`, "client-secret"), nil, "a"},
		{"no ns counts as empty", handmade(hs, `{"type":"client_token","exp":`+num(now+60)+`}`, "client-secret"), nil, ""},
		{"no exp", handmade(hs, `{"type":"client_token","ns":"a"}`, "client-secret"), nil, "a"},
		{"issued in our future", handmade(hs, `{"type":"client_token","ns":"a","iat":`+num(now+600)+`}`, "client-secret"), nil, "a"},
		{"fraction of a second", handmade(hs, `{"type":"client_token","ns":"a","exp":`+num(now+60)+`.5}`, "client-secret"), nil, "a"},
		{"empty", "", ErrMissing, ""},
		{"rubbish", "rubbish", ErrInvalid, ""},
		{"dots", "..", ErrInvalid, ""},
		{"too long", strings.Repeat("a", MaxToken+1), ErrInvalid, ""},
		{"expired: the claims are told", handmade(hs, `{"type":"client_token","ns":"a","exp":`+num(now-1)+`}`, "client-secret"), ErrExpired, "a"},
		{"expired, not ours", handmade(hs, `{"type":"client_token","ns":"a","exp":`+num(now-1)+`}`, "browser-secret"), ErrInvalid, ""},
		{"expired and of another secret", handmade(hs, `{"type":"client_token","exp":`+num(now-1)+`}`, "x"), ErrInvalid, ""},
		{"not yet good", handmade(hs, `{"type":"client_token","nbf":`+num(now+60)+`}`, "client-secret"), ErrInvalid, ""},
		{"another secret", handmade(hs, `{"type":"client_token"}`, "browser-secret"), ErrInvalid, ""},
		{"another type under the right secret", handmade(hs, `{"type":"browser_token"}`, "client-secret"), ErrInvalid, ""},
		{"no type", handmade(hs, `{"ns":"a"}`, "client-secret"), ErrInvalid, ""},
		{"ns is a number", handmade(hs, `{"type":"client_token","ns":3}`, "client-secret"), ErrInvalid, ""},
		{"payload is no object", handmade(hs, `[]`, "client-secret"), ErrInvalid, ""},
		{"alg none", none, ErrInvalid, ""},
		{"alg None with a signature", handmade(`{"alg":"None"}`, `{"type":"client_token"}`, "client-secret"), ErrInvalid, ""},
		{"alg is not the key's", handmade(`{"alg":"HS384"}`, `{"type":"client_token"}`, "client-secret"), ErrInvalid, ""},
		{"alg is a number", handmade(`{"alg":1}`, `{"type":"client_token"}`, "client-secret"), ErrInvalid, ""},
		{"huge exp", handmade(hs, `{"type":"client_token","exp":1e300}`, "client-secret"), ErrExpired, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ring(t).Verify(tt.token, Client)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("Verify = %v, want %v", err, tt.want)
			}
			if (err == nil || errors.Is(err, ErrExpired)) && (c.Namespace != tt.ns || c.Type != Client || c.ID == "") {
				t.Errorf("Verify = %+v, want namespace %q, type %s and an id", c, tt.ns, Client)
			}
		})
	}
}

func TestPublicKeyIsNoSecret(t *testing.T) {
	// The classic confusion: an HMAC made with the public key as its secret.
	key := edKey(t, "ed1")
	r := ring(t, key)
	forged := handmade(`{"alg":"HS256","kid":"ed1"}`, `{"type":"client_token","ns":"a"}`, string(key.public))
	if _, err := r.Verify(forged, Client); !errors.Is(err, ErrInvalid) {
		t.Errorf("Verify(forged) = %v, want ErrInvalid", err)
	}
}

func TestRotation(t *testing.T) {
	older, newer, ed := secretKey(t, "k1", "one"), secretKey(t, "k2", "two"), edKey(t, "ed")
	sign := func(r *Keyring) string {
		token, _, err := r.Sign(Claims{Type: Client, Namespace: "n"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	byOlder, byNewer, byEd := sign(ring(t, older)), sign(ring(t, newer, older)), sign(ring(t, ed, newer))
	tests := []struct {
		name                    string
		ring                    *Keyring
		older, newer, byEdwards bool
	}{
		{"before", ring(t, older), true, false, false},
		{"new in front", ring(t, newer, older), true, true, false},
		{"old one gone", ring(t, newer), false, true, false},
		{"to EdDSA", ring(t, ed, newer), false, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for token, want := range map[string]bool{byOlder: tt.older, byNewer: tt.newer, byEd: tt.byEdwards} {
				if _, err := tt.ring.Verify(token, Client); (err == nil) != want {
					t.Errorf("Verify = %v, want success %v", err, want)
				}
			}
		})
	}
}

func TestKeyringRefuses(t *testing.T) {
	c, b, base := secretKey(t, "", "c"), secretKey(t, "", "b"), secretKey(t, "", "base")
	tests := []struct {
		name string
		keys map[Type][]Key
		want string
	}{
		{"a type without key", map[Type][]Key{Client: {c}, Browser: {b}}, "no key for base_token"},
		{"one secret for two types", map[Type][]Key{Client: {c}, Browser: {b}, Base: {secretKey(t, "other", "c")}}, "share a key"},
		{"one id twice", map[Type][]Key{Client: {c, secretKey(t, "", "c2")}, Browser: {b}, Base: {base}}, "stands twice"},
		{"public key first", map[Type][]Key{Client: {{id: "p", alg: "EdDSA", public: edKey(t, "p").public}}, Browser: {b}, Base: {base}}, "cannot sign"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewKeyring(tt.keys); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewKeyring = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestJWKSHoldsPublicKeysOnly(t *testing.T) {
	ed := edKey(t, "ed-1")
	var got struct{ Keys []map[string]string }
	if err := json.Unmarshal(ring(t, ed, secretKey(t, "k", "top")).JWKS(), &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]string{{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(ed.public), "kid": "ed-1", "alg": "EdDSA", "use": "sig"}}
	if diff := cmp.Diff(want, got.Keys); diff != "" {
		t.Errorf("JWKS (-want +got):\n%s", diff)
	}
}

func TestIDOfTokenWithoutJTI(t *testing.T) {
	token := handmade(`{"alg":"HS256"}`, `{"type":"client_token","ns":"a"}`, "client-secret")
	other := handmade(`{"alg":"HS256"}`, `{"type":"client_token","ns":"b"}`, "client-secret")
	a, errA := ring(t).Verify(token, Client)
	b, errB := ring(t).Verify(other, Client)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if a.ID == b.ID {
		t.Errorf("two tokens share the id %s", a.ID)
	}
	if textID(token) != textID(token[:len(token)-1]+"_") {
		t.Error("the id depends on how the signature is written")
	}
}

func TestAllows(t *testing.T) {
	if !(Claims{}).Allows("any") || !(Claims{Tasks: []string{"a", "b"}}).Allows("b") || (Claims{Tasks: []string{"a"}}).Allows("A") {
		t.Error("Allows is wrong")
	}
}

func TestParsePeriod(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"7 days", 7 * day, true}, {"1 year", year, true}, {"1 day", day, true}, {"12h", 12 * time.Hour, true}, {" 30 Minutes ", 30 * time.Minute, true},
		{"1.5h", 90 * time.Minute, true}, {"2w", 14 * day, true}, {"90 s", 90 * time.Second, true},
		{"", 0, false}, {"7", 0, false}, {"-1 day", 0, false}, {"0 days", 0, false}, {"7 moons", 0, false}, {"101 years", 0, false}, {"days", 0, false}, {"999999999999 years", 0, false},
	}
	for _, tt := range tests {
		got, err := ParsePeriod(tt.in)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("ParsePeriod(%q) = %v, %v, want %v, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
}

// service answers as the token service does, and counts.
type service struct {
	ring  *Keyring
	asked int
	err   error
}

func (s *service) Request(_ context.Context, subject string, data []byte) ([]byte, error) {
	s.asked++
	if s.err != nil {
		return nil, s.err
	}
	if subject == SubjectIssue {
		var req tasktracerv1.IssueRequest
		if err := proto.Unmarshal(data, &req); err != nil {
			return nil, err
		}
		token, c, err := s.ring.Sign(ClaimsFromProto(req.GetClaims()), time.Duration(req.GetLifeSeconds())*time.Second)
		if err != nil {
			return proto.Marshal(&tasktracerv1.IssueResponse{Error: err.Error()})
		}
		return proto.Marshal(&tasktracerv1.IssueResponse{Token: token, Claims: c.Proto()})
	}
	var req tasktracerv1.VerifyRequest
	if err := proto.Unmarshal(data, &req); err != nil {
		return nil, err
	}
	c, err := s.ring.Verify(req.GetToken(), Type(req.GetType()))
	if err != nil {
		return proto.Marshal(&tasktracerv1.VerifyResponse{Error: Code(err)})
	}
	return proto.Marshal(&tasktracerv1.VerifyResponse{Claims: c.Proto()})
}

func TestRemote(t *testing.T) {
	s := &service{ring: ring(t)}
	v := NewRemote(s)
	token, issued, err := v.Issue(t.Context(), Claims{Type: Browser, Namespace: "n", Tasks: []string{"t"}, ReadOnly: true, ID: "j1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s.asked = 0
	for range 3 {
		got, err := v.Verify(t.Context(), token, Browser)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(issued, got); diff != "" {
			t.Fatalf("claims (-issued +verified):\n%s", diff)
		}
	}
	if _, err := v.Verify(t.Context(), token, Client); !errors.Is(err, ErrInvalid) {
		t.Errorf("Verify as client = %v, want ErrInvalid", err)
	}
	if s.asked != 2 {
		t.Errorf("service was asked %d times, want 2: once for each type", s.asked)
	}

	var heard []string
	stop := v.OnRevoked(func(jti string) { heard = append(heard, jti) })
	v.Revoked("j1", issued.Expires)
	stop()
	v.Revoked("j1", issued.Expires)
	if _, err := v.Verify(t.Context(), token, Browser); !errors.Is(err, ErrRevoked) {
		t.Errorf("Verify after revocation = %v, want ErrRevoked", err)
	}
	if diff := cmp.Diff([]string{"j1"}, heard); diff != "" {
		t.Errorf("OnRevoked (-want +got):\n%s", diff)
	}
}

func TestRemoteTroubleIsNoVerdict(t *testing.T) {
	s := &service{ring: ring(t), err: errors.New("nobody is there")}
	v := NewRemote(s)
	token, _, err := s.ring.Sign(Claims{Type: Client}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), token, Client); err == nil || Code(err) != "" {
		t.Errorf("Verify without service = %v, want an error that is no verdict", err)
	}
	s.err = nil
	if _, err := v.Verify(t.Context(), token, Client); err != nil {
		t.Errorf("Verify when the service is back = %v, want nil", err)
	}
}

func TestRemoteIsBounded(t *testing.T) {
	v := NewRemote(&service{})
	for i := range maxVerdicts + 100 {
		_, _ = v.remember(verdictKey{want: Type(strings.Repeat("x", i%7)), token: sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})}, Claims{}, nil)
	}
	if len(v.verdicts) > maxVerdicts {
		t.Errorf("%d verdicts are kept, want at most %d", len(v.verdicts), maxVerdicts)
	}
	for i := range maxRevoked + 100 {
		v.Revoked(string(rune(i))+"-"+string(rune(i/1000)), time.Time{})
	}
	if len(v.revoked) > maxRevoked {
		t.Errorf("%d revocations are kept, want at most %d", len(v.revoked), maxRevoked)
	}
}

func FuzzVerify(f *testing.F) {
	r := ring(f)
	good, _, err := r.Sign(Claims{Type: Client, Namespace: "n"}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.b.c")
	f.Add(handmade(`{"alg":"none"}`, `{}`, ""))
	f.Fuzz(func(t *testing.T, token string) {
		c, err := r.Verify(token, Client)
		if err == nil && (c.Type != Client || textID(token) != textID(good)) {
			t.Errorf("Verify(%q) = %+v: not signed by us", token, c)
		}
		if err != nil && Code(err) == "" {
			t.Errorf("Verify(%q) = %v: not one of the four errors", token, err)
		}
	})
}

// sleepy is a requester whose first replicas never answer.
type sleepy struct {
	*service
	silent int
}

func (s *sleepy) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if s.silent > 0 {
		s.silent--
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.service.Request(ctx, subject, data)
}

// away is a requester that cannot be reached for a while.
type away struct {
	*service
	fails int
}

func (a *away) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if a.fails > 0 {
		a.fails--
		return nil, errors.New("nobody is there")
	}
	return a.service.Request(ctx, subject, data)
}

func TestRemoteAsksAgain(t *testing.T) {
	s := &away{service: &service{ring: ring(t)}, fails: 3}
	token, _, err := s.ring.Sign(Claims{Type: Client, Namespace: "n"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := NewRemote(s).Verify(t.Context(), token, Client); err != nil || c.Namespace != "n" {
		t.Errorf("Verify while the service is away for a moment = %+v, %v", c, err)
	}
	s.fails = 100
	ctx, cancel := context.WithTimeout(t.Context(), awayFirst/2)
	defer cancel()
	if _, err := NewRemote(s).Verify(ctx, token, Client); err == nil || Code(err) != "" {
		t.Errorf("Verify by who does not wait = %v, want an error that is no verdict", err)
	}
	if s.fails < 98 {
		t.Errorf("asked %d times by who does not wait", 100-s.fails)
	}
}

func TestRemoteAsksAnotherReplica(t *testing.T) {
	s := &sleepy{service: &service{ring: ring(t)}, silent: 2}
	token, _, err := s.ring.Sign(Claims{Type: Client, Namespace: "n"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := NewRemote(s).Verify(t.Context(), token, Client); err != nil || c.Namespace != "n" {
		t.Errorf("Verify with two replicas that say nothing = %+v, %v", c, err)
	}
	s.silent = 100
	if _, err := NewRemote(s).Verify(t.Context(), token, Client); err == nil || Code(err) != "" {
		t.Errorf("Verify when nobody answers = %v, want an error that is no verdict", err)
	}
	if asked := 100 - s.silent; asked != maxAttempts {
		t.Errorf("%d replicas were asked, want %d", asked, maxAttempts)
	}
}
