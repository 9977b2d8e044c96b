package destination

import (
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/destination/record"
)

// MaxPartitions bounds the partitions of one destination.
const MaxPartitions = 10_000

// ErrKind is returned for a kind that is not known.
var ErrKind = errors.New("unknown kind of destination")

// Kind says through which door a destination was made, and so which views it
// takes without being told otherwise.
type Kind uint8

// The kinds. KindQueue takes a queue view, KindTopic subscriptions, KindLog
// both. The Kafka view is open on all three.
const (
	KindQueue Kind = iota + 1
	KindTopic
	KindLog
)

var kindNames = [...]string{KindQueue: "queue", KindTopic: "topic", KindLog: "log"}

// String is "queue", "topic" or "log".
func (k Kind) String() string {
	if k.valid() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

func (k Kind) valid() bool { return k >= KindQueue && k <= KindLog }

// ParseKind is the reverse of String; ErrKind.
func ParseKind(s string) (Kind, error) {
	for k := KindQueue; k <= KindLog; k++ {
		if kindNames[k] == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%w %q", ErrKind, s)
}

// MarshalText writes the kind as String does.
func (k Kind) MarshalText() ([]byte, error) {
	if !k.valid() {
		return nil, fmt.Errorf("%w %d", ErrKind, uint8(k))
	}
	return []byte(kindNames[k]), nil
}

// UnmarshalText is ParseKind.
func (k *Kind) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKind(string(text))
	return err
}

// Destination is a name with its partitions, as the broker's registry holds
// it. It is built once and then only read: a change of settings makes another.
type Destination struct {
	Name       string // as applications say it, not escaped
	ID         [16]byte
	Kind       Kind
	Settings   Settings
	Partitions []*Partition
	Temporary  bool // dies with the connection that made it
	Internal   bool // the broker's own, such as __delivery_state
}

// DeadLetterName is where messages go that could not be delivered, or "" if
// they are dropped. A dead letter destination has none of its own unless it is
// named, so that nothing goes round in circles.
func (d *Destination) DeadLetterName() string {
	switch {
	case d.Settings.DeadLetter == None:
		return ""
	case d.Settings.DeadLetter != "":
		return d.Settings.DeadLetter
	case d.isDeadLetter():
		return ""
	}
	return DeadLetterPrefix + d.Name
}

// DeadLetterPrefix stands before a destination's name in the name of its dead
// letter destination, where the settings do not name another.
const DeadLetterPrefix = "DLQ."

func (d *Destination) isDeadLetter() bool {
	return len(d.Name) > len(DeadLetterPrefix) && d.Name[:len(DeadLetterPrefix)] == DeadLetterPrefix
}

// Route is the partition for a record: by its key, which for a JMS message is
// its group, else by the session that sends it, so that what one session sends
// keeps its order (Jakarta Messaging 3.1 §6.2.9).
func (d *Destination) Route(key []byte, producer uint64) *Partition {
	return d.Partitions[record.Partition(key, producer, len(d.Partitions))]
}
