// Package group coordinates Kafka's groups: consumer groups of both protocols,
// the membership of share groups, and the offsets that groups commit.
//
// A [Coordinator] keeps an entry for each group: its machine, which is package
// classic's or package consumer's, and its offsets. Every change is a record in
// __consumer_offsets, in Kafka's own formats and in the partition where Kafka
// would put it; an answer that promises something leaves when the record is on
// disk. At a start the topic is read again.
//
// A group's lock is held while its machine decides and while its records are
// copied into the log's buffer, so that they are in order, and never while they
// are synced.
package group
