// Package codec is the encoding of AMQP 1.0 (OASIS, 2012): its types, the
// performatives of the transport, the types of messaging, of transactions and of
// security, and the sections of a message.
//
// Whoever reads uses a [Decoder] on the body of a frame, and [Split] on a message;
// whoever writes appends to a buffer. A value whose type is not known beforehand is
// an any:
//
//	null, boolean            nil, bool
//	ubyte … ulong            uint8, uint16, uint32, uint64
//	byte … long              int8, int16, int32, int64
//	float, double            float32, float64
//	decimal32, 64, 128       Decimal32, Decimal64, Decimal128
//	char, timestamp, uuid    Char, Timestamp, UUID
//	binary, string, symbol   []byte, string, Symbol
//	list, map, array         List, Map, Array
//	described                *Described
//
// Nothing here does I/O. What is read from a peer is bounded: by what was given, by
// MaxDepth, and by MaxElements where an element may be smaller on the wire than here.
package codec
