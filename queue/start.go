package queue

import (
	"fmt"

	"github.com/polylog-mq/polylog/destination"
)

// StartKind says where a view begins that has no cursor yet.
type StartKind uint8

// Where a view begins.
const (
	StartDefault   StartKind = iota // a queue: the beginning; a subscription: the end
	StartBeginning                  // the first record that is still there
	StartEnd                        // behind the last record
	StartOffset                     // Start.At is an offset
	StartTime                       // Start.At is milliseconds since 1970
	StartLast                       // Start.At is how many offsets before the end of each partition
)

// Start is where a view begins that has no cursor yet, or seeks to.
type Start struct {
	Kind StartKind
	At   int64
}

// Offsets resolves s into an offset for each of d's partitions. A topic keeps
// them with the subscription's metadata, and opens its view with OpenViewAt.
func (s Start) Offsets(d *destination.Destination, subscription string) ([]int64, error) {
	offsets := make([]int64, len(d.Partitions))
	for i, p := range d.Partitions {
		offset, err := s.offset(p, subscription)
		if err != nil {
			return nil, fmt.Errorf("start of partition %d: %w", i, err)
		}
		offsets[i] = offset
	}
	return offsets, nil
}

func (s Start) offset(p *destination.Partition, subscription string) (int64, error) {
	switch s.Kind {
	case StartDefault:
		if subscription == "" {
			return p.Start(), nil
		}
		return p.End(), nil
	case StartBeginning:
		return p.Start(), nil
	case StartEnd:
		return p.End(), nil
	case StartOffset:
		return min(max(s.At, p.Start()), p.End()), nil
	case StartLast:
		return max(p.End()-s.At, p.Start()), nil
	case StartTime:
		offset, _, err := p.Log().OffsetForTime(s.At)
		if err != nil {
			return 0, err
		}
		if offset < 0 {
			return p.End(), nil
		}
		return offset, nil
	}
	return 0, fmt.Errorf("%w: kind of start %d", destination.ErrInvalid, s.Kind)
}
