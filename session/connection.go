package session

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// Options of a Connection.
type Options struct {
	// Principal is who the peer proved to be, and where it is.
	Principal Principal
	// CompileSelector compiles selectors; nil refuses them with ErrUnsupported.
	CompileSelector CompileSelector
	// Track has every session remember what it has delivered, for Acknowledge
	// and Recover.
	Track bool
	// Stopped has the connection begin stopped, as Jakarta Messaging 3.1
	// §6.1.4 wants it of a client; a protocol whose client starts with credit
	// leaves it unset.
	Stopped bool
	// MaxSessions and MaxConsumers bound what is open at once on the
	// connection, a consumer that is closed and still holds deliveries
	// included; ErrBusy beyond. Defaults 1,024 and 4,096.
	MaxSessions, MaxConsumers int
	// MaxTemporary bounds its temporary destinations. Default 1,024.
	MaxTemporary int
}

// CompileSelector makes a selector of its text; the error wraps
// ErrBadSelector and has the position.
type CompileSelector func(text string) (queue.Selector, error)

// Connection is one client's connection. It may be used by many goroutines.
type Connection struct {
	broker  Broker
	number  uint64
	options Options
	unwatch func() // ends reconsider

	branches branches // of distributed transactions

	// flow is held while deliveries are stopped and started, so that what a
	// consumer was told last is what holds. It is taken before any view's
	// lock, never under one.
	flow sync.Mutex

	mu          sync.Mutex // guards what follows
	clientID    string
	releaseID   func()
	used        bool // something other than SetClientID was done
	stopped     bool
	held        bool // by Hold, whatever stopped says
	closed      bool
	sessions    map[*Session]struct{}
	consumers   int
	temporaries map[string]*temporary
	producers   map[string]func() // by group, what leaves it

	transactions int // begun and not ended
}

// temporary is a temporary destination and how many consume from it.
type temporary struct {
	destination *destination.Destination
	consumers   int
}

// NewConnection returns a connection to b.
func NewConnection(b Broker, o Options) *Connection {
	o.MaxSessions = defaultTo(o.MaxSessions, 1024)
	o.MaxConsumers = defaultTo(o.MaxConsumers, 4096)
	o.MaxTemporary = defaultTo(o.MaxTemporary, 1024)
	c := &Connection{
		broker: b, number: b.NextNumber(), options: o, stopped: o.Stopped,
		sessions: map[*Session]struct{}{}, temporaries: map[string]*temporary{},
	}
	c.unwatch = b.WatchAccess(c.reconsider)
	return c
}

// reconsider closes the consumers that might not be opened any more, because the rules
// have changed.
func (c *Connection) reconsider() {
	c.mu.Lock()
	sessions := c.sessionList()
	c.mu.Unlock()
	for _, s := range sessions {
		s.mu.Lock()
		consumers := s.consumerList()
		s.mu.Unlock()
		for _, k := range consumers {
			for _, m := range k.all() {
				err := c.Authorize(OperationConsume, m.destination.Name)
				if sub, ok := k.spec.subscription(c.ClientID()); ok && err == nil {
					err = c.Authorize(OperationSubscribe, sub.Name)
				}
				if err != nil {
					m.holder.Eject(err)
				}
			}
		}
	}
}

func defaultTo(v, def int) int {
	if v == 0 {
		return def
	}
	return v
}

// Number is the connection's own since the broker's start.
func (c *Connection) Number() uint64 { return c.number }

// Principal is the name that the peer proved to have; empty: nobody.
func (c *Connection) Principal() string { return c.options.Principal.Name }

// ClientID is the connection's client id, or "".
func (c *Connection) ClientID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clientID
}

