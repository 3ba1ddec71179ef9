package trace

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"tasktracer/pkg/trace/spool"
	"tasktracer/pkg/trace/tracetest"
)

func TestClock(t *testing.T) {
	const hour = time.Hour
	type reading struct{ wall, passed time.Duration }
	for name, tc := range map[string]struct {
		readings []reading
		want     string // dates, in hours
	}{
		"steady":                  {[]reading{{100 * hour, 0}, {101 * hour, hour}, {102 * hour, 2 * hour}}, "100 101 102"},
		"set forward":             {[]reading{{100 * hour, 0}, {200 * hour, hour}, {201 * hour, 2 * hour}}, "100 200 201"},
		"the host slept":          {[]reading{{100 * hour, 0}, {110 * hour, hour}}, "100 110"},
		"set back by 4 hours":     {[]reading{{100 * hour, 0}, {98 * hour, 2 * hour}, {100 * hour, 4 * hour}, {102 * hour, 6 * hour}, {104 * hour, 8 * hour}, {106 * hour, 10 * hour}}, "100 101 102 103 104 106"},
		"set back, then forth":    {[]reading{{100 * hour, 0}, {50 * hour, 0}, {102 * hour, 2 * hour}}, "100 100 102"},
		"before 1970, then right": {[]reading{{-5 * hour, 0}, {100 * hour, hour}}, "0 100"},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			c := &clock{read: func() (time.Duration, time.Duration) {
				r := tc.readings[n]
				n++
				return r.wall, r.passed
			}}
			got := ""
			for i := range tc.readings {
				if i > 0 {
					got += " "
				}
				got += fmt.Sprint(c.millis() / hour.Milliseconds())
			}
			if got != tc.want {
				t.Errorf("dates %s, want %s", got, tc.want)
			}
		})
	}
}

// The host's own clock, where nobody sets it.
func TestHostsClock(t *testing.T) {
	c := newClock()
	before := time.Now().UnixMilli()
	got := c.millis()
	if after := time.Now().UnixMilli(); got < before || got > after {
		t.Errorf("millis = %d, want %d to %d", got, before, after)
	}
}

// The host's clock is set back by a day, and then forward by two, while a run goes on; its token has expired by either. All is delivered, and its dates never go back.
func TestClockJumpsInARun(t *testing.T) {
	s := tracetest.Start(t, tracetest.Faults{})
	expired := base64.RawURLEncoding.EncodeToString([]byte(`{"type":"client_token","ns":"","iat":1,"exp":2}`))
	r, err := Start(Config{URL: s.URL, Token: "e30." + expired + ".x", ID: "cli", Name: "task", Spool: spool.Config{Dir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	wall, passed := 1000*24*time.Hour, time.Duration(0)
	r.order.Lock()
	r.clock.read = func() (time.Duration, time.Duration) { return wall, passed }
	r.order.Unlock()
	for i, jump := range []time.Duration{0, -24 * time.Hour, 48 * time.Hour} {
		if i > 0 {
			s.Cut() // what comes next comes on another connection
		}
		wall += jump
		for range 3 {
			wall, passed = wall+time.Second, passed+time.Second
			fmt.Fprintln(r.Stdout(), "line")
		}
		// All of it, and on a connection that stands: Close waits for no other.
		s.Wait(t, "lines and connection", func(run *tracetest.Run) bool { return len(run.Records) == 3*(i+1) && run.Connections == i+1 })
	}
	if o := r.Close(Exit{}); !o.Delivered {
		t.Fatalf("Close = %+v", o)
	}
	run := s.Wait(t, "exit", tracetest.Ended)
	last, dates := int64(0), ""
	for _, rec := range run.Records {
		dates += fmt.Sprint(rec.At-1000*24*time.Hour.Milliseconds(), " ")
		if rec.At <= last {
			t.Errorf("record %d is dated %d, behind one of %d", rec.Seq, rec.At, last)
		}
		last = rec.At
	}
	if want := "1000 2000 3000 3500 4000 4500 86407000 86408000 86409000 "; dates != want {
		t.Errorf("dates %s, want %s", dates, want)
	}
}
