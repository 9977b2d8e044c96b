package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/polylog-mq/polylog/broker/auth"
	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/broker/txn"
	"github.com/polylog-mq/polylog/destination"
)

// secretFact is what verifiers of users that are not there are made from.
const secretFact = "auth.secret"

// restoreAccess makes the authority of what is remembered.
func (b *Broker) restoreAccess(c *metadata.Contents) error {
	secret, err := hex.DecodeString(c.Facts[secretFact])
	if err != nil || len(secret) == 0 {
		secret = make([]byte, 32)
		_, _ = rand.Read(secret) // it does not fail
		if err := b.metadata.PutFact(secretFact, hex.EncodeToString(secret)); err != nil {
			return err
		}
	}
	b.authority = auth.New(b.metadata, c.Users, c.ACLs, b.o.SuperUsers, secret, b.accessChanged)
	return nil
}

// Authority says who a peer is.
func (b *Broker) Authority() *auth.Authority { return b.authority }

// Authorize is the one place that says who may do what: destination.ErrUnauthorized.
// What is the broker's own nobody touches; beyond that the rules decide where
// Options.Authorization asks for it, and everybody may do everything where it does not.
func (b *Broker) Authorize(who destination.Principal, op destination.Operation, resource string) error {
	switch op {
	case destination.OperationCreate, destination.OperationSend, destination.OperationConsume, destination.OperationBrowse,
		destination.OperationAlter, destination.OperationAlterConfigs, destination.OperationDelete:
		// Kafka's own are open to be read, as in Kafka; JMS views of them are not.
		kafkas := op == destination.OperationConsume && (resource == group.TopicName || resource == txn.TopicName)
		if isInternal(resource) && !kafkas {
			return fmt.Errorf("%w: %q is the broker's own", destination.ErrUnauthorized, resource)
		}
		if who.Name != "" && (resource == "" || isTemporary(resource)) {
			return nil // sessions see to whose it is, and its name cannot be guessed
		}
	}
	if !b.o.Authorization {
		return nil
	}
	return b.authority.Authorize(who, op, resource)
}

// accessWatches are who is told of changed rules.
type accessWatches struct {
	mu   sync.Mutex // guards what follows
	last uint64
	all  map[uint64]func()
}

// WatchAccess has changed called whenever the rules have changed, until cancel is called.
func (b *Broker) WatchAccess(changed func()) (cancel func()) {
	if !b.o.Authorization {
		return func() {}
	}
	w := &b.accessWatches
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[uint64]func(){}
	}
	w.last++
	number := w.last
	w.all[number] = changed
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, number)
	}
}

func (b *Broker) accessChanged() {
	w := &b.accessWatches
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.all))
	w.mu.Unlock()
	for _, changed := range all {
		changed()
	}
}

// ListUsers returns all users, by name.
func (b *Broker) ListUsers(context.Context) ([]destination.UserInfo, error) {
	return b.authority.Users(), nil
}

// PutUser creates a user or gives one a new password: destination.ErrInvalid.
func (b *Broker) PutUser(_ context.Context, name, password string) error {
	return b.authority.PutUser(name, password)
}

// DeleteUser deletes one: destination.ErrNotFound.
func (b *Broker) DeleteUser(_ context.Context, name string) error {
	return b.authority.DeleteUser(name, "")
}

// ListACLs returns the rules that f selects.
func (b *Broker) ListACLs(_ context.Context, f destination.ACLFilter) ([]destination.ACL, error) {
	return b.authority.ACLs(f), nil
}

// CreateACLs adds rules, all or none: destination.ErrInvalid.
func (b *Broker) CreateACLs(_ context.Context, acls ...destination.ACL) error {
	return b.authority.CreateACLs(acls...)
}

// DeleteACLs deletes the rules that f selects, and returns them.
func (b *Broker) DeleteACLs(_ context.Context, f destination.ACLFilter) ([]destination.ACL, error) {
	return b.authority.DeleteACLs(f)
}