// SetClientID claims id for this connection. It must come before anything
// else (ErrInvalid), once, and is refused while another connection has the id
// (ErrConflict). Jakarta Messaging 3.1 §6.1.2.
func (c *Connection) SetClientID(id string) error {
	if err := c.Authorize(OperationConnect, id); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case id == "":
		return fmt.Errorf("%w: an empty client id", ErrInvalid)
	case c.closed:
		return errConnectionClosed
	case c.used || c.clientID != "":
		return fmt.Errorf("%w: the client id must be set once, before anything else", ErrInvalid)
	}
	release, err := c.broker.ClaimClientID(id)
	if err != nil {
		return err
	}
	c.clientID, c.releaseID = id, release
	return nil
}

var errConnectionClosed = fmt.Errorf("connection %w", ErrClosed)

// Authorize asks whether this connection's principal may do it.
func (c *Connection) Authorize(op Operation, resource string) error {
	return c.broker.Authorize(c.options.Principal, op, resource)
}

// Start starts the delivery to all sessions that are not stopped themselves.
func (c *Connection) Start() { c.setFlow(func() { c.stopped = false }) }

// Stop stops the delivery to all sessions. When it returns, every sink has
// been called for the last time until Start: what is under way has been
// handed over. Jakarta Messaging 3.1 §6.1.5.
func (c *Connection) Stop() { c.setFlow(func() { c.stopped = true }) }

// Hold stops the delivery to all sessions as Stop does, for a reason of the
// protocol's own, such as a peer that does not read: Start and Stop do not see
// it.
func (c *Connection) Hold(held bool) { c.setFlow(func() { c.held = held }) }

func (c *Connection) setFlow(set func()) {
	c.flow.Lock()
	defer c.flow.Unlock()
	c.mu.Lock()
	set()
	stopped := c.stopped || c.held
	sessions := c.sessionList()
	c.mu.Unlock()
	for _, s := range sessions {
		s.applyFlow(stopped)
	}
}

// flowing is whether sessions that are not stopped themselves may deliver.
func (c *Connection) flowing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.stopped && !c.held
}

func (c *Connection) sessionList() []*Session {
	sessions := make([]*Session, 0, len(c.sessions))
	for s := range c.sessions {
		sessions = append(sessions, s)
	}
	return sessions
}

// OpenSession opens a session.
func (c *Connection) OpenSession(mode AckMode) (*Session, error) {
	if mode > AckTransacted {
		return nil, fmt.Errorf("%w: acknowledgement mode %d", ErrInvalid, mode)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errConnectionClosed
	}
	if len(c.sessions) >= c.options.MaxSessions {
		return nil, fmt.Errorf("%w: a connection may have %d sessions open", ErrBusy, c.options.MaxSessions)
	}
	c.used = true
	s := &Session{connection: c, mode: mode, consumers: map[*Consumer]struct{}{}}
	c.sessions[s] = struct{}{}
	return s, nil
}

// Resolve returns a destination by name, as Broker.Destination does. Whoever wants it for
// something asks for that; one that is not there yet only who may create it makes by its
// use, and only who might see it is told that it is not there.
func (c *Connection) Resolve(ctx context.Context, name string, kind destination.Kind) (*destination.Destination, error) {
	if d, err := c.broker.Destination(ctx, name, 0); errors.Is(err, ErrNotFound) || err == nil && d.Internal && kind != 0 {
		op := OperationDescribe
		if kind != 0 {
			op = OperationCreate
		}
		if err := c.Authorize(op, name); err != nil {
			return nil, err
		}
	}
	if on, ok := destination.CutVirtual(name); ok {
		return nil, fmt.Errorf("%w: %q is what its group takes from the topic %q; send to that", ErrUnsupported, name, on)
	}
	c.touch()
	return c.broker.Destination(ctx, name, kind)
}

func (c *Connection) touch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = true
}

