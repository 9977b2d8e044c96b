package txn

import (
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestPartitionOf has what Java's "…".hashCode() & 0x7fffffff gives.
func TestPartitionOf(t *testing.T) {
	for _, row := range []struct {
		name string
		hash int32
	}{
		{"", 0},
		{"a", 97},
		{"hello", 99162322},
		{"polygenelubricants", 0}, // MIN_VALUE
		{"\u00e9", 233},
		{"\U0001F600", 55357*31 + 56832},
	} {
		const partitions = 1<<31 - 1
		if got := partitionOf(row.name, partitions); got != row.hash {
			t.Errorf("%q: %d, want %d", row.name, got, row.hash)
		}
	}
}

// TestRecordBytes is the layout of Kafka's TransactionLogKey and
// TransactionLogValue, version 1, both ways.
func TestRecordBytes(t *testing.T) {
	for _, row := range []struct {
		m   metadata
		hex string
	}{
		{
			metadata{
				producerID: 0x0102, previousID: noID, nextID: noID, epoch: 3, lastEpoch: noEpoch, timeoutMS: 60000,
				state: empty, startMS: noTime, updatedMS: 0x0a0b,
			},
			"0001" + "0000000000000102" + "0003" + "0000ea60" + "00" + "00" + "0000000000000a0b" + "ffffffffffffffff" + "00",
		},
		{
			metadata{
				producerID: 5, previousID: 4, nextID: 6, epoch: maxEpoch, lastEpoch: noEpoch, timeoutMS: 1,
				state: prepareCommit, version: version2, startMS: 8, updatedMS: 9, topics: topics("ab", 1, 7),
			},
			"0001" + "0000000000000005" + "7fff" + "00000001" + "02" +
				"02" + "036162" + "03" + "00000001" + "00000007" + "00" +
				"0000000000000009" + "0000000000000008" +
				"03" + "0008" + "0000000000000004" + "0108" + "0000000000000006" + "0202" + "0002",
		},
		{
			metadata{
				producerID: 5, previousID: noID, nextID: noID, epoch: 2, lastEpoch: 1, timeoutMS: 1,
				state: completeAbort, startMS: 8, updatedMS: 9, groups: nil,
			},
			"0001" + "0000000000000005" + "0002" + "00000001" + "05" + "01" + "0000000000000009" + "0000000000000008" +
				"01" + "ece001" + "04" + "01" + "0001" + "00",
		},
		{
			metadata{
				producerID: 5, previousID: noID, nextID: noID, epoch: 2, lastEpoch: noEpoch, timeoutMS: 1,
				state: ongoing, startMS: 8, updatedMS: 9, topics: topics(OffsetsTopicName, 3), groups: []string{"g", "hh"},
			},
			"0001" + "0000000000000005" + "0002" + "00000001" + "01" +
				"02" + "13" + hex.EncodeToString([]byte(OffsetsTopicName)) + "02" + "00000003" + "00" +
				"0000000000000009" + "0000000000000008" +
				"01" + "ece001" + "09" + "01" + "ffff" + "02" + "0167" + "026868",
		},
	} {
		got := appendValue(nil, &row.m)
		if hex.EncodeToString(got) != row.hex {
			t.Errorf("%s:\n got %x\nwant %s", row.m.state, got, row.hex)
		}
		back, err := parseValue(got)
		if err != nil || !reflect.DeepEqual(back, row.m) {
			t.Errorf("%s: read back %+v, %v", row.m.state, back, err)
		}
	}
	key := appendKey(nil, "abc")
	if hex.EncodeToString(key) != "00000003616263" {
		t.Errorf("key %x", key)
	}
	if id, err := parseKey(key); id != "abc" || err != nil {
		t.Errorf("key read back: %q, %v", id, err)
	}
}

// TestValueVersion0 reads what brokers before transaction.version 1 wrote.
func TestValueVersion0(t *testing.T) {
	v := kmsg.NewTxnMetadataValue()
	v.ProducerID, v.ProducerEpoch, v.State, v.TimeoutMillis = 5, 2, 1, 7
	v.Topics = append(topics("b", 2, 1, 2), topics("a", 0)...)
	v.Topics = append(v.Topics, topics("b", 9)...)
	m, err := parseValue(v.AppendTo(nil))
	if err != nil || !reflect.DeepEqual(m.topics, append(topics("a", 0), topics("b", 1, 2, 9)...)) || m.lastEpoch != noEpoch || m.nextID != noID {
		t.Errorf("%+v, %v", m, err)
	}
}

// FuzzRecord reads what nobody wrote. Values are of version 0, to which our own
// field is given apart: kmsg counts tags for minutes if it is told to.
func FuzzRecord(f *testing.F) {
	m := at(ongoing).current
	m.groups = []string{"g", "h"}
	f.Add(appendKey(nil, "id"), appendValue(nil, &m)[2:], appendOwn(nil, &m))
	f.Add([]byte{0, 0, 0}, []byte{0, 9}, []byte{1, 0, 0, 9})
	f.Fuzz(func(t *testing.T, key, value, own []byte) {
		if id, err := parseKey(key); err == nil && len(id) > maxIDBytes {
			t.Errorf("an id of %d bytes", len(id))
		}
		m, err := parseValue(append([]byte{0, 0}, value...))
		if err != nil || m.parseOwn(own) != nil {
			return
		}
		if m.state == empty {
			m.topics = nil
		}
		again, err := parseValue(appendValue(nil, &m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}
