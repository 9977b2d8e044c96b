package auth

import (
	"cmp"
	"encoding/base32"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/xdg-go/scram"

	"github.com/polylog-mq/polylog/destination"
)

// Store keeps what an Authority knows. A change that returns nil is durable.
type Store interface {
	PutUser(u User) error
	DeleteUser(name string) error
	ChangeACLs(add, remove []destination.ACL) error
}

// Administrator is the user that there is when there would be none.
const Administrator = "admin"

// MaxACLs bounds the rules.
const MaxACLs = 100_000

// ErrFailed is all that a peer is told that did not prove who it is.
var ErrFailed = fmt.Errorf("%w: wrong user or password", destination.ErrUnauthorized)

// Authority says who a peer is, and what it may do. Its methods are safe for
// concurrent use.
type Authority struct {
	store   Store
	supers  map[string]bool
	secret  []byte
	nobody  *Hash         // what the password of somebody who is not there is compared with
	changed func()        // is called when the rules have changed
	hashing chan struct{} // bounds the hashings at once, of which each takes memory

	mu     sync.Mutex // of changes
	users  atomic.Pointer[map[string]User]
	policy atomic.Pointer[policy]
}

// New returns an Authority over what a Store keeps, which calls changed when the rules have
// changed. Supers may do everything. The secret
// is what verifiers of users that are not there are made from: it should stay the same.
func New(s Store, users []User, acls []destination.ACL, supers []string, secret []byte, changed func()) *Authority {
	a := &Authority{store: s, supers: map[string]bool{}, secret: secret, changed: changed, nobody: newHash("nobody"), hashing: make(chan struct{}, runtime.GOMAXPROCS(0))}
	for _, name := range supers {
		a.supers[name] = true
	}
	known := map[string]User{}
	for _, u := range users {
		known[u.Name] = u
	}
	a.users.Store(&known)
	rules := map[destination.ACL]struct{}{}
	for _, r := range acls {
		rules[r] = struct{}{}
	}
	a.policy.Store(newPolicy(rules))
	return a
}

// Bootstrap makes the Administrator if there is no user, and returns its password; else
// it returns an empty one.
func (a *Authority) Bootstrap() (password string, err error) {
	if len(*a.users.Load()) > 0 {
		return "", nil
	}
	password = strings.ToLower(base32.StdEncoding.EncodeToString(random(15)))
	return password, a.PutUser(Administrator, password)
}

// Password says who name is, if password is its password: ErrFailed. A user that is not
// there costs what a wrong password does.
func (a *Authority) Password(name, password string) (principal string, err error) {
	u, hash := (*a.users.Load())[name], a.nobody
	if u.Password != nil {
		hash = u.Password
	}
	prepared, bad := prepare(password)
	if len(password) > maxPassword {
		return "", ErrFailed
	}
	a.hashing <- struct{}{}
	right := hash.matches(prepared)
	<-a.hashing
	if !right || bad != nil || u.Password == nil {
		return "", ErrFailed
	}
	return u.Name, nil
}

// maxSCRAM bounds a message of an exchange, in bytes.
const maxSCRAM = 4096

// SCRAM begins an exchange, of which step is the server's side: RFC 5802 §5. It takes the
// client's next message and returns the answer; with done the client has proved to be
// principal, and the answer is the last. ErrFailed; a mechanism that is not there is
// destination.ErrUnsupported.
func (a *Authority) SCRAM(mechanism string) (step func(message []byte) (answer []byte, principal string, done bool, err error), err error) {
	generate, known := generators[mechanism]
	if !known {
		return nil, fmt.Errorf("%w: mechanism %.40q", destination.ErrUnsupported, mechanism)
	}
	server, err := generate.NewServer(func(name string) (scram.StoredCredentials, error) {
		v, known := (*a.users.Load())[name].SCRAM[mechanism]
		if !known {
			v = invented(a.secret, mechanism, name)
		}
		return scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(v.Salt), Iters: v.Iterations}, StoredKey: v.StoredKey, ServerKey: v.ServerKey,
		}, nil
	})
	if err != nil {
		return nil, err
	}
	c := server.NewConversation()
	return func(message []byte) (answer []byte, principal string, done bool, err error) {
		if len(message) > maxSCRAM {
			return nil, "", false, ErrFailed
		}
		text, err := c.Step(string(message))
		switch name := c.Username(); {
		case err != nil:
			return nil, "", false, fmt.Errorf("%w: %w", ErrFailed, err)
		case !c.Done():
			return []byte(text), "", false, nil
		case !c.Valid() || c.AuthzID() != "" && c.AuthzID() != name:
			return nil, "", false, ErrFailed
		default:
			return []byte(text), name, true, nil
		}
	}, nil
}

// Authorize says whether who may do op: nil, or destination.ErrUnauthorized.
func (a *Authority) Authorize(who destination.Principal, op destination.Operation, resource string) error {
	if a.supers[who.Name] {
		return nil
	}
	if a.may(who, op, resource) {
		return nil
	}
	if resource == "" {
		return fmt.Errorf("%w: %s may not %s", destination.ErrUnauthorized, called(who), op)
	}
	return fmt.Errorf("%w: %s may not %s %q", destination.ErrUnauthorized, called(who), op, resource)
}

func called(who destination.Principal) string {
	if who.Name == "" {
		return "nobody in particular"
	}
	return fmt.Sprintf("user %q", who.Name)
}

