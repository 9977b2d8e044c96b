package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// humanBytes writes a number of bytes with three digits and a binary unit.
func humanBytes(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, units := float64(n), "KMGTPE"
	i := -1
	for v >= 1023.5 && i < len(units)-1 {
		v /= 1024
		i++
	}
	return fmt.Sprintf("%s %ciB", threeDigits(v), units[i])
}

func threeDigits(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// humanCount writes n with its thousands apart.
func humanCount(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// messages is "1 message" or "1,000 messages".
func messages(n int64) string {
	if n == 1 {
		return "1 message"
	}
	return humanCount(n) + " messages"
}

// records is "1 record" or "1,000 records".
func records(n int64) string {
	if n == 1 {
		return "1 record"
	}
	return humanCount(n) + " records"
}

// sentence is text with a capital in front.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// humanDuration rounds d to what a reader cares about.
func humanDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

var sizeUnits = []struct {
	suffix string
	factor float64
}{
	{"KIB", 1 << 10},
	{"MIB", 1 << 20},
	{"GIB", 1 << 30},
	{"TIB", 1 << 40},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"K", 1 << 10},
	{"M", 1 << 20},
	{"G", 1 << 30},
	{"T", 1 << 40},
	{"B", 1},
	{"", 1},
}

// parseDuration reads a duration as Go writes it, which has a unit.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err == nil && d < 0:
		return 0, fmt.Errorf("%q is negative; write %s", s, s[1:])
	case err == nil:
		return d, nil
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil && n > 0 {
		return 0, fmt.Errorf("%q has no unit; write %ss for seconds, or %sms, %sm, %sh", s, s, s, s, s)
	}
	return 0, fmt.Errorf("%q is no duration; write 500ms, 30s or 2h", s)
}

// parseSize reads a number of bytes: 1048576, 64MiB, 64M (the same) or 64MB
// (a million each).
func parseSize(s string) (int64, error) {
	upper := strings.ToUpper(strings.TrimSpace(s))
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(upper, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || v < 0 || math.IsNaN(v) || v*u.factor >= 1<<63 {
			break
		}
		return int64(v * u.factor), nil
	}
	return 0, fmt.Errorf("%q is no size; write 1048576, 64MiB or 1.5GiB", s)
}
