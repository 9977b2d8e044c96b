package queue

import (
	"slices"
	"strconv"
	"strings"

	"github.com/polylog-mq/polylog/destination/record"
)

// Properties that tell of a message in a dead letter or expiry destination
// where it comes from and why it is there. The numbers are readable as numbers
// in messages that JMS clients have sent, as strings in others.
const (
	DeadLetterOrigin    = "JMS_POLYLOG_DLQ_ORIGIN"    // the destination's name, String
	DeadLetterPartition = "JMS_POLYLOG_DLQ_PARTITION" // int
	DeadLetterOffset    = "JMS_POLYLOG_DLQ_OFFSET"    // long
	DeadLetterReason    = "JMS_POLYLOG_DLQ_REASON"    // String
	DeadLetterException = "JMS_POLYLOG_DLQ_EXCEPTION" // what its last consumer said, String; there only if that said something
	DeadLetterCount     = "JMS_POLYLOG_DLQ_COUNT"     // deliveries, int
	DeadLetterTime      = "JMS_POLYLOG_DLQ_TIME"      // unix milliseconds, long
	deadLetterPrefix    = "JMS_POLYLOG_DLQ_"
)

// Redriven is the property that counts how often a message went back from a dead
// letter destination, int. It stays when the message dies again.
const Redriven = "JMS_POLYLOG_REDRIVEN"

// maxReason bounds the reason of a rejection or a release, in bytes.
const maxReason = 1024

// The reasons that are not the consumer's own.
const (
	reasonDeliveries = "max.deliveries"
	reasonRejected   = "rejected"
	reasonExpired    = "expired"
)

var deadLetterTypes = []record.TypedProperty{
	{Name: DeadLetterPartition, Type: record.PropertyInt},
	{Name: DeadLetterOffset, Type: record.PropertyLong},
	{Name: DeadLetterCount, Type: record.PropertyInt},
	{Name: DeadLetterTime, Type: record.PropertyLong},
}

// redriven is how often a record went back.
func redriven(r *record.Record) int {
	value, ok := r.Header(Redriven)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return 0 // it is somebody else's
	}
	return max(n, 0)
}

// deadLetter writes moved messages. It keeps what it needs from one to the next.
type deadLetter struct {
	headers []record.Header
	meta    record.Meta
	value   []byte
}

// append adds r to b as it is to be at its new place: with its key, body,
// headers and properties, without an expiration or delivery time that would
// keep it from being looked at. A dead or expired message is marked; the marks
// of an earlier death are replaced, or taken off when it goes back to work.
func (d *deadLetter) append(b *record.Builder, w *writer, m *move, r *record.Record) {
	d.headers, d.value = d.headers[:0], d.value[:0]
	marked := m.kind != moveWished
	for name, value := range r.Headers() {
		if name == record.JMSHeader {
			if record.ParseMeta(value, &d.meta) == nil {
				d.changeMeta(marked, m.redrive)
				value = d.value
			}
		} else if (marked || m.redrive) && strings.HasPrefix(name, deadLetterPrefix) || m.redrive && name == Redriven {
			continue
		}
		d.headers = append(d.headers, record.Header{Key: name, Value: value})
	}
	if marked {
		d.mark(w, m)
	}
	if m.redrive {
		d.headers = append(d.headers, record.Header{Key: Redriven, Value: strconv.AppendInt(nil, int64(redriven(r))+1, 10)})
	}
	b.Append(r.Timestamp, r.Key, r.Value, d.headers)
}

// changeMeta writes the JMS header anew.
func (d *deadLetter) changeMeta(marked, redrive bool) {
	d.meta.Expiration, d.meta.DeliveryTime = 0, 0
	d.meta.PropertyTypes = slices.DeleteFunc(d.meta.PropertyTypes, func(p record.TypedProperty) bool {
		return strings.HasPrefix(p.Name, deadLetterPrefix) || redrive && p.Name == Redriven
	})
	if marked {
		d.meta.PropertyTypes = append(d.meta.PropertyTypes, deadLetterTypes...)
	}
	if redrive {
		d.meta.PropertyTypes = append(d.meta.PropertyTypes, record.TypedProperty{Name: Redriven, Type: record.PropertyInt})
	}
	d.value = record.AppendMeta(d.value, &d.meta)
}

func (d *deadLetter) mark(w *writer, m *move) {
	number := func(name string, n int64) {
		d.headers = append(d.headers, record.Header{Key: name, Value: strconv.AppendInt(nil, n, 10)})
	}
	d.headers = append(d.headers,
		record.Header{Key: DeadLetterOrigin, Value: []byte(w.v.d.Name)},
		record.Header{Key: DeadLetterReason, Value: []byte(m.reason)})
	if m.exception != "" {
		d.headers = append(d.headers, record.Header{Key: DeadLetterException, Value: []byte(m.exception)})
	}
	number(DeadLetterPartition, int64(w.p.id.Partition))
	number(DeadLetterOffset, m.offset)
	number(DeadLetterCount, int64(m.count))
	number(DeadLetterTime, w.now)
}
