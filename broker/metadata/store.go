// Package metadata remembers what exists: destinations, durable subscriptions,
// users, rules and a few facts about the broker itself.
//
// Its types are [Store], the contract; [Bolt], which keeps it on one node in a
// single bbolt file; and the two kinds of value, [Destination] and
// [Subscription]. What a destination's messages are, and how far a
// subscription has come, is not here but in the logs: metadata changes when an
// operator or a first use changes it, and never with a message.
//
// A destination travels through it so: it is put before its first log is
// opened, so that no log is without an owner; to delete it, it is moved in one
// transaction from the destinations to the deletions, its logs are removed,
// and then it is forgotten. A start finishes the deletions that it finds.
//
// docs/format/metadata.md draws the file.
package metadata

import (
	"encoding/hex"
	"errors"
	"fmt"
	"syscall"

	"github.com/polylog-mq/polylog/broker/auth"
	"github.com/polylog-mq/polylog/destination"
)

// Errors of a Store.
var (
	// ErrNewerVersion means that a newer release wrote the file or a value in
	// it. The error names what, and both versions.
	ErrNewerVersion = errors.New("metadata: written by a newer version")

	// ErrLocked means that another process has the file open.
	ErrLocked = errors.New("metadata: in use by another process")

	// ErrCorrupt means that a value cannot be read. The error names it.
	ErrCorrupt = errors.New("metadata: damaged")

	// ErrFull means that the disk has no room for the change, of which nothing
	// remains. It wraps syscall.ENOSPC.
	ErrFull = fmt.Errorf("metadata: disk full: %w", syscall.ENOSPC)

	// ErrFailed means that an earlier sync failed: nothing is confirmed until
	// the process starts again (reliability S3).
	ErrFailed = errors.New("metadata: store failed")

	// ErrClosed means that the store is closed.
	ErrClosed = errors.New("metadata: store closed")
)

// Store is where the broker keeps what exists. Its methods are safe for
// concurrent use; a change that returns nil is durable, and changes that are
// made at the same time share a sync.
type Store interface {
	// Load returns everything, in no particular order.
	Load() (*Contents, error)

	// PutDestination creates or replaces the destination of that name.
	PutDestination(d Destination) error
	// DeleteDestination moves a destination to the deletions and deletes the
	// subscriptions of those ids, at once. Nothing happens if there is none.
	DeleteDestination(name string, subscriptions []string) error
	// Forget removes a destination from the deletions.
	Forget(id ID) error

	// PutSubscription creates or replaces the subscription of that id, and
	// deletes those of the other ids, at once.
	PutSubscription(s Subscription, replaces ...string) error
	// DeleteSubscription deletes one. Nothing happens if there is none.
	DeleteSubscription(id string) error

	// PutUser creates or replaces the user of that name, DeleteUser deletes one, and
	// ChangeACLs adds and removes rules, at once: auth.Store.
	auth.Store

	// PutFact remembers a fact about the broker, such as the cluster's id; an empty
	// one is forgotten.
	PutFact(name, value string) error

	// Failed is closed after a failed sync; Err then says which.
	Failed() <-chan struct{}
	Err() error
	Close() error
}

// Contents is all that a Store holds.
type Contents struct {
	Destinations  []Destination
	Deletions     []Destination // whose logs may be partly gone
	Subscriptions []Subscription
	Facts         map[string]string
	Users         []auth.User
	ACLs          []destination.ACL
}

// Destination is a destination as it is remembered. The number of partitions
// stands apart from the settings, which hold only what differs from the
// defaults: a release with another default must not change it.
type Destination struct {
	Name       string               `json:"name"`
	ID         ID                   `json:"id"`
	Kind       destination.Kind     `json:"kind"`
	Partitions int                  `json:"partitions"`
	Settings   destination.Settings `json:"settings"`
	CreatedMS  int64                `json:"created_ms"`
}

// Subscription is a durable subscription as it is remembered.
type Subscription struct {
	ID       string `json:"id"`    // names its cursors; never used again
	Topic    ID     `json:"topic"` // the destination's id
	Kind     string `json:"kind"`
	ClientID string `json:"client_id,omitempty"`
	Name     string `json:"name"`
	Selector string `json:"selector,omitempty"`
	NoLocal  bool   `json:"no_local,omitempty"`
	Pattern  string `json:"pattern,omitempty"` // of which it is one; Topic is zero for the pattern itself
	// Settings are those it has in place of its topic's, by name.
	Settings  map[string]string `json:"settings,omitempty"`
	Start     []int64           `json:"start"` // first offset, of each partition there was
	CreatedMS int64             `json:"created_ms"`
}

// ID is a destination's identity, which a new one of the same name does not
// share. As text it is 32 hexadecimal digits.
type ID [16]byte

// String is the 32 digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes the 32 digits.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads them.
func (id *ID) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(id) || len(text)%2 != 0 {
		return fmt.Errorf("an id has 32 hexadecimal digits, not %q", text)
	}
	_, err := hex.Decode(id[:], text)
	return err
}
