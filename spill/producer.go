package spill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/polylog-mq/polylog"
)

// Options of a Producer. All may be left out.
type Options struct {
	// MaxBytes bounds what the directory takes of the disk. Default 1 GiB.
	MaxBytes int64
	// Patience is how long a message waits for the broker before it is spilled.
	// Once one was, others are not kept waiting until the broker has confirmed
	// what is in the directory, or nearly all. Default 1 s.
	Patience time.Duration
	// Connect are the options of the connection, as of polylog.Connect.
	Connect []polylog.Option
	// Refused is told of a message that had been spilled and that the broker will
	// never have: its destination is of another kind, or it is too large. If it
	// returns true the message is dropped. Otherwise, or without Refused, nothing
	// goes past it, and it is tried again. It must not call the Producer.
	Refused func(to Destination, m *polylog.Message, err error) (drop bool)
	// Logger is told when messages begin to be spilled, and when the broker is
	// back. Default: nobody is.
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.MaxBytes < 0 || o.Patience < 0 {
		return o, fmt.Errorf("%w: MaxBytes and Patience are not negative", polylog.ErrInvalid)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.Patience == 0 {
		o.Patience = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

const (
	maxMessageBytes = 256 << 20
	memoryBytes     = 8 << 20  // what waits in memory; a Send beyond it waits for room
	minSegmentBytes = 64 << 10 // segments are an eighth of MaxBytes between these two
	maxSegmentBytes = 16 << 20
)

// Producer sends messages, and keeps them on its own disk while the broker is away.
// It may be used by several goroutines. It runs two: one sends, one writes; Close
// waits for them.
type Producer struct {
	options Options
	address string
	fs      fileSystem
	store   *store
	waiters sync.Pool

	life context.Context // ends when Close does not wait for the broker any more
	kill context.CancelFunc

	ended sync.WaitGroup
	timer *time.Timer // of Patience

	mu      sync.Mutex // guards what follows
	changed sync.Cond  // whatever of it has
	queue   queue
	passed  int64 // messages in the store that are confirmed, which the store does not know
	ids     *nuid.NUID
	sending bool  // a round is under way
	closed  bool  // nothing is taken any more
	quit    bool  // nothing is done any more
	failed  error // the disk's, for good
	away    error // why the broker has taken nothing since it last did

	closing  sync.Once
	closeErr error
}

// Open opens a producer on a directory of its own, which is made if it is missing.
// What an earlier one has left there is sent first. The address is that of
// polylog.Connect; that no broker answers is no error.
//
// Errors: ErrLocked; ErrNewerVersion and ErrCorrupt, with the file named; those of
// the disk.
func Open(dir, address string, o Options) (*Producer, error) {
	if dir == "" {
		return nil, fmt.Errorf("%w: a producer needs a directory", polylog.ErrInvalid)
	}
	fs, err := openDirectory(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	p, err := open(fs, address, o)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return p, nil
}

// open opens a producer on a file system, which it closes.
func open(fs fileSystem, address string, o Options) (*Producer, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, errors.Join(err, fs.Close())
	}
	s, err := openStore(fs, min(max(o.MaxBytes/8, minSegmentBytes), maxSegmentBytes))
	if err != nil {
		return nil, errors.Join(err, fs.Close())
	}
	p := &Producer{options: o, address: address, fs: fs, store: s, ids: nuid.New()}
	p.changed.L = &p.mu
	p.queue.stored = s.pending()
	p.queue.spilling = p.queue.stored > 0
	p.life, p.kill = context.WithCancel(context.Background())
	p.timer = time.AfterFunc(o.Patience, p.lose)
	p.ended.Go(p.write)
	p.ended.Go(p.drain)
	return p, nil
}

// Receipt says how a message is safe.
type Receipt struct {
	MessageID string // JMSMessageID
	Spilled   bool   // it is on this disk; otherwise the broker has confirmed it
}

// Send hands a message over, with options as of a Put, and returns once it is safe:
// confirmed by the broker, or synced to the directory. If the context ends first,
// the error is ErrInDoubt, and the message may be sent all the same. m may be
// changed when Send returns.
//
// Other errors: ErrFull; ErrClosed; the broker's refusal of the message, such as
// polylog.ErrWrongKind, unless it has been spilled by then; polylog.ErrInvalid, for
// one that no broker would take, or for WithPartition.
func (p *Producer) Send(ctx context.Context, to Destination, m *polylog.Message, opts ...polylog.PutOption) (Receipt, error) {
	w := p.newWaiter()
	if err := p.push(ctx, to, m, opts, &entry{waiter: w}); err != nil {
		p.waiters.Put(w)
		return Receipt{}, fmt.Errorf("send to %s: %w", to, err)
	}
	select {
	case <-w.told:
		receipt, err := w.receipt, w.err
		p.waiters.Put(w)
		if err != nil {
			return receipt, fmt.Errorf("send to %s: %w", to, err)
		}
		return receipt, nil
	case <-ctx.Done():
		return Receipt{}, fmt.Errorf("send to %s: %w: %w", to, polylog.ErrInDoubt, ctx.Err())
	}
}

// SendAsync hands a message over and returns when it has its place in the order;
// the context bounds only the wait for room. An error says that it was not taken.
// Otherwise done is called once, when Send would return, on a goroutine of the
// Producer's that must not be kept waiting.
func (p *Producer) SendAsync(ctx context.Context, to Destination, m *polylog.Message, done func(Receipt, error), opts ...polylog.PutOption) error {
	if err := p.push(ctx, to, m, opts, &entry{done: done}); err != nil {
		return fmt.Errorf("send to %s: %w", to, err)
	}
	return nil
}

// push gives e its place in the order, when there is room.
func (p *Producer) push(ctx context.Context, to Destination, m *polylog.Message, opts []polylog.PutOption, e *entry) error {
	if err := to.check(); err != nil {
		return err
	}
	made, err := m.With(opts...)
	if err != nil {
		return err
	}
	e.item = item{to, made}
	if e.bytes = e.size(); e.bytes > maxMessageBytes {
		return fmt.Errorf("%w: a message of %d bytes, %d are the most", polylog.ErrTooLarge, e.bytes, maxMessageBytes)
	}
	p.mu.Lock()
	defer p.unlock()
	if made.ID == "" {
		made.ID = "ID:" + p.store.position.name + "-" + p.ids.Next()
		e.bytes += int64(len(made.ID))
	}
	var full error
	if err := p.wait(ctx, func() bool {
		var room bool
		room, full = p.room(e.bytes)
		return room || full != nil
	}); err != nil {
		return err
	}
	switch {
	case p.failed != nil:
		return p.failed
	case p.closed:
		return ErrClosed
	case full != nil:
		return full
	}
	e.since = time.Now()
	first := len(p.queue.waiting) == 0
	p.queue.push(e)
	if first && !p.queue.spilling {
		p.timer.Reset(p.options.Patience)
	}
	p.changed.Broadcast()
	return nil
}

// room says whether so many bytes more may wait, or else what is full, if waiting
// would not help. The caller holds mu.
func (p *Producer) room(bytes int64) (bool, error) {
	waiting := p.queue.bytes
	taken := waiting
	if p.queue.stored > 0 { // else what files there still are is about to go
		taken += p.store.used()
	}
	switch fits := taken+bytes <= p.options.MaxBytes; {
	case !fits && (p.queue.stored > 0 || waiting == 0):
		return false, fmt.Errorf("%w: %d bytes, and %d are taken of %d (MaxBytes)", ErrFull, bytes, taken, p.options.MaxBytes)
	case !fits:
		return false, nil
	}
	return waiting == 0 || waiting+bytes <= memoryBytes, nil
}

// wait waits until ready holds, or the context or the producer has ended. The
// caller holds mu.
func (p *Producer) wait(ctx context.Context, ready func() bool) error {
	if ready() {
		return nil
	}
	defer context.AfterFunc(ctx, func() {
		p.mu.Lock()
		p.changed.Broadcast()
		p.mu.Unlock()
	})()
	for !ready() && p.failed == nil && !p.closed {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.changed.Wait()
	}
	return nil
}

// unlock gives up mu and tells the senders what there is to tell.
func (p *Producer) unlock() {
	answers := p.queue.answers
	p.queue.answers = nil
	p.mu.Unlock()
	for i := range answers {
		answers[i].entry.tell(answers[i].receipt, answers[i].err)
	}
}

func (e *entry) tell(r Receipt, err error) {
	if e.waiter != nil {
		e.waiter.receipt, e.waiter.err = r, err
		e.waiter.told <- struct{}{}
		return
	}
	if e.done != nil {
		e.done(r, err)
	}
}

// waiter is where a Send waits. It is pooled: it goes back only when it was told,
// so that nothing that comes late meets another's wait.
type waiter struct {
	told    chan struct{} // of one element
	receipt Receipt
	err     error
}

func (p *Producer) newWaiter() *waiter {
	if w, ok := p.waiters.Get().(*waiter); ok {
		return w
	}
	return &waiter{told: make(chan struct{}, 1)}
}

// Pending returns how many messages the broker has not confirmed: those in the
// directory and those that wait.
func (p *Producer) Pending() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queue.pending()
}

// Err returns why the broker has taken nothing since it last did, or why the
// directory cannot be written; nil while all is well.
func (p *Producer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return p.failed
	}
	return p.away
}

// Flush waits until the broker has confirmed all that was sent. Its errors are the
// context's, with why the broker is away, ErrClosed and those of the disk.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.wait(ctx, func() bool { return p.queue.pending() == 0 })
	n := p.queue.pending()
	switch {
	case n == 0 && p.failed == nil:
		return nil
	case err != nil:
		err = errors.Join(err, p.away)
	case p.failed != nil:
		err = p.failed
	default:
		err = ErrClosed
	}
	return fmt.Errorf("%d messages are pending: %w", n, err)
}

