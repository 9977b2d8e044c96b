// Package wire is what all protocols share at the network's edge: where to
// listen and whether that is safe ([Config]), how many may connect ([Limits],
// [Guard]), the accept loop and its end ([Listener]), and a connection within
// one process ([Pipe]).
//
// A connection comes in through a Listener, is counted by the Guard, gets its
// TLS handshake, and is handed to the listener's [Protocol] with a [Ticket];
// the protocol serves it until it ends, and says through the ticket when the
// peer has proved who it is. When the listener drains, the protocol is told,
// and what has not ended when the time is up is closed.
package wire
