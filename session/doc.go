// Package session is what a connection and its sessions mean, on the server,
// whatever protocol they came through: Jakarta Messaging 3.1 §6.1 and §6.2.
//
// A [Connection] has a client id, is started or stopped, owns temporary
// destinations, and opens Sessions. A [Session] has an acknowledgement mode and
// opens Consumers. A [Consumer] is one holder on a queue's view or on a
// topic's subscription; what is delivered to it goes straight to the
// protocol's queue.Sink. [Broker] is all that the package, and so every
// protocol, needs of a broker.
//
// A message passes through without stopping here: the view calls the sink, the
// sink copies the bytes into the connection's buffer, and the settlement goes
// from the Consumer to the view. Only where a protocol asks for it
// (Options.Track) is each delivery remembered, so that Acknowledge and Recover
// can settle all that the session has delivered; a native client remembers
// that itself.
//
// Closing follows the specification: a closed consumer keeps what its session
// may still acknowledge (§8.8), a closed session gives everything back
// (§6.2.15), and a closed connection takes its temporary destinations with it
// (§6.2.2).
//
// Locks, in the order in which they are taken: a pattern's opening,
// Connection.flow, Consumer.mu, a view's lock, Session.mu, Connection.mu. A
// pattern's mu is a leaf.
package session
