package destination

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Overrides are settings that a subscription has in place of its topic's, as
// "name=value" lines in the order of their names. Two are equal if they are the
// same text.
type Overrides string

// overridable are the settings that are about delivery.
var overridable = []string{
	"max.deliveries", "dead.letter", "expiry.destination", "redelivery.delay", "redelivery.multiplier",
	"redelivery.max.delay", "redelivery.jitter", "slow.consumer.timeout", "priority.window",
}

// Overridable are the names of the settings that a subscription may have of its own.
func Overridable() []string { return slices.Clone(overridable) }

// With is o with changes made: an empty value has the topic's setting hold again.
// ErrInvalid for what is no setting of a subscription, or a value that is none.
func (o Overrides) With(changes map[string]string) (Overrides, error) {
	all := o.Map()
	s := DefaultSettings()
	for name, text := range changes {
		if !slices.Contains(overridable, name) {
			return "", fmt.Errorf("%w: a subscription has no setting %q of its own; it has %s", ErrInvalid, name, strings.Join(overridable, ", "))
		}
		if text == "" {
			delete(all, name)
			continue
		}
		if err := s.Set(name, text); err != nil {
			return "", fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		all[name], _ = s.Get(name)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.WriteString(name + "=" + all[name] + "\n")
	}
	return Overrides(b.String()), nil
}

// Map is them by name.
func (o Overrides) Map() map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(string(o)) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		all[name] = text
	}
	return all
}

// On is d as a subscription with these overrides sees it: ErrInvalid if they do
// not agree with the settings of d.
func (o Overrides) On(d *Destination) (*Destination, error) {
	if o == "" {
		return d, nil
	}
	changed := *d
	for name, text := range o.Map() {
		if err := changed.Settings.Set(name, text); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if err := changed.Settings.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &changed, nil
}
