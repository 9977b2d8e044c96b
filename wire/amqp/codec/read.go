package codec

import (
	"encoding/binary"
	"math"
)

// reader takes values off a buffer. Its first error stays, and what is read after
// it is zero.
type reader struct {
	buf   []byte
	err   error
	left  int // elements that may still come
	depth int
}

func newReader(b []byte) reader { return reader{buf: b, left: MaxElements} }

func (r *reader) fail(format string, args ...any) {
	r.failWith(decodeError(format, args...))
}

func (r *reader) failWith(err error) {
	if r.err == nil {
		r.err = err
		r.buf = nil
	}
}

// take takes n bytes.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.buf) {
		r.fail("%d bytes are missing", n-len(r.buf))
		return nil
	}
	b := r.buf[:n:n]
	r.buf = r.buf[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// sized takes what a size of one byte or four stands before.
func (r *reader) sized(wide bool) []byte {
	if wide {
		n := r.u32()
		if uint64(n) > uint64(len(r.buf)) {
			r.fail("a size of %d where %d bytes are left", n, len(r.buf))
			return nil
		}
		return r.take(int(n))
	}
	return r.take(int(r.u8()))
}

// enter goes one deeper into a value.
func (r *reader) enter() bool {
	if r.depth++; r.depth > MaxDepth {
		r.failWith(ErrTooMany)
	}
	return r.err == nil
}

func (r *reader) leave() { r.depth-- }

// compound takes the size and the count of a list, a map or an array, and returns a
// reader of what follows.
func (r *reader) compound(wide bool) (in reader, count int) {
	b := r.sized(wide)
	in = reader{buf: b, left: r.left, depth: r.depth}
	var n uint64
	if wide {
		n = uint64(in.u32())
	} else {
		n = uint64(in.u8())
	}
	if r.err == nil && in.err != nil {
		r.failWith(in.err)
	}
	if r.err != nil {
		return reader{err: r.err}, 0
	}
	if n > uint64(len(in.buf)) && n > uint64(r.left) {
		r.failWith(ErrTooMany)
		return reader{err: r.err}, 0
	}
	return in, int(n)
}

// after takes over what in has used up, and its error.
func (r *reader) after(in *reader) {
	r.left = in.left
	if in.err != nil {
		r.failWith(in.err)
	} else if len(in.buf) > 0 {
		r.fail("%d bytes behind the last element", len(in.buf))
	}
}

// value reads any value.
func (r *reader) value() any { return r.valueOf(r.u8()) }

func (r *reader) valueOf(code byte) any {
	if r.err != nil {
		return nil
	}
	switch code {
	case codeDescribed:
		if !r.enter() {
			return nil
		}
		defer r.leave()
		d := &Described{Descriptor: r.value()}
		d.Value = r.value()
		return d
	case codeNull:
		return nil
	case codeTrue:
		return true
	case codeFalse:
		return false
	case codeBoolean:
		return r.boolean()
	case codeUint0:
		return uint32(0)
	case codeUlong0:
		return uint64(0)
	case codeUbyte:
		return r.u8()
	case codeByte:
		return int8(r.u8())
	case codeSmallUint:
		return uint32(r.u8())
	case codeSmallUlong:
		return uint64(r.u8())
	case codeSmallInt:
		return int32(int8(r.u8()))
	case codeSmallLong:
		return int64(int8(r.u8()))
	case codeUshort:
		return r.u16()
	case codeShort:
		return int16(r.u16())
	case codeUint:
		return r.u32()
	case codeInt:
		return int32(r.u32())
	case codeFloat:
		return math.Float32frombits(r.u32())
	case codeChar:
		return Char(r.u32())
	case codeDecimal32:
		var d Decimal32
		copy(d[:], r.take(4))
		return d
	case codeUlong:
		return r.u64()
	case codeLong:
		return int64(r.u64())
	case codeDouble:
		return math.Float64frombits(r.u64())
	case codeTimestamp:
		return Timestamp(r.u64())
	case codeDecimal64:
		var d Decimal64
		copy(d[:], r.take(8))
		return d
	case codeDecimal128:
		var d Decimal128
		copy(d[:], r.take(16))
		return d
	case codeUUID:
		var u UUID
		copy(u[:], r.take(16))
		return u
	case codeVbin8, codeVbin32:
		return append([]byte{}, r.sized(code == codeVbin32)...)
	case codeStr8, codeStr32:
		return string(r.sized(code == codeStr32))
	case codeSym8, codeSym32:
		return Symbol(r.sized(code == codeSym32))
	case codeList0:
		return List{}
	case codeList8, codeList32:
		return r.list(code == codeList32)
	case codeMap8, codeMap32:
		return r.mapping(code == codeMap32)
	case codeArray8, codeArray32:
		return r.array(code == codeArray32)
	}
	r.fail("constructor 0x%02x", code)
	return nil
}

func (r *reader) boolean() bool {
	switch r.u8() {
	case 0:
		return false
	case 1:
		return true
	}
	r.fail("a boolean that is neither")
	return false
}

// admit counts n elements.
func (r *reader) admit(n int) bool {
	if n > r.left {
		r.failWith(ErrTooMany)
		return false
	}
	r.left -= n
	return true
}

func (r *reader) list(wide bool) any {
	if !r.enter() {
		return nil
	}
	defer r.leave()
	in, n := r.compound(wide)
	if r.err != nil || !in.admit(n) {
		r.after(&in)
		return nil
	}
	l := make(List, 0, n)
	for range n {
		if in.err != nil {
			break
		}
		l = append(l, in.value())
	}
	r.after(&in)
	return l
}

func (r *reader) mapping(wide bool) Map {
	if !r.enter() {
		return nil
	}
	defer r.leave()
	in, n := r.compound(wide)
	if n%2 != 0 {
		r.fail("a map of %d keys and values", n)
		return nil
	}
	if r.err != nil || !in.admit(n) {
		r.after(&in)
		return nil
	}
	m := make(Map, 0, n/2)
	for range n / 2 {
		if in.err != nil {
			break
		}
		m = append(m, Entry{in.value(), in.value()})
	}
	r.after(&in)
	return m
}

func (r *reader) array(wide bool) any {
	if !r.enter() {
		return nil
	}
	defer r.leave()
	in, n := r.compound(wide)
	if r.err != nil || !in.admit(n) {
		r.after(&in)
		return nil
	}
	a := Array{Code: in.u8()}
	if a.Code == codeDescribed {
		a.Descriptor = in.value()
		if a.Code = in.u8(); a.Code == codeDescribed {
			in.fail("an array of twice described values")
		}
	}
	a.Values = make([]any, 0, n)
	for range n {
		if in.err != nil {
			break
		}
		a.Values = append(a.Values, in.valueOf(a.Code))
	}
	r.after(&in)
	return a
}

// skip passes over one value without making it. It looks at the outermost
// structure alone: what a size is said for is passed over whole.
func (r *reader) skip() {
	code := r.u8()
	if r.err != nil {
		return
	}
	switch code >> 4 {
	case 0x0:
		if code != codeDescribed {
			break
		}
		if r.enter() {
			r.skip()
			r.skip()
			r.leave()
		}
		return
	case 0x4:
		return
	case 0x5:
		r.take(1)
		return
	case 0x6:
		r.take(2)
		return
	case 0x7:
		r.take(4)
		return
	case 0x8:
		r.take(8)
		return
	case 0x9:
		r.take(16)
		return
	case 0xa, 0xc, 0xe:
		r.sized(false)
		return
	case 0xb, 0xd, 0xf:
		r.sized(true)
		return
	}
	r.fail("constructor 0x%02x", code)
}

// descriptor reads that of a described value, as a number; 0 if it is something
// else that nobody here knows.
func (r *reader) descriptor() uint64 {
	if r.u8() != codeDescribed {
		r.fail("not a described value")
		return 0
	}
	switch code := r.u8(); code {
	case codeSmallUlong:
		return uint64(r.u8())
	case codeUlong:
		return r.u64()
	case codeUlong0:
		return 0
	case codeSym8, codeSym32:
		return byName[string(r.sized(code == codeSym32))]
	default:
		r.fail("a descriptor with constructor 0x%02x", code)
	}
	return 0
}

// fields are those of a described list, of which the last may be left out (§1.4).
type fields struct {
	r    *reader
	in   reader
	left int
}

func (r *reader) fields() (f fields) {
	f.r, f.in.left = r, r.left
	switch code := r.u8(); code {
	case codeList0:
	case codeList8, codeList32:
		f.in, f.left = r.compound(code == codeList32)
	default:
		r.fail("fields with constructor 0x%02x", code)
	}
	if r.err != nil {
		f.left = 0
	}
	return f
}

// done checks that nothing but null follows.
func (f *fields) done() {
	for f.left > 0 && f.in.err == nil {
		f.left--
		f.in.skip()
	}
	if f.r.err == nil {
		f.r.after(&f.in)
	}
}

// next returns the constructor of the next field; codeNull if there is none.
func (f *fields) next() byte {
	if f.left == 0 || f.in.err != nil {
		return codeNull
	}
	f.left--
	return f.in.u8()
}

func (f *fields) wrong(what string, code byte) {
	f.in.fail("%s with constructor 0x%02x", what, code)
}

func (f *fields) bool(def bool) bool {
	switch code := f.next(); code {
	case codeNull:
	case codeTrue:
		return true
	case codeFalse:
		return false
	case codeBoolean:
		return f.in.boolean()
	default:
		f.wrong("a boolean", code)
	}
	return def
}

func (f *fields) uint8(def uint8) uint8 {
	switch code := f.next(); code {
	case codeNull:
	case codeUbyte:
		return f.in.u8()
	default:
		f.wrong("a ubyte", code)
	}
	return def
}

func (f *fields) uint16() (v uint16, set bool) {
	switch code := f.next(); code {
	case codeNull:
		return 0, false
	case codeUshort:
		return f.in.u16(), true
	default:
		f.wrong("a ushort", code)
	}
	return 0, false
}

func (f *fields) uint32() (v Uint32) {
	switch code := f.next(); code {
	case codeNull:
	case codeUint0:
		v.Set = true
	case codeSmallUint:
		v = Uint32{uint32(f.in.u8()), true}
	case codeUint:
		v = Uint32{f.in.u32(), true}
	default:
		f.wrong("a uint", code)
	}
	return v
}

func (f *fields) uint32Or(def uint32) uint32 {
	if v := f.uint32(); v.Set {
		return v.V
	}
	return def
}

// must is uint32 of a field that is mandatory.
func (f *fields) must(name string) uint32 {
	v := f.uint32()
	if !v.Set {
		f.missing(name)
	}
	return v.V
}

func (f *fields) missing(name string) {
	if f.in.err == nil {
		f.in.fail("the field %s is missing", name)
	}
}

func (f *fields) uint64() uint64 {
	switch code := f.next(); code {
	case codeNull, codeUlong0:
	case codeSmallUlong:
		return uint64(f.in.u8())
	case codeUlong:
		return f.in.u64()
	default:
		f.wrong("a ulong", code)
	}
	return 0
}

func (f *fields) timestamp() (t Timestamp, set bool) {
	switch code := f.next(); code {
	case codeNull:
	case codeTimestamp:
		return Timestamp(f.in.u64()), true
	default:
		f.wrong("a timestamp", code)
	}
	return 0, false
}

func (f *fields) string() (s String) {
	switch code := f.next(); code {
	case codeNull:
	case codeStr8, codeStr32:
		s = String{string(f.in.sized(code == codeStr32)), true}
	default:
		f.wrong("a string", code)
	}
	return s
}

func (f *fields) symbol() Symbol {
	switch code := f.next(); code {
	case codeNull:
	case codeSym8, codeSym32:
		return Symbol(f.in.sized(code == codeSym32))
	default:
		f.wrong("a symbol", code)
	}
	return ""
}

// address reads an address, for which a string is the only type that is used.
func (f *fields) address() (s String) { return f.string() }

// binary aliases the buffer; nil is null.
func (f *fields) binary() []byte {
	switch code := f.next(); code {
	case codeNull:
	case codeVbin8, codeVbin32:
		if b := f.in.sized(code == codeVbin32); b != nil {
			return b
		}
		return []byte{}
	default:
		f.wrong("a binary", code)
	}
	return nil
}

// symbols reads a field of several symbols: an array, or one alone (§1.3).
func (f *fields) symbols() []Symbol {
	switch v := f.any().(type) {
	case nil:
	case Symbol:
		return []Symbol{v}
	case Array:
		all := make([]Symbol, 0, len(v.Values))
		for _, one := range v.Values {
			if s, ok := one.(Symbol); ok {
				all = append(all, s)
			}
		}
		return all
	default:
		f.in.fail("a value where symbols belong")
	}
	return nil
}

func (f *fields) mapping() Map {
	switch code := f.next(); code {
	case codeNull:
	case codeMap8, codeMap32:
		return f.in.mapping(code == codeMap32)
	default:
		f.wrong("a map", code)
	}
	return nil
}

func (f *fields) any() any { return f.in.valueOf(f.next()) }

// described goes to a field that is a described value, whose constructor is read;
// false if it is null.
func (f *fields) described() bool {
	if f.left == 0 || f.in.err != nil || len(f.in.buf) == 0 {
		return false
	}
	if f.in.buf[0] == codeNull {
		f.left--
		f.in.u8()
		return false
	}
	f.left--
	return true
}
