package polylog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/polylog-mq/polylog/wire/native"
)

// Connection is a connection to a broker that is dialled again when it
// breaks. It may be used by several goroutines, and is best shared: what is
// sent at the same time travels together. It runs four goroutines: the
// supervisor, the completer, and its link's reader and writer; Close waits for
// them.
type Connection struct {
	options options
	hosts   []string
	budget  *budget
	gate    gate
	waiters sync.Pool
	life    context.Context // ends when Close has nothing more to wait for
	kill    context.CancelFunc

	completer *completer
	closed    chan struct{} // closed when the connection is, for good
	ended     sync.WaitGroup

	// generation is of the link, established or not, 0 while there is none.
	// It is written under mu.
	generation atomic.Uint64

	// mu is the innermost lock: it may be taken under any other, and no other
	// under it.
	mu           sync.Mutex // guards what follows
	link         *link      // nil while there is none
	changed      chan struct{}
	sessions     map[uint64]*Session
	consumers    map[uint64]*consumer
	producers    map[string]*Producers // that it is in, by group
	destinations map[destinationKey]*destination
	lastSession  uint64
	lastConsumer uint64
	ready        []*lane     // have something to send
	dirty        []*consumer // have something to settle
	err          error       // why it is closed

	nextHost int    // owned by who dials
	lastLink uint64 // likewise

	closeOnce sync.Once
	closeErr  error

	exceptions exceptions

	asking    sync.Mutex // guards requester
	requester *requester
}

func newConnection(hosts []string, o options) *Connection {
	c := &Connection{
		options: o, hosts: hosts, budget: newBudget(inFlightBytes),
		closed: make(chan struct{}), changed: make(chan struct{}),
		sessions: map[uint64]*Session{}, consumers: map[uint64]*consumer{}, destinations: map[destinationKey]*destination{},
	}
	c.life, c.kill = context.WithCancel(context.Background())
	c.completer = newCompleter(c)
	if o.stopped {
		c.gate.close()
	}
	return c
}

// ClientID returns the connection's client id, empty without one.
func (c *Connection) ClientID() string { return c.options.clientID }

// Start lets delivery start or go on: Jakarta Messaging 3.1 §6.1.4.
func (c *Connection) Start(ctx context.Context) error {
	if !c.gate.shut.Load() {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.err
	}
	c.gate.open()
	return c.flow(ctx, true)
}

// Stop stops delivery, and waits for the listeners that are running; they must
// not call it. Sending goes on. Jakarta Messaging 3.1 §6.1.5.
func (c *Connection) Stop(ctx context.Context) error {
	c.gate.close()
	err := c.flow(ctx, false)
	return errors.Join(err, c.gate.quiet(ctx))
}

func (c *Connection) flow(ctx context.Context, start bool) error {
	_, err := c.call(ctx, true, func(request uint64) native.Frame {
		return &native.Flow{Request: request, Start: start}
	})
	if err != nil {
		return fmt.Errorf("start or stop delivery: %w", err)
	}
	return nil
}

// Close closes the sessions, as their Close does, and then the connection. It
// waits for what is under way, but no longer than 10 seconds. It is
// idempotent; completions and listeners must not call it.
func (c *Connection) Close() error {
	c.closeOnce.Do(func() { c.closeErr = c.close() })
	return c.closeErr
}

func (c *Connection) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var failed error
	sessions, _ := c.snapshot()
	for _, s := range sessions {
		if err := s.Close(ctx); failed == nil && !errors.Is(err, ErrClosed) {
			failed = err
		}
	}
	c.kill()
	c.mu.Lock()
	l := c.link
	if l != nil {
		l.out = l.encoder.Append(l.out, &native.Bye{}, nil)
		l.leaving = true
		l.wake.Signal()
	}
	c.mu.Unlock()
	if l != nil {
		stop := context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })
		defer stop()
	}
	ended := make(chan struct{})
	go func() {
		c.ended.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return failed
	case <-ctx.Done(): // an application's completion does not return
		return errors.Join(failed, ctx.Err())
	}
}

// exception tells of what no caller waits for.
func (c *Connection) exception(err error) {
	c.options.logger.Warn("polylog: an operation without a waiting caller failed", "error", err)
	if c.options.exception != nil {
		c.exceptions.tell(c, err)
	}
}

// exceptions has the exception listener called, for one error at a time, by a
// goroutine that there is while there are any: so that it may use the connection.
type exceptions struct {
	mu      sync.Mutex // guards what follows; a leaf
	waiting []error
	telling bool
}

// maxExceptions bounds the errors that wait for a listener that does not return.
const maxExceptions = 1024

func (e *exceptions) tell(c *Connection, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) < maxExceptions {
		e.waiting = append(e.waiting, err)
	}
	if !e.telling {
		e.telling = true
		go e.run(c)
	}
}

