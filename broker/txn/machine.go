package txn

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	noID    int64 = -1
	noEpoch int16 = -1
	noTime  int64 = -1

	// maxEpoch is kept for the coordinator: a client gets at most one less, so
	// that there is always an epoch left to fence it with.
	maxEpoch = math.MaxInt16

	// The transaction versions of clients. In the first a transaction keeps
	// its epoch; in the second every end raises it (KIP-890 part 2).
	version0 int16 = 0
	version2 int16 = 2
)

// exhausted says that no client can get a higher epoch: it needs a new
// producer id.
func exhausted(epoch int16) bool { return epoch >= maxEpoch-1 }

// metadata is what a record says of a transactional id. It is a value: what it
// refers to is never changed in place.
type metadata struct {
	producerID int64
	previousID int64 // the producer id before the last change
	nextID     int64 // after the end, where the epoch is exhausted; else noID
	epoch      int16
	lastEpoch  int16 // what the producer had before, to know a retry by
	timeoutMS  int32
	state      state
	version    int16 // the client's transaction version
	startMS    int64 // of the transaction; noTime while there is none
	updatedMS  int64
	topics     []kmsg.TxnMetadataValueTopic // sorted, as are the partitions
	groups     []string                     // whose offsets are in the transaction; sorted
}

// machine is one transactional id. It does no I/O and reads no clock. Its
// methods answer a request and, if the answer needs a record, put what it says
// into next; then nothing else is accepted until appended is called.
//
// Invariants: while next is not nil, current does not change. (producerID,
// epoch) only rises: the epoch under one producer id, and to new producer ids.
// A state is followed only by one that may follow it.
type machine struct {
	current metadata
	next    *metadata // is being written; nil when nothing is
}

// answer is what a request gets. Unless write is nil, code is for when that is
// durable.
type answer struct {
	code   int16
	write  *metadata
	needID bool // ask again with a new producer id; nothing else counts
}

func refuse(code int16) answer { return answer{code: code} }

// created is an id that nobody has used yet.
func created(producerID int64, nowMS int64) machine {
	return machine{current: metadata{
		producerID: producerID, previousID: noID, nextID: noID, epoch: noEpoch, lastEpoch: noEpoch,
		startMS: noTime, updatedMS: nowMS,
	}}
}

// busy says that a change is under way: a record is being written, or markers.
func (m *machine) busy() bool { return m.next != nil || m.current.state.prepared() }

// initRequest asks for an epoch. id and epoch are what the client has, or noID
// and noEpoch (KIP-360).
type initRequest struct {
	id        int64
	epoch     int16
	timeoutMS int32
	newID     int64 // noID until the machine has asked for one
	nowMS     int64
}

// initProducerID raises the epoch. An open transaction is aborted first: the
// answer is then CONCURRENT_TRANSACTIONS, and the client asks again.
func (m *machine) initProducerID(r initRequest) answer {
	c := &m.current
	switch {
	case m.busy():
		return refuse(codeConcurrentTransactions)
	case r.id != noID && c.epoch != noEpoch && r.id != c.producerID && (r.id != c.previousID || !exhausted(r.epoch)):
		// Somebody else has the transactional id. The previous producer id is
		// good only for asking again for the one that followed it.
		return refuse(codeProducerFenced)
	case c.state == ongoing && r.epoch != noEpoch && r.epoch != c.epoch:
		// Kafka would abort the other's transaction and say so when asked again.
		return refuse(codeProducerFenced)
	case c.state == ongoing:
		a := m.fence(r.newID, r.nowMS)
		if !a.needID {
			a.code = codeConcurrentTransactions
		}
		return a
	}
	n := *c
	n.state, n.timeoutMS, n.updatedMS = empty, r.timeoutMS, r.nowMS
	n.startMS, n.nextID, n.topics, n.groups = noTime, noID, nil, nil
	switch {
	case r.epoch != noEpoch && r.epoch != c.epoch && c.epoch != noEpoch:
		// Asked again, or fenced: a newer producer's request has set lastEpoch to noEpoch.
		if r.epoch != c.lastEpoch {
			return refuse(codeProducerFenced)
		}
		return m.enter(n)
	case exhausted(c.epoch):
		if r.newID == noID {
			return answer{needID: true}
		}
		n.producerID, n.epoch, n.lastEpoch = r.newID, 0, noEpoch
	default:
		n.epoch, n.lastEpoch = c.epoch+1, noEpoch
	}
	n.previousID = c.producerID
	if r.epoch != noEpoch {
		n.lastEpoch = c.epoch
	}
	return m.enter(n)
}

