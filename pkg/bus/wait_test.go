package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"tasktracer/pkg/natsd"
)

func TestWaitDurable(t *testing.T) {
	b := open(t, startServer(t, natsd.Config{}))
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, "a"), out(2, "b"))
	if err := a.WaitDurable(deadline(t), 2); err != nil {
		t.Fatal(err)
	}
	if src, _ := a.Durable(); src != 2 {
		t.Errorf("Durable() = %d after WaitDurable(2)", src)
	}
	if err := a.WaitDurable(deadline(t), 9); err != nil {
		t.Errorf("WaitDurable of a record that was never accepted: %v", err)
	}
	take(t, b, "ing-2", run)
	<-a.Taken()
	ctx, cancel := context.WithTimeout(deadline(t), 5*time.Second)
	defer cancel()
	if err := a.Submit(ctx, out(3, "c")); !errors.Is(err, ErrTaken) {
		t.Errorf("Submit of a taken run = %v, want ErrTaken", err)
	}
	if err := a.WaitDurable(ctx, 2); err != nil {
		t.Errorf("WaitDurable of what was durable before = %v", err)
	}
}
