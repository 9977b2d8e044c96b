package spill

import (
	"fmt"

	"github.com/polylog-mq/polylog"
)

// Destination is where a message goes: a queue or a topic by name.
type Destination struct {
	name string
	kind byte
}

const (
	kindQueue = 'q'
	kindTopic = 't'
)

// Queue names a queue.
func Queue(name string) Destination { return Destination{name, kindQueue} }

// Topic names a topic.
func Topic(name string) Destination { return Destination{name, kindTopic} }

// Name returns the destination's name.
func (d Destination) Name() string { return d.name }

// String returns "queue NAME" or "topic NAME".
func (d Destination) String() string {
	if d.kind == kindTopic {
		return "topic " + d.name
	}
	return "queue " + d.name
}

// header is what the record of a spilled message says of its destination: the
// version of the header's format, the kind, the name.
func (d Destination) header() []byte {
	return append([]byte{headerVersion, d.kind}, d.name...)
}

// headerName is the name of that record header; headerVersion the version that
// is written, and the newest that is read.
const (
	headerName    = "polylog.spill"
	headerVersion = 1
)

func parseDestination(header []byte) (Destination, error) {
	if len(header) > 0 && header[0] > headerVersion {
		return Destination{}, fmt.Errorf("%w: record header %s has version %d, and this polylog knows none beyond %d", ErrNewerVersion, headerName, header[0], headerVersion)
	}
	if len(header) < 3 || header[0] == 0 || header[1] != kindQueue && header[1] != kindTopic {
		return Destination{}, fmt.Errorf("record header %s is no destination", headerName)
	}
	return Destination{string(header[2:]), header[1]}, nil
}

// check refuses what no message can be sent to.
func (d Destination) check() error {
	if d.name == "" || d.kind == 0 {
		return fmt.Errorf("%w: a destination is a Queue or a Topic with a name", polylog.ErrInvalid)
	}
	return nil
}