// addRequest puts partitions and groups into the transaction, which begins
// with the first.
type addRequest struct {
	id      int64
	epoch   int16
	version int16
	topics  []kmsg.TxnMetadataValueTopic // sorted
	groups  []string                     // sorted
	nowMS   int64
}

func (m *machine) add(r addRequest) answer {
	c := &m.current
	switch {
	case m.busy():
		// First of all: the producer may know the next producer id already.
		return refuse(codeConcurrentTransactions)
	case r.id != c.producerID:
		return refuse(codeInvalidProducerIDMapping)
	case r.epoch != c.epoch:
		return refuse(codeProducerFenced)
	case c.state == ongoing && c.containsAll(r.topics, r.groups):
		return refuse(codeNone)
	}
	n := *c
	if c.state != ongoing {
		n.startMS, n.topics, n.groups = r.nowMS, nil, nil
	}
	n.state, n.version, n.updatedMS, n.previousID = ongoing, r.version, r.nowMS, c.producerID
	n.topics, n.groups = mergeTopics(n.topics, r.topics), mergeSorted(n.groups, r.groups)
	return m.enter(n)
}

// verify says whether a producer has an open transaction that a record may go
// into; the caller looks whether the partition is in it.
func (m *machine) verify(id int64, epoch int16) int16 {
	c := &m.current
	switch {
	case id != c.producerID:
		return codeInvalidProducerIDMapping
	case epoch != c.epoch:
		return codeProducerFenced
	case c.state.prepared(), m.next != nil && m.next.state != ongoing:
		return codeConcurrentTransactions
	case c.state != ongoing:
		return codeInvalidTxnState
	}
	return codeNone
}

// endRequest ends the transaction.
type endRequest struct {
	id      int64
	epoch   int16
	commit  bool
	version int16
	newID   int64 // noID until the machine has asked for one
	nowMS   int64
}

func (r *endRequest) prepare() state {
	if r.commit {
		return prepareCommit
	}
	return prepareAbort
}

func (r *endRequest) complete() state {
	if r.commit {
		return completeCommit
	}
	return completeAbort
}

func (m *machine) end(r endRequest) answer {
	if r.version >= version2 {
		return m.endRaising(r)
	}
	c := &m.current
	switch {
	case r.id != c.producerID:
		return refuse(codeInvalidProducerIDMapping)
	case r.epoch != c.epoch:
		return refuse(codeProducerFenced)
	case m.busy():
		return refuse(codeConcurrentTransactions)
	case c.state == ongoing:
		return m.prepare(r.prepare(), version0, noID, r.nowMS)
	case c.state == r.complete():
		return refuse(codeNone) // asked again
	}
	return refuse(codeInvalidTxnState)
}

// endRaising ends a transaction and raises the epoch, so that nothing of it
// can come late (KIP-890 part 2). The epoch tells a request that is asked
// again from the next one. Without a transaction an abort raises the epoch all
// the same: a client that does not know what became of its transaction asks
// for that.
//
//	                 abort again  abort  commit again  commit
//	Empty            fenced       raise  fenced        invalid state
//	CompleteAbort    none         raise  invalid       invalid state
//	CompleteCommit   invalid      raise  none          invalid state
func (m *machine) endRaising(r endRequest) answer {
	c := &m.current
	if m.busy() {
		return refuse(codeConcurrentTransactions)
	}
	complete := c.state == completeCommit || c.state == completeAbort
	rotated := complete && r.id == c.previousID && r.id != c.producerID && r.epoch == maxEpoch-1 && c.epoch == 0
	again := rotated || complete && r.id == c.producerID && int(r.epoch)+1 == int(c.epoch)
	switch {
	case r.id != c.producerID && !rotated:
		return refuse(codeInvalidProducerIDMapping)
	case r.epoch != c.epoch && !again:
		return refuse(codeProducerFenced)
	case again && c.state == r.complete():
		return refuse(codeNone)
	case again, c.state != ongoing && r.commit:
		return refuse(codeInvalidTxnState)
	}
	return m.prepare(r.prepare(), version2, r.newID, r.nowMS)
}

// timeout aborts a transaction that was open for too long.
func (m *machine) timeout(newID, nowMS int64) answer {
	if m.busy() || m.current.state != ongoing || nowMS < m.current.deadlineMS() {
		return refuse(codeNone)
	}
	return m.fence(newID, nowMS)
}

// deadlineMS is when an open transaction times out.
func (c *metadata) deadlineMS() int64 { return c.startMS + int64(c.timeoutMS) }

