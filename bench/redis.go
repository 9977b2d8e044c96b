package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisPeer is Redis from its Debian package: a stream with one consumer group
// is the queue, and the append-only file is synced before anything is
// answered. Snapshots are off, since that file has everything; it is rewritten
// when it has grown, as by default.
//
// Each message is acknowledged and then deleted, as a queue's user has to do
// it: an acknowledged entry stays in its stream, and so in memory.
//
// Redis reads at most 16 KiB of a connection between two syncs, so what is
// pipelined over one connection waits for many of them. A producer with much
// unconfirmed therefore goes on over further connections; its messages then
// have no order, which the consumers of one group do not keep either.
type redisPeer struct{}

const (
	redisGroup = "workers" // the consumer group of every queue
	// What a producer has unconfirmed on a connection before it uses the next.
	redisUnconfirmed = 64
	redisConnections = 4 // the most that one producer uses
)

func (redisPeer) start(dir string) (*server, error) {
	return child(dir, nil, "redis-server", "--bind", "127.0.0.1", "--port", "{port}", "--dir", "{dir}",
		"--save", "", "--appendonly", "yes", "--appendfsync", "always")
}

func (redisPeer) connect(s *server) (client, error) {
	options := redis.Options{
		Addr: s.addr, PoolSize: 64, PipelinePoolSize: 64,
		MaxRetries:  -1,                   // what is sent again would put its messages twice
		ReadTimeout: -2, WriteTimeout: -2, // none: a read waits until there are messages
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &redisClient{options: options, db: redis.NewClient(&options), ctx: ctx, cancel: cancel}
	return c, c.db.Ping(ctx).Err()
}

type redisClient struct {
	options redis.Options
	db      *redis.Client
	ctx     context.Context // until close
	cancel  context.CancelFunc
}

func (c *redisClient) close() { c.cancel(); c.db.Close() }

func (c *redisClient) declare(queue string) error {
	err := c.db.XGroupCreateMkStream(c.ctx, queue, redisGroup, "0").Err()
	if redis.HasErrorPrefix(err, "BUSYGROUP") { // it is there
		return nil
	}
	return err
}

func (c *redisClient) producer(queue string, places int) (producer, error) {
	p := &redisProducer{queue: queue, window: newWindow(places)}
	for range min(redisConnections, (places+redisUnconfirmed-1)/redisUnconfirmed) {
		options := c.options
		db := redis.NewClient(&options) // a client has one such pipe
		context.AfterFunc(c.ctx, func() { db.Close() })
		// Full duplex: it writes without waiting for the replies before.
		pipe, err := db.AsyncAutoPipelineWithOptions(&redis.AutoPipelineOptions{FullDuplex: true})
		if err != nil {
			return nil, err
		}
		l := &redisLink{pipe: pipe, sent: make(chan *redis.StringCmd, places)}
		p.links = append(p.links, l)
		go p.confirm(c.ctx, l)
	}
	return p, nil
}

type redisProducer struct {
	queue  string
	window window
	links  []*redisLink
	failed atomic.Pointer[error]
}

// redisLink is one connection of a producer.
type redisLink struct {
	pipe *redis.AutoPipeliner
	sent chan *redis.StringCmd // unconfirmed, in the order of the replies
}

func (p *redisProducer) send(body []byte) error {
	p.window.take()
	l := p.link()
	l.sent <- l.pipe.XAdd(context.Background(), &redis.XAddArgs{
		Stream: p.queue, Values: []any{"body", append([]byte(nil), body...)},
	})
	return p.err()
}

// link is the first connection that has room; if none has, the one with the
// least unconfirmed.
func (p *redisProducer) link() *redisLink {
	least := p.links[0]
	for _, l := range p.links {
		if len(l.sent) < redisUnconfirmed {
			return l
		}
		if len(l.sent) < len(least.sent) {
			least = l
		}
	}
	return least
}

// confirm waits for the replies, until the client is closed.
func (p *redisProducer) confirm(ctx context.Context, l *redisLink) {
	for {
		select {
		case cmd := <-l.sent:
			if err := cmd.Err(); err != nil { // waits
				p.failed.CompareAndSwap(nil, &err)
			}
			p.window.give()
		case <-ctx.Done():
			return
		}
	}
}

func (p *redisProducer) flush() error { p.window.wait(); return p.err() }

func (p *redisProducer) err() error {
	if e := p.failed.Load(); e != nil {
		return *e
	}
	return nil
}

var redisConsumers atomic.Int64 // gives each its name in the group

func (c *redisClient) consumer(queue string, credit int) (consumer, error) {
	conn := c.db.Conn()
	id, err := conn.ClientID(c.ctx).Result()
	ctx, cancel := context.WithCancel(c.ctx)
	return &redisConsumer{
		db: c.db, conn: conn, id: id, queue: queue, credit: credit,
		name: fmt.Sprintf("consumer-%d", redisConsumers.Add(1)), stopped: ctx, cancel: cancel,
	}, err
}

// redisConsumer has a connection of its own, since it waits in its reads.
type redisConsumer struct {
	db      *redis.Client
	conn    *redis.Conn
	id      int64 // the server's number for conn
	queue   string
	credit  int
	name    string
	stopped context.Context
	cancel  context.CancelFunc
}

func (k *redisConsumer) stop() { k.cancel() }

func (k *redisConsumer) take(n int, each func([]byte)) error {
	defer k.conn.Close()
	ended := make(chan struct{})
	unblocked := make(chan struct{})
	go func() { k.unblock(ended); close(unblocked) }()
	defer func() { close(ended); <-unblocked }()
	return k.run(n, each)
}

// unblock ends the read that waits when the consumer is stopped. One that is
// only about to wait is met by the next try.
func (k *redisConsumer) unblock(ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-k.stopped.Done():
	}
	for {
		k.db.ClientUnblock(context.Background(), k.id)
		select {
		case <-ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// run asks for messages, and with each request acknowledges and deletes those
// of the request before, in one pipeline. It counts: a message that was not
// there to be acknowledged or to be deleted is an error.
func (k *redisConsumer) run(n int, each func([]byte)) error {
	ctx := context.Background() // what was taken is acknowledged after a stop too
	var ids []string
	for {
		want := min(n, k.credit)
		if k.stopped.Err() != nil {
			want = 0
		}
		if want == 0 && len(ids) == 0 {
			return nil
		}
		pipe := k.conn.Pipeline()
		var settled []*redis.IntCmd
		if len(ids) > 0 {
			settled = append(settled, pipe.XAck(ctx, k.queue, redisGroup, ids...), pipe.XDel(ctx, k.queue, ids...))
		}
		read := redis.NewXStreamSliceCmd(ctx) // stays empty
		if want > 0 {
			read = pipe.XReadGroup(ctx, &redis.XReadGroupArgs{
				Group: redisGroup, Consumer: k.name, Streams: []string{k.queue, ">"}, Count: int64(want), Block: 0,
			})
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) { // Nil: unblocked
			return err
		}
		for _, cmd := range settled {
			if int(cmd.Val()) != len(ids) {
				return fmt.Errorf("%s settled %d of %d messages", cmd.Name(), cmd.Val(), len(ids))
			}
		}
		ids = ids[:0]
		for _, s := range read.Val() {
			for _, m := range s.Messages {
				body, _ := m.Values["body"].(string)
				each([]byte(body))
				ids = append(ids, m.ID)
			}
		}
		n -= len(ids)
	}
}
