package destination

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// Refusals of a Kafka producer's batch or of a transaction's end.
var (
	// ErrOutOfOrderSequence: a batch is missing before this one, or it is an
	// old one that is not remembered any more. Errors that wrap it are *SequenceError.
	ErrOutOfOrderSequence = errors.New("out of order sequence")
	// ErrProducerFenced: the producer's epoch is older than one that was seen
	// (INVALID_PRODUCER_EPOCH).
	ErrProducerFenced = errors.New("producer epoch is fenced")
	// ErrInvalidTxnState: a batch outside of a transaction from a producer that
	// has one open, or one inside from a producer whose transaction has ended.
	ErrInvalidTxnState = errors.New("invalid transaction state")
	// ErrCoordinatorFenced: an end marker of a transaction coordinator that has
	// been replaced.
	ErrCoordinatorFenced = errors.New("transaction coordinator is fenced")
)

// SequenceError names the sequence that was expected and the one that came.
type SequenceError struct {
	ProducerID    int64
	Epoch         int16
	Expected, Got int32
}

// Error names them.
func (e *SequenceError) Error() string {
	return fmt.Sprintf("%v: producer %d epoch %d sent sequence %d, expected is %d",
		ErrOutOfOrderSequence, e.ProducerID, e.Epoch, e.Got, e.Expected)
}

// Unwrap is ErrOutOfOrderSequence.
func (e *SequenceError) Unwrap() error { return ErrOutOfOrderSequence }

// AbortedTransaction is one whose records a committed read leaves out.
type AbortedTransaction = commitlog.AbortedTransaction

// Produce appends one whole, validated batch of a Kafka producer. A batch with
// a producer id is checked first (KIP-98): a repeated one of the last five is
// not appended again, base is that of the first time, and w is told when that
// is durable. early has w told after the write instead of the sync (acks=1).
//
// Errors: *SequenceError, ErrProducerFenced, ErrInvalidTxnState, those of the
// log; then w is not called.
func (p *Partition) Produce(b record.Batch, early bool, w commitlog.Waiter) (base int64, err error) {
	return p.log.Append(b, w)
}

// EndTransaction appends the marker that ends the open transaction of a
// producer (KIP-98). Without an open transaction it fences older epochs all
// the same.
//
// Errors: ErrProducerFenced, ErrCoordinatorFenced, those of the log; then w is
// not called.
func (p *Partition) EndTransaction(producerID int64, epoch int16, coordinatorEpoch int32, commit bool, w commitlog.Waiter) error {
	var b record.Builder
	appendMarker(&b, 0, producerID, epoch, coordinatorEpoch, commit)
	_, err := p.log.Append(b.Batch(), w)
	return err
}

// appendMarker makes b a transaction's end (KIP-98): the key is version and
// kind, the value is version and coordinator epoch.
func appendMarker(b *record.Builder, now, producerID int64, epoch int16, coordinatorEpoch int32, commit bool) {
	var key [4]byte
	if commit {
		key[3] = 1
	}
	var value [6]byte
	binary.BigEndian.PutUint32(value[2:], uint32(coordinatorEpoch))
	b.SetProducer(producerID, epoch, -1, true)
	b.SetControl()
	b.Append(now, key[:], value[:], nil)
}

// LastStable is the first offset of the oldest open transaction, or Stable if
// there is none: what a committed read may go up to.
func (p *Partition) LastStable() int64 { return p.log.Stable() }

// Aborted lists the aborted transactions that overlap [from, to), by first
// offset. What ends above Stable is not among them.
func (p *Partition) Aborted(from, to int64) ([]AbortedTransaction, error) {
	return p.log.Aborted(from, to)
}

// Producers describes the producers that the partition remembers, by id.
func (p *Partition) Producers() ([]commitlog.Producer, error) { return p.log.Producers() }
