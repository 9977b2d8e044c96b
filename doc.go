// Package polylog is the Go client of the polylog message server.
//
// It has only a few types. A [Connection] is one network connection, kept up
// by reconnecting. A [Session] is a single stream of work on it: it orders
// what is sent and says what acknowledges a delivery. A [Queue] and a [Topic]
// are destinations seen through a session, typed by what their messages hold:
// a string travels as text, a []byte as bytes, a map[string]any as a map, a
// *[Message] as it is, and anything else as MessagePack. A [Subscription] is
// what a topic is consumed through, and a [Delivery] is one message that waits
// to be settled.
//
//	c, err := polylog.Connect(ctx, "polylog://localhost:7400")
//	s, err := c.Session(ctx, polylog.IndividualAcknowledge)
//	orders := polylog.QueueOf[Order](s, "orders")
//	receipt, err := orders.Put(ctx, Order{Number: 1})
//	for d, err := range orders.Consume(ctx) {
//		if err != nil {
//			return err
//		}
//		if err := d.Ack(ctx); err != nil {
//			return err
//		}
//	}
//
// A session that is Transacted does what it sends and receives at its Commit, all
// of it or nothing; Connection.Tx runs a function in one, and Session.XA is its
// part in distributed transactions. A Stream reads a
// destination as a log, from any offset or time, and Stream.Group joins one of
// Kafka's consumer groups.
//
// A message travels so: Put encodes it into the record batch that is open for
// its session, destination and partition, and waits. The connection's writer
// sends whatever has gathered in one write, at once when the line is idle and
// in large batches under load. The broker confirms a batch when it is on disk,
// and the connection's reader wakes everyone who waits for it. In the other
// direction the reader hands whole batches to consumers, who decode them in
// their own goroutine; what they acknowledge gathers into spans, and travels
// when the writer is free.
//
// # Broken connections
//
// A connection that breaks is dialled again, and sessions, consumers and
// durable subscriptions are opened again. Three things cannot be hidden. A
// send that was written but not confirmed may have arrived or not: it fails
// with [ErrInDoubt], unless [WithRetryInDoubt] prefers a duplicate. A delivery
// of the connection before belongs to somebody else by now: settling it fails
// with [ErrStale]. Temporary destinations are gone. A transaction that was under
// way is rolled back, and its Commit says so with [ErrRolledBack].
package polylog
