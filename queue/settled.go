package queue

import (
	"fmt"

	"github.com/polylog-mq/polylog/destination"
)

// Settled returns a function that says which records of a partition this view
// needed nothing more of at the time of the call. The cleaner uses it: what
// one view is done with, it is done with for good, unless it seeks.
func (v *View) Settled(partition int32) (func(offset int64) bool, error) {
	v.mu.Lock()
	if v.closed || partition < 0 || int(partition) >= len(v.parts) {
		v.mu.Unlock()
		return nil, fmt.Errorf("partition %d: %w", partition, destination.ErrClosed)
	}
	snapshot := v.parts[partition].cursor.AppendSnapshot(nil)
	v.mu.Unlock()
	c, err := destination.RestoreCursor(snapshot)
	if err != nil {
		return nil, fmt.Errorf("partition %d: %w", partition, err)
	}
	return c.Done, nil
}
