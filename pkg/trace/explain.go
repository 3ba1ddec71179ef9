package trace

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// sentence says to the user what is the matter and what can be done; empty where a user need not know.
func sentence(err error) string {
	var refused *refusedError
	if errors.As(err, &refused) {
		switch refused.code {
		case "token_missing", "token_invalid":
			return "the server does not accept the token: check `token` in the configuration, and that it is a client token of this server"
		case "token_expired":
			return "the token has expired: ask for a new one and put it into the configuration"
		case "token_revoked":
			return "the token was revoked: ask for a new one and put it into the configuration"
		case "wrong_endpoint":
			return "the url is that of the server's viewers: use the address for tt (by default port 8005)"
		case "busy":
			return ""
		case "too_old":
			return refused.text
		}
		return "the server refuses the run: " + refused.text
	}
	var unreachable *unreachableError
	if !errors.As(err, &unreachable) {
		return ""
	}
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &authority):
		return "the server's certificate is signed by an unknown authority: give its certificate with --ca FILE"
	case errors.As(err, &hostname):
		return fmt.Sprintf("the server's certificate is for another name: %v", hostname)
	case errors.As(err, &invalid):
		return fmt.Sprintf("the server's certificate is not valid: %v", invalid)
	case errors.As(err, &notTLS):
		return "the server does not speak TLS: use http:// in the url"
	}
	return fmt.Sprintf("cannot reach the server (%v); the command goes on, its output is kept", unreachable.err)
}
