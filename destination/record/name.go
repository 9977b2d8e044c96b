package record

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxName is the longest topic name that Kafka allows, in bytes. With "-" and
// a partition it still is a legal file name.
const maxName = 249

// hashSize is the length of the hash, in hexadecimal digits, that ends a name
// which was too long.
const hashSize = 32

const upperHex = "0123456789ABCDEF"

// EscapeName turns the name of a destination into that of its directories, before
// "-<partition>". A name that Kafka allows stays as it is; every other byte, and
// the dots of "." and "..", becomes %XX; the empty name is "%".
//
// A result of more than 249 bytes is cut, and ends in "%-" and a hash of the name
// instead: then it is unique, but UnescapeName cannot undo it, and only the
// metadata know the name. Case is kept, so a file system that folds it cannot
// hold two names that differ in nothing else.
func EscapeName(name string) string {
	if kafkaLegal(name) {
		return name
	}
	if name == "" {
		return "%"
	}
	b := make([]byte, 0, len(name)+16)
	dots := name == "." || name == ".."
	cut := 0 // the longest whole prefix that leaves room for the hash
	for i := range len(name) {
		if c := name[i]; legalByte(c) && !dots {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
		if len(b) <= maxName-len("%-")-hashSize {
			cut = len(b)
		}
	}
	if len(b) <= maxName {
		return string(b)
	}
	return string(b[:cut]) + "%-" + hashOf(name)
}

// UnescapeName undoes EscapeName. It returns false for what EscapeName does not
// produce, and for a name that was cut.
func UnescapeName(directory string) (name string, ok bool) {
	if directory == "%" {
		return "", true
	}
	b := make([]byte, 0, len(directory))
	for i := 0; i < len(directory); i++ {
		c := directory[i]
		if c == '%' {
			if len(directory)-i < 3 {
				return "", false
			}
			if c, ok = hexByte(directory[i+1], directory[i+2]); !ok {
				return "", false
			}
			i += 2
		}
		b = append(b, c)
	}
	name = string(b)
	return name, EscapeName(name) == directory
}

// A Kafka topic name has no character to spare for an escape. So the escape is
// "_xHH_", one for each byte that Kafka does not allow; and where a name contains
// what would be read as one, its underscore is escaped too. Every destination, up
// to the bound of length, has one topic name and every topic name one destination,
// and a name that is legal in Kafka stays as it is, but for those very few.

// TopicName turns the name of a destination into a legal Kafka topic name. "." is
// "_x2E_", ".." is that twice, and the empty name is "_x_".
//
// A result of more than 249 bytes is cut, and ends in "_x-" and a hash of the name
// instead. DestinationName does not undo that; only the metadata know the name.
func TopicName(name string) string {
	if kafkaLegal(name) && !strings.Contains(name, "_x") {
		return name
	}
	switch name {
	case "":
		return "_x_"
	case ".", "..":
		return strings.Repeat("_x2E_", len(name))
	}
	// From right to left, since whether an underscore would be read as an escape
	// depends on what comes after it. Of a name that is cut, the rest has no say.
	kept := name[:min(len(name), maxName)]
	b := make([]byte, escapeSize*(len(kept)+1))
	at := len(b)
	for i := len(kept) - 1; i >= 0; i-- {
		c := kept[i]
		at--
		b[at] = c
		if _, misread := escapedByte(b[at:]); misread || !legalByte(c) {
			at -= escapeSize - 1
			putEscape(b[at:], c)
		}
	}
	if special(string(b[at:])) {
		at -= escapeSize - 1
		putEscape(b[at:], '_')
	}
	topic := string(b[at:])
	if len(name) <= maxName && len(topic) <= maxName {
		return topic
	}
	return topic[:maxName-len("_x-")-hashSize] + "_x-" + hashOf(name)
}

// DestinationName undoes TopicName, for any legal topic name but one that was cut.
func DestinationName(topic string) (name string) {
	if !strings.Contains(topic, "_x") || len(topic) > maxName {
		return topic
	}
	switch topic {
	case "_x_":
		return ""
	case "_x2E_":
		return "."
	case "_x2E__x2E_":
		return ".."
	}
	if special(topic) {
		return topic[escapeSize-1:]
	}
	b := make([]byte, 0, len(topic))
	for i := 0; i < len(topic); {
		if c, ok := escapedByte(topic[i:]); ok {
			b = append(b, c)
			i += escapeSize
			continue
		}
		b = append(b, topic[i])
		i++
	}
	return string(b)
}

// escapeSize is the length of "_xHH_".
const escapeSize = 5

func putEscape(b []byte, c byte) {
	b[0], b[1], b[2], b[3], b[4] = '_', 'x', upperHex[c>>4], upperHex[c&15], '_'
}

// escapedByte says whether an escape begins b, and of what. One of a legal
// character is none, for it is not needed; that of the underscore is one only
// where it keeps the underscore from beginning an escape.
func escapedByte[T string | []byte](b T) (c byte, ok bool) {
	if len(b) < escapeSize || b[0] != '_' || b[1] != 'x' || b[4] != '_' {
		return 0, false
	}
	if c, ok = hexByte(b[2], b[3]); !ok {
		return 0, false
	}
	if c == '_' {
		_, ok = escapedByte(b[escapeSize-1:]) // as if b[4] were it
		return c, ok
	}
	return c, !legalByte(c)
}

// special tells whether a topic name is that of "", "." or "..", or is one of
// those behind escaped underscores, which stands for the same with one less.
func special(topic string) bool {
	for strings.HasPrefix(topic, "_x5F_x") {
		topic = topic[escapeSize-1:]
	}
	return topic == "_x_" || topic == "_x2E_" || topic == "_x2E__x2E_"
}

// kafkaLegal is Kafka's rule for topic names.
func kafkaLegal(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		if !legalByte(name[i]) {
			return false
		}
	}
	return true
}

func legalByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '.' || c == '_' || c == '-'
}

// hexByte reads two upper case digits.
func hexByte(high, low byte) (c byte, ok bool) {
	h, l := strings.IndexByte(upperHex, high), strings.IndexByte(upperHex, low)
	return byte(h<<4 | l), h >= 0 && l >= 0
}

func hashOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:hashSize/2])
}
