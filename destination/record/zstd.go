package record

import (
	"errors"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdDecoder decodes in the caller's goroutine, for as many callers at a time as
// there are processors. With the room limited to what it is given, it takes no
// window of its own, whatever size a frame claims to need.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)),
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderLowmem(true))
	if err != nil {
		panic("record: " + err.Error()) // the options are constants
	}
	return d
})

// maxZstdBlock is the most that one block decodes to (RFC 8878 §3.1.1.2.4).
const maxZstdBlock = 128 << 10

var errZstd = errors.New("damaged frame")

// unzstd takes room for what the blocks can decode to, and not for what a frame
// claims. One block more than the limit tells excess from damage: a block that
// starts within the limit always has room.
func unzstd(dst, src []byte, limit int) ([]byte, error) {
	bound, ok := zstdBound(src)
	if !ok {
		return dst, errZstd
	}
	room := min(bound, int64(limit)+maxZstdBlock)
	if int64(cap(dst)) < room {
		dst = make([]byte, 0, room)
	}
	out, err := zstdDecoder().DecodeAll(src, dst[:0:room])
	if len(out) > limit || bound > int64(limit) && errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return dst[:0], ErrTooLarge
	}
	if err != nil {
		return dst[:0], err
	}
	return out, nil
}

// zstdBound adds up what the blocks of all frames can decode to at most, in bytes.
// It returns false when the frames are not whole.
func zstdBound(src []byte) (bound int64, ok bool) {
	for len(src) > 0 {
		var h zstd.Header
		if h.Decode(src) != nil || h.HeaderSize > len(src) {
			return 0, false
		}
		src = src[h.HeaderSize:]
		if h.Skippable {
			if uint64(h.SkippableSize) > uint64(len(src)) {
				return 0, false
			}
			src = src[h.SkippableSize:]
			continue
		}
		frame, rest, ok := zstdBlocks(src)
		if !ok || h.HasCheckSum && len(rest) < 4 {
			return 0, false
		}
		if h.HasCheckSum {
			rest = rest[4:]
		}
		if h.HasFCS {
			if h.FrameContentSize > uint64(frame) {
				return 0, false // more than its blocks can hold
			}
			frame = int64(h.FrameContentSize)
		}
		bound += frame
		src = rest
	}
	return bound, true
}

// zstdBlocks is zstdBound for the blocks of one frame, and returns what follows.
func zstdBlocks(src []byte) (bound int64, rest []byte, ok bool) {
	for last := false; !last; {
		if len(src) < 3 {
			return 0, nil, false
		}
		header := int(src[0]) | int(src[1])<<8 | int(src[2])<<16
		src = src[3:]
		last = header&1 == 1
		size, stored := header>>3, header>>3
		switch header >> 1 & 3 {
		case 1: // one byte, repeated
			stored = 1
		case 2: // compressed
			size = maxZstdBlock
		}
		if stored > len(src) || size > maxZstdBlock {
			return 0, nil, false
		}
		bound += int64(size)
		src = src[stored:]
	}
	return bound, src, true
}
