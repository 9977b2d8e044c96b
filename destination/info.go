package destination

// Info describes a destination for operators.
type Info struct {
	Name          string
	ID            [16]byte
	Kind          Kind
	Temporary     bool
	Internal      bool
	Settings      map[string]string // every setting by name, as it applies
	Partitions    []PartitionInfo
	Queue         *ViewInfo // nil where no queue view has been opened
	Subscriptions int
	Bytes         int64
}

// PartitionInfo describes one partition's log; offsets and bytes.
type PartitionInfo struct {
	Partition          int32
	Start, End, Stable int64
	Bytes              int64
}

// ViewInfo counts the messages of a queue or a subscription: the first line
// as it is now, the second since the broker's start.
type ViewInfo struct {
	Waiting, Acquired, Scheduled, Held             int64
	Delivered, Acknowledged, Expired, DeadLettered int64
	Consumers                                      int
}

// Transfer says which waiting messages of a queue to purge, move or redrive.
type Transfer struct {
	Name     string
	To       string
	Selector string
	Max      int64 // messages; 0: all that wait now
	// DryRun counts, and does nothing. Redrive only.
	DryRun bool
	// MaxRedrives leaves what was redriven so often already where it is, so that
	// it does not go round for ever; 0: DefaultMaxRedrives, -1: however often.
	MaxRedrives int
	// After is TransferResult.Next of the call before.
	After []int64
}

// DefaultMaxRedrives is how often a message may be redriven unless a Transfer says
// otherwise.
const DefaultMaxRedrives = 5

// TransferResult says how much was done.
type TransferResult struct {
	Messages int64
	Skipped  int64            // for MaxRedrives
	To       map[string]int64 // messages, by destination; of a redrive
	More     bool             // a bound of one call has left some
	Next     []int64          // and where to go on then
}

// BrokerInfo describes the broker that holds the destinations.
type BrokerInfo struct {
	Version          string
	StartedMS        int64 // ms since 1970
	Epoch            int32
	Destinations     int
	Connections      int
	Syncs            int64
	JournalBytes     int64
	RecoveryMS       int64
	RecoveredEntries int64
	HeapBytes        uint64
}
