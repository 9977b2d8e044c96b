package codec

import (
	"encoding/binary"
	"fmt"
	"math"
)

// AppendValue appends a value of the types that the package lists. It panics on
// others: what a peer sends never gets here without having been read.
func AppendValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, codeNull)
	case bool:
		return appendBool(dst, v)
	case uint8:
		return append(dst, codeUbyte, v)
	case uint16:
		return binary.BigEndian.AppendUint16(append(dst, codeUshort), v)
	case uint32:
		return appendUint(dst, v)
	case uint64:
		return appendUlong(dst, v)
	case int8:
		return append(dst, codeByte, byte(v))
	case int16:
		return binary.BigEndian.AppendUint16(append(dst, codeShort), uint16(v))
	case int32:
		if v >= math.MinInt8 && v <= math.MaxInt8 {
			return append(dst, codeSmallInt, byte(v))
		}
		return binary.BigEndian.AppendUint32(append(dst, codeInt), uint32(v))
	case int64:
		if v >= math.MinInt8 && v <= math.MaxInt8 {
			return append(dst, codeSmallLong, byte(v))
		}
		return binary.BigEndian.AppendUint64(append(dst, codeLong), uint64(v))
	case float32:
		return binary.BigEndian.AppendUint32(append(dst, codeFloat), math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, codeDouble), math.Float64bits(v))
	case Decimal32:
		return append(append(dst, codeDecimal32), v[:]...)
	case Decimal64:
		return append(append(dst, codeDecimal64), v[:]...)
	case Decimal128:
		return append(append(dst, codeDecimal128), v[:]...)
	case Char:
		return binary.BigEndian.AppendUint32(append(dst, codeChar), uint32(v))
	case Timestamp:
		return appendTimestamp(dst, v)
	case UUID:
		return append(append(dst, codeUUID), v[:]...)
	case []byte:
		return AppendBinary(dst, v)
	case string:
		return AppendString(dst, v)
	case Symbol:
		return appendSymbol(dst, v)
	case List:
		dst, at := begin(dst, codeList32)
		for _, e := range v {
			dst = AppendValue(dst, e)
		}
		return end(dst, at, len(v))
	case Map:
		return appendMap(dst, v)
	case Array:
		return appendArray(dst, v)
	case *Described:
		return AppendValue(AppendValue(append(dst, codeDescribed), v.Descriptor), v.Value)
	}
	panic(fmt.Sprintf("codec: a value of type %T", v))
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, codeTrue)
	}
	return append(dst, codeFalse)
}

func appendUint(dst []byte, v uint32) []byte {
	switch {
	case v == 0:
		return append(dst, codeUint0)
	case v <= math.MaxUint8:
		return append(dst, codeSmallUint, byte(v))
	}
	return binary.BigEndian.AppendUint32(append(dst, codeUint), v)
}

