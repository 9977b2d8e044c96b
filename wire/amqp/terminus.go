package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/topic"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// The capabilities that say what a node is (AMQP JMS mapping §2.3), and how a
// subscription is shared.
const (
	capQueue          codec.Symbol = "queue"
	capTopic          codec.Symbol = "topic"
	capTemporaryQueue codec.Symbol = "temporary-queue"
	capTemporaryTopic codec.Symbol = "temporary-topic"
	capShared         codec.Symbol = "shared"
	capGlobal         codec.Symbol = "global"
	capLocal          codec.Symbol = "amqp:local-transactions"
	capRelay          codec.Symbol = "ANONYMOUS-RELAY"
)

// address reads the address of a terminus. A prefix says what it is, else a
// capability does; 0 is whatever there is. A temporary destination is never made by
// its name.
func address(text string, capabilities []codec.Symbol) (name string, kind destination.Kind) {
	for _, p := range [...]struct {
		prefix string
		kind   destination.Kind
	}{
		{"queue://", destination.KindQueue}, {"topic://", destination.KindTopic}, {"temp-queue://", 0}, {"temp-topic://", 0},
	} {
		if rest, ok := strings.CutPrefix(text, p.prefix); ok && !strings.Contains(rest, ",") {
			return rest, p.kind
		}
	}
	switch {
	case slices.Contains(capabilities, capQueue):
		return text, destination.KindQueue
	case slices.Contains(capabilities, capTopic):
		return text, destination.KindTopic
	}
	return text, 0
}

// resolve returns a destination. What nobody has said the kind of is what there is,
// or else a queue.
func (c *connection) resolve(ctx context.Context, name string, kind destination.Kind, mayCreate bool) (*destination.Destination, error) {
	d, err := c.state.Resolve(ctx, name, kind)
	if kind == 0 && mayCreate && errors.Is(err, session.ErrNotFound) {
		return c.state.Resolve(ctx, name, destination.KindQueue)
	}
	return d, err
}

// mayCreate says whether a node that is not there may be made.
func mayCreate(capabilities []codec.Symbol) bool {
	return !slices.Contains(capabilities, capTemporaryQueue) && !slices.Contains(capabilities, capTemporaryTopic)
}

// sendable refuses what the peer may not send to.
func (c *connection) sendable(d *destination.Destination) error {
	if d.Internal {
		return fmt.Errorf("%w: %q is the broker's own", session.ErrUnauthorized, d.Name)
	}
	return c.state.Authorize(session.OperationSend, d.Name)
}

// temporary makes the destination of a dynamic node (§3.5.10).
func (c *connection) temporary(ctx context.Context, capabilities []codec.Symbol) (*destination.Destination, error) {
	kind := destination.KindQueue
	if slices.Contains(capabilities, capTemporaryTopic) || slices.Contains(capabilities, capTopic) {
		kind = destination.KindTopic
	}
	return c.state.CreateTemporary(ctx, kind)
}

// dynamicNode is what an attach says of a node that was made.
var dynamicNode = codec.Map{{
	Key: codec.Symbol("lifetime-policy"), Value: &codec.Described{Descriptor: codec.LifetimeDeleteOnClose, Value: codec.List{}},
}}

// The filters that are known, by the names and numbers of their descriptors.
const (
	filterSelector       = "apache.org:selector-filter:string"
	filterSelectorNumber = uint64(0x468C00000004)
	filterNoLocal        = "apache.org:no-local-filter:list"
	filterNoLocalNumber  = uint64(0x468C00000003)
)

// filters reads those of a source, and returns the ones that are heeded.
func filters(all codec.Map) (selector string, noLocal bool, heeded codec.Map, err error) {
	for _, f := range all {
		d, ok := f.Value.(*codec.Described)
		if !ok {
			if f.Value != nil {
				return "", false, nil, broken(codec.InvalidField, "filter %v is not a described value", f.Key)
			}
			continue
		}
		switch d.Descriptor {
		case codec.Symbol(filterSelector), filterSelectorNumber:
			if selector, ok = d.Value.(string); !ok {
				return "", false, nil, broken(codec.InvalidField, "a selector that is not a string")
			}
		case codec.Symbol(filterNoLocal), filterNoLocalNumber:
			noLocal = true
		default:
			continue // §3.5.8: what is not heeded is not in the answer
		}
		heeded = append(heeded, f)
	}
	return selector, noLocal, heeded, nil
}

