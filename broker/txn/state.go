package txn

// state is where a transactional id stands. The numbers and names are Kafka's.
type state int8

const (
	empty state = iota
	ongoing
	prepareCommit
	prepareAbort
	completeCommit
	completeAbort
	dead // expires: a tombstone is being written
	// prepareEpochFence is that of an open transaction whose producer is being
	// fenced. It is never written: what is written is prepareAbort, with the
	// epoch raised.
	prepareEpochFence
	states = int(iota)
)

var stateNames = [states]string{
	"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence",
}

// before says from which states a state may be entered, as bits.
var before = [states]uint8{
	empty:             1<<empty | 1<<completeCommit | 1<<completeAbort,
	ongoing:           1<<ongoing | 1<<empty | 1<<completeCommit | 1<<completeAbort,
	prepareCommit:     1 << ongoing,
	prepareAbort:      1<<ongoing | 1<<prepareEpochFence | 1<<empty | 1<<completeCommit | 1<<completeAbort,
	completeCommit:    1 << prepareCommit,
	completeAbort:     1 << prepareAbort,
	dead:              1<<empty | 1<<completeCommit | 1<<completeAbort,
	prepareEpochFence: 1 << ongoing,
}

func (s state) valid() bool            { return s >= 0 && int(s) < states }
func (s state) mayFollow(o state) bool { return before[s]&(1<<o) != 0 }

// prepared is a transaction whose outcome is decided and not yet everywhere.
func (s state) prepared() bool { return s == prepareCommit || s == prepareAbort }

// settled is an id without an open transaction.
func (s state) settled() bool { return s == empty || s == completeCommit || s == completeAbort }

func (s state) String() string {
	if s.valid() {
		return stateNames[s]
	}
	return "Unknown"
}

func parseState(name string) (state, bool) {
	for i, n := range stateNames {
		if n == name {
			return state(i), true
		}
	}
	return 0, false
}
