package natsd

import (
	"fmt"
	"log/slog"
)

// logger passes what the server says on, and catches the word it ends with.
type logger struct {
	log   *slog.Logger
	fatal chan string // capacity 1
}

func (l *logger) Noticef(string, ...any) {} // a banner and its like
func (l *logger) Debugf(string, ...any)  {}
func (l *logger) Tracef(string, ...any)  {}

func (l *logger) Warnf(format string, v ...any) {
	l.log.Warn("nats-server", "says", fmt.Sprintf(format, v...))
}

func (l *logger) Errorf(format string, v ...any) {
	l.log.Error("nats-server", "says", fmt.Sprintf(format, v...))
}

func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default: // the first one is the cause
	}
}
