package trace

import "time"

// clock dates a run's records. Normally that is the host's clock. When that is set back in the middle of a run, the dates do not go back with it, since readers
// order by them: they go on at half speed until the host's clock has caught up. It is for one goroutine at a time.
type clock struct {
	// read gives the host's time since 1970 UTC, and how much time has really passed since some moment.
	read func() (wall, passed time.Duration)

	last, at time.Duration // the last date given, and when by the time that passes
}

func newClock() *clock {
	began := time.Now()
	return &clock{read: func() (wall, passed time.Duration) {
		now := time.Now()
		return time.Duration(now.UnixNano()), now.Sub(began)
	}}
}

// millis is the date of what happens now, in milliseconds since 1970 UTC.
func (c *clock) millis() int64 {
	wall, passed := c.read()
	date := max(wall, c.last+(passed-c.at)/2)
	c.last, c.at = date, passed
	return date.Milliseconds()
}
