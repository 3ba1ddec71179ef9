package socketio

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"
)

// TestCompression: permessage-deflate is off unless it is switched on here and asked for there; then large messages are compressed.
func TestCompression(t *testing.T) {
	const size = 100_000
	for _, tc := range []struct {
		name                string
		on, asked, compress bool
	}{
		{"off", false, true, false},
		{"not asked for", true, false, false},
		{"agreed upon", true, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var wrote atomic.Int64
			m := NewRawMessage("data", []byte(`"`+strings.Repeat("x", size)+`"`))
			_, base := serve(t, Config{Compress: tc.on, Metrics: Metrics{Written: func(_, n, _ int) { wrote.Add(int64(n)) }}}, func(c *Conn) {
				if err := c.Send(c.Context(), m); err != nil {
					t.Error(err)
				}
				if err := c.Flush(c.Context()); err != nil {
					t.Error(err)
				}
				c.Disconnect()
			})
			d := websocket.Dialer{EnableCompression: tc.asked}
			ws, res, err := d.Dial("ws"+strings.TrimPrefix(base, "http")+"/socket.io/?EIO=3&transport=websocket", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			if got := strings.Contains(res.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate"); got != tc.compress {
				t.Errorf("agreed upon: %v, want %v", got, tc.compress)
			}
			r := &raw{t, ws}
			r.expect("0{")
			r.expect("40")
			if got := r.expect("42"); got != string(m.payload()) {
				t.Errorf("read %d bytes, want %d", len(got), len(m.payload()))
			}
			r.expect("41")
			if got := wrote.Load() < size; got != tc.compress {
				t.Errorf("%d bytes were written for %d, compressed: %v, want %v", wrote.Load(), size, got, tc.compress)
			}
		})
	}
}
