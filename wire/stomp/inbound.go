package stomp

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

// inbound is a message that a client sends. It is used again and again.
type inbound struct{ message record.Message }

// protocolHeaders are those of SEND that are not the message's, and those of MESSAGE,
// which a client that forwards one may send along.
var protocolHeaders = map[string]bool{
	"destination": true, "content-length": true, "receipt": true, "transaction": true,
	"message-id": true, "subscription": true, "ack": true, "redelivered": true, "timestamp": true,
	"JMSXDeliveryCount": true,
}

// maxDelay bounds a delay: ten years, which is never.
const maxDelay = 10 * 365 * 24 * time.Hour / time.Millisecond

// parse takes a SEND for a message, sent at now in ms. reply resolves a temporary queue
// that is named in reply-to. The message's body aliases the frame's.
func (in *inbound) parse(f *frame.Frame, now int64, reply func(name string) (string, error)) error {
	properties := in.message.Properties
	if clear(properties); properties == nil {
		properties = map[string]any{}
	}
	in.message = record.Message{Properties: properties, Body: f.Body, Timestamp: now}
	m := &in.message
	m.Priority = record.DefaultPriority
	contentType, typed := f.Lookup("content-type")
	m.Kind = record.BodyBytes
	if (!typed || strings.HasPrefix(contentType, "text/")) && utf8.Valid(f.Body) {
		m.Kind = record.BodyText
	}
	seen := map[string]bool{}
	for _, h := range f.Headers {
		if protocolHeaders[h.Name] || seen[h.Name] {
			continue
		}
		seen[h.Name] = true
		if err := in.header(h, now, reply); err != nil {
			return fmt.Errorf("header %.80q: %w", h.Name, err)
		}
	}
	return nil
}

// header takes in one header that is the message's.
func (in *inbound) header(h frame.Header, now int64, reply func(name string) (string, error)) error {
	m := &in.message
	switch h.Name {
	case "persistent":
		m.NonPersistent = strings.EqualFold(h.Value, "false")
	case "priority":
		n, err := number(h.Value, 9)
		m.Priority = uint8(n)
		return err
	case "expires":
		n, err := number(h.Value, math.MaxInt64)
		m.Expiration = n
		return err
	case "correlation-id":
		m.CorrelationID = h.Value
	case "type":
		m.Type = h.Value
	case "reply-to":
		return in.replyTo(h.Value, reply)
	case "AMQ_SCHEDULED_DELAY":
		n, err := number(h.Value, int64(maxDelay))
		m.DeliveryTime = now + n
		return err
	case "JMSXGroupID":
		m.Grouped, m.Key = true, []byte(h.Value)
	case "JMSXGroupSeq":
		n, err := number(h.Value, math.MaxInt32)
		m.GroupSeq = int32(n)
		return err
	default:
		m.Properties[h.Name] = h.Value
	}
	return nil
}

// replyTo takes in a reply-to. What is none of our addresses is kept, as the name of a
// destination whose kind is not said.
func (in *inbound) replyTo(text string, reply func(name string) (string, error)) error {
	m := &in.message
	name, _, temporary, err := address(text)
	switch {
	case err != nil:
		m.ReplyTo = text
	case temporary:
		m.ReplyToKind = record.DestinationTemporaryQueue
		m.ReplyTo, err = reply(name)
		return err
	case strings.HasPrefix(text, topicPrefix):
		m.ReplyTo, m.ReplyToKind = name, record.DestinationTopic
	default:
		m.ReplyTo, m.ReplyToKind = name, record.DestinationQueue
	}
	return nil
}

func number(text string, most int64) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > most {
		return 0, invalid("%.40q is not a number from 0 to %d", text, most)
	}
	return n, nil
}
