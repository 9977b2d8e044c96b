package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/broker/txn"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// openCoordinators opens those of groups, of transactions and of branches, in
// this order: transactions that were prepared end in groups too.
func (b *Broker) openCoordinators() (err error) {
	b.groups, err = group.Open(group.Options{
		Offsets:   func() (*destination.Destination, error) { return b.own(group.TopicName, group.Settings()) },
		Find:      func() (*destination.Destination, error) { return b.find(context.Background(), group.TopicName) },
		Topic:     b.topicNamed,
		TopicByID: b.topicWithID,
		Topics:    b.topicsOfAll,
		Settings:  b.settingsOf,
		Now:       b.o.Now,
		Logger:    b.o.Logger,
	})
	if err != nil {
		return fmt.Errorf("open the groups: %w", err)
	}
	b.transactions, err = txn.Open(txn.Options{
		Log:  func() (*destination.Destination, error) { return b.own(txn.TopicName, txn.Settings()) },
		Find: func() (*destination.Destination, error) { return b.find(context.Background(), txn.TopicName) },
		Partition: func(topic string, partition int32) (txn.Partition, error) {
			d, err := b.topicNamed(topic)
			if err != nil {
				return nil, err
			}
			if partition < 0 || int(partition) >= len(d.Partitions) {
				return nil, fmt.Errorf("%w: partition %d of %q", destination.ErrNotFound, partition, d.Name)
			}
			return d.Partitions[partition], nil
		},
		Groups:              b.groups,
		NextProducerIDBlock: b.nextProducerIDs,
		Now:                 b.o.Now,
		Logger:              b.o.Logger,
	})
	if err != nil {
		return fmt.Errorf("open the transactions: %w", err)
	}
	return b.openBranches()
}

// Groups coordinates consumer groups and share groups.
func (b *Broker) Groups() *group.Coordinator { return b.groups }

// Transactions coordinates Kafka's transactions.
func (b *Broker) Transactions() *txn.Coordinator { return b.transactions }

// ProducerExpiration is how long logs remember an idle producer, by default as
// long as commitlog says.
func (b *Broker) ProducerExpiration() time.Duration {
	return cmp.Or(b.o.Log.ProducerExpiration, 24*time.Hour)
}

// own finds or makes a destination of the broker's own.
func (b *Broker) own(name string, s destination.Settings) (*destination.Destination, error) {
	ctx := context.Background()
	d, err := b.find(ctx, name)
	if errors.Is(err, destination.ErrNotFound) {
		d, err = b.create(ctx, name, destination.KindLog, s, false)
	}
	return d, err
}

// topicNamed finds what Kafka calls a topic: ErrNotFound.
func (b *Broker) topicNamed(topic string) (*destination.Destination, error) {
	d, err := b.find(context.Background(), record.DestinationName(topic))
	if err == nil && d.Temporary {
		return nil, fmt.Errorf("%w: topic %q", destination.ErrNotFound, topic)
	}
	return d, err
}

func (b *Broker) topicWithID(id [16]byte) (*destination.Destination, error) {
	if d := b.current(id); d != nil && !d.Temporary {
		return d, nil
	}
	return nil, fmt.Errorf("%w: topic id %x", destination.ErrNotFound, id)
}

// EnsureCoordinator makes what the coordinator of groups, or of transactions,
// keeps its records in, as Kafka does when somebody asks who that is.
func (b *Broker) EnsureCoordinator(transactions bool) error {
	name, settings := group.TopicName, group.Settings
	if transactions {
		name, settings = txn.TopicName, txn.Settings
	}
	_, err := b.own(name, settings())
	return err
}

// topicsOfAll are those that a group may subscribe to by a pattern.
func (b *Broker) topicsOfAll() []*destination.Destination {
	all := b.entries()
	kept := all[:0]
	for _, d := range all {
		if !d.Temporary && d.Name != destination.DeliveryStateName {
			kept = append(kept, d)
		}
	}
	return kept
}

const (
	producerIDFact  = "producer.id.next"
	producerIDBlock = 1000 // as in Kafka
)

// nextProducerIDs gives out producer ids, durably. The coordinator asks for one
// block at a time.
func (b *Broker) nextProducerIDs() (first int64, n int, err error) {
	b.producerIDs.Lock()
	defer b.producerIDs.Unlock()
	first = b.nextProducerID
	if err := b.metadata.PutFact(producerIDFact, strconv.FormatInt(first+producerIDBlock, 10)); err != nil {
		return 0, 0, err
	}
	b.nextProducerID = first + producerIDBlock
	return first, producerIDBlock, nil
}

// raiseProducerIDs has no id below next given out any more.
func (b *Broker) raiseProducerIDs(next int64) error {
	b.producerIDs.Lock()
	defer b.producerIDs.Unlock()
	if next <= b.nextProducerID {
		return nil
	}
	b.nextProducerID = next
	return b.metadata.PutFact(producerIDFact, strconv.FormatInt(next, 10))
}

// restoreProducerIDs reads where the next block begins.
func (b *Broker) restoreProducerIDs(fact string) (err error) {
	if fact == "" {
		return nil
	}
	if b.nextProducerID, err = strconv.ParseInt(fact, 10, 64); err != nil {
		return fmt.Errorf("metadata: %s: %w", producerIDFact, err)
	}
	return nil
}

// regroup tells the groups that a topic was made, has more partitions, or is gone.
func (b *Broker) regroup(d *destination.Destination) {
	if b.groups != nil && !d.Internal && !d.Temporary {
		b.groups.Changed(d.ID)
	}
}
