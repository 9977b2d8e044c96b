package record

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/pierrec/lz4/v4"
)

// Codec is how the records of a batch are compressed, by Kafka's numbers.
type Codec uint8

const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4 // KIP-110
)

// String is the name that Kafka's compression.type has.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return "codec " + strconv.Itoa(int(c))
}

// decompress appends to dst, which is empty, what src holds. What it allocates
// follows what the bytes really expand to, never what they claim, and beyond
// limit bytes it stops with ErrTooLarge. Damage is a CorruptError.
func decompress(dst []byte, c Codec, src []byte, limit int) ([]byte, error) {
	limit = max(limit, 0)
	var err error
	switch c {
	case Gzip:
		dst, err = gunzip(dst, src, limit)
	case Snappy:
		dst, err = unsnappy(dst, src, limit)
	case LZ4:
		dst, err = unlz4(dst, src, limit)
	case Zstd:
		dst, err = unzstd(dst, src, limit)
	default:
		return dst[:0], corrupt(-1, "unknown compression "+strconv.Itoa(int(c)))
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		err = corrupt(-1, c.String()+": "+err.Error())
	}
	return dst, err
}

// atOffset gives a CorruptError that has no place the one at hand.
func atOffset(err error, offset int64) error {
	if c, ok := err.(*CorruptError); ok && c.Offset < 0 {
		c.Offset = offset
	}
	return err
}

type gzipDecoder struct {
	src bytes.Reader
	z   gzip.Reader
}

var gzipDecoders = sync.Pool{New: func() any { return new(gzipDecoder) }}

func gunzip(dst, src []byte, limit int) ([]byte, error) {
	d := gzipDecoders.Get().(*gzipDecoder)
	defer gzipDecoders.Put(d)
	d.src.Reset(src)
	defer d.src.Reset(nil)
	if err := d.z.Reset(&d.src); err != nil {
		return dst, err
	}
	return readLimited(dst, &d.z, len(src), limit)
}

type lz4Decoder struct {
	src bytes.Reader
	z   *lz4.Reader
}

var lz4Decoders = sync.Pool{New: func() any {
	d := new(lz4Decoder)
	d.z = lz4.NewReader(&d.src)
	return d
}}

// lz4Magic starts a frame. Legacy and skippable frames are not Kafka's.
const lz4Magic = "\x04\x22\x4d\x18"

func unlz4(dst, src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, []byte(lz4Magic)) {
		return dst, errors.New("not a frame")
	}
	d := lz4Decoders.Get().(*lz4Decoder)
	defer lz4Decoders.Put(d)
	d.src.Reset(src)
	defer d.src.Reset(nil)
	d.z.Reset(&d.src)
	dst, err := readLimited(dst, d.z, len(src), limit)
	if err == nil && d.src.Len() != 0 {
		err = errors.New("bytes after the frame")
	}
	return dst, err
}

// readLimited appends all of r to dst, growing it with what has come so far.
func readLimited(dst []byte, r io.Reader, compressed, limit int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			// One byte beyond the limit, so that its end and its excess differ.
			size := max(2*cap(dst), min(4*compressed, 1<<20), 4096)
			grown := make([]byte, len(dst), min(size, limit+1))
			copy(grown, dst)
			dst = grown
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst) > limit {
			return dst, ErrTooLarge
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}