// Close spills what waits for the broker, and closes the connection. For what is
// under way it waits as long as Options.Patience. What is in the directory is sent
// by the next Producer on it. It is idempotent.
func (p *Producer) Close() error {
	p.closing.Do(func() { p.closeErr = p.close() })
	return p.closeErr
}

func (p *Producer) close() error {
	p.mu.Lock()
	p.closed, p.queue.spilling = true, true
	p.changed.Broadcast()
	for p.failed == nil && len(p.queue.waiting)+len(p.queue.writing) > 0 {
		p.changed.Wait()
	}
	late := false
	timer := time.AfterFunc(p.options.Patience, func() {
		p.mu.Lock()
		late = true
		p.changed.Broadcast()
		p.mu.Unlock()
	})
	for p.sending && !late {
		p.changed.Wait()
	}
	p.quit = true
	p.changed.Broadcast()
	p.unlock()
	timer.Stop()
	p.timer.Stop()
	p.kill()
	p.ended.Wait()
	p.mu.Lock()
	failed, passed := p.failed, p.passed
	p.mu.Unlock()
	if passed > 0 {
		failed = errors.Join(failed, p.store.pass(passed))
	}
	return errors.Join(failed, p.store.close(), p.fs.Close())
}

// lose has what has waited too long for the broker spilled, and all behind it.
func (p *Producer) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue.waiting) == 0 || p.queue.spilling {
		return
	}
	if left := p.options.Patience - time.Since(p.queue.waiting[0].since); left > 0 {
		p.timer.Reset(left)
		return
	}
	p.spill(fmt.Errorf("the broker has confirmed nothing for %v", p.options.Patience))
}

