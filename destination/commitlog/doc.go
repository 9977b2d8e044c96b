// Package commitlog keeps append logs in Kafka's own files, behind one journal.
//
// There are few types: Store, a data directory; Log, one partition in it; Waiter, who is told when an append is durable.
// FS is the file system, DirFS a directory, MemFS one that can be crashed.
//
// # How an append travels
//
// Append copies the batches into the group that its lane is filling, stamps offsets and leader epoch there, and returns. The
// lane's committer takes the group with all that has come meanwhile, and brings it to its end in runs (what fits into a
// journal file; mostly all):
//
//	accept    each operation, in order: its place in the log's segment, a new segment if that is full, and the disk's room
//	          for it. What finds no room is made void and its offsets are given out again.
//	journal   one write of all entries, then one fdatasync
//	segments  one write for each log, while the journal syncs; never synced here
//	publish   Stable moves, OnStable and then the Waiters are called, in order
//
// A lane's group is committed by one goroutine at a time: the committer, or an appender between whose Hold and Release a
// little was appended while the committer slept. A broker with little to do so wakes nobody for a message.
//
// Logs in memory have a lane of their own, without the journal, so that their receipts wait for no sync.
//
// # Why two writes
//
// A sync for each segment costs as many syncs as there are logs; the journal costs one. A checkpoint, in the background,
// syncs the segments that were written since the last one and frees the journal behind it. After a crash each segment is cut
// to the checkpoint and rebuilt from the journal (see replay), so that it never holds more or other than the journal says.
// docs/format has drawings of the journal and the checkpoint. Segments, indexes, leader-epoch-checkpoint, partition.metadata
// and producer snapshots are Kafka's; the indexes can always be made again and are never synced, but for .txnindex, which a
// checkpoint syncs.
//
// # Producers and transactions
//
// The log does not check producers (KIP-98): a Gate may, within AppendChecked. It knows what it has written of them: the last
// batches of each, and which transactions are open. That is kept in a snapshot at the end of each segment and at each
// checkpoint, and read back when somebody asks. What a transaction that was aborted has written is found by Aborted. A log
// that never had a producer is known as such by the checkpoint, and none of this costs it anything.
//
// # When the disk is full
//
// Room is taken before anything is written: the journal's files are preallocated whole, and accept preallocates segments in
// steps. So ENOSPC meets an append before it is in the journal, and only that log's appends get ErrFull; nothing of them
// remains, and the next append just tries again. A reserve file is given up for logs with Config.Reserved and for
// checkpoints; until there is room for it again, other logs are refused. On a file system that cannot preallocate, a
// segment may meet ENOSPC after the journal has the append: then the reserve goes, and if that does not help the store fails,
// with the append safe in the journal.
//
// # When something is broken
//
// After a failed sync the store fails as a whole (ErrFailed): nothing is confirmed any more, because a second sync could
// succeed with the data gone. Damage is set aside under damaged/, named in a DamagedError, and passed over.
//
// # Goroutines and locks
//
// A Store runs two committers, a syncer (the journal's fdatasync beside the segment writes), a preparer (zeros ahead of the
// journal's entries), a checkpointer, and removals of deleted logs; Close waits for them all.
//
// Locks are taken in this order, and none but Log.admin and Log.adopting is held over a sync:
//
//	Log.admin       one truncation, deletion, retention or cleaning of a log at a time
//	Log.adopting    finding the end of a log that was copied here
//	Log.files       the segments, their indexes, and what is derived from them; several never
//	Log.mu          the next offset; several, in the order of LogID
//	Store.mu        the table of logs; held alone or under none of those above
//	lane.mu         the group that is being filled; the disk's before the memory's
//	fileCache.mu, journal.mu, journalFile.mu, hints.mu, reserve.mu: innermost, one at a time
package commitlog