func appendUlong(dst []byte, v uint64) []byte {
	switch {
	case v == 0:
		return append(dst, codeUlong0)
	case v <= math.MaxUint8:
		return append(dst, codeSmallUlong, byte(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, codeUlong), v)
}

func appendTimestamp(dst []byte, t Timestamp) []byte {
	return binary.BigEndian.AppendUint64(append(dst, codeTimestamp), uint64(t))
}

// AppendBinary, AppendString and AppendSymbol append what their names say.
func AppendBinary(dst, v []byte) []byte {
	return append(appendSized(dst, len(v), codeVbin8, codeVbin32), v...)
}

// AppendString appends a string.
func AppendString(dst []byte, v string) []byte {
	return append(appendSized(dst, len(v), codeStr8, codeStr32), v...)
}

func appendSymbol(dst []byte, v Symbol) []byte {
	return append(appendSized(dst, len(v), codeSym8, codeSym32), v...)
}

func appendSized(dst []byte, n int, narrow, wide byte) []byte {
	if n <= math.MaxUint8 {
		return append(dst, narrow, byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, wide), uint32(n))
}

// begin opens a list, map or array of the wide form, which end closes.
func begin(dst []byte, code byte) ([]byte, int) {
	dst = append(dst, code, 0, 0, 0, 0, 0, 0, 0, 0)
	return dst, len(dst)
}

func end(dst []byte, at, count int) []byte {
	binary.BigEndian.PutUint32(dst[at-8:], uint32(len(dst)-at+4))
	binary.BigEndian.PutUint32(dst[at-4:], uint32(count))
	return dst
}

func appendMap(dst []byte, m Map) []byte {
	dst, at := begin(dst, codeMap32)
	for _, e := range m {
		dst = AppendValue(AppendValue(dst, e.Key), e.Value)
	}
	return end(dst, at, 2*len(m))
}

// appendArray writes the elements in the wide form of what Code names.
func appendArray(dst []byte, a Array) []byte {
	dst, at := begin(dst, codeArray32)
	if a.Descriptor != nil {
		dst = AppendValue(append(dst, codeDescribed), a.Descriptor)
	}
	code := wide(a.Code)
	dst = append(dst, code)
	for _, v := range a.Values {
		dst = appendElement(dst, code, v)
	}
	return end(dst, at, len(a.Values))
}

// wide is the constructor of the same type with a size of four bytes.
func wide(code byte) byte {
	switch code >> 4 {
	case 0xa, 0xc, 0xe:
		return code + 0x10
	}
	return code
}

func appendElement(dst []byte, code byte, v any) []byte {
	switch code {
	case codeNull, codeTrue, codeFalse, codeUint0, codeUlong0, codeList0:
		return dst
	case codeBoolean:
		if v.(bool) {
			return append(dst, 1)
		}
		return append(dst, 0)
	case codeSmallUint:
		return append(dst, byte(v.(uint32)))
	case codeSmallUlong:
		return append(dst, byte(v.(uint64)))
	case codeSmallInt:
		return append(dst, byte(v.(int32)))
	case codeSmallLong:
		return append(dst, byte(v.(int64)))
	case codeUint:
		return binary.BigEndian.AppendUint32(dst, v.(uint32))
	case codeUlong:
		return binary.BigEndian.AppendUint64(dst, v.(uint64))
	case codeInt:
		return binary.BigEndian.AppendUint32(dst, uint32(v.(int32)))
	case codeLong:
		return binary.BigEndian.AppendUint64(dst, uint64(v.(int64)))
	case codeVbin32:
		return append(binary.BigEndian.AppendUint32(dst, uint32(len(v.([]byte)))), v.([]byte)...)
	case codeStr32:
		return append(binary.BigEndian.AppendUint32(dst, uint32(len(v.(string)))), v.(string)...)
	case codeSym32:
		return append(binary.BigEndian.AppendUint32(dst, uint32(len(v.(Symbol)))), v.(Symbol)...)
	}
	return append(dst, AppendValue(nil, v)[1:]...) // it has one form, or is written in its wide one
}

// AppendDescriptor begins a described value.
func AppendDescriptor(dst []byte, d uint64) []byte {
	return appendUlong(append(dst, codeDescribed), d)
}

// list writes the fields of a described list, and leaves out those that are null
// at its end.
type list struct {
	dst   []byte
	at    int
	count int
	last  int // how many are written up to the last that is not null
	upTo  int // len(dst) then
}

func beginList(dst []byte, descriptor uint64) list {
	dst, at := begin(AppendDescriptor(dst, descriptor), codeList32)
	return list{dst: dst, at: at, upTo: len(dst)}
}

// end returns what was written, in the narrow form if it fits.
func (l *list) end() []byte {
	dst := l.dst[:l.upTo]
	content := len(dst) - l.at
	switch {
	case l.last == 0:
		dst = append(dst[:l.at-9], codeList0)
	case content+1 <= math.MaxUint8 && l.last <= math.MaxUint8:
		head := l.at - 9
		dst[head], dst[head+1], dst[head+2] = codeList8, byte(content+1), byte(l.last)
		copy(dst[head+3:], dst[l.at:])
		dst = dst[:head+3+content]
	default:
		dst = end(dst, l.at, l.last)
	}
	return dst
}

func (l *list) wrote() {
	l.count++
	l.last, l.upTo = l.count, len(l.dst)
}

func (l *list) null() {
	l.count++
	l.dst = append(l.dst, codeNull)
}

func (l *list) any(v any) {
	if v == nil {
		l.null()
		return
	}
	l.dst = AppendValue(l.dst, v)
	l.wrote()
}

// bool, uint8 and the like leave out what is the default.
func (l *list) bool(v, def bool) {
	if v == def {
		l.null()
		return
	}
	l.dst = appendBool(l.dst, v)
	l.wrote()
}

func (l *list) uint8(v, def uint8) {
	if v == def {
		l.null()
		return
	}
	l.dst = append(l.dst, codeUbyte, v)
	l.wrote()
}

func (l *list) uint16(v uint16, set bool) {
	if !set {
		l.null()
		return
	}
	l.dst = binary.BigEndian.AppendUint16(append(l.dst, codeUshort), v)
	l.wrote()
}

func (l *list) uint32(v Uint32) {
	if !v.Set {
		l.null()
		return
	}
	l.must(v.V)
}

func (l *list) must(v uint32) {
	l.dst = appendUint(l.dst, v)
	l.wrote()
}

func (l *list) uint32Or(v, def uint32) { l.uint32(Uint32{v, v != def}) }

func (l *list) uint64(v uint64) {
	if v == 0 {
		l.null()
		return
	}
	l.dst = appendUlong(l.dst, v)
	l.wrote()
}

func (l *list) timestamp(t Timestamp, set bool) {
	if !set {
		l.null()
		return
	}
	l.dst = appendTimestamp(l.dst, t)
	l.wrote()
}

func (l *list) string(s String) {
	if !s.Set {
		l.null()
		return
	}
	l.dst = AppendString(l.dst, s.V)
	l.wrote()
}

func (l *list) symbol(s Symbol) {
	if s == "" {
		l.null()
		return
	}
	l.dst = appendSymbol(l.dst, s)
	l.wrote()
}

func (l *list) binary(b []byte) {
	if b == nil {
		l.null()
		return
	}
	l.dst = AppendBinary(l.dst, b)
	l.wrote()
}

func (l *list) symbols(s []Symbol) {
	if len(s) == 0 {
		l.null()
		return
	}
	a := Array{Code: codeSym32, Values: make([]any, len(s))}
	for i := range s {
		a.Values[i] = s[i]
	}
	l.dst = appendArray(l.dst, a)
	l.wrote()
}

func (l *list) mapping(m Map) {
	if m == nil {
		l.null()
		return
	}
	l.dst = appendMap(l.dst, m)
	l.wrote()
}
