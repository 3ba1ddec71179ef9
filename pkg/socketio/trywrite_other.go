//go:build !unix

package socketio

import (
	"errors"
	"net"
)

// tryWriter is not to be had here: everything is written by writing goroutines.
type tryWriter struct{}

func newTryWriter(net.Conn) *tryWriter { return nil }

func (*tryWriter) write([]byte) (int, error) { return 0, errors.ErrUnsupported }
