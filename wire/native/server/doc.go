// Package server is the server's end of the native protocol.
//
// A [Server] serves connections; each has two goroutines. The reader takes
// every frame that one read of the socket brought, and only then lets the
// writer be woken: sends to one partition become one append, and the answers
// of all become one write. The writer swaps the connection's two outgoing
// buffers and writes the full one while the other fills. Deliveries are
// copied from the view into that buffer, confirms are appended by the log's
// committer; no message costs a goroutine, a channel or an allocation.
//
// What may wait for the disk's metadata or for other sessions (resolve,
// subscribe, close, administration) runs on one of two lanes beside the
// reader, in order, so that it holds up nobody's sends.
//
// A message passes through so: Send is validated, gathered (sendGroup) and
// appended; the log calls the group's Committed, which appends the Confirms.
// A delivery comes through consumer.Deliver; a Settle goes to the consumer's
// view, whose waiter (settleGroup) answers it.
//
// Locks, in order: a view's lock, then output.mu; nothing is called while
// output.mu is held. connection.mu is held alone.
package server
