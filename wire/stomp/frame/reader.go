package frame

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrTooLarge is wrapped by the errors of frames beyond the Limits.
var ErrTooLarge = errors.New("frame too large")

// ErrMalformed is wrapped by the errors of what is no frame.
var ErrMalformed = errors.New("malformed frame")

// Limits bound one frame. All must be positive.
type Limits struct {
	Headers     int // how many
	HeaderBytes int // of all lines before the body, the command's included
	Body        int // bytes
}

// Reader reads frames from a stream. After an error it must not be used again: where
// the next frame begins is not known.
type Reader struct {
	in      *bufio.Reader
	limits  Limits
	version Version
	left    int // bytes that the lines of this frame may still have
	line    []byte
	body    []byte
}

// NewReader returns a Reader of in, for V10.
func NewReader(in io.Reader, l Limits) *Reader {
	return &Reader{in: bufio.NewReaderSize(in, 16<<10), limits: l}
}

// SetVersion says by which version the next frames are read.
func (r *Reader) SetVersion(v Version) { r.version = v }

// SetLimits says within which limits the next frames are read.
func (r *Reader) SetLimits(l Limits) { r.limits = l }

// Next returns the next frame; heart-beats and other ends of lines before it are
// skipped. Its body is valid until the next call. io.EOF means that the stream ended
// between frames, io.ErrUnexpectedEOF that it did so in one.
func (r *Reader) Next() (*Frame, error) {
	if err := r.skip(); err != nil {
		return nil, err
	}
	f, err := r.frame()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return f, err
}

// skip reads the ends of lines that may follow a frame, which are heart-beats as well.
func (r *Reader) skip() error {
	for {
		c, err := r.in.ReadByte()
		if err != nil {
			return err
		}
		if c != '\n' && c != '\r' {
			return r.in.UnreadByte()
		}
	}
}

func (r *Reader) frame() (*Frame, error) {
	r.left = r.limits.HeaderBytes
	command, err := r.next()
	if err != nil {
		return nil, err
	}
	f := &Frame{Command: string(command)}
	if i := bytes.IndexByte(command, 0); i >= 0 {
		return nil, fmt.Errorf("%w: a NUL in its command", ErrMalformed)
	}
	for {
		line, err := r.next()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			break
		}
		if len(f.Headers) >= r.limits.Headers {
			return nil, fmt.Errorf("%w: over %d headers", ErrTooLarge, r.limits.Headers)
		}
		h, err := r.header(f.Command, line)
		if err != nil {
			return nil, err
		}
		f.Headers = append(f.Headers, h)
	}
	f.Body, err = r.readBody(f)
	return f, err
}

// next reads a line without its end.
func (r *Reader) next() ([]byte, error) {
	r.line = r.line[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		if r.left -= len(part); r.left < 0 {
			return nil, fmt.Errorf("%w: over %d bytes of headers", ErrTooLarge, r.limits.HeaderBytes)
		}
		r.line = append(r.line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
	line := r.line[:len(r.line)-1]
	// A CR belongs to the end of a line in 1.2 alone. What is not yet agreed on may be 1.2.
	if n := len(line); n > 0 && line[n-1] == '\r' && r.version != V11 {
		line = line[:n-1]
	}
	return line, nil
}

func (r *Reader) header(command string, line []byte) (Header, error) {
	name, value, ok := strings.Cut(string(line), ":")
	switch {
	case !ok:
		return Header{}, fmt.Errorf("%w: a header without a colon", ErrMalformed)
	case strings.IndexByte(string(line), 0) >= 0:
		return Header{}, fmt.Errorf("%w: a NUL in a header", ErrMalformed)
	case r.version == V10:
		// The examples of 1.0 have a space behind the colon; later versions keep it.
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	}
	if r.version == V10 || connecting(command) {
		return Header{name, value}, nil
	}
	var err error
	if name, err = r.unescape(name); err == nil {
		value, err = r.unescape(value)
	}
	return Header{name, value}, err
}

// unescape undoes the escapes; others than those of the version are fatal.
// STOMP 1.2, Value Encoding
func (r *Reader) unescape(s string) (string, error) {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for ; i >= 0; i = strings.IndexByte(s, '\\') {
		b = append(b, s[:i]...)
		escape := byte(0)
		if i+1 < len(s) {
			escape = s[i+1]
		}
		switch {
		case escape == 'n':
			b = append(b, '\n')
		case escape == 'c':
			b = append(b, ':')
		case escape == '\\':
			b = append(b, '\\')
		case escape == 'r' && r.version == V12:
			b = append(b, '\r')
		default:
			return "", fmt.Errorf("%w: an undefined escape in a header", ErrMalformed)
		}
		s = s[i+2:]
	}
	return string(append(b, s...)), nil
}

// keepBody is the largest buffer that is kept for the next body.
const keepBody = 1 << 20

// readBody reads a body of content-length bytes, or up to a NUL. Its buffer grows with
// what has come, not with what was announced.
func (r *Reader) readBody(f *Frame) ([]byte, error) {
	if cap(r.body) > keepBody {
		r.body = nil
	}
	r.body = r.body[:0]
	announced, ok := f.Lookup("content-length")
	if !ok {
		return r.readToNUL()
	}
	n, err := strconv.ParseUint(strings.TrimSpace(announced), 10, 63)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: content-length %.40q", ErrMalformed, announced)
	case n > uint64(r.limits.Body):
		return nil, fmt.Errorf("%w: a body of %d bytes; at most %d", ErrTooLarge, n, r.limits.Body)
	}
	for left := int(n); left > 0; {
		if _, err := r.in.Peek(1); err != nil {
			return nil, err
		}
		part, _ := r.in.Peek(min(left, r.in.Buffered()))
		r.body = append(r.body, part...)
		left -= len(part)
		_, _ = r.in.Discard(len(part)) // it is buffered
	}
	end, err := r.in.ReadByte()
	if err == nil && end != 0 {
		err = fmt.Errorf("%w: no NUL after a body of %d bytes", ErrMalformed, n)
	}
	return r.body, err
}

func (r *Reader) readToNUL() ([]byte, error) {
	for {
		part, err := r.in.ReadSlice(0)
		if len(r.body)+len(part) > r.limits.Body+1 {
			return nil, fmt.Errorf("%w: a body of more than %d bytes", ErrTooLarge, r.limits.Body)
		}
		r.body = append(r.body, part...)
		if err == nil {
			return r.body[:len(r.body)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}
