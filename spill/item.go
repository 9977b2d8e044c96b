package spill

import (
	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/destination/record"
)

// item is a message on its way: where it goes, and what goes, with its id and its
// timestamp.
type item struct {
	to      Destination
	message *polylog.Message
}

func decodeItem(r *record.Record) (i item, err error) {
	header, _ := r.Header(headerName)
	if i.to, err = parseDestination(header); err != nil {
		return item{}, err
	}
	i.message = &polylog.Message{}
	if err = record.DecodeMessage(r, &i.message.Message); err != nil {
		return item{}, err
	}
	i.message.PropertyTypes = nil // they are found again when it is sent
	return i, nil
}

// size is an upper estimate of the message's bytes on disk, in a batch of its own.
func (i *item) size() int64 {
	m := i.message
	n := segmentHeader + record.HeaderSize + 256 + len(i.to.name) + len(m.ID) + len(m.Key) + len(m.Body) +
		len(m.CorrelationID) + len(m.Meta.Type) + len(m.ReplyTo) + len(m.UserID) + len(m.ClientID) + len(m.ContentType)
	for name, value := range m.Properties {
		n += 64 + 2*len(name)
		switch v := value.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return int64(n)
}
