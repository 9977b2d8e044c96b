package amqp

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// The forms that ids of AMQP's types have as JMSMessageID and JMSCorrelationID: AMQP
// JMS mapping, §3.2.1.1.
const (
	idPrefix     = "ID:"
	amqpPrefix   = "ID:AMQP_"
	uuidPrefix   = "ID:AMQP_UUID:"
	ulongPrefix  = "ID:AMQP_ULONG:"
	binaryPrefix = "ID:AMQP_BINARY:"
	stringPrefix = "ID:AMQP_STRING:"
	noPrefix     = "ID:AMQP_NO_PREFIX:"
)

// messageID is an id as JMSMessageID, which begins with "ID:".
func messageID(id any) string {
	s, ok := id.(string)
	switch {
	case !ok:
		return typedID(id)
	case typed(s):
		return stringPrefix + s
	case strings.HasPrefix(s, idPrefix):
		return s
	}
	return noPrefix + s
}

// correlationID is an id as JMSCorrelationID, which may be any text.
func correlationID(id any) string {
	s, ok := id.(string)
	switch {
	case !ok:
		return typedID(id)
	case typed(s):
		return stringPrefix + s
	}
	return s
}

// typed says whether a text would be taken for the form of another type.
func typed(s string) bool {
	if !strings.HasPrefix(s, amqpPrefix) {
		return false
	}
	for _, p := range [...]string{uuidPrefix, ulongPrefix, binaryPrefix, stringPrefix, noPrefix} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func typedID(id any) string {
	switch id := id.(type) {
	case codec.UUID:
		return uuidPrefix + formatUUID(id)
	case uint64:
		return ulongPrefix + strconv.FormatUint(id, 10)
	case []byte:
		return binaryPrefix + strings.ToUpper(hex.EncodeToString(id))
	}
	return ""
}

func formatUUID(u codec.UUID) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// amqpID is the id that a JMSMessageID or JMSCorrelationID stands for; nil for
// none. What only looks like a form is a string.
func amqpID(s string) any {
	if s == "" {
		return nil
	}
	if !strings.HasPrefix(s, amqpPrefix) {
		return text(s)
	}
	if rest, ok := strings.CutPrefix(s, uuidPrefix); ok {
		var u codec.UUID
		if b, err := hex.DecodeString(strings.ReplaceAll(rest, "-", "")); err == nil && len(b) == len(u) && len(rest) == 36 {
			copy(u[:], b)
			return u
		}
	}
	if rest, ok := strings.CutPrefix(s, ulongPrefix); ok {
		if v, err := strconv.ParseUint(rest, 10, 64); err == nil {
			return v
		}
	}
	if rest, ok := strings.CutPrefix(s, binaryPrefix); ok {
		if b, err := hex.DecodeString(rest); err == nil {
			return b
		}
	}
	for _, p := range [...]string{stringPrefix, noPrefix} {
		if rest, ok := strings.CutPrefix(s, p); ok {
			return rest
		}
	}
	return text(s)
}
