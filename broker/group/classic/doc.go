// Package classic is one consumer group of Kafka's classic protocol, in which
// members assign the partitions: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//
// A Group is a pure machine. A request, the time and a ticket for its answer
// come in; a Result goes out: answers to this and other tickets, whether the
// group's record has changed, and when Expire wants to be called. It has no
// clock, no lock and no goroutine.
//
//	Empty ──► PreparingRebalance ──► CompletingRebalance ──► Stable
//	  ▲            ▲   │ nobody joined       │                  │
//	  └────────────┼───┘                     │ a member comes,  │
//	               └─────────────────────────┴ goes or changes ─┘
//
// A rebalance waits until every member has joined again, or for the longest
// rebalance timeout of them; who has not is out, unless it is static
// (KIP-345). Then the leader is told of all members, and who does not sync
// within that time again is out.
package classic
