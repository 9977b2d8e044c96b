package record

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// maxDepth bounds how deeply an unknown value of the JMS header may nest.
const maxDepth = 16

var (
	errTruncated = errors.New("it ends too early")
	errType      = errors.New("a value has another type than its key demands")
	errDepth     = errors.New("a value nests too deeply")
	errCount     = errors.New("an array or map claims more elements than there are bytes")
)

// scanner reads MessagePack, with a sticky error. It reads a string, and what it
// returns are parts of that string, so that a header costs one copy or none.
type scanner struct {
	s   string
	i   int
	err error
}

func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.i = len(s.s)
}

func (s *scanner) code() byte {
	if s.i >= len(s.s) {
		s.fail(errTruncated)
		return msgpcode.Nil
	}
	c := s.s[s.i]
	s.i++
	return c
}

// number reads size bytes, big-endian.
func (s *scanner) number(size int) (u uint64) {
	if size > len(s.s)-s.i {
		s.fail(errTruncated)
		return 0
	}
	for range size {
		u = u<<8 | uint64(s.s[s.i])
		s.i++
	}
	return u
}

func (s *scanner) take(size uint64) string {
	if size > uint64(len(s.s)-s.i) {
		s.fail(errTruncated)
		return ""
	}
	from := s.i
	s.i += int(size)
	return s.s[from:s.i]
}

// text reads a str, or a bin for what is not UTF-8.
func (s *scanner) text() string {
	c := s.code()
	switch {
	case msgpcode.IsFixedString(c):
		return s.take(uint64(c & msgpcode.FixedStrMask))
	case c == msgpcode.Str8, c == msgpcode.Bin8:
		return s.take(s.number(1))
	case c == msgpcode.Str16, c == msgpcode.Bin16:
		return s.take(s.number(2))
	case c == msgpcode.Str32, c == msgpcode.Bin32:
		return s.take(s.number(4))
	}
	s.fail(errType)
	return ""
}

// integer reads an integer of any width that is within from and to.
func (s *scanner) integer(from, to int64) int64 {
	var v int64
	c := s.code()
	switch {
	case msgpcode.IsFixedNum(c):
		v = int64(int8(c))
	case c == msgpcode.Uint8:
		v = int64(s.number(1))
	case c == msgpcode.Uint16:
		v = int64(s.number(2))
	case c == msgpcode.Uint32:
		v = int64(s.number(4))
	case c == msgpcode.Uint64:
		u := s.number(8)
		if u > math.MaxInt64 {
			s.fail(errType)
		}
		v = int64(u)
	case c == msgpcode.Int8:
		v = int64(int8(s.number(1)))
	case c == msgpcode.Int16:
		v = int64(int16(s.number(2)))
	case c == msgpcode.Int32:
		v = int64(int32(s.number(4)))
	case c == msgpcode.Int64:
		v = int64(s.number(8))
	default:
		s.fail(errType)
	}
	if v < from || v > to {
		s.fail(errType)
	}
	return v
}

func (s *scanner) boolean() bool {
	switch s.code() {
	case msgpcode.True:
		return true
	case msgpcode.False:
	default:
		s.fail(errType)
	}
	return false
}

// mapLength reads a map's start. It is at most half the bytes that remain.
func (s *scanner) mapLength() int {
	c := s.code()
	var n uint64
	switch {
	case msgpcode.IsFixedMap(c):
		n = uint64(c & msgpcode.FixedMapMask)
	case c == msgpcode.Map16:
		n = s.number(2)
	case c == msgpcode.Map32:
		n = s.number(4)
	default:
		s.fail(errType)
	}
	return s.bounded(n, 2)
}

func (s *scanner) bounded(n, bytesEach uint64) int {
	if n*bytesEach > uint64(len(s.s)-s.i) {
		s.fail(errCount)
		return 0
	}
	return int(n)
}

