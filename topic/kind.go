package topic

import (
	"fmt"

	"github.com/polylog-mq/polylog/destination"
)

// Kind says how a subscription is shared and how long it lives.
type Kind uint8

// The kinds of Jakarta Messaging 3.1 §8.3, Exclusive, which is ours, and Kafka's.
const (
	// Durable: (client id, name), one consumer at a time (§8.3.3).
	Durable Kind = iota + 1
	// SharedDurable: any number of consumers share the messages (§8.3.4).
	SharedDurable
	// Shared: as SharedDurable, but gone with its last consumer (§8.3.2).
	Shared
	// Exclusive: durable, any number of consumers, of which one is served at
	// a time while the others stand by.
	Exclusive
	// Temporary: one consumer, no name, gone with it (§8.3.1).
	Temporary
	// ShareGroup: durable, any number of consumers share the messages; made by
	// a Kafka share group (KIP-932), which has one on each of its topics.
	ShareGroup
)

var kindNames = [...]string{
	Durable: "durable", SharedDurable: "shared-durable", Shared: "shared",
	Exclusive: "exclusive", Temporary: "temporary", ShareGroup: "share-group",
}

// String is "durable", "shared-durable", "shared", "exclusive", "temporary" or
// "share-group".
func (k Kind) String() string {
	if k.valid() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind is the reverse of String; ErrInvalid.
func ParseKind(s string) (Kind, error) {
	for k := Durable; k <= ShareGroup; k++ {
		if kindNames[k] == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%w: unknown kind of subscription %q", destination.ErrInvalid, s)
}

func (k Kind) valid() bool { return k >= Durable && k <= ShareGroup }

// durable reports whether a subscription of this kind outlives its consumers.
func (k Kind) durable() bool {
	return k == Durable || k == SharedDurable || k == Exclusive || k == ShareGroup
}

// oneConsumer reports whether a second consumer is refused.
func (k Kind) oneConsumer() bool { return k == Durable || k == Temporary }
