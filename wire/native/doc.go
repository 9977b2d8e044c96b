// Package native is polylog's own protocol: length-prefixed MessagePack
// frames whose payloads are Kafka record batches.
//
// It is a leaf that the client and the server share. Its few types are
// [Frame], one struct for each kind of frame; [Reader], which cuts a stream
// into frames; [Append], which writes one; and [Error], which every refusal
// travels as.
//
// A message travels so: a producer's connection gathers what several callers
// send into one record batch, and sends it as the payload of a [Send]; the
// broker appends it and, once it is on disk, answers with a [Confirm]. A
// consumer gives credit with [Subscribe] or [Credit]; the broker answers with
// [Deliver] frames, each a record batch with the acquisition number of its
// first record; the consumer returns [Settle], with spans of records. Requests
// carry a number and are answered in any order by [OK] or [Fail]; confirms of
// one destination come in the order of its sends.
//
// docs/format/native.md draws the bytes.
package native

// Version is the protocol version that this package speaks. A peer that
// announces another major version is refused with [CodeUnsupported].
const Version = 1

// Limits of the protocol. A frame beyond them ends the connection with
// [CodeTooLarge]; nothing of it is kept.
const (
	// MaxHelloFrame bounds a frame before authentication, in bytes.
	MaxHelloFrame = 64 << 10
	// DefaultMaxFrame bounds a frame after authentication, in bytes, unless
	// the broker announces another bound in its Welcome. It leaves room for a
	// message of 1 MiB and its headers.
	DefaultMaxFrame = 2 << 20
	// MaxSpans bounds the spans of one Settle.
	MaxSpans = 4096
	// MaxText bounds one text field of a frame, in bytes.
	MaxText = 16 << 10
)
