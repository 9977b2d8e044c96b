package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/txn"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// Produce 3–13. Versions 0 to 2 are advertised, because librdkafka asks for
// them (KAFKA-18659), and refused with UNSUPPORTED_VERSION.
//
// acks=all is confirmed when it is synced, acks=1 when it is written, acks=0
// never. The answer comes when all partitions are; requests behind it are read
// meanwhile. A batch is checked by its header and checksum, an uncompressed one
// record by record; it is never decompressed, but on a compacted topic, whose
// records all need keys. Version 13 names topics by id. A transactional batch
// has to be of a transaction that has the partition; from version 12 on it joins
// it by being sent (KIP-890).

// produced is the answer to one request while it waits for its partitions.
type produced struct {
	reply    *reply
	response *kmsg.ProduceResponse
	appends  []appended   // never moved: the log knows where they are
	waiting  atomic.Int32 // for as many, and one for the request itself
}

// appended is what became of one partition's batch.
type appended struct {
	of     *produced
	answer *kmsg.ProduceResponseTopicPartition
	base   int64 // set by the reader
	err    error // set by the log
	time   int64 // ms; of the append, where it stands for the records' own; else -1
}

// Committed implements commitlog.Waiter.
func (a *appended) Committed(err error) {
	a.err = err
	a.of.finished()
}

// finished says that the request or one of its appends has ended. The last one
// sees what all have set.
func (p *produced) finished() {
	if p.waiting.Add(-1) > 0 || p.reply == nil {
		return
	}
	for i := range p.appends {
		if a := &p.appends[i]; a.err != nil {
			refuse(a.answer, a.err)
		} else {
			a.answer.BaseOffset, a.answer.LogAppendTime = a.base, a.time
		}
	}
	p.reply.done(p.response)
}

func refuse(a *kmsg.ProduceResponseTopicPartition, err error) {
	a.ErrorCode, a.BaseOffset = codeOf(err), -1
	a.ErrorMessage = messageOf(err)
	if bad, ok := errors.AsType[*badRecord](err); ok {
		a.ErrorCode = codeInvalidRecord
		if bad.index >= 0 {
			r := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			r.RelativeOffset, r.ErrorMessage = int32(bad.index), &bad.reason
			a.ErrorRecords = append(a.ErrorRecords, r)
		}
	}
}

// badRecord is INVALID_RECORD, of the whole batch if index is -1.
type badRecord struct {
	index  int
	reason string
}

func (e *badRecord) Error() string { return e.reason }

func produce(c *connection, request kmsg.Request, a *reply) {
	r := request.(*kmsg.ProduceRequest)
	response := r.ResponseKind().(*kmsg.ProduceResponse)
	response.Topics = make([]kmsg.ProduceResponseTopic, len(r.Topics))
	p := &produced{reply: a, response: response}
	p.waiting.Store(1)
	partitions := 0
	for i := range r.Topics {
		partitions += len(r.Topics[i].Partitions)
	}
	p.appends = make([]appended, 0, partitions)
	checked := make([]toAppend, 0, partitions)
	for i := range r.Topics {
		t, answer := &r.Topics[i], &response.Topics[i]
		answer.Topic, answer.TopicID = t.Topic, t.TopicID
		answer.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(t.Partitions))
		d, code := c.produceTo(r, t)
		for j := range t.Partitions {
			to := &answer.Partitions[j]
			*to = kmsg.NewProduceResponseTopicPartition()
			to.Partition = t.Partitions[j].Partition
			if code != codeNone {
				to.ErrorCode, to.BaseOffset = code, -1
				continue
			}
			if b, err := c.check(r, d, &t.Partitions[j], to); err != nil {
				refuse(to, err)
			} else {
				checked = append(checked, b)
			}
		}
	}
	admission := c.admit(r, &checked)
	for i := range checked {
		b := &checked[i]
		p.appends = append(p.appends, appended{of: p, answer: b.answer, time: -1})
		w := &p.appends[len(p.appends)-1]
		p.waiting.Add(1)
		if b.batch.HasLogAppendTime() {
			w.time = b.batch.MaxTimestamp()
		}
		base, err := b.partition.Produce(b.batch, r.Acks == 1, w)
		if w.base = base; err != nil {
			w.Committed(err)
		}
	}
	admission.Release()
	p.finished()
}

// toAppend is a batch that has been checked.
type toAppend struct {
	d         *destination.Destination
	partition *destination.Partition
	batch     record.Batch
	answer    *kmsg.ProduceResponseTopicPartition
}

// check is what can be said without appending.
func (c *connection) check(r *kmsg.ProduceRequest, d *destination.Destination, from *kmsg.ProduceRequestTopicPartition, to *kmsg.ProduceResponseTopicPartition) (toAppend, error) {
	p := partitionOf(d, from.Partition)
	if p == nil {
		return toAppend{}, coded(codeUnknownTopicOrPartition, "")
	}
	if r.Acks == -1 && d.Settings.MinInsyncReplicas > 1 {
		return toAppend{}, coded(codeNotEnoughReplicas, "")
	}
	if p.Paused() { // a code that clients try again after
		return toAppend{}, coded(codeNotEnoughReplicas, destination.ErrPaused.Error())
	}
	b, err := checkBatch(from.Records, d, c.server.options.Now())
	if err == nil {
		if full := p.Room().Take(b.Count()); full != nil {
			return toAppend{}, coded(codeNotEnoughReplicas, full.Error())
		}
	}
	if err == nil {
		b, err = asSettings(b, &d.Settings, c.server.options.Now)
	}
	to.LogStartOffset = p.Start()
	return toAppend{d, p, b, to}, err
}