// subscriptionName is the name of a shared subscription, which its links add to:
// NAME, NAME|2, NAME|global, NAME|volatile1.
func subscriptionName(link string) string {
	name, _, _ := strings.Cut(link, "|")
	return name
}

// spec says what a source is a consumer of; browse is set for a browser.
func (c *connection) spec(ctx context.Context, p *codec.Attach) (spec session.Spec, browse bool, heeded codec.Map, err error) {
	src := p.Source
	selector, noLocal, heeded, err := filters(src.Filter)
	if err != nil {
		return spec, false, nil, err
	}
	if !src.Address.Set || src.Address.V == "" {
		return spec, false, nil, broken(codec.InvalidField, "a source without an address")
	}
	name, kind := address(src.Address.V, src.Capabilities)
	if kind == 0 && !destination.IsPattern(name) {
		d, err := c.resolve(ctx, name, 0, mayCreate(src.Capabilities))
		if err != nil {
			return spec, false, nil, err
		}
		if kind = destination.KindQueue; d.Kind == destination.KindTopic {
			kind = destination.KindTopic
		}
		if d.Temporary {
			spec.DestinationKind = 0
		} else {
			spec.DestinationKind = d.Kind
		}
	} else {
		if kind == 0 {
			kind = destination.KindQueue
		}
		spec.DestinationKind = kind
	}
	spec.Destination, spec.Selector = name, selector
	if kind != destination.KindTopic {
		return spec, src.DistributionMode == codec.DistributionCopy, heeded, nil
	}
	spec.NoLocal = noLocal
	shared := slices.Contains(src.Capabilities, capShared)
	durable := src.Durable != codec.DurabilityNone || src.Expiry == codec.ExpireNever
	spec.Global = shared && slices.Contains(src.Capabilities, capGlobal)
	switch {
	case shared && durable:
		spec.Subscription, spec.Name = topic.SharedDurable, subscriptionName(p.Name)
	case shared:
		spec.Subscription, spec.Name = topic.Shared, subscriptionName(p.Name)
	case durable:
		spec.Subscription, spec.Name = topic.Durable, p.Name
	default:
		spec.Subscription = topic.Temporary
	}
	return spec, false, heeded, nil
}

// stored returns the subscription that an attach without a source asks for: AMQP
// JMS mapping §5.3, how it is unsubscribed from.
func (c *connection) stored(ctx context.Context, p *codec.Attach) (s subscription, source *codec.Source, err error) {
	s.shared = slices.Contains(p.Desired, capShared)
	s.global = s.shared && slices.Contains(p.Desired, capGlobal)
	s.name = p.Name
	if s.shared {
		s.name = subscriptionName(p.Name)
	}
	q := session.SubscriptionQuery{Name: s.name}
	if !s.global {
		q.ClientID = c.state.ClientID()
	}
	all, err := c.server.broker.ListSubscriptions(ctx, q)
	if err != nil {
		return s, nil, err
	}
	for _, info := range all {
		// A client of its own id does not say whether it is shared.
		switch {
		case info.Name != s.name || info.ClientID != q.ClientID:
			continue
		case info.Kind == topic.SharedDurable:
			s.shared = true
		case info.Kind != topic.Durable || s.shared:
			continue
		}
		source = &codec.Source{
			Address: codec.SomeString(info.Topic), Durable: codec.DurabilityUnsettled, Expiry: codec.ExpireNever,
			DistributionMode: codec.DistributionCopy, Capabilities: []codec.Symbol{capTopic},
		}
		if s.shared {
			source.Capabilities = append(source.Capabilities, capShared)
		}
		if s.global {
			source.Capabilities = append(source.Capabilities, capGlobal)
		}
		return s, source, nil
	}
	return s, nil, fmt.Errorf("subscription %q: %w", s.name, session.ErrNotFound)
}

// subscription is a durable one, by what the peer calls it.
type subscription struct {
	name           string
	shared, global bool
}

func (c *connection) unsubscribe(ctx context.Context, s subscription) error {
	if s.global {
		return c.state.UnsubscribeGlobal(ctx, s.name)
	}
	return c.state.Unsubscribe(ctx, s.name, s.shared)
}
