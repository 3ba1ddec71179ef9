package socketio

import "errors"

var (
	// ErrClosed says that the connection has ended, or is being ended by Disconnect.
	ErrClosed = errors.New("connection is closed")
	// ErrWouldBlock says that the connection's send buffer is full.
	ErrWouldBlock = errors.New("connection's send buffer is full")
	// ErrServerDisconnect says that the server ended the connection on purpose; official clients do not come back after that.
	ErrServerDisconnect = errors.New("server ended the connection")
	// ErrStop ends Redial when use returns an error that wraps it.
	ErrStop = errors.New("stop redialling")
	// ErrAcked says that an event was acknowledged before, or did not ask for it.
	ErrAcked = errors.New("no acknowledgement is due")

	errMalformed = errors.New("malformed packet")
	errTooLarge  = errors.New("message is too large")
)

// Reasons why a connection ended, as OnClose and Metrics.Closed get them. Close adds those of its caller.
const (
	ReasonClientDisconnect = "client disconnect"
	ReasonServerDisconnect = "server disconnect"
	ReasonTransportClose   = "transport close"
	ReasonTransportError   = "transport error"
	ReasonPingTimeout      = "ping timeout"
	ReasonWriteTimeout     = "write timeout"
	ReasonConnectTimeout   = "connect timeout"
	ReasonTooLarge         = "message too large"
	ReasonMalformed        = "malformed packet"
	ReasonPanic            = "handler panic"
	ReasonShutdown         = "shutdown"
)
