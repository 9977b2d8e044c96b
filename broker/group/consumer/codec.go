package consumer

import (
	"encoding/binary"
	"errors"
)

var (
	errTruncated = errors.New("truncated")
	errLeftOver  = errors.New("bytes are left over")
)

// The encodings of Kafka's protocol, as far as the records need them: keys are
// written in the old one (not flexible), values in the flexible one.

func appendInt16(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) }
func appendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }
func appendInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

// appendString is a string of a key.
func appendString(b []byte, s string) []byte { return append(appendInt16(b, int16(len(s))), s...) }

// appendLength is the length of a flexible string or array.
func appendLength(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)+1) }

func appendCompact(b []byte, s string) []byte { return append(appendLength(b, len(s)), s...) }

// appendNullable writes the empty string as null.
func appendNullable(b []byte, s string) []byte {
	if s == "" {
		return append(b, 0)
	}
	return appendCompact(b, s)
}

func appendStrings(b []byte, all []string) []byte {
	b = appendLength(b, len(all))
	for _, s := range all {
		b = appendCompact(b, s)
	}
	return b
}

func appendInt32s(b []byte, all []int32) []byte {
	b = appendLength(b, len(all))
	for _, v := range all {
		b = appendInt32(b, v)
	}
	return b
}

// appendTag writes the head of a tagged field whose value is size bytes long.
func appendTag(b []byte, tag uint64, size int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, tag), uint64(size))
}

// reader decodes; its first error sticks, and everything read after it is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)) {
		r.fail(errTruncated)
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) int8() int8 {
	if b := r.take(1); b != nil {
		return int8(b[0])
	}
	return 0
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *reader) uuid() (id [16]byte) {
	copy(id[:], r.take(16))
	return id
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errTruncated)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// string is a string of a key.
func (r *reader) string() string {
	n := r.int16()
	if n < 0 {
		r.fail(errTruncated)
	}
	return string(r.take(uint64(max(n, 0))))
}

// compact reads null as the empty string.
func (r *reader) compact() string {
	n := r.uvarint()
	if n == 0 {
		return ""
	}
	return string(r.take(n - 1))
}

// length of an array whose elements are at least size bytes each, so that what
// is allocated was paid for in bytes. Null is empty.
func (r *reader) length(size int) int {
	n := r.uvarint()
	if n == 0 {
		return 0
	}
	if n--; n > uint64(len(r.b)/size) {
		r.fail(errTruncated)
		return 0
	}
	return int(n)
}

func (r *reader) strings() []string {
	var all []string
	for range r.length(1) {
		all = append(all, r.compact())
	}
	return all
}

func (r *reader) int32s() []int32 {
	n := r.length(4)
	all := make([]int32, 0, n)
	for range n {
		all = append(all, r.int32())
	}
	return all
}

// tags reads tagged fields. Those that field does not take are skipped.
func (r *reader) tags(field func(tag uint64, value *reader)) {
	for range r.uvarint() {
		tag := r.uvarint()
		value := reader{b: r.take(r.uvarint())}
		if r.err != nil {
			return
		}
		if field != nil {
			if field(tag, &value); value.err != nil {
				r.fail(value.err)
			}
		}
	}
}

func (r *reader) noTags() { r.tags(nil) }

// end is the error of all that was read; everything must have been.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = errLeftOver
	}
	return r.err
}
