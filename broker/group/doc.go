// Package group coordinates Kafka's groups: consumer groups of both protocols,
// the membership of share groups, and the offsets that groups commit.
//
// A [Coordinator] keeps an entry for each group: its machine, which is package
// classic's or package consumer's, and its offsets. Every change is a record in
// __consumer_offsets, in Kafka's own formats and in the partition where Kafka
// would put it. At a start the topic is read again.
//
//	request ──► lock the group ──► check, or machine ──► records ──► append ──► unlock
//	                 ▲                                                 │
//	   what landed   │                                                 ▼
//	   is taken in ──┘◄──────────────── landed ◄───────────────── one sync for all
//	                                      │
//	                                      └──► answer
//
// A group of consumers changes its machine while they move from the classic
// protocol to KIP-848, or back: migration.go.
//
// A group's lock is held while its machine decides and while its records are
// copied into the log's buffer, so that they are in order, and never while they
// are synced. A write that lands is noted by the committer, under a lock of its
// own, and taken into the group by whoever locks it next, in the order of the
// appends: committed offsets are seen once they are durable, and what is in
// memory is what a restart would find. A machine has decided before its records
// land; if they do not, it is read again from the log.
package group
