// Package txn is Kafka's transaction coordinator (KIP-98, KIP-360, KIP-890).
//
// There are few types. A machine is one transactional id as a pure state
// machine: requests and times go in, an answer and perhaps a record to write
// come out. A [Coordinator] keeps a machine for each id, its records in
// __transaction_state, and ends transactions in the partitions they touched.
//
// A transaction travels so. InitProducerID gives the producer an id and an
// epoch that fences whoever used the transactional id before. Each partition
// enters the transaction before the first batch is appended to it: by
// AddPartitionsToTxn, or by [Coordinator.Admit] where the client leaves that
// to the broker (transaction.version 2). EndTxn writes a prepare record; when
// that is durable the outcome is decided. The end markers follow, in every
// partition and for every group; when all of them are durable a complete record
// says that nothing is left to do, and the client is answered. After a crash a
// prepared transaction is finished, and one that was open is aborted when its
// time is over.
//
//	Empty ──► Ongoing ──► PrepareCommit ──► CompleteCommit ──► Ongoing, Empty
//	             └──────► PrepareAbort  ──► CompleteAbort  ──► Ongoing, Empty
//
// Requests that come while something is being written for the same id are
// answered CONCURRENT_TRANSACTIONS, as in Kafka, and clients try again; where
// the answer would only be a detour, the coordinator waits a moment first.
//
// The records are Kafka's, at the version that it writes under
// transaction.version 2. One tagged field of our own is added, see record.go.
package txn
