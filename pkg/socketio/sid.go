package socketio

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
)

// newSID makes a session id: the process's name and 144 random bits, so that it cannot be guessed and says where it lives.
func newSID(name string) string { return name + "." + random(18) }

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// ownerOf gives the name of the process that made a session id.
func ownerOf(sid string) (name string, ok bool) {
	name, rest, found := strings.Cut(sid, ".")
	if !found || len(rest) != 24 || !nameForm.MatchString(name) {
		return "", false
	}
	return name, true
}
