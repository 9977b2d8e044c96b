package commitlog

import (
	"log/slog"
	"time"
)

// Options of a Store. The zero value means the defaults.
type Options struct {
	// JournalFileBytes is the size of one journal file; default 64 MiB, at least 64 KiB.
	// One Append or Commit may take a quarter of it (ErrTooLarge).
	JournalFileBytes int64
	// JournalFiles bounds the number of journal files; default 4, at least 2. When all are full, appenders wait for the
	// checkpoint.
	JournalFiles int
	// MaxOpenFiles bounds the open files of segments and indexes; default 4096.
	MaxOpenFiles int
	// MaxPendingBytes bounds what waits for the committer; default 16 MiB. Appenders wait above it.
	MaxPendingBytes int
	// CheckpointInterval is how long after an append a checkpoint is written even if no journal file is full; default 30 s.
	CheckpointInterval time.Duration
	// MinEpoch is the least leader epoch of this start: logs that were copied here may have higher ones than it would get.
	MinEpoch int32
	// ProducerExpiration is how long a log remembers an idle producer (producer.id.expiration.ms); default 24 h.
	ProducerExpiration time.Duration
	// ReservedBytes is the size of the file that is given up on a full disk for logs with Config.Reserved and for our own
	// metadata; default 16 MiB, negative for none.
	ReservedBytes int64
	// SkipReadCheck turns off the CRC check of what is read. It costs about 45 ns for each KiB.
	SkipReadCheck bool
	// Now is the clock; default time.Now. It decides only ages, never order.
	Now func() time.Time
	// Logger gets damage, full disks and failures; default slog.Default.
	Logger *slog.Logger
	// OnDamage is called once for each damaged range that is found after Open, from the goroutine that found it. It must
	// not block. What Open finds is in Recovery.
	OnDamage func(*DamagedError)
}

// LogID names a log: a topic's id and a partition.
type LogID struct {
	Topic     [16]byte
	Partition int32
}

// Config of one log. The zero value means the defaults.
type Config struct {
	// SegmentBytes is the size at which a segment is closed; default 256 MiB, at most 2 GiB - 1.
	SegmentBytes int64
	// SegmentAge is how much later than a segment's first record an append starts a new one; default 7 days.
	SegmentAge time.Duration
	// MaxBatchBytes bounds one batch; default 1 MiB + 64 KiB.
	MaxBatchBytes int
	// TombstoneAge is how long Compact keeps a null value after its timestamp; default 24 h.
	TombstoneAge time.Duration
	// Memory (durability=memory) keeps the log out of the journal: an append is confirmed after the write, and a power
	// cut may lose what was confirmed.
	Memory bool
	// Reserved lets appends use Options.ReservedBytes on a full disk.
	Reserved bool
}

// Waiter is told how an append ended.
type Waiter interface {
	// Committed is called once for each append, in the order of the appends, from a committer goroutine, after Stable has
	// moved past it. It must not block nor call anything that waits for the store: an Append does when much is pending.
	Committed(err error)
}

// Write is one log's part of a Commit.
type Write struct {
	Log     *Log
	Batches []byte // whole batches; copied
	Base    int64  // set by Commit: the offset of the first record
}

// Retention says which closed segments may go. A segment goes
//   - if Consumed is set and it lies wholly below Floor;
//   - or if it is older than Age, or the log without it still has Bytes, and either it lies wholly below Floor or Hard is set.
type Retention struct {
	Floor    int64         // what every holder is past; math.MaxInt64 if nobody holds the log
	Consumed bool          // until consumed
	Age      time.Duration // by the segment's largest timestamp; 0 or less: no limit
	Bytes    int64         // of the whole log; 0 or less: no limit
	Hard     bool          // the limits win over Floor
}

// SegmentInfo describes one segment.
type SegmentInfo struct {
	Base         int64 // its first offset
	Bytes        int64
	MaxTimestamp int64 // ms; -1 if it is empty
	Active       bool
}

// Recovery tells what Open found.
type Recovery struct {
	Duration     time.Duration
	Clean        bool // the last process closed the store
	Logs         int  // in the checkpoint
	JournalFiles int  // replayed
	Entries      int64
	Bytes        int64 // of those entries
	TornBytes    int64 // of a last group that was never confirmed
	Damaged      []*DamagedError
}

// Stats counts since Open, except where it says otherwise.
type Stats struct {
	Appends        int64 // appends and parts of commits
	AppendedBytes  int64
	Groups         int64 // groups written to the journal
	Syncs          int64 // of the journal
	Waiters        int64 // called after a sync; Waiters/Syncs is the group's size
	JournalBytes   int64
	Checkpoints    int64
	Stalls         int64         // times that the committer had to wait for a checkpoint
	Full           int64         // appends that ended with ErrFull
	Damaged        int64         // damaged ranges, those of Open included
	Logs           int           // now
	OpenFiles      int           // now
	JournalFiles   int           // now
	PendingBytes   int           // now
	ReserveIntact  bool          // now
	LastCheckpoint time.Duration // how long the newest one took
}
