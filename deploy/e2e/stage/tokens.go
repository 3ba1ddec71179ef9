package stage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Token has the product's own tool make a token.
func Token(t testing.TB, b Binaries, config, ns, kind string) string {
	t.Helper()
	token, err := MakeToken(b, config, ns, kind)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// MakeToken is Token outside of a test.
func MakeToken(b Binaries, config, ns, kind string) (string, error) {
	out, err := exec.Command(b.TaskTracer, "tokengen", "--config", config, "--ns", ns, "--type", kind, "--period", "7 days").Output()
	if err != nil {
		return "", fmt.Errorf("tokengen: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// SignHS256 makes a JWT by hand, from the text of header and payload.
func SignHS256(header, payload, secret string) string {
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + enc.EncodeToString(mac.Sum(nil))
}

// OlderToken is a token as the older system's tool made it.
func OlderToken(kind, ns, secret string, expires time.Time) string {
	return SignHS256(`{"alg":"HS256","typ":"JWT"}`, fmt.Sprintf(`{"type":%q,"ns":%q,"iat":%d,"exp":%d}`, kind, ns, time.Now().Unix(), expires.Unix()), secret)
}
