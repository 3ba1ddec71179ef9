package trace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"tasktracer/pkg/socketio"
)

// target is where to connect, and how.
type target struct {
	url string
	tls *tls.Config
}

func (t target) dial(ctx context.Context) (*socketio.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return socketio.Dial(ctx, socketio.DialConfig{URL: t.url, TLS: t.tls})
}

// tlsFor is how the server's certificate is checked; nil for the usual way. Its errors wrap ErrConfig.
func tlsFor(caFile string, insecure bool) (*tls.Config, error) {
	if caFile == "" && !insecure {
		return nil, nil
	}
	c := &tls.Config{InsecureSkipVerify: insecure} //nolint:gosec // asked for by the user, by that name
	if caFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("%w: certificates to trust: %w", ErrConfig, err)
	}
	if c.RootCAs, err = x509.SystemCertPool(); err != nil {
		c.RootCAs = x509.NewCertPool()
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s holds no certificate in PEM form", ErrConfig, caFile)
	}
	return c, nil
}
