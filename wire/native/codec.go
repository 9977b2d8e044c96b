package native

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// ErrProtocol is wrapped by every error about bytes that are not a frame of
// this protocol.
var ErrProtocol = errors.New("native protocol violated")

// encoder appends MessagePack to a slice. It is the io.Writer beneath its own
// msgpack.Encoder, so that one allocation serves a connection for life.
type encoder struct {
	buf []byte
	enc *msgpack.Encoder
}

func newEncoder() *encoder {
	e := &encoder{}
	e.enc = msgpack.NewEncoder(e)
	e.enc.UseCompactInts(true)
	return e
}

// Write implements io.Writer for the msgpack encoder.
func (e *encoder) Write(p []byte) (int, error) {
	e.buf = append(e.buf, p...)
	return len(p), nil
}

// WriteByte spares the msgpack encoder a wrapper that allocates.
func (e *encoder) WriteByte(b byte) error {
	e.buf = append(e.buf, b)
	return nil
}

// Writing to a slice cannot fail, so the encoder's errors are not looked at.
func (e *encoder) array(n int)    { _ = e.enc.EncodeArrayLen(n) }
func (e *encoder) uint(v uint64)  { _ = e.enc.EncodeUint(v) }
func (e *encoder) int(v int64)    { _ = e.enc.EncodeInt(v) }
func (e *encoder) bool(v bool)    { _ = e.enc.EncodeBool(v) }
func (e *encoder) text(v string)  { _ = e.enc.EncodeString(v) }
func (e *encoder) bytes(v []byte) { _ = e.enc.EncodeBytes(v) }

// decoder reads MessagePack from a slice with a sticky error. A length that
// claims more than the bytes that remain is refused before anything is
// allocated.
type decoder struct {
	src bytes.Reader
	dec *msgpack.Decoder
	err error
}

func newDecoder() *decoder {
	d := &decoder{}
	d.dec = msgpack.NewDecoder(&d.src)
	return d
}

func (d *decoder) reset(b []byte) {
	d.src.Reset(b)
	d.dec.Reset(&d.src)
	d.err = nil
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...)
	}
}

func (d *decoder) array(max int) int {
	if d.err != nil {
		return 0
	}
	n, err := d.dec.DecodeArrayLen()
	switch {
	case err != nil:
		d.fail("array: %v", err)
	case n < 0 || n > max || n > d.src.Len():
		d.fail("an array claims %d elements, the limit is %d and %d bytes remain", n, max, d.src.Len())
	default:
		return n
	}
	return 0
}

func (d *decoder) uint() uint64 {
	if d.err != nil {
		return 0
	}
	v, err := d.dec.DecodeUint64()
	if err != nil {
		d.fail("unsigned integer: %v", err)
	}
	return v
}

func (d *decoder) int() int64 {
	if d.err != nil {
		return 0
	}
	v, err := d.dec.DecodeInt64()
	if err != nil {
		d.fail("integer: %v", err)
	}
	return v
}

func (d *decoder) bool() bool {
	if d.err != nil {
		return false
	}
	v, err := d.dec.DecodeBool()
	if err != nil {
		d.fail("boolean: %v", err)
	}
	return v
}

func (d *decoder) text() string {
	return string(d.raw(MaxText))
}

// raw reads a string or binary value of at most max bytes.
func (d *decoder) raw(max int) []byte {
	if d.err != nil {
		return nil
	}
	n, err := d.dec.DecodeBytesLen()
	switch {
	case err != nil:
		d.fail("text or bytes: %v", err)
		return nil
	case n < 0:
		return nil
	case n > max || n > d.src.Len():
		d.fail("text or bytes claim %d bytes, the limit is %d and %d remain", n, max, d.src.Len())
		return nil
	}
	v := make([]byte, n)
	if err := d.dec.ReadFull(v); err != nil {
		d.fail("text or bytes: %v", err)
	}
	return v
}

// Encoder writes frames. It is not safe for concurrent use.
type Encoder struct{ e *encoder }

// NewEncoder returns an Encoder.
func NewEncoder() *Encoder { return &Encoder{newEncoder()} }

// Append appends f and its payload to dst as one frame.
func (w *Encoder) Append(dst []byte, f Frame, payload []byte) []byte {
	dst = w.AppendHeader(dst, f, len(payload))
	return append(dst, payload...)
}

// AppendHeader appends all of a frame but its payload, of which the caller
// sends payloadBytes right behind.
func (w *Encoder) AppendHeader(dst []byte, f Frame, payloadBytes int) []byte {
	at := len(dst)
	w.e.buf = append(dst, 0, 0, 0, 0, byte(f.Type()))
	f.encode(w.e)
	dst, w.e.buf = w.e.buf, nil
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4+payloadBytes))
	return dst
}

// Decoder decodes frames' bodies. It is not safe for concurrent use.
type Decoder struct{ d *decoder }

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder { return &Decoder{newDecoder()} }

// Decode reads body, which Reader.Next returned, into f, and returns the
// payload behind it, which aliases body. The error wraps ErrProtocol.
func (r *Decoder) Decode(body []byte, f Frame) (payload []byte, err error) {
	r.d.reset(body)
	f.decode(r.d)
	if r.d.err != nil {
		return nil, fmt.Errorf("%s frame: %w", f.Type(), r.d.err)
	}
	return body[len(body)-r.d.src.Len():], nil
}
