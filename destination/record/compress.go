package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxStored bounds, in bytes, what Compress and Subset decompress. They work on
// batches that Validate has let in under a stricter bound, or that we built.
const maxStored = 1 << 30

// Compress returns b with its records in codec c, all else unchanged but length
// and checksum. It writes into the free capacity of dst behind len(dst), or into
// a new array when that is too small; the Batch is that part alone. dst must not
// share memory with b.
//
// Errors: a CorruptError, ErrTooLarge beyond 1 GiB, or a codec that does not exist.
func Compress(dst []byte, b Batch, c Codec) (Batch, error) {
	if err := checkShape(b); err != nil {
		return nil, err
	}
	from, records := b.Compression(), b.records()
	if from == c {
		out := append(dst, b...)
		return Batch(out[len(dst):len(out):len(out)]), nil
	}
	if from != None {
		r := readers.Get().(*Reader)
		defer r.release()
		var err error
		r.decompressed, err = decompress(r.decompressed[:0], from, records, maxStored)
		if err != nil {
			return nil, atOffset(err, b.BaseOffset())
		}
		records = r.decompressed
	}
	out, err := appendCompressed(append(dst, b[:HeaderSize]...), records, c)
	if err != nil {
		return nil, err
	}
	batch := Batch(out[len(dst):len(out):len(out)])
	if len(batch) > math.MaxInt32 {
		return nil, ErrTooLarge
	}
	batch.setCompression(c)
	batch.seal()
	return batch, nil
}

func (b Batch) setCompression(c Codec) {
	attributes := uint16(b.Attributes())&^attrCodec | uint16(c)
	binary.BigEndian.PutUint16(b[atAttributes:], attributes)
}

// growing is an io.Writer over a slice.
type growing struct{ b []byte }

func (g *growing) Write(p []byte) (int, error) {
	g.b = append(g.b, p...)
	return len(p), nil
}

type gzipEncoder struct {
	dst growing
	z   *gzip.Writer
}

var gzipEncoders = sync.Pool{New: func() any { return &gzipEncoder{z: gzip.NewWriter(nil)} }}

type lz4Encoder struct {
	dst growing
	z   *lz4.Writer
}

// Kafka's own client writes frames of 64 KiB blocks without checksums, which the
// batch's CRC makes superfluous.
var lz4Encoders = sync.Pool{New: func() any {
	z := lz4.NewWriter(nil)
	if err := z.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false)); err != nil {
		panic("record: " + err.Error()) // the options are constants
	}
	return &lz4Encoder{z: z}
}}

var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)),
		zstd.WithEncoderCRC(false),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("record: " + err.Error()) // the options are constants
	}
	return e
})

// appendCompressed appends src in codec c to dst.
func appendCompressed(dst, src []byte, c Codec) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Snappy:
		at, room := len(dst), s2.MaxEncodedLen(len(src))
		if room < 0 {
			return nil, ErrTooLarge
		}
		if cap(dst)-at < room {
			grown := make([]byte, at, at+room)
			copy(grown, dst)
			dst = grown
		}
		// EncodeSnappy writes into the room it is given when that is enough.
		return dst[:at+len(s2.EncodeSnappy(dst[at:at+room], src))], nil
	case Zstd:
		return zstdEncoder().EncodeAll(src, dst), nil
	case Gzip:
		e := gzipEncoders.Get().(*gzipEncoder)
		defer gzipEncoders.Put(e)
		e.dst.b = dst
		e.z.Reset(&e.dst)
		return finish(e.z, &e.dst, src)
	case LZ4:
		e := lz4Encoders.Get().(*lz4Encoder)
		defer lz4Encoders.Put(e)
		e.dst.b = dst
		e.z.Reset(&e.dst)
		return finish(e.z, &e.dst, src)
	}
	return nil, fmt.Errorf("compress records: no such codec %d", c)
}

// finish writes src through z and takes what came out of it.
func finish(z interface {
	Write([]byte) (int, error)
	Close() error
}, g *growing, src []byte,
) ([]byte, error) {
	_, err := z.Write(src)
	if closeErr := z.Close(); err == nil {
		err = closeErr
	}
	out := g.b
	g.b = nil
	if err != nil {
		return nil, fmt.Errorf("compress records: %w", err)
	}
	return out, nil
}
