// Package stomp serves STOMP 1.0, 1.1 and 1.2 (https://stomp.github.io).
//
// A Server is a wire.Protocol. Each connection has a reader, which handles one frame
// after the other; what a frame asks for is answered by a RECEIPT once it is on disk,
// behind the frames that follow, and what is refused by an ERROR, which is the last
// frame of a connection. A message is in inbound.go where it comes from a client, in
// outbound.go where it goes to one; a subscription remembers what it has delivered
// until that is acknowledged. docs/stomp.md says what maps to what.
package stomp
