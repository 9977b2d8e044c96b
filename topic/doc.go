// Package topic keeps the subscriptions of topics: which there are, who may
// open, replace and delete them, and how far each holds its topic's messages.
//
// Its types are [Spec], what a consumer asks for; [Subscription], what it
// gets; and [Registry], which knows them all and obeys the rules of Jakarta
// Messaging 3.1 §8.3. A subscription is a [queue.View] with cursors of its
// own; once it is open, messages pass through the view and not through here.
//
// A durable subscription is created by one change of metadata, which says
// where on every partition it begins; a cursor that is not there yet begins
// there. It is deleted by one change too, after which its cursors have no
// owner, and are dropped. Each has an identity that is never used again, so
// that a cursor left over by a crash is nobody's. One that is not durable is
// known only here, and a restart forgets it.
//
// A Kafka share group has such a subscription on each of its topics; group.go
// says how that and JMS's of the same name are one.
package topic
