package trace

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// namespace is what a token says of its namespace. It is not verified: the server does that. It keeps a run from being sent on under another namespace.
func namespace(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Namespace string `json:"ns"`
	}
	if json.Unmarshal(b, &claims) != nil {
		return ""
	}
	return claims.Namespace
}
