package record

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// reservedPrefix begins the record headers that are polylog's own.
const reservedPrefix = "polylog."

// maxPropertyName bounds a property's name, in bytes, where JMS has no bound.
const maxPropertyName = 1024

// ReservedProperty tells whether a record header or property of that name cannot
// be one of Message.Properties: because it is polylog's own, because a field of
// Message has what it says (JMSXGroupID and the like, and every header field of
// JMS), or because it is no name at all.
func ReservedProperty(name string) bool {
	if name == "" || strings.HasPrefix(name, reservedPrefix) || !utf8.ValidString(name) {
		return true
	}
	rest, jms := strings.CutPrefix(name, "JMS")
	if !jms {
		return false
	}
	switch rest {
	case "XGroupID", "XGroupSeq", "XUserID", "XDeliveryCount", "XRcvTimestamp", "XState":
		return true
	}
	// Jakarta Messaging 3.1 §3.5.1: JMSX is for defined properties, JMS_ for a
	// provider's, and the rest that begins with JMS are header fields.
	return rest == "" || rest[0] != 'X' && rest[0] != '_'
}

// CheckPropertyName says whether an application may set a property of that name:
// a Java identifier, none of the words of the selector language, and not reserved
// (Jakarta Messaging 3.1 §3.5.1, §3.8.1.1). Its error is ErrReservedName. What
// Kafka clients put into headers is not held to it.
func CheckPropertyName(name string) error {
	if ReservedProperty(name) {
		return fmt.Errorf("%w: %q", ErrReservedName, name)
	}
	if len(name) > maxPropertyName {
		return fmt.Errorf("%w: it has %d bytes, more than %d", ErrReservedName, len(name), maxPropertyName)
	}
	for i, c := range name {
		if !IdentifierStart(c) && (i == 0 || !IdentifierPart(c)) {
			return fmt.Errorf("%w: %q is not an identifier", ErrReservedName, name)
		}
	}
	switch strings.ToUpper(name) {
	case "NULL", "TRUE", "FALSE", "NOT", "AND", "OR", "BETWEEN", "LIKE", "IN", "IS", "ESCAPE":
		return fmt.Errorf("%w: %q is a word of the selector language", ErrReservedName, name)
	}
	return nil
}

// IdentifierStart is Java's Character.isJavaIdentifierStart.
func IdentifierStart(c rune) bool {
	return unicode.In(c, unicode.L, unicode.Nl, unicode.Sc, unicode.Pc)
}

// IdentifierPart is what Character.isJavaIdentifierPart allows beyond that.
func IdentifierPart(c rune) bool {
	return unicode.In(c, unicode.Nd, unicode.Mn, unicode.Mc, unicode.Cf)
}
