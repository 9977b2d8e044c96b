// Package destination holds what every view of a message server is built on:
// named, partitioned logs, and cursors over them.
//
// The types are few. A [Destination] is a name with a [Kind], its [Settings]
// and its [Partition]s. A Partition is a commit log and those who wait for it
// to grow. A [Cursor] is one subscription's state on one partition: what is
// done, who has what, what is due later. [DeliveryState] keeps all cursors in
// one internal log and builds them again after a restart.
//
// A message is routed by [Destination.Route] and appended to the partition,
// whose watchers are called once it is on disk. A view then reads it, acquires
// it in its cursor for a holder, and hands it out with the acquisition number.
// The holder's settlement comes back with that number; the cursor takes it if
// it is the newest, and [DeliveryState.Journal] writes what has changed. The
// settlement is confirmed when that is on disk. After a crash the cursor knows
// what was acknowledged, scheduled or held in a transaction, and how often
// each message was delivered; what was merely acquired is available again.
package destination
