package destination

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// value is one field of Settings as text. set leaves the field alone on an error.
type value interface {
	String() string
	set(text string) error
}

type countValue struct {
	p        *int
	min, max int
}

func (v countValue) String() string { return strconv.Itoa(*v.p) }

func (v countValue) set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return errors.New("not a whole number")
	}
	if n < v.min || n > v.max {
		return fmt.Errorf("must be %d to %d", v.min, v.max)
	}
	*v.p = n
	return nil
}

type flagValue struct{ p *bool }

func (v flagValue) String() string { return strconv.FormatBool(*v.p) }

func (v flagValue) set(text string) error {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return errors.New("not true or false")
	}
	*v.p = b
	return nil
}

// wordValue is one of a few words, given with | between them.
type wordValue struct {
	p     *string
	words string
}

func (v wordValue) String() string { return *v.p }

func (v wordValue) set(text string) error {
	for word := range strings.SplitSeq(v.words, "|") {
		if word == text {
			*v.p = word
			return nil
		}
	}
	return fmt.Errorf("must be one of %s", v.words)
}

// maxNameBytes bounds the name of a destination, before it is escaped.
const maxNameBytes = 249

type nameValue struct{ p *string }

func (v nameValue) String() string { return *v.p }

func (v nameValue) set(text string) error {
	if len(text) > maxNameBytes {
		return fmt.Errorf("longer than %d bytes", maxNameBytes)
	}
	*v.p = text
	return nil
}

type factorValue struct {
	p        *float64
	min, max float64
}

func (v factorValue) String() string { return strconv.FormatFloat(*v.p, 'g', -1, 64) }

func (v factorValue) set(text string) error {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return errors.New("not a number")
	}
	if !(f >= v.min && f <= v.max) { // also refuses NaN
		return fmt.Errorf("must be %g to %g", v.min, v.max)
	}
	*v.p = f
	return nil
}

type durationValue struct {
	p   *time.Duration
	min time.Duration
}

func (v durationValue) String() string { return v.p.String() }

func (v durationValue) set(text string) error {
	d, err := parseDuration(text)
	if err != nil {
		return err
	}
	if d < v.min {
		return fmt.Errorf("must be at least %s", v.min)
	}
	*v.p = d
	return nil
}

// millisValue is a time that Kafka's clients also read, so it is shown in
// milliseconds; -1 where the minimum allows it.
type millisValue struct {
	p   *int64
	min int64
}

func (v millisValue) String() string { return strconv.FormatInt(*v.p, 10) }

func (v millisValue) set(text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		d, err := parseDuration(text)
		if err != nil {
			return err
		}
		n = d.Milliseconds()
	}
	if n < v.min {
		return fmt.Errorf("must be at least %d ms", v.min)
	}
	*v.p = n
	return nil
}

type bytesValue struct {
	p        *int64
	min, max int64
}

func (v bytesValue) String() string { return strconv.FormatInt(*v.p, 10) }

func (v bytesValue) set(text string) error {
	n, err := parseBytes(text)
	if err != nil {
		return err
	}
	if n < v.min || n > v.max {
		return fmt.Errorf("must be %d to %d bytes", v.min, v.max)
	}
	*v.p = n
	return nil
}

// parseDuration is time.ParseDuration and also takes whole days, "7d".
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/int64(24*time.Hour) {
			return 0, errors.New("not a duration such as 5s, 1m30s, 7d")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("not a duration such as 5s, 1m30s, 7d")
	}
	return d, nil
}

// sizeUnits: the longer suffix first, because B ends all of them.
var sizeUnits = [...]struct {
	suffix string
	bytes  int64
}{
	{"KiB", kib},
	{"MiB", mib},
	{"GiB", gib},
	{"TiB", gib << 10},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
	{"", 1},
}

// parseBytes takes a size as a number of bytes or with a unit, "64MiB", "1GB".
func parseBytes(text string) (int64, error) {
	for _, unit := range sizeUnits {
		number, ok := strings.CutSuffix(text, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n > math.MaxInt64/unit.bytes || n < -1 || (n < 0 && unit.bytes > 1) {
			break
		}
		return n * unit.bytes, nil
	}
	return 0, errors.New("not a size such as 1048576, 64MiB, 1GB")
}
