package destination

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// XID names a branch of a distributed transaction, as its transaction manager
// does: X/Open XA §4.2.
type XID struct {
	// Format is 0 for OSI CCR's naming and the manager's own otherwise; -1 would
	// be the null XID, which names nothing.
	Format int32
	// Global and Branch are up to MaxXIDPart bytes each; Global at least one.
	Global, Branch string
}

// MaxXIDPart bounds either part of an XID, bytes: MAXGTRIDSIZE and MAXBQUALSIZE.
const MaxXIDPart = 64

// Check returns ErrInvalid unless x may name a branch.
func (x XID) Check() error {
	if x.Format < 0 || x.Global == "" || len(x.Global) > MaxXIDPart || len(x.Branch) > MaxXIDPart {
		return fmt.Errorf("%w: XID %s: its format must not be negative, its global part 1 to %d bytes, its branch part up to %d", ErrInvalid, x, MaxXIDPart, MaxXIDPart)
	}
	return nil
}

// String is the format, and both parts in hexadecimal: 1:6f72:01.
func (x XID) String() string {
	return fmt.Sprintf("%d:%x:%x", x.Format, x.Global, x.Branch)
}

// ParseXID parses what String returns: ErrInvalid.
func ParseXID(s string) (XID, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return XID{}, fmt.Errorf("%w: XID %q: want FORMAT:GLOBAL:BRANCH, the last two in hexadecimal", ErrInvalid, s)
	}
	format, err := strconv.ParseInt(parts[0], 10, 32)
	global, failed := hex.DecodeString(parts[1])
	err = errors.Join(err, failed)
	branch, failed := hex.DecodeString(parts[2])
	if err = errors.Join(err, failed); err != nil {
		return XID{}, fmt.Errorf("%w: XID %q: %w", ErrInvalid, s, err)
	}
	x := XID{Format: int32(format), Global: string(global), Branch: string(branch)}
	return x, x.Check()
}

// BranchState is how far a branch is.
type BranchState uint8

// The states of a branch. One that ends in order is gone.
const (
	// BranchPrepared waits for its manager, whatever happens meanwhile.
	BranchPrepared BranchState = iota + 1
	// BranchCommitting is committed; not all cursors have it on disk.
	BranchCommitting
	// BranchHeuristicCommit and BranchHeuristicRollback were ended by an operator,
	// and are kept until their manager forgets them: X/Open XA §2.3.3.
	BranchHeuristicCommit
	BranchHeuristicRollback
)

func (s BranchState) String() string {
	switch s {
	case BranchPrepared:
		return "prepared"
	case BranchCommitting:
		return "committing"
	case BranchHeuristicCommit:
		return "heuristically-committed"
	case BranchHeuristicRollback:
		return "heuristically-rolled-back"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// BranchInfo describes a branch that a restart survives.
type BranchInfo struct {
	XID
	State        BranchState
	Prepared     time.Time
	Ended        time.Time // of a heuristic end; zero before
	Sends        int       // messages
	Acknowledges int       // messages
	Destinations []string  // of both, by name
}

// HeuristicError says that an operator has ended a branch before its manager
// did: XA_HEURCOM and XA_HEURRB. The manager has to have it forgotten.
type HeuristicError struct {
	XID       XID
	Committed bool
}

func (e *HeuristicError) Error() string {
	return fmt.Sprintf("branch %s: an operator has ended it: %s; have it forgotten", e.XID, e.Unwrap())
}

// Unwrap returns ErrHeuristicCommit or ErrHeuristicRollback.
func (e *HeuristicError) Unwrap() error {
	if e.Committed {
		return ErrHeuristicCommit
	}
	return ErrHeuristicRollback
}

// BranchSend is the batches that a branch sends to one partition.
type BranchSend struct {
	Topic     [16]byte
	Partition int32
	Records   int
	Batches   []byte
}

// HalfFormat is the format of the XIDs of half messages: messages that are sent
// before the producer's own transaction has ended, and delivered only if that is
// committed. Global is then the producers' group, Branch what the producer calls it.
const HalfFormat = 0x68616c66

// Producers is a group of producers, as one of them joins it.
type Producers struct {
	Group     string
	AfterMS   int64 // how long after a half message is sent the group is asked about it, and twice as long each time; 0: 6 s
	MaxChecks int   // how often, before it is rolled back; 0: 15
}

// Check returns ErrInvalid unless p may be a group.
func (p Producers) Check() error {
	if p.Group == "" || len(p.Group) > MaxXIDPart || p.AfterMS < 0 || p.AfterMS > 1<<31 || p.MaxChecks < 0 {
		return fmt.Errorf("%w: a group of producers has a name of 1 to %d bytes, and asks after 0 to %d ms", ErrInvalid, MaxXIDPart, 1<<31)
	}
	return nil
}

// Half is a half message whose end is not known.
type Half struct {
	XID
	Checks int // how often somebody was asked, with this time
	Sends  []HalfSend
}

// HalfSend is the batches of a half message for one partition.
type HalfSend struct {
	Destination string
	Partition   int32
	Batches     []byte
}
