package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// hmacOf signs as any other program would, so that an expired token can be made.
func hmacOf(text, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
