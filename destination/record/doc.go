// Package record is the one format in which polylog stores and carries messages:
// Kafka's record batch, version 2, with what is particular to a JMS message in
// one record header. Nothing here does I/O, holds a lock or starts a goroutine.
//
// There are only a few types. A Batch is the bytes of one batch and answers what
// its header says. Next cuts batches off a buffer, Validate checks one that a
// producer sent, a Reader walks its records, a Builder writes a new one. Subset
// and Compress make a batch from another.
//
// A Message is a JMS message in its parts. AppendTo turns it into a record: the
// body becomes the value, the group id the key, every property a readable header,
// and all the rest, Meta, the header "polylog.jms". DecodeMessage goes the other
// way, and takes a record that knows nothing of JMS for a BytesMessage whose
// properties are the record's headers. A queue, which only has to decide about
// delivery, reads no more than the Routing.
//
// The bytes are described in docs/format/record.md.
package record
