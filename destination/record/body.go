package record

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// ErrBodyType says that a value cannot be in a Map or Stream body.
var ErrBodyType = errors.New("unsupported type in a map or stream body")

// EncodeMap appends a Map body to dst: a MessagePack map in order of the names.
// Integers keep their width, so that byte, short, int and long survive.
//
// The values are nil, bool, int8, int16, int32, int64, float32, float64, string
// or []byte, else ErrBodyType (Jakarta Messaging 3.1 §3.11.3).
func EncodeMap(dst []byte, values map[string]any) ([]byte, error) {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	e, out := newEncoder(dst)
	defer msgpack.PutEncoder(e)
	if err := e.EncodeMapLen(len(values)); err != nil {
		return dst, err
	}
	for _, name := range names {
		if err := e.EncodeString(name); err != nil {
			return dst, err
		}
		if err := encodeValue(e, values[name]); err != nil {
			return dst, fmt.Errorf("map entry %q: %w", name, err)
		}
	}
	return out.b, nil
}

// EncodeStream appends a Stream body to dst: a MessagePack array. Its values are
// those of EncodeMap.
func EncodeStream(dst []byte, values []any) ([]byte, error) {
	e, out := newEncoder(dst)
	defer msgpack.PutEncoder(e)
	if err := e.EncodeArrayLen(len(values)); err != nil {
		return dst, err
	}
	for i, value := range values {
		if err := encodeValue(e, value); err != nil {
			return dst, fmt.Errorf("stream element %d: %w", i, err)
		}
	}
	return out.b, nil
}

// DecodeMap reads what EncodeMap wrote; nothing at all is an empty map. Unsigned
// integers, which others may have written, come out in the next wider signed type
// that holds them all. The error is a CorruptError, or ErrBodyType for a nested value.
func DecodeMap(body []byte) (map[string]any, error) {
	if len(body) == 0 {
		return map[string]any{}, nil
	}
	in := bytes.NewReader(body)
	d := newDecoder(in)
	defer msgpack.PutDecoder(d)
	n, err := d.DecodeMapLen()
	if err != nil {
		return nil, badBody("map", err)
	}
	if n < 0 || n > in.Len()/2 {
		return nil, badBody("map", errCount)
	}
	values := make(map[string]any, n)
	for range n {
		name, err := decodeBytes(d, in)
		if err != nil {
			return nil, badBody("map", err)
		}
		if values[string(name)], err = decodeValue(d, in); err != nil {
			return nil, badBody("map", err)
		}
	}
	if in.Len() != 0 {
		return nil, badBody("map", errors.New("bytes after its end"))
	}
	return values, nil
}

// DecodeStream reads what EncodeStream wrote; nothing at all is an empty stream.
// Otherwise it is like DecodeMap.
func DecodeStream(body []byte) ([]any, error) {
	if len(body) == 0 {
		return nil, nil
	}
	in := bytes.NewReader(body)
	d := newDecoder(in)
	defer msgpack.PutDecoder(d)
	n, err := d.DecodeArrayLen()
	if err != nil {
		return nil, badBody("stream", err)
	}
	if n < 0 || n > in.Len() {
		return nil, badBody("stream", errCount)
	}
	values := make([]any, n)
	for i := range values {
		if values[i], err = decodeValue(d, in); err != nil {
			return nil, badBody("stream", err)
		}
	}
	if in.Len() != 0 {
		return nil, badBody("stream", errors.New("bytes after its end"))
	}
	return values, nil
}

func newEncoder(dst []byte) (*msgpack.Encoder, *growing) {
	out := &growing{dst}
	e := msgpack.GetEncoder()
	e.Reset(out)
	return e, out
}

func newDecoder(in *bytes.Reader) *msgpack.Decoder {
	d := msgpack.GetDecoder()
	d.Reset(in)
	return d
}

func badBody(kind string, err error) error {
	if errors.Is(err, ErrBodyType) {
		return fmt.Errorf("%s body: %w", kind, err)
	}
	return corrupt(-1, kind+" body: "+err.Error())
}

func encodeValue(e *msgpack.Encoder, value any) error {
	switch v := value.(type) {
	case nil:
		return e.EncodeNil()
	case bool:
		return e.EncodeBool(v)
	case int8:
		return e.EncodeInt8(v)
	case int16:
		return e.EncodeInt16(v)
	case int32:
		return e.EncodeInt32(v)
	case int64:
		return e.EncodeInt64(v)
	case float32:
		return e.EncodeFloat32(v)
	case float64:
		return e.EncodeFloat64(v)
	case string:
		return e.EncodeString(v)
	case []byte:
		return e.EncodeBytes(v)
	}
	return fmt.Errorf("%w: %T", ErrBodyType, value)
}

func decodeValue(d *msgpack.Decoder, in *bytes.Reader) (any, error) {
	code, err := d.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case msgpcode.IsFixedNum(code), code == msgpcode.Int8:
		return d.DecodeInt8()
	case msgpcode.IsString(code):
		text, err := decodeBytes(d, in)
		return string(text), err
	case msgpcode.IsBin(code):
		return decodeBytes(d, in)
	}
	switch code {
	case msgpcode.Nil:
		return nil, d.DecodeNil()
	case msgpcode.True, msgpcode.False:
		return d.DecodeBool()
	case msgpcode.Uint8, msgpcode.Int16:
		return d.DecodeInt16()
	case msgpcode.Uint16, msgpcode.Int32:
		return d.DecodeInt32()
	case msgpcode.Uint32, msgpcode.Int64:
		return d.DecodeInt64()
	case msgpcode.Uint64:
		v, err := d.DecodeUint64()
		if v > math.MaxInt64 {
			return nil, fmt.Errorf("%w: integer beyond 63 bits", ErrBodyType)
		}
		return int64(v), err
	case msgpcode.Float:
		return d.DecodeFloat32()
	case msgpcode.Double:
		return d.DecodeFloat64()
	}
	return nil, fmt.Errorf("%w: MessagePack code %#x", ErrBodyType, code)
}

// decodeBytes reads a str or bin, whose claimed length it does not believe before
// the bytes are there.
func decodeBytes(d *msgpack.Decoder, in *bytes.Reader) ([]byte, error) {
	n, err := d.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > in.Len() {
		return nil, errTruncated
	}
	b := make([]byte, n)
	return b, d.ReadFull(b)
}
