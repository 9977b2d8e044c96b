// Package auth says who a peer is and what it may do: users, with verifiers of their
// passwords, and rules in the model of Kafka's ACLs.
//
// [Authority] holds both. Every protocol asks it who a peer is, with a password or by
// SCRAM, and whatever is done afterwards goes through [Authority.Authorize]. A change is
// durable, by way of a [Store], before it is told to have been made, and holds for what
// is asked from then on, on open connections as well.
package auth
