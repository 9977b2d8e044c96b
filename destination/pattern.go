package destination

import (
	"fmt"
	"strings"
)

// Separators and wildcards of names. A name's levels lie between dots.
const (
	levelSeparator = "."
	anyLevel       = "*" // as a whole level: any one level
	anyLevels      = ">" // as the last level: this one and all below it
	listSeparator  = ","
)

// MaxPatternBytes and MaxPatternNames bound a Pattern's text and its names.
const (
	MaxPatternBytes = 4 << 10
	MaxPatternNames = 64
)

// Pattern is what a consumer may give in place of a destination's name: names
// with commas between them, whose levels may be wildcards, as ActiveMQ has them.
// "orders.*" is orders.eu and not orders.eu.new; "orders.>" is both, and orders.
type Pattern struct {
	text  string
	names [][]string // the levels of each
}

// IsPattern says whether a name is a Pattern. No destination has such a name.
func IsPattern(name string) bool {
	if strings.Contains(name, listSeparator) {
		return true
	}
	if !strings.ContainsAny(name, anyLevel+anyLevels) {
		return false
	}
	for level := range strings.SplitSeq(name, levelSeparator) {
		if level == anyLevel || level == anyLevels {
			return true
		}
	}
	return false
}

// ParsePattern reads a Pattern: ErrInvalid, ErrTooLarge.
func ParsePattern(text string) (Pattern, error) {
	if len(text) > MaxPatternBytes {
		return Pattern{}, fmt.Errorf("%w: a pattern may have %d bytes", ErrTooLarge, MaxPatternBytes)
	}
	p := Pattern{text: text}
	for name := range strings.SplitSeq(text, listSeparator) {
		name = strings.TrimSpace(name)
		levels := strings.Split(name, levelSeparator)
		for i, level := range levels {
			if level == anyLevels && i < len(levels)-1 {
				return Pattern{}, fmt.Errorf("%w: %q: %s is the last level of a pattern", ErrInvalid, name, anyLevels)
			}
		}
		if name == "" {
			return Pattern{}, fmt.Errorf("%w: %q has an empty name", ErrInvalid, text)
		}
		if p.names = append(p.names, levels); len(p.names) > MaxPatternNames {
			return Pattern{}, fmt.Errorf("%w: a pattern may have %d names", ErrTooLarge, MaxPatternNames)
		}
	}
	return p, nil
}

// String is what was parsed.
func (p Pattern) String() string { return p.text }

// Matches says whether one of the pattern's names is name.
func (p Pattern) Matches(name string) bool {
	for _, levels := range p.names {
		if matches(levels, name) {
			return true
		}
	}
	return false
}

func matches(levels []string, name string) bool {
	more := true // of name's levels
	for _, want := range levels {
		if want == anyLevels {
			return true
		}
		if !more {
			return false
		}
		var level string
		if level, name, more = strings.Cut(name, levelSeparator); want != anyLevel && want != level {
			return false
		}
	}
	return !more
}

// Names are those of a pattern that has no wildcard: where a message goes that is
// sent to all of them. A name may say which kind it means, as queue://NAME or
// topic://NAME; the others are of the kind that is given. ErrInvalid.
func Names(list string, kind Kind) ([]Name, error) {
	p, err := ParsePattern(list)
	if err != nil {
		return nil, err
	}
	names := make([]Name, 0, len(p.names))
	for name := range strings.SplitSeq(list, listSeparator) {
		n := Name{Name: strings.TrimSpace(name), Kind: kind}
		if rest, ok := strings.CutPrefix(n.Name, "queue://"); ok {
			n = Name{rest, KindQueue}
		} else if rest, ok := strings.CutPrefix(n.Name, "topic://"); ok {
			n = Name{rest, KindTopic}
		}
		if IsPattern(n.Name) {
			return nil, fmt.Errorf("%w: %q is a pattern, and a message is sent to a name", ErrInvalid, n.Name)
		}
		names = append(names, n)
	}
	return names, nil
}

// Name is a destination's name, and the kind that it is opened as.
type Name struct {
	Name string
	Kind Kind
}

// CutVirtual reads a name such as Consumer.G.VirtualTopic.ORDERS: the queue of
// group G on the topic VirtualTopic.ORDERS, as ActiveMQ's virtual topics have it.
func CutVirtual(name string) (topic string, ok bool) {
	rest, ok := strings.CutPrefix(name, "Consumer.")
	if !ok {
		return "", false
	}
	group, topic, ok := strings.Cut(rest, levelSeparator)
	return topic, ok && group != "" && strings.HasPrefix(topic, virtualPrefix) && len(topic) > len(virtualPrefix)
}

const virtualPrefix = "VirtualTopic."