// CreateTemporary makes a temporary destination of this connection: only its
// own consumers may consume from it (Jakarta Messaging 3.1 §6.2.2), everybody
// may send to it.
func (c *Connection) CreateTemporary(ctx context.Context, kind destination.Kind) (*destination.Destination, error) {
	if kind != destination.KindQueue && kind != destination.KindTopic {
		return nil, fmt.Errorf("%w: a temporary destination is a queue or a topic", ErrInvalid)
	}
	if err := c.Authorize(OperationCreate, ""); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.used = true
	full, closed := len(c.temporaries) >= c.options.MaxTemporary, c.closed
	c.mu.Unlock()
	if closed {
		return nil, errConnectionClosed
	}
	if full {
		return nil, fmt.Errorf("%w: a connection may have %d temporary destinations", ErrBusy, c.options.MaxTemporary)
	}
	d, err := c.broker.CreateTemporary(ctx, kind)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.Join(errConnectionClosed, c.broker.DeleteTemporary(context.WithoutCancel(ctx), d))
	}
	c.temporaries[d.Name] = &temporary{destination: d}
	return d, nil
}

// Temporary reports whether name is a temporary destination of this connection.
func (c *Connection) Temporary(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.temporaries[name] != nil
}

// DeleteTemporary deletes a temporary destination of this connection:
// ErrConflict while it has a consumer (Jakarta Messaging 3.1 §6.2.2).
func (c *Connection) DeleteTemporary(ctx context.Context, name string) error {
	c.mu.Lock()
	t := c.temporaries[name]
	switch {
	case t == nil:
		c.mu.Unlock()
		return fmt.Errorf("temporary destination %q: %w on this connection", name, ErrNotFound)
	case t.consumers > 0:
		c.mu.Unlock()
		return fmt.Errorf("temporary destination %q %w: it has %d consumers", name, ErrConflict, t.consumers)
	}
	delete(c.temporaries, name)
	c.mu.Unlock()
	return c.broker.DeleteTemporary(ctx, t.destination)
}

// JoinProducers makes the connection a member of a group of producers until it
// closes: ErrExists if it is one, ErrInvalid.
func (c *Connection) JoinProducers(p destination.Producers, check func(destination.Half)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return errConnectionClosed
	case c.producers[p.Group] != nil:
		return fmt.Errorf("group of producers %q: %w on this connection", p.Group, ErrExists)
	case len(c.producers) >= maxProducers:
		return fmt.Errorf("%w: a connection may be in %d groups of producers", ErrBusy, maxProducers)
	}
	leave, err := c.broker.JoinProducers(p, check)
	if err != nil {
		return err
	}
	if c.producers == nil {
		c.producers = map[string]func(){}
	}
	c.producers[p.Group] = leave
	return nil
}

// LeaveProducers ends that: ErrNotFound.
func (c *Connection) LeaveProducers(group string) error {
	c.mu.Lock()
	leave := c.producers[group]
	delete(c.producers, group)
	c.mu.Unlock()
	if leave == nil {
		return fmt.Errorf("group of producers %q: %w on this connection", group, ErrNotFound)
	}
	leave()
	return nil
}

// maxProducers bounds the groups of producers that a connection is in.
const maxProducers = 1024

// Unsubscribe deletes a durable subscription of this connection's client id:
// ErrNotFound, or ErrConflict while it has a consumer or unacknowledged
// messages (Jakarta Messaging 3.1 §8.3.6).
func (c *Connection) Unsubscribe(ctx context.Context, name string, shared bool) error {
	return c.unsubscribe(ctx, c.ClientID(), name, shared)
}

// UnsubscribeGlobal is Unsubscribe for a shared subscription of Spec.Global.
func (c *Connection) UnsubscribeGlobal(ctx context.Context, name string) error {
	return c.unsubscribe(ctx, "", name, true)
}

func (c *Connection) unsubscribe(ctx context.Context, clientID, name string, shared bool) error {
	if err := c.Authorize(OperationSubscribe, name); err != nil {
		return err
	}
	if clientID == "" && !shared {
		return fmt.Errorf("%w: an unshared durable subscription needs a client id on its connection (polylog.WithClientID, or ?client-id= in the address)", ErrInvalid)
	}
	return c.broker.Unsubscribe(ctx, clientID, name, shared)
}

