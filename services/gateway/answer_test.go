package gateway

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Callers that ask for a log and read nothing of it would hold all the places there are, for ever.
func TestCallerThatReadsNothingIsLetGo(t *testing.T) {
	r := newRig(t)
	g := r.gateway(func(c *Config) { c.MaxDownloads, c.WriteTimeout = 1, 200*time.Millisecond })
	w := r.run(key("c"))
	w.flood(24 << 20) // more than the kernel takes for a peer that does not read
	w.known(g, "is there", known)
	token := r.browser("ns")
	path := "/api/v1/runs/" + w.key.Run + "/log"

	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path, token)
	eventually(t, "the place is taken", func() bool { return len(g.s.downloads) == 1 })
	if got := g.get(token, path+"?lines=1-1"); got.status != http.StatusTooManyRequests {
		t.Fatalf("a second log is answered with %d, want %d", got.status, http.StatusTooManyRequests)
	}
	eventually(t, "another has the place", func() bool { return g.get(token, path+"?lines=1-1").status == http.StatusOK })
}