func (a *Authority) may(who destination.Principal, op destination.Operation, resource string) bool {
	if who.Name == "" {
		return false
	}
	p, needs := a.policy.Load(), op.Needs()
	for _, n := range needs {
		name := resource
		if n.Resource == destination.ResourceCluster {
			name = destination.ClusterName
		}
		if p.allows(who, n.Resource, name, n.Access) {
			return true
		}
	}
	// Who may write somewhere may be a producer: KIP-679.
	return len(needs) == 0 || op == destination.OperationIdempotentWrite && p.somewhere(who, destination.ResourceTopic, destination.AccessWrite)
}

// PutUser creates a user, or gives one a new password: destination.ErrInvalid.
func (a *Authority) PutUser(name, password string) error {
	u, err := NewUser(name, password)
	if err != nil {
		return err
	}
	return a.change(u.Name, func(User) User { return u })
}

// PutVerifier gives a user, who need not be there yet, a verifier of its own making. A
// password that it tells is no good any more: nobody knows whether it is the same.
func (a *Authority) PutVerifier(name, mechanism string, v Verifier) error {
	if err := checkUserName(name); err != nil {
		return err
	}
	return a.change(name, func(u User) User {
		verifiers := map[string]Verifier{}
		maps.Copy(verifiers, u.SCRAM)
		verifiers[mechanism] = v
		return User{Name: name, SCRAM: verifiers}
	})
}

func (a *Authority) change(name string, changed func(User) User) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	users := maps.Clone(*a.users.Load())
	u := changed(users[name])
	if err := a.store.PutUser(u); err != nil {
		return err
	}
	users[name] = u
	a.users.Store(&users)
	return nil
}

// DeleteUser deletes a user, or, if mechanism is not empty, one verifier, and with the last
// the user: destination.ErrNotFound. Connections that it has open stay.
func (a *Authority) DeleteUser(name, mechanism string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	users := maps.Clone(*a.users.Load())
	u, known := users[name]
	if _, has := u.SCRAM[mechanism]; !known || mechanism != "" && !has {
		return fmt.Errorf("user %.80q: %w", name, destination.ErrNotFound)
	}
	if mechanism != "" && len(u.SCRAM) > 1 {
		u.SCRAM = maps.Clone(u.SCRAM)
		delete(u.SCRAM, mechanism)
		if err := a.store.PutUser(u); err != nil {
			return err
		}
		users[name] = u
	} else {
		if err := a.store.DeleteUser(name); err != nil {
			return err
		}
		delete(users, name)
	}
	a.users.Store(&users)
	return nil
}

// Users are all, by name.
func (a *Authority) Users() []destination.UserInfo {
	users := *a.users.Load()
	list := make([]destination.UserInfo, 0, len(users))
	for _, u := range users {
		info := destination.UserInfo{Name: u.Name, Mechanisms: slices.Sorted(maps.Keys(u.SCRAM)), Super: a.supers[u.Name]}
		if u.Password != nil {
			info.Mechanisms = append(info.Mechanisms, "PLAIN")
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(x, y destination.UserInfo) int { return cmp.Compare(x.Name, y.Name) })
	return list
}

// Verifier is what SCRAM needs of a user; false if there is none.
func (a *Authority) Verifier(name, mechanism string) (v Verifier, known bool) {
	v, known = (*a.users.Load())[name].SCRAM[mechanism]
	return v, known
}

// ACLs are the rules that f selects, in an order that does not change.
func (a *Authority) ACLs(f destination.ACLFilter) []destination.ACL {
	var list []destination.ACL
	for r := range a.policy.Load().rules {
		if f.Matches(r) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(x, y destination.ACL) int {
		return cmp.Or(
			cmp.Compare(x.Resource, y.Resource), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Pattern, y.Pattern), cmp.Compare(x.Principal, y.Principal),
			cmp.Compare(x.Host, y.Host), cmp.Compare(x.Operation, y.Operation), cmp.Compare(x.Effect, y.Effect),
		)
	})
	return list
}

// CreateACLs adds rules, all or none: destination.ErrInvalid, ErrBusy. One that is there
// is not added again.
func (a *Authority) CreateACLs(acls ...destination.ACL) error {
	for _, r := range acls {
		if err := r.Check(); err != nil {
			return err
		}
	}
	return a.changeACLs(func(rules map[destination.ACL]struct{}) (add, remove []destination.ACL) {
		for _, r := range acls {
			if _, there := rules[r]; !there {
				rules[r] = struct{}{}
				add = append(add, r)
			}
		}
		return add, nil
	})
}

// DeleteACLs deletes the rules that f selects, and returns them.
func (a *Authority) DeleteACLs(f destination.ACLFilter) (deleted []destination.ACL, err error) {
	err = a.changeACLs(func(rules map[destination.ACL]struct{}) (add, remove []destination.ACL) {
		for r := range rules {
			if f.Matches(r) {
				deleted = append(deleted, r)
				delete(rules, r)
			}
		}
		return nil, deleted
	})
	return deleted, err
}

func (a *Authority) changeACLs(change func(rules map[destination.ACL]struct{}) (add, remove []destination.ACL)) error {
	if done, err := a.applyACLs(change); err != nil || !done {
		return err
	}
	a.changed()
	return nil
}

func (a *Authority) applyACLs(change func(rules map[destination.ACL]struct{}) (add, remove []destination.ACL)) (done bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	rules := maps.Clone(a.policy.Load().rules)
	add, remove := change(rules)
	if len(add)+len(remove) == 0 {
		return false, nil
	}
	if len(rules) > MaxACLs && len(add) > 0 {
		return false, fmt.Errorf("%w: there may be %d rules", destination.ErrBusy, MaxACLs)
	}
	if err := a.store.ChangeACLs(add, remove); err != nil {
		return false, err
	}
	a.policy.Store(newPolicy(rules))
	return true, nil
}
