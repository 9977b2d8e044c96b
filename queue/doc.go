// Package queue delivers. A [View] is one subscription over all partitions of a
// destination: the queue's own, or a subscription of a topic. It copies
// nothing: what it has done with each record stands in a destination.Cursor for
// each partition, and the records stay where they are in the log.
//
// There are only a few types. A View has [Consumer]s, which have credit. A
// [Sink] takes what is delivered to them, as a batch of records, and Settle ends
// what was delivered: acknowledged, released, or rejected into the dead letter
// destination. A [Dispatcher] is the few workers that all views share.
//
// A record passes through like this. The log's stable end moves, or credit
// comes, or a message comes back: whoever notices it marks the view and leaves.
// A worker takes the view, locks it, and reads ahead from each partition into
// its lanes. A lane is a bounded look-ahead window, the records in order of
// priority; the consumers without a selector share one, and each with a selector
// has its own, so that none holds another up. While reading, the worker looks
// once at each record's routing: what is not due is scheduled, what has expired
// is archived, what is not for this subscription is passed. Then it hands out
// what is in the lanes, to each consumer in turn as much as it has credit for.
// Records that lie next to each other and share their routing are one run, so a
// stored batch that goes to one consumer is handed over as it lies on disk.
//
// Settle changes the cursors and writes their deltas to the delivery state's
// log; the caller's waiter is told when they are on disk. A message that moves
// to another destination, dead or expired or by an operator's wish, is one
// atomic commit of the append there and of the delta here (reliability Q6).
//
// No goroutine and no timer belongs to a message or a consumer. A view has one
// timer, for what is due next.
package queue
