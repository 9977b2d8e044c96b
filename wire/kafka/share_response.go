package kafka

import (
	"encoding/binary"
	"math"
	"net"
	"time"
)

// fetchedShares is the answer to a ShareFetch, encoded by hand: records go out
// from where they were copied to.
type fetchedShares struct {
	version int16
	code    int16
	lock    time.Duration
	topics  []sharedTopic
	index   map[sharedPartitionID]int // where a partition stands in its topic
}

type sharedPartitionID struct {
	topic     [16]byte
	partition int32
}

type sharedTopic struct {
	id         [16]byte
	partitions []sharedPartition
}

type sharedPartition struct {
	number   int32
	code     int16
	text     string
	ackCode  int16
	records  [][]byte
	acquired []acquiredRecords
}

// acquiredRecords are consecutive in offset, and were delivered as often.
type acquiredRecords struct {
	first, last int64
	count       int16
}

// partition is the place of a partition, which it makes if there is none.
func (f *fetchedShares) partition(topic [16]byte, number int32) *sharedPartition {
	at := len(f.topics)
	for i := range f.topics {
		if f.topics[i].id == topic {
			at = i
		}
	}
	if at == len(f.topics) {
		f.topics = append(f.topics, sharedTopic{id: topic})
	}
	t := &f.topics[at]
	id := sharedPartitionID{topic, number}
	i, ok := f.index[id]
	if !ok {
		if f.index == nil {
			f.index = map[sharedPartitionID]int{}
		}
		i = len(t.partitions)
		f.index[id] = i
		t.partitions = append(t.partitions, sharedPartition{number: number})
	}
	return &t.partitions[i]
}

// acquire notes what was delivered, behind what was before.
func (p *sharedPartition) acquire(d *shared) {
	for i := range d.records {
		count := int16(1)
		if d.counts != nil {
			count = int16(min(d.counts[i], math.MaxInt16))
		}
		last := d.offset + int64(i)
		if d.counts == nil {
			last = d.offset + int64(d.records) - 1
		}
		if n := len(p.acquired); n > 0 && p.acquired[n-1].count == count && p.acquired[n-1].last+1 == d.offset+int64(i) {
			p.acquired[n-1].last = last
		} else {
			p.acquired = append(p.acquired, acquiredRecords{d.offset + int64(i), last, count})
		}
		if d.counts == nil {
			return
		}
	}
}

// IsFlexible implements encoder.
func (f *fetchedShares) IsFlexible() bool { return true }

// AppendTo implements encoder.
func (f *fetchedShares) AppendTo(dst []byte) []byte {
	for _, s := range f.segments() {
		dst = append(dst, s...)
	}
	return dst
}

// segments implements segmented.
func (f *fetchedShares) segments() net.Buffers {
	var parts net.Buffers
	var dst []byte
	count := func(n int) { dst = binary.AppendUvarint(dst, uint64(n)+1) }
	text := func(s string) {
		if s == "" {
			dst = append(dst, 0) // null
			return
		}
		count(len(s))
		dst = append(dst, s...)
	}
	dst = binary.BigEndian.AppendUint32(dst, 0) // throttle time
	dst = binary.BigEndian.AppendUint16(dst, uint16(f.code))
	text("")
	dst = binary.BigEndian.AppendUint32(dst, uint32(f.lock.Milliseconds()))
	if f.code != codeNone {
		f.topics = nil
	}
	count(len(f.topics))
	for i := range f.topics {
		t := &f.topics[i]
		dst = append(dst, t.id[:]...)
		count(len(t.partitions))
		for j := range t.partitions {
			p := &t.partitions[j]
			dst = binary.BigEndian.AppendUint32(dst, uint32(p.number))
			dst = binary.BigEndian.AppendUint16(dst, uint16(p.code))
			text(p.text)
			dst = binary.BigEndian.AppendUint16(dst, uint16(p.ackCode))
			text("")
			dst = binary.BigEndian.AppendUint32(dst, math.MaxUint32) // no other leader,
			dst = binary.BigEndian.AppendUint32(dst, math.MaxUint32) // of no epoch
			dst = append(dst, 0)
			size := 0
			for _, r := range p.records {
				size += len(r)
			}
			count(size) // empty, never null: librdkafka refuses that
			if size > 0 {
				parts = append(parts, dst)
				parts = append(parts, p.records...)
				dst = nil
			}
			count(len(p.acquired))
			for _, a := range p.acquired {
				dst = binary.BigEndian.AppendUint64(dst, uint64(a.first))
				dst = binary.BigEndian.AppendUint64(dst, uint64(a.last))
				dst = binary.BigEndian.AppendUint16(dst, uint16(a.count))
				dst = append(dst, 0)
			}
			dst = append(dst, 0)
		}
		dst = append(dst, 0)
	}
	count(0) // node endpoints
	dst = append(dst, 0)
	return append(parts, dst)
}

// release implements segmented.
func (f *fetchedShares) release() { *f = fetchedShares{} }