// admit has the transaction's coordinator let the transactional batches in, and
// takes out those that it does not. The admission keeps the transaction's end
// from coming before the batches are appended.
func (c *connection) admit(r *kmsg.ProduceRequest, batches *[]toAppend) (a txn.Admission) {
	var partitions []txn.TopicPartition
	var first record.Batch
	for _, b := range *batches {
		if b.batch.IsTransactional() {
			partitions = append(partitions, txn.TopicPartition{Topic: topicName(b.d), Partition: b.partition.Number()})
			first = b.batch
		}
	}
	if len(partitions) == 0 {
		return a
	}
	id := ""
	if r.TransactionID != nil {
		id = *r.TransactionID
	}
	a, codes := c.server.broker.Transactions().Enter(c.ctx, id, first.ProducerID(), first.ProducerEpoch(), partitions, r.Version >= 12)
	if codes == nil {
		return a
	}
	next := 0
	*batches = slices.DeleteFunc(*batches, func(b toAppend) bool {
		if !b.batch.IsTransactional() {
			return false
		}
		code := codes[next]
		next++
		if code == codeInvalidTxnState && r.Version >= 11 {
			code = codeTransactionAbortable // KIP-890
		}
		if code != codeNone {
			refuse(b.answer, coded(code, ""))
		}
		return code != codeNone
	})
	return a
}

// produceTo finds the topic; before version 3 there is none.
func (c *connection) produceTo(r *kmsg.ProduceRequest, t *kmsg.ProduceRequestTopic) (*destination.Destination, int16) {
	switch {
	case r.Version < 3:
		return nil, codeUnsupportedVersion
	case r.Acks < -1 || r.Acks > 1:
		return nil, codeInvalidRequiredAcks
	}
	d, code := c.lookup(t.Topic, t.TopicID, r.Version >= 13, session.OperationSend)
	if code == codeNone && d.Internal {
		code = codeInvalidTopic
	}
	return d, code
}

// checkBatch is what Kafka's LogValidator asks of a batch from a client.
func checkBatch(records []byte, d *destination.Destination, now time.Time) (record.Batch, error) {
	if len(records) == 0 {
		return nil, &badRecord{-1, "there is no record batch"}
	}
	if len(records) > 16 && records[16] < 2 {
		return nil, &badRecord{-1, "record batch v2 is the only message format here"}
	}
	b, rest, err := record.Next(records)
	if err != nil {
		return nil, err
	}
	switch {
	case len(rest) > 0:
		return nil, &badRecord{-1, "more than one record batch for a partition"}
	case int64(len(b)) > d.Settings.MaxMessageBytes:
		return nil, fmt.Errorf("%w: a batch of %d bytes, max.message.bytes is %d", commitlog.ErrTooLarge, len(b), d.Settings.MaxMessageBytes)
	}
	if err := record.ValidateOpaque(b); err != nil {
		if !b.CRCValid() {
			return nil, err
		}
		return nil, &badRecord{-1, err.Error()}
	}
	if ahead := b.MaxTimestamp() - now.UnixMilli(); d.Settings.TimestampType == destination.TimestampCreate && ahead > d.Settings.TimestampAfterMax {
		return nil, coded(codeInvalidTimestamp, fmt.Sprintf("a timestamp %d ms ahead of the broker's clock, message.timestamp.after.max.ms is %d", ahead, d.Settings.TimestampAfterMax))
	}
	if compacted(d) {
		if err := needKeys(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// asSettings is the batch as the topic wants it; the bytes are the request's
// own. Nothing is done to it with the default settings.
func asSettings(b record.Batch, s *destination.Settings, now func() time.Time) (record.Batch, error) {
	if s.CompressionType != destination.CompressionProducer {
		if codec := codecs[s.CompressionType]; codec != b.Compression() {
			var err error
			if b, err = record.Compress(nil, b, codec); err != nil {
				return nil, err
			}
		}
	}
	if s.TimestampType == destination.TimestampAppend {
		b.SetLogAppendTime(now().UnixMilli())
	}
	return b, nil
}

var codecs = map[string]record.Codec{
	destination.CompressionUncompressed: record.None,
	"gzip":                              record.Gzip,
	"snappy":                            record.Snappy,
	"lz4":                               record.LZ4,
	"zstd":                              record.Zstd,
}

func compacted(d *destination.Destination) bool {
	return strings.Contains(d.Settings.CleanupPolicy, destination.CleanupCompact)
}

// needKeys finds a record that compaction could not place.
func needKeys(b record.Batch) error {
	var r record.Reader
	if err := r.Reset(b, maxDecompressed); err != nil {
		return err
	}
	for i := 0; r.Next(); i++ {
		if r.Record().Key == nil {
			return &badRecord{i, "a compacted topic takes no record without a key"}
		}
	}
	return r.Err()
}

// maxDecompressed bounds what a batch may become, bytes.
const maxDecompressed = 64 << 20