// fence aborts an open transaction with a raised epoch, which its producer
// does not have. It is the coordinator's own end, of the newest version.
func (m *machine) fence(newID, nowMS int64) answer {
	return m.prepare(prepareAbort, version2, newID, nowMS)
}

// prepare decides the outcome.
func (m *machine) prepare(to state, version int16, newID, nowMS int64) answer {
	c := &m.current
	n := *c
	if version >= version2 {
		if exhausted(c.epoch) {
			if newID == noID {
				return answer{needID: true}
			}
			n.nextID = newID
		}
		n.epoch, n.lastEpoch = min(c.epoch, maxEpoch-1)+1, c.epoch
	}
	if c.state != ongoing {
		n.startMS, n.topics, n.groups = nowMS, nil, nil
	}
	n.state, n.version, n.updatedMS, n.previousID = to, version, nowMS, c.producerID
	return m.enter(n)
}

// completed is what is true once all markers are written.
func (m *machine) completed(nowMS int64) metadata {
	n := m.current
	n.state = completeAbort
	if m.current.state == prepareCommit {
		n.state = completeCommit
	}
	n.previousID = n.producerID
	n.producerID, n.epoch = n.following()
	n.nextID, n.topics, n.groups, n.updatedMS = noID, nil, nil, nowMS
	return n
}

// following is the id and epoch that the producer goes on with.
func (c *metadata) following() (id int64, epoch int16) {
	if c.nextID != noID {
		return c.nextID, 0
	}
	return c.producerID, c.epoch
}

// complete goes on without waiting for the record to be durable: if that is
// lost, so is whatever was written after it, and the markers are written again.
func (m *machine) complete(n metadata) {
	if !n.state.mayFollow(m.current.state) || m.next != nil {
		panic(fmt.Sprintf("txn: %s completes as %s", m.current.state, n.state))
	}
	m.current = n
}

// expire forgets an id that was not used for a while; the record is a tombstone.
func (m *machine) expire(nowMS, afterMS int64) answer {
	c := &m.current
	if m.busy() || !c.state.settled() || c.updatedMS > nowMS-afterMS {
		return refuse(codeNone)
	}
	n := *c
	n.state, n.topics, n.groups = dead, nil, nil
	return m.enter(n)
}

// enter begins a transition.
func (m *machine) enter(n metadata) answer {
	if !n.state.mayFollow(m.current.state) {
		panic(fmt.Sprintf("txn: %s after %s", n.state, m.current.state))
	}
	m.next = &n
	return answer{write: m.next}
}

// appended ends a transition: what was being written is true, or never was.
func (m *machine) appended(durable bool) {
	if durable {
		m.current = *m.next
	}
	m.next = nil
}

// contains says whether a partition is in the transaction.
func (c *metadata) contains(topic string, partition int32) bool {
	i, found := findTopic(c.topics, topic)
	if !found {
		return false
	}
	_, found = slices.BinarySearch(c.topics[i].Partitions, partition)
	return found
}

func (c *metadata) containsAll(topics []kmsg.TxnMetadataValueTopic, groups []string) bool {
	for i := range topics {
		for _, p := range topics[i].Partitions {
			if !c.contains(topics[i].Topic, p) {
				return false
			}
		}
	}
	for _, g := range groups {
		if _, found := slices.BinarySearch(c.groups, g); !found {
			return false
		}
	}
	return true
}

func findTopic(topics []kmsg.TxnMetadataValueTopic, name string) (int, bool) {
	return slices.BinarySearchFunc(topics, name, func(t kmsg.TxnMetadataValueTopic, name string) int {
		return strings.Compare(t.Topic, name)
	})
}

// mergeTopics is the union of two sorted sets; neither is changed.
func mergeTopics(a, b []kmsg.TxnMetadataValueTopic) []kmsg.TxnMetadataValueTopic {
	all := make([]kmsg.TxnMetadataValueTopic, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := strings.Compare(a[0].Topic, b[0].Topic); {
		case c < 0:
			all, a = append(all, a[0]), a[1:]
		case c > 0:
			all, b = append(all, b[0]), b[1:]
		default:
			t := a[0]
			t.Partitions = mergeSorted(t.Partitions, b[0].Partitions)
			all, a, b = append(all, t), a[1:], b[1:]
		}
	}
	return append(append(all, a...), b...)
}

func mergeSorted[T int32 | string](a, b []T) []T {
	if len(b) == 0 {
		return a
	}
	all := append(append(make([]T, 0, len(a)+len(b)), a...), b...)
	slices.Sort(all)
	return slices.Compact(all)
}
