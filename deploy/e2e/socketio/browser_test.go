package socketio

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tasktracer/deploy/e2e/clients"
	"tasktracer/deploy/e2e/stage"
	"tasktracer/pkg/socketio"
)

// bundles are the clients as pages load them.
var bundles = map[string]string{
	"sio1": "sio1/socket.io.js",
	"sio2": "sio2/dist/socket.io.js",
	"sio4": "sio4/dist/socket.io.js",
}

// servePage serves a page that loads a client's bundle, and sockets where s is not nil.
func servePage(t *testing.T, alias string, s *socketio.Server) (url string) {
	t.Helper()
	bundle := filepath.Join(clients.Dir(), "node_modules", bundles[alias])
	if _, err := os.Stat(bundle); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>page</title><script src="/client.js"></script>`)
	})
	mux.HandleFunc("GET /client.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, bundle) })
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	if s != nil {
		mux.Handle("/socket.io/", s)
		t.Cleanup(func() { shutdown(t, s) })
	}
	return h.URL
}

// TestBrowser runs the old and the new client in a real browser, from the server's own page and from one of another origin.
func TestBrowser(t *testing.T) {
	clients.Install(t)
	for _, alias := range []string{"sio1", "sio2", "sio4"} {
		for _, transport := range []string{"polling", "websocket", "default"} {
			for _, from := range []string{"own page", "other origin"} {
				t.Run(clients.Versions()[alias]+"/"+transport+"/"+from, func(t *testing.T) {
					t.Parallel()
					s := newServer(t, socketio.Config{MaxMessage: 8 << 20}, actor())
					server := servePage(t, alias, s)
					page := server
					if from == "other origin" {
						page = servePage(t, alias, nil)
					}
					browse(t, page, server, transport, "echo", "receive", "eager", "large", "binary", "disconnect", "reconnect", "tabs")
				})
			}
		}
	}
}

// TestBrowserOrigins: where origins are named, pages of others do not get in, by whatever transport; the one that is named does.
func TestBrowserOrigins(t *testing.T) {
	clients.Install(t)
	for _, alias := range []string{"sio1", "sio4"} {
		for _, transport := range []string{"polling", "websocket", "default"} {
			t.Run(clients.Versions()[alias]+"/"+transport, func(t *testing.T) {
				t.Parallel()
				good, bad := servePage(t, alias, nil), servePage(t, alias, nil)
				server := servePage(t, alias, newServer(t, socketio.Config{Origins: []string{good}}, actor()))
				browse(t, bad, server, transport, "refused")
				browse(t, good, server, transport, "echo")
				browse(t, server, server, transport, "echo")
			})
		}
	}
}

// browse runs scenarios in Chromium.
func browse(t *testing.T, page, server, transport string, want ...string) {
	t.Helper()
	playwright, chromium := stage.Browser(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	check(t, clients.Run(ctx, t, "browser.js", append([]string{playwright, chromium, t.TempDir(), page + "/page", server, transport}, want...)...), want)
}
