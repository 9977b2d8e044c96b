package txn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TopicName is the internal destination that holds the coordinator's records.
const TopicName = "__transaction_state"

// OffsetsTopicName is the topic in which transactions have their groups.
const OffsetsTopicName = "__consumer_offsets"

const (
	keyVersion = 0
	// valueVersion is what Kafka writes from transaction.version 1 on.
	valueVersion = 1

	// ownTag is a tagged field of the value that Kafka does not know and
	// therefore passes over. Kafka has the partitions of __consumer_offsets in
	// the record, not the groups, and forgets lastEpoch at a restart.
	//
	//	version    uint8   1
	//	lastEpoch  int16
	//	groups     uvarint, then for each: uvarint length, name
	ownTag     = 0x706c
	ownVersion = 1

	// maxIDBytes is what fits into the key.
	maxIDBytes = 1<<15 - 1
)

// errRecord is a record of another version, or damage.
var errRecord = errors.New("unreadable record of a transactional id")

func appendKey(dst []byte, id string) []byte {
	key := kmsg.TxnMetadataKey{Version: keyVersion, TransactionalID: id}
	return key.AppendTo(dst)
}

func parseKey(src []byte) (id string, err error) {
	if len(src) < 2 || binary.BigEndian.Uint16(src) != keyVersion {
		return "", fmt.Errorf("%w: key", errRecord)
	}
	var key kmsg.TxnMetadataKey
	if err := key.ReadFrom(src); err != nil {
		return "", fmt.Errorf("%w: key: %w", errRecord, err)
	}
	return key.TransactionalID, nil
}

func appendValue(dst []byte, m *metadata) []byte {
	value := kmsg.NewTxnMetadataValue()
	value.Version = valueVersion
	value.ProducerID, value.ProducerEpoch = m.producerID, m.epoch
	value.PreviousProducerID, value.NextProducerID = m.previousID, m.nextID
	value.TimeoutMillis = m.timeoutMS
	value.State = kmsg.TransactionState(m.state)
	value.LastUpdateTimestamp, value.StartTimestamp = m.updatedMS, m.startMS
	value.ClientTransactionVersion = m.version
	if m.state != empty { // Kafka has null there
		value.Topics = m.topics
		if value.Topics == nil {
			value.Topics = []kmsg.TxnMetadataValueTopic{}
		}
	}
	if m.lastEpoch != noEpoch || len(m.groups) > 0 {
		value.UnknownTags.Set(ownTag, appendOwn(nil, m))
	}
	return value.AppendTo(dst)
}

func appendOwn(dst []byte, m *metadata) []byte {
	dst = append(dst, ownVersion)
	dst = binary.BigEndian.AppendUint16(dst, uint16(m.lastEpoch))
	dst = binary.AppendUvarint(dst, uint64(len(m.groups)))
	for _, g := range m.groups {
		dst = binary.AppendUvarint(dst, uint64(len(g)))
		dst = append(dst, g...)
	}
	return dst
}

func parseValue(src []byte) (m metadata, err error) {
	if len(src) < 2 || binary.BigEndian.Uint16(src) > valueVersion {
		return m, fmt.Errorf("%w: value", errRecord)
	}
	var value kmsg.TxnMetadataValue
	if err := value.ReadFrom(src); err != nil {
		return m, fmt.Errorf("%w: value: %w", errRecord, err)
	}
	m = metadata{
		producerID: value.ProducerID, previousID: value.PreviousProducerID, nextID: value.NextProducerID,
		epoch: value.ProducerEpoch, lastEpoch: noEpoch, timeoutMS: value.TimeoutMillis, state: state(value.State),
		version: value.ClientTransactionVersion, startMS: value.StartTimestamp, updatedMS: value.LastUpdateTimestamp,
	}
	if !m.state.valid() || m.state == dead || m.state == prepareEpochFence || m.epoch < 0 || m.producerID < 0 {
		return m, fmt.Errorf("%w: producer %d, epoch %d, state %d", errRecord, m.producerID, m.epoch, m.state)
	}
	if len(value.Topics) > 0 {
		m.topics = sortTopics(value.Topics)
	}
	value.UnknownTags.Each(func(tag uint32, data []byte) {
		if tag == ownTag && err == nil {
			err = m.parseOwn(data)
		}
	})
	return m, err
}

// sortTopics sorts in place, and joins what was there twice.
func sortTopics(topics []kmsg.TxnMetadataValueTopic) []kmsg.TxnMetadataValueTopic {
	for i := range topics {
		slices.Sort(topics[i].Partitions)
		topics[i].Partitions = slices.Compact(topics[i].Partitions)
	}
	slices.SortStableFunc(topics, func(a, b kmsg.TxnMetadataValueTopic) int { return strings.Compare(a.Topic, b.Topic) })
	joined := topics[:0]
	for _, t := range topics {
		if n := len(joined); n > 0 && joined[n-1].Topic == t.Topic {
			joined[n-1].Partitions = mergeSorted(joined[n-1].Partitions, t.Partitions)
			continue
		}
		joined = append(joined, t)
	}
	return joined
}

func (m *metadata) parseOwn(data []byte) error {
	if len(data) < 3 || data[0] != ownVersion {
		return fmt.Errorf("%w: field of polylog, version %d", errRecord, slices.Concat(data, []byte{0})[0])
	}
	m.lastEpoch = int16(binary.BigEndian.Uint16(data[1:]))
	data = data[3:]
	count, n := binary.Uvarint(data)
	if n <= 0 || count > uint64(len(data)) {
		return fmt.Errorf("%w: groups", errRecord)
	}
	data = data[n:]
	for range count {
		size, n := binary.Uvarint(data)
		if n <= 0 || size > uint64(len(data)-n) {
			return fmt.Errorf("%w: groups", errRecord)
		}
		m.groups = append(m.groups, string(data[n:n+int(size)]))
		data = data[n+int(size):]
	}
	slices.Sort(m.groups)
	return nil
}

// partitionOf is where the records of a name are: Java's String.hashCode
// without its sign, modulo the partitions. Kafka has its transactional ids and
// its groups there.
func partitionOf(name string, partitions int) int32 {
	var hash int32
	for _, r := range name {
		if r1, r2 := utf16.EncodeRune(r); r1 != '\uFFFD' {
			hash = hash*31 + int32(r1)
			r = r2
		}
		hash = hash*31 + int32(r)
	}
	return (hash & 0x7fffffff) % int32(partitions)
}