// spill has what waits written. The caller holds mu.
func (p *Producer) spill(why error) {
	if !p.queue.spilling {
		p.options.Logger.Warn("polylog: messages are kept on this disk until the broker takes them", "because", why)
	}
	if p.away == nil {
		p.away = why
	}
	p.queue.spilling = true
	p.changed.Broadcast()
}

// fail ends all, for good: the disk has failed. The caller holds mu.
func (p *Producer) fail(err error) {
	if p.failed == nil {
		p.failed = err
		p.options.Logger.Error("polylog: messages cannot be kept on this disk", "error", err)
	}
	p.queue.abandon(p.failed)
	p.kill()
	p.changed.Broadcast()
}

// write writes what is to be spilled, until the end.
func (p *Producer) write() {
	for {
		batch := p.nextBatch()
		if batch == nil {
			return
		}
		err := p.store.append(batch)
		p.mu.Lock()
		p.passed += p.queue.written(err)
		if err != nil && !errors.Is(err, ErrFull) {
			p.fail(err)
		}
		p.changed.Broadcast()
		p.unlock()
	}
}

// nextBatch waits for something to write. It returns nil at the end.
func (p *Producer) nextBatch() []*entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.failed == nil && !p.quit {
		if batch := p.queue.batch(); batch != nil {
			return batch
		}
		p.changed.Wait()
	}
	return nil
}
