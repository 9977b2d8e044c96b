package codec

// The types of AMQP that Go has no type for (§1.6).
type (
	Symbol     string
	Char       rune
	Timestamp  int64 // ms since 1970, UTC
	UUID       [16]byte
	Decimal32  [4]byte
	Decimal64  [8]byte
	Decimal128 [16]byte
	List       []any
	// Map keeps its order, which means nothing (§1.6.23).
	Map []Entry
)

// Entry is one of a Map.
type Entry struct{ Key, Value any }

// Array has values of one type. Code is their constructor's, and Descriptor, if not
// nil, stands before each.
type Array struct {
	Descriptor any
	Code       byte
	Values     []any
}

// Described is a value with a descriptor (§1.2).
type Described struct{ Descriptor, Value any }

// Get returns the value of a key that is a symbol or a string; nil if there is none.
func (m Map) Get(key string) any {
	for _, e := range m {
		switch k := e.Key.(type) {
		case Symbol:
			if string(k) == key {
				return e.Value
			}
		case string:
			if k == key {
				return e.Value
			}
		}
	}
	return nil
}

// Uint32 is a field that may be null.
type Uint32 struct {
	V   uint32
	Set bool
}

// Some is a Uint32 that is not null.
func Some(v uint32) Uint32 { return Uint32{v, true} }

// String is a field that may be null, which is not the empty string.
type String struct {
	V   string
	Set bool
}

// SomeString is a String that is not null.
func SomeString(v string) String { return String{v, true} }

// The bounds of what is decoded.
const (
	// MaxDepth is how deep values may be in one another.
	MaxDepth = 32
	// MaxElements bounds the elements of all lists, maps and arrays of one value,
	// which take more memory here than on the wire.
	MaxElements = 1 << 16
)

// The constructors (§1.6).
const (
	codeDescribed  = 0x00
	codeNull       = 0x40
	codeTrue       = 0x41
	codeFalse      = 0x42
	codeUint0      = 0x43
	codeUlong0     = 0x44
	codeList0      = 0x45
	codeUbyte      = 0x50
	codeByte       = 0x51
	codeSmallUint  = 0x52
	codeSmallUlong = 0x53
	codeSmallInt   = 0x54
	codeSmallLong  = 0x55
	codeBoolean    = 0x56
	codeUshort     = 0x60
	codeShort      = 0x61
	codeUint       = 0x70
	codeInt        = 0x71
	codeFloat      = 0x72
	codeChar       = 0x73
	codeDecimal32  = 0x74
	codeUlong      = 0x80
	codeLong       = 0x81
	codeDouble     = 0x82
	codeTimestamp  = 0x83
	codeDecimal64  = 0x84
	codeDecimal128 = 0x94
	codeUUID       = 0x98
	codeVbin8      = 0xa0
	codeStr8       = 0xa1
	codeSym8       = 0xa3
	codeVbin32     = 0xb0
	codeStr32      = 0xb1
	codeSym32      = 0xb3
	codeList8      = 0xc0
	codeMap8       = 0xc1
	codeList32     = 0xd0
	codeMap32      = 0xd1
	codeArray8     = 0xe0
	codeArray32    = 0xf0
)
