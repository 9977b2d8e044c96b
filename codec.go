package polylog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"unsafe"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/polylog-mq/polylog/destination/record"
)

// A codec turns values of T into bodies and back. It is chosen once, when a
// queue or topic is made.
type codec[T any] struct {
	encode func(v T, p *parcel) error
	decode func(d *delivery) (T, error)
}

// codecOf chooses by type. The assertions to functions of T spare the boxing
// of every value that a switch on the value would cost.
func codecOf[T any]() codec[T] {
	var c codec[T]
	switch any(&c).(type) {
	case *codec[string]:
		c.encode, _ = any(encodeText).(func(T, *parcel) error)
		c.decode, _ = any(decodeText).(func(*delivery) (T, error))
	case *codec[[]byte]:
		c.encode, _ = any(encodeBytes).(func(T, *parcel) error)
		c.decode, _ = any(decodeBytes).(func(*delivery) (T, error))
	case *codec[map[string]any]:
		c.encode, _ = any(encodeMap).(func(T, *parcel) error)
		c.decode, _ = any(decodeMap).(func(*delivery) (T, error))
	case *codec[*Message]:
		c.encode, _ = any(encodeMessage).(func(T, *parcel) error)
		c.decode, _ = any(decodeMessage).(func(*delivery) (T, error))
	default:
		c.encode, c.decode = encodeValue[T], decodeValue[T]
	}
	return c
}

// bytesOf lends the bytes of s to who only reads them.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// stringOf lends b to who is done with it before b changes.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func encodeText(v string, p *parcel) error {
	p.message.Kind, p.message.Body = BodyText, bytesOf(v)
	return nil
}

func decodeText(d *delivery) (string, error) { return string(d.record.Value), nil }

func encodeBytes(v []byte, p *parcel) error {
	p.message.Kind, p.message.Body = BodyBytes, v
	return nil
}

func decodeBytes(d *delivery) ([]byte, error) { return d.record.Value, nil }

func encodeMap(v map[string]any, p *parcel) (err error) {
	p.body, err = record.EncodeMap(p.body[:0], v)
	p.message.Kind, p.message.Body = BodyMap, p.body
	return err
}

func decodeMap(d *delivery) (map[string]any, error) {
	m, err := d.parsed()
	if err != nil {
		return nil, err
	}
	if m.Kind == BodyMap {
		return record.DecodeMap(m.Body)
	}
	var v map[string]any
	return v, unmarshalValue(m.Kind, m.Body, &v)
}

// encodeMessage takes the headers that are the sender's to set; id and
// timestamp are the provider's: Jakarta Messaging 3.1 §3.4.11.
func encodeMessage(v *Message, p *parcel) error {
	if v == nil {
		return &Error{Code: "invalid", Message: "a nil message cannot be sent"}
	}
	timestamp := p.message.Timestamp
	p.message = v.Message
	p.message.Timestamp, p.message.ID, p.message.Properties = timestamp, "", nil
	if len(v.Properties) > 0 { // options may add to them
		p.message.Properties = make(map[string]any, len(v.Properties))
		for name, value := range v.Properties {
			if err := setProperty(&p.message, name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func decodeMessage(d *delivery) (*Message, error) { return d.parsed() }

func encodeValue[T any](v T, p *parcel) (err error) {
	p.body, err = marshalValue(p.body[:0], v)
	p.message.Kind, p.message.Body = BodyValue, p.body
	return err
}

func decodeValue[T any](d *delivery) (T, error) {
	var v T
	kind, err := d.bodyKind()
	if err != nil {
		return v, err
	}
	return v, unmarshalValue(kind, d.record.Value, &v)
}

// valueCoder is a MessagePack encoder over a slice.
type valueCoder struct {
	buf []byte
	enc *msgpack.Encoder
	src bytes.Reader
	dec *msgpack.Decoder
}

func (w *valueCoder) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	return len(b), nil
}

func (w *valueCoder) WriteByte(b byte) error {
	w.buf = append(w.buf, b)
	return nil
}

var valueCoders = sync.Pool{New: func() any {
	w := &valueCoder{}
	w.enc = msgpack.NewEncoder(w)
	w.dec = msgpack.NewDecoder(&w.src)
	return w
}}

func marshalValue(dst []byte, v any) ([]byte, error) {
	w := valueCoders.Get().(*valueCoder)
	defer valueCoders.Put(w)
	w.buf = dst
	w.enc.Reset(w)
	w.enc.SetCustomStructTag("json") // where a field has no msgpack tag
	err := w.enc.Encode(v)
	dst, w.buf = w.buf, nil
	if err != nil {
		return dst, fmt.Errorf("encode %T: %w", v, err)
	}
	return dst, nil
}

// unmarshalValue reads MessagePack, and JSON where text or bytes hold some:
// what other languages and Kafka producers write.
func unmarshalValue(kind BodyKind, body []byte, v any) error {
	if kind == BodyText || kind == BodyBytes {
		if err := json.Unmarshal(body, v); err != nil {
			return fmt.Errorf("%w %T: %w", ErrBody, v, err)
		}
		return nil
	}
	w := valueCoders.Get().(*valueCoder)
	defer valueCoders.Put(w)
	w.src.Reset(body)
	w.dec.Reset(&w.src)
	w.dec.SetCustomStructTag("json")
	err := w.dec.Decode(v)
	w.src.Reset(nil)
	if err != nil {
		return fmt.Errorf("%w %T: %w", ErrBody, v, err)
	}
	return nil
}
