package polylog

import (
	"context"
	"fmt"
	"sync"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// TemporaryQueue creates a queue that only this connection consumes, and that
// is gone with it, also when it breaks: Jakarta Messaging 3.1 §6.2.2.
func (s *Session) TemporaryQueue(ctx context.Context) (*Queue[*Message], error) {
	d, err := s.temporary(ctx, native.KindQueue)
	if err != nil {
		return nil, err
	}
	return &Queue[*Message]{sender[*Message]{s, d, codecOf[*Message]()}}, nil
}

// TemporaryTopic creates a topic that only this connection consumes, and that
// is gone with it.
func (s *Session) TemporaryTopic(ctx context.Context) (*Topic[*Message], error) {
	d, err := s.temporary(ctx, native.KindTopic)
	if err != nil {
		return nil, err
	}
	return &Topic[*Message]{sender[*Message]{s, d, codecOf[*Message]()}}, nil
}

func (s *Session) temporary(ctx context.Context, kind native.DestinationKind) (*destination, error) {
	if err := s.alive(); err != nil {
		return nil, fmt.Errorf("create a temporary destination: %w", err)
	}
	return s.c.temporary(ctx, kind)
}

func (c *Connection) temporary(ctx context.Context, kind native.DestinationKind) (*destination, error) {
	answer, err := c.call(ctx, true, func(request uint64) native.Frame {
		return &native.Temporary{Request: request, Kind: kind}
	})
	if err != nil {
		return nil, fmt.Errorf("create a temporary destination: %w", err)
	}
	d := &destination{c: c, kind: kind, temporary: true}
	r, err := d.learn(answer.body, answer.generation)
	if err != nil {
		return nil, err
	}
	d.name = r.Name
	return d, nil
}

// Request sends m to a queue and waits for the reply to it, which comes over a
// temporary queue that the connection's requests share. The reply is told by
// its correlation id, which may be that of the request or its message id. If
// the connection breaks before the reply comes, the error is ErrInDoubt.
// Reply answers it.
func (c *Connection) Request(ctx context.Context, queue string, m *Message, opts ...PutOption) (*Message, error) {
	reply, err := c.request(ctx, queue, m, opts)
	if err != nil {
		return nil, fmt.Errorf("request to %s: %w", queue, err)
	}
	return reply, nil
}

func (c *Connection) request(ctx context.Context, queue string, m *Message, opts []PutOption) (*Message, error) {
	r, err := c.replies(ctx)
	if err != nil {
		return nil, err
	}
	question := *m
	question.ReplyTo, question.ReplyToKind = r.queue.Name(), record.DestinationTemporaryQueue
	ask := &asked{reply: make(chan *Message, 1)}
	confirmed := c.newWaiter()
	// Under the lock, so that the reply cannot be faster than its place.
	r.mu.Lock()
	receipt, err := r.session.Queue(queue).append(ctx, &question, opts, confirmed, nil, false)
	if err == nil {
		ask.id, ask.correlation = receipt.MessageID(), m.CorrelationID
		for _, o := range opts {
			if o.set == putCorrelation {
				ask.correlation = o.name
			}
		}
		r.waiting[ask.id] = ask
		if ask.correlation != "" {
			r.waiting[ask.correlation] = ask
		}
	}
	r.mu.Unlock()
	if err != nil {
		confirmed.free()
		return nil, err
	}
	defer r.forget(ask)
	if _, err := confirmed.wait(ctx); err != nil {
		return nil, err
	}
	select {
	case reply := <-ask.reply:
		return reply, nil
	case <-r.ended:
		return nil, doubt(errBroken)
	case <-ctx.Done():
		return nil, doubt(ctx.Err())
	}
}

// Reply sends v to where the request wants its reply, under its correlation
// id, or without one its message id.
func Reply[T any](ctx context.Context, s *Session, request *Message, v T, opts ...PutOption) error {
	if request.ReplyTo == "" {
		return &Error{Code: native.CodeInvalid, Message: "the message wants no reply: it has no reply-to destination"}
	}
	correlation := request.CorrelationID
	if correlation == "" {
		correlation = request.ID
	}
	kind := native.KindQueue
	if request.ReplyToKind == record.DestinationTopic || request.ReplyToKind == record.DestinationTemporaryTopic {
		kind = native.KindTopic
	}
	to := senderOf[T](s, request.ReplyTo, kind)
	_, err := to.send(ctx, v, append([]PutOption{WithCorrelationID(correlation)}, opts...))
	return err
}

// requester receives the replies of a connection's requests. It has a session
// and a goroutine of its own, and lasts as long as its temporary queue.
type requester struct {
	session *Session
	queue   *Queue[*Message]
	ended   chan struct{}

	mu      sync.Mutex // guards what follows
	waiting map[string]*asked
}

// asked is a request that waits for its reply.
type asked struct {
	id, correlation string
	reply           chan *Message // of one element
}

// replies returns the connection's requester, a new one if there is none or
// the temporary queue is gone.
func (c *Connection) replies(ctx context.Context) (*requester, error) {
	c.asking.Lock()
	defer c.asking.Unlock()
	if r := c.requester; r != nil {
		select {
		case <-r.ended:
			_ = r.session.Close(ctx)
			c.requester = nil
		default:
			return r, nil
		}
	}
	s, err := c.Session(ctx, AutoAcknowledge)
	if err != nil {
		return nil, err
	}
	r := &requester{session: s, ended: make(chan struct{}), waiting: map[string]*asked{}}
	if r.queue, err = s.TemporaryQueue(ctx); err != nil {
		_ = s.Close(ctx)
		return nil, err
	}
	o := consumeOptionsOf(nil)
	consumer, err := s.openConsumer(ctx, r.queue.subscribe(&o), &o)
	if err != nil {
		_ = s.Close(ctx)
		return nil, err
	}
	c.requester = r
	c.ended.Go(func() { r.run(consumer) })
	return r, nil
}

// run hands replies to who waits for them. It ends with the consumer, and that
// with the connection or the session.
func (r *requester) run(c *consumer) {
	defer close(r.ended)
	if c.acquire(context.Background()) != nil {
		return
	}
	defer c.release()
	iterate(context.Background(), c, r.queue.codec, func(d *Delivery[*Message], err error) bool {
		if d == nil {
			return false
		}
		if err == nil {
			r.hand(d.Value)
		}
		return true
	})
}

func (r *requester) hand(reply *Message) {
	r.mu.Lock()
	ask := r.waiting[reply.CorrelationID]
	r.mu.Unlock()
	if ask == nil {
		return // it was given up
	}
	select {
	case ask.reply <- reply:
	default: // a second reply
	}
}

func (r *requester) forget(ask *asked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range []string{ask.id, ask.correlation} {
		if r.waiting[key] == ask {
			delete(r.waiting, key)
		}
	}
}
