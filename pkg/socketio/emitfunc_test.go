package socketio

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Many events may be under way at a time: their acknowledgements come in order, each to its own function.
func TestEmitFunc(t *testing.T) {
	_, url := serve(t, Config{}, echo)
	c := dial(t, url)
	c.OnEvent(func(*Event) {})
	const n = 500
	got, want := make([]string, 0, n), make([]string, n)
	done := make(chan struct{})
	for i := range n {
		want[i] = strconv.Itoa(i)
		err := c.EmitFunc(t.Context(), "echo", json.RawMessage(want[i]), func(args []json.RawMessage) {
			if got = append(got, string(args[0])); len(got) == n {
				close(done)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	within(t, "acknowledgements", done)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("acknowledgements (-want +got):\n%s", d)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.EmitFunc(t.Context(), "echo", json.RawMessage("1"), func([]json.RawMessage) { t.Error("acknowledged after the end") }); err == nil {
		t.Error("EmitFunc on a closed connection = nil")
	}
}
