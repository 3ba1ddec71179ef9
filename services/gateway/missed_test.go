package gateway

import (
	"bytes"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"tasktracer/pkg/bus"
)

// deaf is a NATS connection on which what the log republishes is not heard.
type deaf struct {
	from interface{ InProcessConn() (net.Conn, error) }
	on   *atomic.Bool
}

func (d deaf) InProcessConn() (net.Conn, error) {
	c, err := d.from.InProcessConn()
	return deafConn{c, d.on}, err
}

type deafConn struct {
	net.Conn
	on *atomic.Bool
}

func (c deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.on.Load() {
		copy(b, bytes.ReplaceAll(b[:n], []byte(" tt.out.ns."), []byte(" tt.out.??.")))
	}
	return n, err
}

// A last chunk that was lost on its way is looked for: what its owner says, or the tail that is read where the owner says nothing, is ahead of the feed.
func TestLastChunkIsLost(t *testing.T) {
	on := &atomic.Bool{}
	r := newRig(t)
	r.conf = append(r.conf, func(c *bus.Config) { c.InProcess = deaf{r.nats, on} })
	g := r.gateway()
	w := r.run(key("c")).out("heard\n").sync().known(g, "is there", known)
	e := g.watch(r.browser("ns"), "t", []string{"c"}, "", true)
	e.await("live", 1)
	w.out("heard, too\n").sync() // the feed knows the run, and its owner
	e.await("data", 2)
	on.Store(true)
	w.out("lost\n").sync()
	eventually(t, "the viewer has what was lost", func() bool { return strings.HasSuffix(string(bytesOf(t, e.events(), "")), "lost\n") })
	var m dto.Metric
	if err := g.s.m.missed.Write(&m); err != nil || m.Counter.GetValue() == 0 {
		t.Errorf("%v chunks were missed, %v: this test shows nothing", m.Counter.GetValue(), err)
	}
	if got := string(bytesOf(t, e.events(), "")); got != "heard\nheard, too\nlost\n" {
		t.Errorf("the viewer has %q", got)
	}
}
