// Package spill is a producer that keeps messages on its own disk while the broker
// is away, and delivers them in order afterwards.
//
//	p, err := spill.Open("/var/lib/shop/outbox", "polylog://localhost:7400", spill.Options{})
//	defer p.Close()
//	receipt, err := p.Send(ctx, spill.Queue("orders"), polylog.NewText("one"))
//
// [Producer.Send] returns once the message is safe: confirmed by the broker, or
// synced to the directory. [Producer.Pending] says how many the broker has not
// confirmed, [Producer.Flush] waits for that, and the next Producer on the same
// directory sends what one has left.
//
// # How a message travels
//
// It gets an id and a timestamp, and its place in one order, which all destinations
// of the producer share. While the broker is there, it is sent from memory: what has
// gathered goes in one transaction, one at a time. If the broker does not confirm it
// within Options.Patience, or the connection breaks, what waits is written to the
// end of a file, in batches with one sync for all who wait; from then on messages go
// behind it there. When the broker is back, they are sent from the file, a
// transaction for up to a thousand. Once the file is nearly empty new ones wait in
// memory again.
//
// # What is promised
//
// A message that Send has returned for survives kill -9 of the producer's process,
// at any point, and a power cut. Messages to a destination arrive in the order in
// which they were handed over; those without a key, all in one partition, as long
// as the destination has as many partitions.
//
// A message arrives at least once. It is sent again if the connection broke before
// its confirmation came, and also if the process ended between the confirmation and
// the note of it, or the power went soon after. All sends of a message have the
// same JMSMessageID and JMSTimestamp: Jakarta Messaging 3.1 §3.4.3, §3.4.4. What is
// sent again begins with the oldest that is not known to be confirmed, and goes on
// in order: whoever drops what has come before sees each message once, in order. The
// broker does, where the destination's duplicate.window reaches back as far.
//
// A message that the broker will never have, because its destination is of another
// kind or it is too large, fails its Send. If it has been spilled by then nothing
// goes past it, unless Options.Refused drops it. A destination that is paused, and a
// broker whose disk is full, are waited for.
//
// The directory takes no more than Options.MaxBytes of the disk, and then Send fails
// with [ErrFull]. One Producer at a time has it. docs/format/spill.md draws the
// files.
package spill
