package polylog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// Outcome is how a producer's own transaction has ended, and so what becomes of
// its half message.
type Outcome uint8

// The outcomes.
const (
	Unknown  Outcome = iota // nobody knows yet: the group is asked again
	Commit                  // it is delivered
	Rollback                // it never was
)

// Half is a half message whose end the broker does not know.
type Half struct {
	ID       string     // as given to Producers.Send
	Checks   int        // how often the group was asked, with this time
	Messages []*Message // with their Destination; nil if they are more than 1 MiB
}

// ProducersOption sets something of a group of producers.
type ProducersOption func(*native.Producers)

// CheckAfter sets how long after it is sent the group is asked about a half
// message whose end is not known; then it is asked again after twice as long, and
// so on. The default is 6 s.
func CheckAfter(d time.Duration) ProducersOption {
	return func(p *native.Producers) { p.AfterMS = max(d.Milliseconds(), 1) }
}

// MaxChecks sets how often the group is asked before the message is rolled back;
// the default is 15.
func MaxChecks(n int) ProducersOption { return func(p *native.Producers) { p.MaxChecks = n } }

// Producers is a group of producers, as one of its members: it sends half messages,
// which are delivered only if the producer's own transaction, in a database for
// instance, is committed. Whoever dies between the two leaves the question to
// another member of the group, on any connection.
type Producers struct {
	c      *Connection
	member native.Producers
	check  func(context.Context, Half) Outcome
	life   context.Context
	end    context.CancelFunc
	asked  sync.WaitGroup
}

// Producers joins a group of producers, of 1 to 64 bytes: check is asked what
// became of half messages of the group, of this process or others, and looks it up
// where the transaction was. It is called on goroutines of its own. ErrExists if the
// connection is in the group.
func (c *Connection) Producers(ctx context.Context, group string, check func(context.Context, Half) Outcome, opts ...ProducersOption) (*Producers, error) {
	p := &Producers{c: c, member: native.Producers{Group: group}, check: check}
	for _, set := range opts {
		set(&p.member)
	}
	p.life, p.end = context.WithCancel(context.WithoutCancel(ctx))
	c.mu.Lock()
	taken := c.producers[group] != nil
	if !taken {
		if c.producers == nil {
			c.producers = map[string]*Producers{}
		}
		c.producers[group] = p // a Check may come before the answer
	}
	c.mu.Unlock()
	if taken {
		return nil, fmt.Errorf("%w: the connection is in the group of producers %q", ErrExists, group)
	}
	// ErrExists: a new connection has joined already, on the way.
	if _, err := c.call(ctx, true, p.join); err != nil && !errors.Is(err, ErrExists) {
		c.mu.Lock()
		delete(c.producers, group)
		c.mu.Unlock()
		return nil, fmt.Errorf("join the producers %q: %w", group, err)
	}
	return p, nil
}

func (p *Producers) join(request uint64) native.Frame {
	return p.frame(request, native.VerbBranchJoin)
}

func (p *Producers) frame(request uint64, verb string) native.Frame {
	body, _ := native.MarshalBody(&p.member) // of texts and numbers
	return &native.Branch{Request: request, Verb: verb, Body: body}
}

// Close leaves the group, and waits for the checks that are under way.
func (p *Producers) Close(ctx context.Context) error {
	p.c.mu.Lock()
	delete(p.c.producers, p.member.Group)
	p.c.mu.Unlock()
	_, err := p.c.call(ctx, false, func(request uint64) native.Frame { return p.frame(request, native.VerbBranchLeave) })
	p.end()
	p.asked.Wait()
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Send sends what send sends through its session, one message or several, as a half
// message; when that is on the broker's disk it runs local, which is the producer's
// own transaction, and then has it delivered or not. id is what the group knows it
// by, up to 64 bytes and unique within the group; "" has one made.
//
// With local's Unknown, or if the end could not be told to the broker, the group is
// asked later: the error is nil in the first case and ErrInDoubt in the second.
// With other errors nothing was sent, and local was not called.
func (p *Producers) Send(ctx context.Context, id string, send func(*Session) error, local func(context.Context) Outcome) (err error) {
	if id == "" {
		id = nuid.Next()
	}
	s, err := p.c.Session(ctx, Transacted)
	if err != nil {
		return err
	}
	defer func() {
		if failed := s.Close(context.WithoutCancel(ctx)); err == nil {
			err = failed
		}
	}()
	x := XID{Format: native.HalfFormat, Global: p.member.Group, Branch: id}
	if err := s.XA().Start(ctx, x, XANew, 0); err != nil {
		return err
	}
	if err := send(s); err != nil {
		return err // with the session it is rolled back
	}
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if err := s.XA().End(ctx, x, XASuccess); err != nil {
		return err
	}
	if _, err := s.XA().Prepare(ctx, x); err != nil {
		return err
	}
	if err := p.settle(ctx, x, local(ctx)); err != nil {
		return fmt.Errorf("%w: %w; the group %q is asked", ErrInDoubt, err, p.member.Group)
	}
	return nil
}

// settle ends a half message, unless nobody knows how. That somebody else has, who
// was asked, is no error.
func (p *Producers) settle(ctx context.Context, x XID, o Outcome) error {
	verb := native.VerbBranchCommit
	switch o {
	case Commit:
	case Rollback:
		verb = native.VerbBranchRollback
	default:
		return nil
	}
	_, err := p.c.branch(ctx, 0, verb, &native.BranchSpec{XID: x.native()})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// ask takes a Check over from the connection's reader.
func (p *Producers) ask(f *native.Check, payload []byte) {
	h := Half{ID: f.ID, Checks: int(f.Checks)}
	var sends []native.HalfSend
	if err := native.UnmarshalBody(f.Body, &sends); err != nil {
		p.c.exception(fmt.Errorf("a check of %q cannot be read: %w", f.ID, err))
		return
	}
	for _, s := range sends {
		n := min(max(s.Bytes, 0), len(payload))
		messages, err := messagesOf(payload[:n], s.Destination, s.Partition)
		if err != nil {
			p.c.exception(fmt.Errorf("a check of %q cannot be read: %w", f.ID, err))
			return
		}
		h.Messages, payload = append(h.Messages, messages...), payload[n:]
	}
	p.asked.Go(func() {
		x := XID{Format: native.HalfFormat, Global: f.Group, Branch: f.ID}
		if err := p.settle(p.life, x, p.check(p.life, h)); err != nil && p.life.Err() == nil {
			p.c.exception(fmt.Errorf("end the half message %q: %w", f.ID, err))
		}
	})
}

// messagesOf decodes batches, whose memory they keep.
func messagesOf(batches []byte, destination string, partition int32) (all []*Message, err error) {
	for len(batches) > 0 {
		var b record.Batch
		if b, batches, err = record.Next(batches); err != nil {
			return nil, err
		}
		r := new(record.Reader)
		if err := r.Reset(b, maxInflated); err != nil {
			return nil, err
		}
		for r.Next() {
			m := &Message{Destination: destination}
			if err := decodeRecord(r.Record(), partition, m); err != nil {
				return nil, err
			}
			all = append(all, m)
		}
		if err := r.Err(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
