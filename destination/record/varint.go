package record

import "math/bits"

// Kafka's varints are protobuf's zigzag ones: at most 5 bytes for 32 bits and 10
// for 64. Padded ones are legal, as in Kafka; bits beyond the width are not.

// varint32 reads from b at i. next is where reading goes on, or -1 when the
// varint is cut short or too long.
func varint32(b []byte, i int) (v int32, next int) {
	if i < len(b) && b[i] < 0x80 { // nearly all of them
		u := uint32(b[i])
		return int32(u>>1) ^ -int32(u&1), i + 1
	}
	return varint32Long(b, i)
}

func varint32Long(b []byte, i int) (int32, int) {
	var u uint32
	for shift := 0; i < len(b); shift += 7 {
		c := b[i]
		i++
		if shift == 28 && c > 0x0f {
			return 0, -1
		}
		u |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return int32(u>>1) ^ -int32(u&1), i
		}
	}
	return 0, -1
}

// varint64 is varint32 for 64 bits.
func varint64(b []byte, i int) (v int64, next int) {
	var u uint64
	for shift := 0; i < len(b); shift += 7 {
		c := b[i]
		i++
		if shift == 63 && c > 1 {
			return 0, -1
		}
		u |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), i
		}
	}
	return 0, -1
}

// appendVarint writes v; what fits in 32 bits comes out the same for both widths.
func appendVarint(dst []byte, v int64) []byte {
	u := uint64(v)<<1 ^ uint64(v>>63)
	for u >= 0x80 {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}

// varintSize is the number of bytes that appendVarint writes.
func varintSize(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	return (bits.Len64(u|1) + 6) / 7
}
