package polylog

import (
	"fmt"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
)

// parcel is a message on its way into a batch, with the memory that encoding
// it needs. It is pooled.
type parcel struct {
	message record.Message
	body    []byte          // what a codec encoded
	meta    []byte          // the polylog.jms header's value
	id      []byte          // the message id
	headers []record.Header // one

	partition int32 // that it must go to; anyPartition: where its key says
}

const anyPartition = -1

var parcels = sync.Pool{New: func() any { return &parcel{headers: make([]record.Header, 1)} }}

func newParcel() *parcel {
	p := parcels.Get().(*parcel)
	p.message.Priority, p.partition = defaultPriority, anyPartition
	p.message.Timestamp = time.Now().UnixMilli()
	return p
}

func (p *parcel) free() {
	p.message = record.Message{}
	p.headers[0] = record.Header{}
	if cap(p.body) > batchBytes { // one large message must not stay for ever
		p.body = nil
	}
	parcels.Put(p)
}

// size is an upper estimate of the record's bytes.
func (p *parcel) size() int {
	m := &p.message
	n := 192 + len(m.Key) + len(m.Body) + len(m.CorrelationID) + len(m.Meta.Type) + len(m.ReplyTo) + len(m.UserID) + len(m.ClientID) + len(m.ContentType)
	for name, value := range m.Properties {
		n += 32 + 2*len(name)
		switch v := value.(type) {
		case string:
			n += len(v)
		case []byte:
			n += 2 * len(v)
		}
	}
	return n
}

// appendTo appends the record to b under its id.
func (p *parcel) appendTo(b *record.Builder, id messageID) error {
	m := &p.message
	p.id = id.append(p.id[:0])
	m.ID = stringOf(p.id)
	if len(m.Properties) > 0 {
		if err := m.AppendTo(b); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return nil
	}
	p.meta = record.AppendMeta(p.meta[:0], &m.Meta)
	p.headers[0] = record.Header{Key: record.JMSHeader, Value: p.meta}
	body := m.Body
	if body == nil { // a null value would be a tombstone
		body = []byte{}
	}
	b.Append(m.Timestamp, m.Key, body, p.headers)
	return nil
}