func (e *exceptions) run(c *Connection) {
	for {
		e.mu.Lock()
		if len(e.waiting) == 0 {
			e.telling = false
			e.mu.Unlock()
			return
		}
		err := e.waiting[0]
		e.waiting = e.waiting[1:]
		e.mu.Unlock()
		c.options.exception(err)
	}
}

// start starts the connection's goroutines over its first link.
func (c *Connection) start(l *link) {
	c.attach(l)
	c.ended.Go(c.completer.run)
	c.ended.Go(func() { c.supervise(l) })
}

func (c *Connection) attach(l *link) {
	c.lastLink++
	l.generation = c.lastLink
	c.mu.Lock()
	c.link = l
	c.generation.Store(l.generation)
	c.mu.Unlock()
	l.start()
}

// announce wakes those who wait for a link. The caller holds mu.
func (c *Connection) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits for an established link.
func (c *Connection) await(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		l, changed, err := c.link, c.changed, c.err
		ready := l != nil && l.usable()
		c.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case ready:
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// usable says whether requests can be sent. The caller holds Connection.mu.
func (l *link) usable() bool { return l.established && l.err == nil && !l.leaving }

// call asks the broker and waits for the answer. If the connection breaks
// before it comes, it asks again or fails with ErrInDoubt.
func (c *Connection) call(ctx context.Context, again bool, frame func(request uint64) native.Frame) (*call, error) {
	for {
		l, err := c.await(ctx)
		if err != nil {
			return nil, err
		}
		k, err := l.call(ctx, frame)
		switch {
		case err == nil:
			return k, nil
		case !errors.Is(err, errBroken):
			return nil, err
		case !again && !errors.Is(err, errNotSent):
			return nil, doubt(err)
		}
	}
}

// callOnce asks the broker to close something. Without a connection there is
// nothing to close.
func (c *Connection) callOnce(ctx context.Context, frame func(request uint64) native.Frame) error {
	c.mu.Lock()
	l := c.link
	if l != nil && !l.usable() {
		l = nil
	}
	c.mu.Unlock()
	if l == nil {
		return nil
	}
	_, err := l.call(ctx, frame)
	if errors.Is(err, errBroken) {
		return nil
	}
	return err
}

// open opens a session or a consumer. register numbers it and puts it where a
// new connection finds it, in one step with the request: so if the connection
// breaks, it has been opened again by the time there is another one. If the
// context ends before the answer, undo closes what may have been opened.
func (c *Connection) open(ctx context.Context, register func(), frame, undo func(request uint64) native.Frame) error {
	for {
		l, err := c.await(ctx)
		if err != nil {
			return err
		}
		k := newCall(l)
		c.mu.Lock()
		ready := l.usable()
		if ready {
			register()
			l.requestLocked(k, frame)
		}
		c.mu.Unlock()
		if !ready {
			continue
		}
		_, err = k.wait(ctx)
		if errors.Is(err, errBroken) {
			_, err = c.await(ctx)
		}
		if err != nil && ctx.Err() != nil {
			l.request(unheard{}, undo)
		}
		return err
	}
}

// unheard takes an answer that nobody waits for.
type unheard struct{}

func (unheard) answered(_, _ []byte) {}
func (unheard) refused(error)        {}
func (unheard) broken(error)         {}

// post sends a frame that nobody answers, over the link of this generation
// only.
func (c *Connection) post(generation uint64, f native.Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.link
	if l == nil || l.generation != generation || l.err != nil {
		return false
	}
	l.out = l.encoder.Append(l.out, f, nil)
	l.wake.Signal()
	return true
}

// enqueue puts a lane into the writer's list.
func (c *Connection) enqueue(l *lane) {
	c.mu.Lock()
	c.ready = append(c.ready, l)
	if c.link != nil {
		c.link.wake.Signal()
	}
	c.mu.Unlock()
}

// settle puts a consumer into the writer's list.
func (c *Connection) settle(consumer *consumer) {
	c.mu.Lock()
	c.dirty = append(c.dirty, consumer)
	if c.link != nil {
		c.link.wake.Signal()
	}
	c.mu.Unlock()
}

func (c *Connection) consumer(number uint64) *consumer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.consumers[number]
}

func (c *Connection) forgetConsumer(consumer *consumer) {
	c.mu.Lock()
	delete(c.consumers, consumer.number)
	c.mu.Unlock()
}

func (c *Connection) forgetSession(s *Session) {
	c.mu.Lock()
	delete(c.sessions, s.number)
	c.mu.Unlock()
}

// snapshot returns what is open, oldest first.
func (c *Connection) snapshot() ([]*Session, []*consumer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sessions []*Session
	for _, s := range c.sessions {
		sessions = append(sessions, s)
	}
	var consumers []*consumer
	for _, consumer := range c.consumers {
		consumers = append(consumers, consumer)
	}
	slices.SortFunc(sessions, func(a, b *Session) int { return cmp.Compare(a.number, b.number) })
	slices.SortFunc(consumers, func(a, b *consumer) int { return cmp.Compare(a.number, b.number) })
	return sessions, consumers
}
