package metadata

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/polylog-mq/polylog/broker/auth"
	"github.com/polylog-mq/polylog/destination"
)

// valueVersion is the version of the values, which are JSON objects so that
// people can read a file that the broker refuses. Fields may be added under
// the same version; a change that an older release would misread raises it.
const valueVersion = 2

// version is the lowest that has what v says: 2 are subscriptions of a pattern.
func version(v any) int {
	if s, ok := v.(Subscription); ok && s.Pattern != "" {
		return 2
	}
	return 1
}

type versioned[T any] struct {
	Version int `json:"version"`
	Value   T   `json:"value"`
}

func encode[T any](v T) ([]byte, error) {
	return json.Marshal(versioned[T]{version(v), v})
}

// decode reads the value of one key; what names it in errors.
func decode[T any](what string, key, data []byte) (v T, err error) {
	var head struct {
		Version int             `json:"version"`
		Value   json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return v, fmt.Errorf("%w: %s %q: %w", ErrCorrupt, what, key, err)
	}
	if head.Version > valueVersion {
		return v, fmt.Errorf("%w: %s %q has version %d, this release knows %d", ErrNewerVersion, what, key, head.Version, valueVersion)
	}
	if err := json.Unmarshal(head.Value, &v); err != nil {
		return v, fmt.Errorf("%w: %s %q: %w", ErrCorrupt, what, key, err)
	}
	return v, nil
}

// Load returns everything. It fails on the first value that it cannot read:
// a broker that left out a destination would give away its name.
func (b *Bolt) Load() (*Contents, error) {
	c := &Contents{Facts: map[string]string{}}
	err := b.db.View(func(tx *bbolt.Tx) (err error) {
		if c.Destinations, err = all[Destination](tx, destinationsBucket, "destination"); err != nil {
			return err
		}
		if c.Deletions, err = all[Destination](tx, deletionsBucket, "deletion"); err != nil {
			return err
		}
		if c.Subscriptions, err = all[Subscription](tx, subscriptionsBucket, "subscription"); err != nil {
			return err
		}
		if c.Users, err = all[auth.User](tx, usersBucket, "user"); err != nil {
			return err
		}
		if c.ACLs, err = all[destination.ACL](tx, aclsBucket, "rule"); err != nil {
			return err
		}
		return tx.Bucket(factsBucket).ForEach(func(k, v []byte) error {
			c.Facts[string(k)] = string(v)
			return nil
		})
	})
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		err = ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", b.path, err)
	}
	delete(c.Facts, formatFact)
	return c, nil
}

func all[T any](tx *bbolt.Tx, bucket []byte, what string) ([]T, error) {
	var values []T
	if tx.Bucket(bucket) == nil {
		return nil, nil
	}
	err := tx.Bucket(bucket).ForEach(func(k, data []byte) error {
		v, err := decode[T](what, k, data)
		values = append(values, v)
		return err
	})
	return values, err
}

// PutDestination creates or replaces the destination of that name.
func (b *Bolt) PutDestination(d Destination) error {
	value, err := encode(d)
	if err != nil {
		return fmt.Errorf("put destination %q: %w", d.Name, err)
	}
	return b.change("put destination "+d.Name, func(tx *bbolt.Tx) error {
		return tx.Bucket(destinationsBucket).Put([]byte(d.Name), value)
	})
}

// DeleteDestination moves a destination to the deletions, and deletes the
// subscriptions of those ids.
func (b *Bolt) DeleteDestination(name string, subscriptions []string) error {
	return b.change("delete destination "+name, func(tx *bbolt.Tx) error {
		from := tx.Bucket(destinationsBucket)
		value := from.Get([]byte(name))
		if value == nil {
			return nil
		}
		d, err := decode[Destination]("destination", []byte(name), value)
		if err != nil {
			return err
		}
		// value lies in the page that the last line changes.
		if err := tx.Bucket(deletionsBucket).Put(d.ID[:], bytes.Clone(value)); err != nil {
			return err
		}
		for _, id := range subscriptions {
			if err := tx.Bucket(subscriptionsBucket).Delete([]byte(id)); err != nil {
				return err
			}
		}
		return from.Delete([]byte(name))
	})
}

// Forget removes a destination from the deletions.
func (b *Bolt) Forget(id ID) error {
	return b.change("forget destination "+id.String(), func(tx *bbolt.Tx) error {
		return tx.Bucket(deletionsBucket).Delete(id[:])
	})
}

// PutSubscription creates or replaces one, and deletes those that it replaces.
func (b *Bolt) PutSubscription(s Subscription, replaces ...string) error {
	value, err := encode(s)
	if err != nil {
		return fmt.Errorf("put subscription %q: %w", s.Name, err)
	}
	return b.change("put subscription "+s.Name, func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(subscriptionsBucket)
		for _, id := range replaces {
			if err := bucket.Delete([]byte(id)); err != nil {
				return err
			}
		}
		return bucket.Put([]byte(s.ID), value)
	})
}

// DeleteSubscription deletes one.
func (b *Bolt) DeleteSubscription(id string) error {
	return b.change("delete subscription "+id, func(tx *bbolt.Tx) error {
		return tx.Bucket(subscriptionsBucket).Delete([]byte(id))
	})
}

// PutUser creates or replaces the user of that name.
func (b *Bolt) PutUser(u auth.User) error {
	value, err := encode(u)
	if err != nil {
		return fmt.Errorf("put user %q: %w", u.Name, err)
	}
	return b.change("put user "+u.Name, func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(usersBucket)
		if err != nil {
			return err
		}
		return bucket.Put([]byte(u.Name), value)
	})
}

// DeleteUser deletes one.
func (b *Bolt) DeleteUser(name string) error {
	return b.change("delete user "+name, func(tx *bbolt.Tx) error {
		if bucket := tx.Bucket(usersBucket); bucket != nil {
			return bucket.Delete([]byte(name))
		}
		return nil
	})
}

// ChangeACLs adds and removes rules, at once.
func (b *Bolt) ChangeACLs(add, remove []destination.ACL) error {
	return b.change("change rules", func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(aclsBucket)
		if err != nil {
			return err
		}
		for _, r := range add {
			value, err := encode(r)
			if err != nil {
				return err
			}
			if err := bucket.Put(aclKey(r), value); err != nil {
				return err
			}
		}
		for _, r := range remove {
			if err := bucket.Delete(aclKey(r)); err != nil {
				return err
			}
		}
		return nil
	})
}

// aclKey is a rule's own text, or, where that is too long for a key, its digest.
func aclKey(r destination.ACL) []byte {
	key, _ := json.Marshal(r) // texts alone
	if len(key) > bbolt.MaxKeySize {
		sum := sha256.Sum256(key)
		return sum[:]
	}
	return key
}

// PutFact remembers a fact about the broker, or forgets it if it is empty.
func (b *Bolt) PutFact(name, value string) error {
	return b.change("put fact "+name, func(tx *bbolt.Tx) error {
		if value == "" {
			return tx.Bucket(factsBucket).Delete([]byte(name))
		}
		return tx.Bucket(factsBucket).Put([]byte(name), []byte(value))
	})
}
