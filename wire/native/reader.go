package native

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// readBuffer is the size of a connection's read buffer in bytes: what one
// read of the socket may bring, and below which a frame is not copied.
const readBuffer = 64 << 10

// Reader cuts a stream into frames. It is not safe for concurrent use.
type Reader struct {
	src  *bufio.Reader
	max  int
	skip int    // bytes of the last frame, still in src
	big  []byte // a frame larger than src's buffer
}

// NewReader returns a Reader of r that refuses frames of more than max bytes.
func NewReader(r io.Reader, max int) *Reader {
	return &Reader{src: bufio.NewReaderSize(r, readBuffer), max: max}
}

// SetMax sets the largest frame, in bytes, from the next one on.
func (r *Reader) SetMax(max int) { r.max = max }

// Buffered returns how many bytes have been read from the stream and not been
// returned: while there are some, more frames may follow without a wait.
func (r *Reader) Buffered() int { return r.src.Buffered() - r.skip }

// Next returns the next frame's type and body. The body is valid until the
// next call. The error is io.EOF at the end between two frames,
// io.ErrUnexpectedEOF within one, and wraps ErrProtocol for a frame over the
// limit.
func (r *Reader) Next() (Type, []byte, error) {
	if r.skip > 0 {
		if _, err := r.src.Discard(r.skip); err != nil {
			return 0, nil, err
		}
		r.skip = 0
	}
	head, err := r.src.Peek(4)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(head))
	if n < 1 || n > r.max {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes, the limit is %d", ErrProtocol, n, r.max)
	}
	frame, err := r.frame(n)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return Type(frame[0]), frame[1:], nil
}

func (r *Reader) frame(n int) ([]byte, error) {
	if 4+n <= readBuffer {
		b, err := r.src.Peek(4 + n)
		if err != nil {
			return nil, err
		}
		r.skip = 4 + n
		return b[4:], nil
	}
	if _, err := r.src.Discard(4); err != nil {
		return nil, err
	}
	return r.large(n)
}

// large reads a frame that does not fit the read buffer. Memory follows the
// bytes that arrive, not the length that was claimed.
func (r *Reader) large(n int) ([]byte, error) {
	r.big = r.big[:0]
	for len(r.big) < n {
		have := len(r.big)
		if have == cap(r.big) {
			grown := make([]byte, have, min(n, max(2*have, 4*readBuffer)))
			copy(grown, r.big)
			r.big = grown
		}
		read, err := io.ReadFull(r.src, r.big[have:min(n, cap(r.big))])
		r.big = r.big[:have+read]
		if err != nil {
			return nil, err
		}
	}
	return r.big, nil
}