// Browse reads what waits in a queue without taking it, as queue.View.Browse
// does.
func (c *Connection) Browse(ctx context.Context, name, selector string, after queue.Position, max int,
	fn func(partition int32, b record.Batch, states []queue.State) error,
) (next queue.Position, more bool, err error) {
	compiled, err := c.compile(selector)
	if err != nil {
		return nil, false, err
	}
	if err := c.Authorize(OperationBrowse, name); err != nil {
		return nil, false, err
	}
	view, leave, err := c.browsed(ctx, name)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	return view.Browse(ctx, after, compiled, max, fn)
}

// browsed returns the view of a queue, or of what a group takes from a virtual
// topic, until leave is called.
func (c *Connection) browsed(ctx context.Context, name string) (v *queue.View, leave func(), err error) {
	spec := Spec{Destination: name}.virtual()
	d, err := c.broker.Destination(ctx, spec.Destination, 0)
	if err != nil {
		return nil, nil, err
	}
	if t, ok := spec.subscription(""); ok {
		sub, release, err := c.broker.Subscribe(ctx, d, t)
		if err != nil {
			return nil, nil, err
		}
		return sub.View, release, nil
	}
	if err := permitsQueue(d); err != nil {
		return nil, nil, err
	}
	v, err = c.broker.Queue(ctx, d)
	return v, func() {}, err
}

func (c *Connection) compile(selector string) (queue.Selector, error) {
	switch compile := c.options.CompileSelector; {
	case selector == "":
		return nil, nil
	case compile == nil:
		return nil, fmt.Errorf("%w: selectors are not in this release", ErrUnsupported)
	case len(selector) > topic.MaxSelectorBytes:
		return nil, fmt.Errorf("%w: a selector may have %d bytes", ErrTooLarge, topic.MaxSelectorBytes)
	default:
		return compile(selector)
	}
}

// Close ends the connection: it closes every session, deletes the temporary
// destinations and gives up the client id. It may be called again. The error
// is that of temporary destinations that could not be deleted.
func (c *Connection) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	sessions := c.sessionList()
	c.mu.Unlock()
	c.unwatch()
	for _, s := range sessions {
		s.Close()
	}
	c.branches.close(c)
	c.mu.Lock()
	temporaries, release := c.temporaries, c.releaseID
	leaves := c.producers
	c.producers = nil
	c.temporaries, c.releaseID = map[string]*temporary{}, nil
	c.mu.Unlock()
	for _, leave := range leaves {
		leave()
	}
	var errs []error
	for _, t := range temporaries {
		errs = append(errs, c.broker.DeleteTemporary(ctx, t.destination))
	}
	if release != nil {
		release()
	}
	return errors.Join(errs...)
}

// admitConsumer counts one more consumer, of a temporary destination too if d
// is one.
func (c *Connection) admitConsumer(d *destination.Destination) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errConnectionClosed
	}
	if c.consumers >= c.options.MaxConsumers {
		return fmt.Errorf("%w: a connection may have %d consumers", ErrBusy, c.options.MaxConsumers)
	}
	if d != nil && d.Temporary {
		t := c.temporaries[d.Name]
		if t == nil {
			return fmt.Errorf("%w: temporary destination %q can be consumed only by the connection that made it", ErrUnauthorized, d.Name)
		}
		t.consumers++
	}
	c.consumers++
	return nil
}

// consumerClosed is the reverse, in two steps: a consumer that no longer
// consumes frees its temporary destination, and one that no longer holds
// anything frees its place.
func (c *Connection) consumerClosed(d *destination.Destination) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == nil || !d.Temporary {
		return
	}
	if t := c.temporaries[d.Name]; t != nil {
		t.consumers--
	}
}

func (c *Connection) consumerGone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.consumers--
}

func (c *Connection) forget(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
}
