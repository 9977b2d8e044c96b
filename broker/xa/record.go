package xa

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/destination"
)

// The format is drawn in docs/format/xa-state.md.
const formatVersion = 1

var errRecord = errors.New("unreadable record of a branch")

// entry is a record's value.
type entry struct {
	id         uint64
	state      destination.BranchState
	preparedMS int64
	endedMS    int64 // 0 before a heuristic end
	acks       uint64
	cursors    []destination.CursorID
	sends      []send // of a prepared branch only
	sent       uint64 // records in sends, also when those have gone
	topics     [][16]byte
}

// send is the batches for one partition.
type send struct {
	topic     [16]byte
	partition int32
	batches   []byte
}

func appendKey(dst []byte, x destination.XID) []byte {
	dst = append(dst, formatVersion)
	dst = binary.BigEndian.AppendUint32(dst, uint32(x.Format))
	dst = append(dst, byte(len(x.Global)))
	dst = append(dst, x.Global...)
	return append(dst, x.Branch...)
}

func parseKey(src []byte) (x destination.XID, err error) {
	if len(src) < 6 || src[0] != formatVersion || len(src) < 6+int(src[5]) {
		return x, fmt.Errorf("%w: key", errRecord)
	}
	x.Format = int32(binary.BigEndian.Uint32(src[1:]))
	n := 6 + int(src[5])
	x.Global, x.Branch = string(src[6:n]), string(src[n:])
	if err := x.Check(); err != nil {
		return x, fmt.Errorf("%w: key: %w", errRecord, err)
	}
	return x, nil
}

func appendValue(dst []byte, e *entry) []byte {
	dst = append(dst, formatVersion, byte(e.state))
	dst = binary.AppendUvarint(dst, e.id)
	dst = binary.AppendVarint(dst, e.preparedMS)
	dst = binary.AppendVarint(dst, e.endedMS)
	dst = binary.AppendUvarint(dst, e.acks)
	dst = binary.AppendUvarint(dst, e.sent)
	dst = binary.AppendUvarint(dst, uint64(len(e.cursors)))
	for i := range e.cursors {
		c := &e.cursors[i]
		dst = append(dst, c.Topic[:]...)
		dst = binary.AppendUvarint(dst, uint64(c.Partition))
		dst = binary.AppendUvarint(dst, uint64(len(c.Subscription)))
		dst = append(dst, c.Subscription...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.topics)))
	for i := range e.topics {
		dst = append(dst, e.topics[i][:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.sends)))
	for i := range e.sends {
		s := &e.sends[i]
		dst = append(dst, s.topic[:]...)
		dst = binary.AppendUvarint(dst, uint64(s.partition))
		dst = binary.AppendUvarint(dst, uint64(len(s.batches)))
		dst = append(dst, s.batches...)
	}
	return dst
}

// parseValue's sends are part of src.
func parseValue(src []byte) (e *entry, err error) {
	d := decoder{src: src}
	if d.byte() != formatVersion {
		return nil, fmt.Errorf("%w: of a newer version", errRecord)
	}
	e = &entry{state: destination.BranchState(d.byte()), id: d.uvarint(), preparedMS: d.varint(), endedMS: d.varint(), acks: d.uvarint(), sent: d.uvarint()}
	for range d.count(18) {
		c := destination.CursorID{Topic: d.id(), Partition: d.partition()}
		c.Subscription = string(d.bytes())
		e.cursors = append(e.cursors, c)
	}
	for range d.count(16) {
		e.topics = append(e.topics, d.id())
	}
	for range d.count(18) {
		e.sends = append(e.sends, send{topic: d.id(), partition: d.partition(), batches: d.bytes()})
	}
	if d.bad || len(d.src) > 0 || e.id == 0 || e.state < destination.BranchPrepared || e.state > destination.BranchHeuristicRollback {
		return nil, fmt.Errorf("%w: value", errRecord)
	}
	return e, nil
}

// decoder reads fields; bad says that one was not there.
type decoder struct {
	src []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.src) {
		d.bad = true
		return nil
	}
	b := d.src[:n:n]
	d.src = d.src[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.src)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.take(n)
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.src)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.take(n)
	return v
}

// count is how many follow, of at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.src)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) id() (id [16]byte) {
	copy(id[:], d.take(len(id)))
	return id
}

func (d *decoder) partition() int32 {
	n := d.uvarint()
	if n > 1<<31-1 {
		d.bad = true
		return 0
	}
	return int32(n)
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.src)) {
		d.bad = true
		return nil
	}
	return d.take(int(n))
}
