package auth

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// MaxPeriod is the longest life that a token is given.
const MaxPeriod = 100 * year

const (
	day  = 24 * time.Hour
	year = 8766 * time.Hour // 365.25 days, as the older system counts
)

var periodForm = regexp.MustCompile(`^\s*(\d{1,12}(?:\.\d{1,9})?)\s*([a-zA-Z]+)\s*$`)

// ParsePeriod reads a length of time as the older system's configuration has it: "7 days", "1 year", "12h", "30m", "90 s", "2w".
func ParsePeriod(text string) (time.Duration, error) {
	m := periodForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("period %q: want a number and a unit, such as \"7 days\"", text)
	}
	unit, ok := periodUnit(strings.ToLower(m[2]))
	if !ok {
		return 0, fmt.Errorf("period %q: unit %q is not one of seconds, minutes, hours, days, weeks, years", text, m[2])
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("period %q: %w", text, err)
	}
	if n*float64(unit) > float64(MaxPeriod) || n*float64(unit) < float64(time.Second) {
		return 0, fmt.Errorf("period %q: want 1 second to 100 years", text)
	}
	return time.Duration(n * float64(unit)), nil
}

func periodUnit(name string) (time.Duration, bool) {
	switch name {
	case "s", "sec", "secs", "second", "seconds":
		return time.Second, true
	case "m", "min", "mins", "minute", "minutes":
		return time.Minute, true
	case "h", "hr", "hrs", "hour", "hours":
		return time.Hour, true
	case "d", "day", "days":
		return day, true
	case "w", "week", "weeks":
		return 7 * day, true
	case "y", "yr", "yrs", "year", "years":
		return year, true
	}
	return 0, false
}
