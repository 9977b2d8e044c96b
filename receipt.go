package polylog

import "strconv"

// Receipt says where a message went. In PutAsync's completion it is valid
// where the error is nil; the message id is always.
type Receipt struct {
	Partition int32
	Offset    int64 // -1 in a transacted session, before whose commit it has none
	id        messageID
}

// MessageID returns JMSMessageID: "ID:", the session's unique id, and a number;
// or what WithIdentity has set.
func (r Receipt) MessageID() string { return string(r.id.append(nil)) }

// messageID is built from what a session knows, so that nothing is allocated
// for it until somebody asks.
type messageID struct {
	prefix string // "ID:", a nuid and "-"
	number uint64 // from 1; 0: the prefix is the whole id, which the sender has given
}

func (id messageID) append(dst []byte) []byte {
	if id.number == 0 {
		return append(dst, id.prefix...)
	}
	return strconv.AppendUint(append(dst, id.prefix...), id.number, 36)
}
