package trace

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"tasktracer/pkg/socketio"
)

// Probe asks the server whether it would accept a run as cfg says, without beginning one: the name that it sends is one that no task may have, and a server looks
// at the token first. Its error is nil where the name is all that the server has against it.
func Probe(ctx context.Context, cfg Config, within time.Duration) (roundTrip time.Duration, err error) {
	tlsConfig, err := tlsFor(cfg.CAFile, cfg.Insecure)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	c, err := target{cfg.URL, tlsConfig}.dial(ctx)
	if err != nil {
		return 0, &unreachableError{err}
	}
	defer c.Close() //nolint:errcheck // it is over
	answers := make(chan authenticated, 1)
	c.OnEvent(func(e *socketio.Event) {
		var a authenticated
		if e.Name == "authenticated" && len(e.Args) > 0 && json.Unmarshal(e.Args[0], &a) == nil {
			select {
			case answers <- a:
			default:
			}
		}
	})
	begun := time.Now()
	err = c.Emit(ctx, "authenticate", map[string]any{
		"type": "client", "token": cfg.Token, "id": cfg.ID, "task": map[string]string{"name": "-"}, "v": 2, "run": "probe-without-a-name", "next": 1, "now": begun.UnixMilli(),
	})
	if err != nil {
		return 0, &unreachableError{err}
	}
	select {
	case a := <-answers:
		if a.Code == "name_invalid" {
			return time.Since(begun), nil
		}
		return time.Since(begun), a.refusal()
	case <-c.Done():
		if errors.Is(c.Err(), socketio.ErrServerDisconnect) {
			return 0, &refusedError{code: "token_invalid", text: "the server ended the connection"}
		}
		return 0, &unreachableError{c.Err()}
	case <-ctx.Done():
		return 0, &unreachableError{errors.New("the server accepts the connection, but does not answer")}
	}
}

// Advice is what a user can do about an error of Probe.
func Advice(err error) string {
	if text := sentence(err); text != "" {
		return text
	}
	return "try again in a moment; the server is busy or starting"
}
