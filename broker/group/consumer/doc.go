// Package consumer holds the state of groups whose coordinator assigns the
// partitions: KIP-848 consumer groups, and the membership of KIP-932 share
// groups.
//
// There are only a few types. A [Group] is one consumer group, a [ShareGroup]
// is one share group. Both are pure machines: a request, the time and the
// [Topics] as they are now come in, and a result goes out, which has the
// answer, the [Record]s to append to __consumer_offsets and the time at which
// Expire wants to be called. They own no clock, no lock and no goroutine; one
// caller at a time.
//
//	heartbeat ──► Group ──► answer            (to be sent once the records are durable)
//	                │
//	                └─────► records ──► __consumer_offsets ──► Replay, after a restart
//
// A machine changes its state only by applying the records that it hands out,
// with the code that Replay uses, so that what was replayed is what was there.
// The records of one result belong together: append them in order and in one
// batch. They are ordered so that a batch of which only the beginning survived
// does no harm either: the group's epoch is raised first, and the epoch of the
// target assignment is written after the assignment. A caller whose append
// failed must forget the machine and replay the log into a new one.
//
// # How a group converges
//
// Whatever changes what members should own (one comes, leaves, dies, subscribes
// anew; a topic comes, grows, goes) raises the group's epoch. The next
// heartbeat of anyone computes a target assignment for that epoch. Then every
// member walks to the target on its own, in its own heartbeats:
//
//	stable ──► unrevoked: told what to give up, keeps its epoch until its
//	   ▲            │     heartbeat no longer lists it, or is fenced when its
//	   │            │     rebalance timeout has passed
//	   │            ▼
//	   └────── unreleased: at the target's epoch, with those new partitions
//	                that nobody holds, waiting for others to give up the rest
//
// A partition is given to a member only after the one that held it has
// acknowledged that it let go, has left, or was fenced.
//
// Members that use the classic protocol walk the same way, in their JoinGroup
// requests; classic.go has what is different.
//
// # Records
//
// The formats are Kafka's own, so that __consumer_offsets written here can be
// read there and the reverse; record.go names the schemas.
package consumer