// skip passes over a value of any type, nested at most depth deep.
func (s *scanner) skip(depth int) {
	if depth < 0 {
		s.fail(errDepth)
		return
	}
	if s.i < len(s.s) && msgpcode.IsFixedString(s.s[s.i]) { // nearly always
		s.i++
		s.take(uint64(s.s[s.i-1] & msgpcode.FixedStrMask))
		return
	}
	c := s.code()
	elements := 0
	switch {
	case msgpcode.IsFixedNum(c), c == msgpcode.Nil, c == msgpcode.True, c == msgpcode.False:
	case msgpcode.IsFixedMap(c):
		elements = 2 * s.bounded(uint64(c&msgpcode.FixedMapMask), 2)
	case msgpcode.IsFixedArray(c):
		elements = s.bounded(uint64(c&msgpcode.FixedArrayMask), 1)
	default:
		elements = s.skipSized(c)
	}
	for range elements {
		if s.err != nil {
			return
		}
		s.skip(depth - 1)
	}
}

// skipSized passes over what stands behind a code that has a fixed or given size,
// and returns how many elements follow.
func (s *scanner) skipSized(c byte) (elements int) {
	switch c {
	case msgpcode.Uint8, msgpcode.Int8:
		s.take(1)
	case msgpcode.Uint16, msgpcode.Int16:
		s.take(2)
	case msgpcode.Uint32, msgpcode.Int32, msgpcode.Float:
		s.take(4)
	case msgpcode.Uint64, msgpcode.Int64, msgpcode.Double:
		s.take(8)
	case msgpcode.Str8, msgpcode.Bin8:
		s.take(s.number(1))
	case msgpcode.Str16, msgpcode.Bin16:
		s.take(s.number(2))
	case msgpcode.Str32, msgpcode.Bin32:
		s.take(s.number(4))
	case msgpcode.FixExt1, msgpcode.FixExt2, msgpcode.FixExt4, msgpcode.FixExt8, msgpcode.FixExt16:
		s.take(1 + 1<<(c-msgpcode.FixExt1)) // a type byte, then the data
	case msgpcode.Ext8:
		s.take(s.number(1) + 1)
	case msgpcode.Ext16:
		s.take(s.number(2) + 1)
	case msgpcode.Ext32:
		s.take(s.number(4) + 1)
	case msgpcode.Array16:
		return s.bounded(s.number(2), 1)
	case msgpcode.Array32:
		return s.bounded(s.number(4), 1)
	case msgpcode.Map16:
		return 2 * s.bounded(s.number(2), 2)
	case msgpcode.Map32:
		return 2 * s.bounded(s.number(4), 2)
	default:
		s.fail(errType) // 0xc1, which is never used
	}
	return 0
}

// appendInteger writes v as short as it goes.
func appendInteger(dst []byte, v int64) []byte {
	switch {
	case v >= -32 && v <= math.MaxInt8:
		return append(dst, byte(v))
	case v >= 0 && v <= math.MaxUint8:
		return append(dst, msgpcode.Uint8, byte(v))
	case v >= math.MinInt8 && v < 0:
		return append(dst, msgpcode.Int8, byte(v))
	case v >= 0 && v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, msgpcode.Uint16), uint16(v))
	case v >= math.MinInt16 && v < 0:
		return binary.BigEndian.AppendUint16(append(dst, msgpcode.Int16), uint16(v))
	case v >= 0 && v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, msgpcode.Uint32), uint32(v))
	case v >= math.MinInt32 && v < 0:
		return binary.BigEndian.AppendUint32(append(dst, msgpcode.Int32), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, msgpcode.Int64), uint64(v))
}

// appendText writes v as a str, or as a bin when it is not UTF-8.
func appendText(dst []byte, v string) []byte {
	n := len(v)
	short, medium, long := msgpcode.Str8, msgpcode.Str16, msgpcode.Str32
	if !utf8.ValidString(v) {
		short, medium, long = msgpcode.Bin8, msgpcode.Bin16, msgpcode.Bin32
	} else if n < 32 {
		return append(append(dst, msgpcode.FixedStrLow|byte(n)), v...)
	}
	switch {
	case n <= math.MaxUint8:
		dst = append(dst, short, byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, medium), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, long), uint32(n))
	}
	return append(dst, v...)
}

func appendMapLength(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, msgpcode.FixedMapLow|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, msgpcode.Map16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, msgpcode.Map32), uint32(n))
}
