package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"
)

// A file is sent compressed to those who take it so, and as it is to all others.
func TestPageFileCompressed(t *testing.T) {
	p := &page{files: fstest.MapFS{
		"assets/a.js":    {Data: []byte("plain")},
		"assets/a.js.gz": {Data: []byte("zipped")},
		"assets/b.svg":   {Data: []byte("only plain")},
	}}
	for _, tt := range []struct{ name, path, accept, encoding, body string }{
		{"gzip", "/assets/a.js", "br, gzip", "gzip", "zipped"},
		{"weighed", "/assets/a.js", "gzip;q=0.8", "gzip", "zipped"},
		{"refused", "/assets/a.js", "gzip;q=0, br", "", "plain"},
		{"not said", "/assets/a.js", "", "", "plain"},
		{"no twin", "/assets/b.svg", "gzip", "", "only plain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, tt.path, nil)
			r.Header.Set("Accept-Encoding", tt.accept)
			w := httptest.NewRecorder()
			p.file(w, r)
			if got := w.Header().Get("Content-Encoding"); w.Code != 200 || got != tt.encoding || w.Body.String() != tt.body {
				t.Errorf("file(%q, %q) = %d %q %q, want 200 %q %q", tt.path, tt.accept, w.Code, got, w.Body, tt.encoding, tt.body)
			}
			if w.Header().Get("Vary") != "Accept-Encoding" {
				t.Errorf("file(%q): Vary = %q", tt.path, w.Header().Get("Vary"))
			}
		})
	}
}
