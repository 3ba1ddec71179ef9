package whole

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"tasktracer/deploy/e2e/clients"
	"tasktracer/deploy/e2e/stage"
)

// TestSessionsAnywhere: three ingests and three gateways, each behind a balancer that gives every request to the next one, without cookies or any memory.
// Clients and viewers of all generations, over all transports: everything arrives, in order, on the connection that was made first.
func TestSessionsAnywhere(t *testing.T) {
	t.Parallel()
	s := stage.NewSplit(t, binaries, 3, 3)
	ingest, gateways := stage.NewBalancer(t), stage.NewBalancer(t)
	ingest.Set(s.Ingest...)
	gateways.Set(s.Gateways...)
	tok := newTokens(t, s.Config, "default")
	p := stage.NewPeers(t)
	const lines = 40
	for _, alias := range []string{"sio1", "sio2", "sio4"} {
		for _, transport := range []string{"polling", "websocket", "default"} {
			t.Run(clients.Versions()[alias]+"/"+transport, func(t *testing.T) {
				options := object{"reconnection": false}
				if transport != "default" {
					options["transports"] = []string{transport}
				}
				id := alias + "-" + transport
				v := p.Connect(alias, gateways.URL, options)
				v.Hear(":connect")
				v.Emit("authenticate", object{"type": "browser_token", "token": tok.browser, "watch": object{"task": "anywhere", "from": []string{id}}})
				v.Hear("authenticated")
				c := p.Connect(alias, ingest.URL, options)
				c.Hear(":connect")
				c.Emit("authenticate", object{"type": "client", "token": tok.client, "id": id, "task": object{"name": "anywhere", "cmd": "echo hi"}})
				var want strings.Builder
				for i := range lines {
					line := fmt.Sprintf("line %d ü😀\n", i)
					want.WriteString(line)
					c.Emit("data", stdout(line)) // at once: before, during and after the change to WebSocket
				}
				c.Hear("authenticated")
				c.Emit("eof", object{"code": 3})
				c.Hear("bye")
				v.Hear("eof")
				c.Close()
				v.Hear("workerOut")
				diff(t, "output", want.String(), output(v))
				for what, peer := range map[string]*stage.Peer{"viewer": v, "client": c} {
					for _, e := range peer.Events() {
						if e.Name == ":error" || e.Name == ":disconnect" && peer == v {
							t.Errorf("the %s heard %s", what, e)
						}
					}
				}
				v.Close()
			})
		}
	}
	for i, server := range append(append([]*stage.Server{}, s.Ingest...), s.Gateways...) {
		if n := forwarded(t, server.URL); n == 0 {
			t.Errorf("server %d of 6 passed nothing on: the test did not test it", i)
		}
	}
}

// forwarded is how many requests a server has passed to the owner of their session; none may have failed.
func forwarded(t *testing.T, url string) (n float64) {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(name, "tasktracer_door_requests_forwarded_total{") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if strings.Contains(name, `"failed"`) && v > 0 {
			t.Errorf("%s: %v requests could not be passed on", url, v)
		}
		n += v
	}
	return n
}
