package record

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/s2"
)

// Java's producers wrap snappy blocks into the framing of xerial's snappy-java:
// this magic, two int32 of versions, then blocks, each behind its int32 length.
// Others send one plain block.
const (
	xerialMagic  = "\x82SNAPPY\x00"
	xerialHeader = len(xerialMagic) + 4 + 4
)

var errSnappy = errors.New("damaged block")

func unsnappy(dst, src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, []byte(xerialMagic)) {
		return unsnappyBlock(dst, src, limit)
	}
	if len(src) < xerialHeader {
		return dst, errSnappy
	}
	for src = src[xerialHeader:]; len(src) > 0; {
		if len(src) < 4 {
			return dst, errSnappy
		}
		size := int64(int32(binary.BigEndian.Uint32(src)))
		src = src[4:]
		if size < 0 || size > int64(len(src)) {
			return dst, errSnappy
		}
		var err error
		if dst, err = unsnappyBlock(dst, src[:size], limit); err != nil {
			return dst, err
		}
		src = src[size:]
	}
	return dst, nil
}

// unsnappyBlock appends a block to dst, which may grow to limit bytes in all.
func unsnappyBlock(dst, src []byte, limit int) ([]byte, error) {
	claimed, size := binary.Uvarint(src)
	if size <= 0 || claimed > 1<<32-1 {
		return dst, errSnappy
	}
	if claimed > uint64(limit-len(dst)) {
		return dst, ErrTooLarge
	}
	// The claim is believed only after the elements have been added up.
	if snappyLength(src[size:]) != claimed {
		return dst, errSnappy
	}
	from := len(dst)
	need := from + int(claimed)
	if cap(dst) < need {
		grown := make([]byte, from, min(max(need, 2*cap(dst)), limit))
		copy(grown, dst)
		dst = grown
	}
	out, err := s2.Decode(dst[from:need:need], src)
	if err != nil {
		return dst, errSnappy
	}
	if len(out) != int(claimed) {
		return dst, errSnappy
	}
	return dst[:need], nil
}

// snappyLength adds up what a block's elements decode to, and returns a length
// that no block has when one is damaged. A copy from offset 0 is damage to snappy,
// but means a repetition to the s2 decoder, which a Kafka consumer does not have.
func snappyLength(b []byte) (length uint64) {
	const damaged = 1<<64 - 1
	for i := 0; i < len(b); {
		tag := b[i]
		switch tag & 3 {
		case 0: // literal; lengths of 60 to 63 mean that 1 to 4 bytes hold it
			n := uint64(tag >> 2)
			i++
			if n >= 60 {
				bytes := int(n) - 59
				if bytes > len(b)-i {
					return damaged
				}
				n = 0
				for k := range bytes {
					n |= uint64(b[i+k]) << (8 * k)
				}
				i += bytes
			}
			n++
			if n > uint64(len(b)-i) {
				return damaged
			}
			i += int(n)
			length += n
		case 1:
			if len(b)-i < 2 || (tag&0xe0 == 0 && b[i+1] == 0) {
				return damaged
			}
			length += uint64(tag>>2&7) + 4
			i += 2
		case 2:
			if len(b)-i < 3 || (b[i+1] == 0 && b[i+2] == 0) {
				return damaged
			}
			length += uint64(tag>>2) + 1
			i += 3
		case 3:
			if len(b)-i < 5 || binary.LittleEndian.Uint32(b[i+1:]) == 0 {
				return damaged
			}
			length += uint64(tag>>2) + 1
			i += 5
		}
	}
	return length
}
