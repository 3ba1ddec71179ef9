package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, ended := time.Now(), make(chan time.Time, 1)
		p := newPatience(5*time.Second, func() { ended <- time.Now() })
		if d := (<-ended).Sub(begun); d != 5*time.Second {
			t.Errorf("ended after %v, want 5s", d)
		}
		if p.Stop() {
			t.Error("Stop after the end = true")
		}
		p = newPatience(5*time.Second, func() { ended <- time.Now() })
		time.Sleep(4900 * time.Millisecond)
		if !p.Stop() || p.Stop() {
			t.Error("Stop before the end = false, or true twice")
		}
		time.Sleep(time.Minute)
		if len(ended) > 0 {
			t.Error("it ended after Stop")
		}
	})
}
