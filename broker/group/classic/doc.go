// Package classic is one consumer group of Kafka's classic protocol, in which
// members assign the partitions: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//
// A [Group] is a pure machine. A request, the time and a [Ticket] for its answer
// come in; a [Result] goes out: answers to this and other tickets, and whether
// the group's record has changed. Deadline says when Expire wants to be called.
// It has no clock, no lock and no goroutine; one caller at a time.
//
//	Empty ──► PreparingRebalance ──► CompletingRebalance ──► Stable
//	  ▲            ▲   │ nobody joined       │                  │
//	  └────────────┼───┘                     │ a member comes,  │
//	               └─────────────────────────┴ goes or changes ─┘
//
// A rebalance waits until every member has joined again, at most for the longest
// rebalance timeout of them; who has not is out, unless it is static (KIP-345)
// and its session lasts. The first rebalance of an empty group waits instead for
// a delay, which each newcomer prolongs. Then the leader is told of all
// members, and everybody waits in SyncGroup for what it assigns; who does not
// sync within the rebalance timeout is out.
//
// Subscriptions and assignments are opaque, so eager and cooperative assignors
// are one to the machine, and so are groups that are not of consumers.
//
// Only two changes are recorded: the assignment of a generation, and that the
// group has become empty. A generation whose assignment was never recorded is
// forgotten by a crash; its members learn it by ILLEGAL_GENERATION and join.
package classic
