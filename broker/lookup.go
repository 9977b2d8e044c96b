package broker

import (
	"fmt"

	"github.com/polylog-mq/polylog/destination"
)

// ByID returns the destination with an id, or nil.
func (b *Broker) ByID(id [16]byte) *destination.Destination { return b.current(id) }

// Destinations are all that are there, the broker's own and temporary ones
// included, in no particular order.
func (b *Broker) Destinations() []*destination.Destination { return b.entries() }

// Dir is the data directory, "" if the logs are elsewhere.
func (b *Broker) Dir() string { return b.o.Dir }

// AutoCreates says whether destinations are made on first use.
func (b *Broker) AutoCreates() bool { return !b.o.NoAutoCreate }

// Settings are those of a destination that would be created with changes to the
// broker's defaults: ErrInvalid.
func (b *Broker) Settings(changes map[string]string) (map[string]string, error) {
	s, err := b.settingsWith(b.defaults, changes)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return settingTexts(&s), nil
}
