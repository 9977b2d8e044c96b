package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
// pipelined over one connection waits for many of them. A producer or consumer
// with a large window therefore uses several connections; its messages then
// have no order, which the consumers of one group do not keep either.
type redisPeer struct{}

// redisGroup is the consumer group of every queue.
const redisGroup = "workers"

// redisConnections is how many connections share a window or a credit.
func redisConnections(places int) int { return max(1, places/250) }

// redisPipeline bounds the messages in one pipeline.
const redisPipeline = 256

func (redisPeer) start(dir string) (*server, error) {
	return child(dir, nil, "redis-server", "--bind", "127.0.0.1", "--port", "{port}", "--dir", "{dir}",
		"--save", "", "--appendonly", "yes", "--appendfsync", "always")
}

func (redisPeer) connect(s *server) (client, error) {
	db := redis.NewClient(&redis.Options{
		Addr: s.addr, PoolSize: 64, PipelinePoolSize: 64,
		MaxRetries:  -1,                   // a pipeline sent again would put its messages twice
		ReadTimeout: -2, WriteTimeout: -2, // none: a read waits until there are messages
	})
	ctx, cancel := context.WithCancel(context.Background())
	return &redisClient{db, ctx, cancel}, db.Ping(ctx).Err()
}

type redisClient struct {
	db     *redis.Client
	ctx    context.Context // until close
	cancel context.CancelFunc
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
	p := &redisProducer{db: c.db, queue: queue, window: newWindow(places), work: make(chan []byte, places)}
	for range redisConnections(places) {
		go p.run(c.ctx)
	}
	return p, nil
}

type redisProducer struct {
	db     *redis.Client
	queue  string
	window window
	work   chan []byte
	failed atomic.Pointer[error]
}

func (p *redisProducer) send(body []byte) error {
	p.window.take()
	p.work <- append([]byte(nil), body...)
	return p.err()
}

func (p *redisProducer) flush() error { p.window.wait(); return p.err() }

func (p *redisProducer) err() error {
	if e := p.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// run sends what has gathered while its pipeline before was under way, until
// the client is closed. It keeps one connection busy.
func (p *redisProducer) run(ctx context.Context) {
	for {
		pipe := p.db.Pipeline()
		select {
		case body := <-p.work:
			p.add(ctx, pipe, body)
		case <-ctx.Done():
			return
		}
		for more := true; more && pipe.Len() < redisPipeline; {
			select {
			case body := <-p.work:
				p.add(ctx, pipe, body)
			default:
				more = false
			}
		}
		n := pipe.Len()
		if _, err := pipe.Exec(ctx); err != nil {
			p.failed.CompareAndSwap(nil, &err)
		}
		for range n {
			p.window.give()
		}
	}
}

func (p *redisProducer) add(ctx context.Context, pipe redis.Pipeliner, body []byte) {
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: p.queue, Values: []any{"body", body}})
}

var redisConsumers atomic.Int64 // gives each its name in the group

func (c *redisClient) consumer(queue string, credit int) (consumer, error) {
	ctx, cancel := context.WithCancel(c.ctx)
	k := &redisConsumer{
		db: c.db, queue: queue, name: fmt.Sprintf("consumer-%d", redisConsumers.Add(1)),
		ctx: ctx, cancel: cancel,
	}
	n := redisConnections(credit)
	for range n {
		r := &redisReader{conn: c.db.Conn(), credit: credit / n}
		var err error
		if r.id, err = r.conn.ClientID(ctx).Result(); err != nil {
			return nil, err
		}
		k.readers = append(k.readers, r)
	}
	return k, nil
}

type redisConsumer struct {
	db      *redis.Client
	queue   string
	name    string
	readers []*redisReader
	ctx     context.Context // until stop, or until a reader has failed
	cancel  context.CancelFunc

	mu   sync.Mutex
	open int // guarded by mu: messages wanted that no reader has asked for
	each func([]byte)
}

// redisReader is one connection of a consumer, with its part of the credit.
type redisReader struct {
	conn   *redis.Conn
	id     int64 // the server's number for the connection
	credit int
}

func (k *redisConsumer) stop() { k.cancel() }

func (k *redisConsumer) take(n int, each func([]byte)) error {
	k.open, k.each = n, each
	errs := make([]error, len(k.readers))
	var wg sync.WaitGroup
	for i, r := range k.readers {
		wg.Go(func() {
			defer r.conn.Close()
			if errs[i] = k.run(r); errs[i] != nil {
				k.cancel()
			}
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-k.ctx.Done():
		k.unblock(ended)
	}
	return errors.Join(errs...)
}

// unblock ends the reads that wait, until all readers have ended: one that is
// only about to wait is met by the next try.
func (k *redisConsumer) unblock(ended <-chan struct{}) {
	for {
		for _, r := range k.readers {
			k.db.ClientUnblock(context.Background(), r.id)
		}
		select {
		case <-ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// run asks for messages, and with each request acknowledges and deletes those
// of the request before, in one pipeline. It counts: a message that was given
// to someone else too, or that is not there, is an error.
func (k *redisConsumer) run(r *redisReader) error {
	ctx := context.Background() // what was taken is acknowledged after a stop too
	var ids []string
	for {
		want := k.reserve(r.credit)
		if want == 0 && len(ids) == 0 {
			return nil
		}
		pipe := r.conn.Pipeline()
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
		ids = k.hand(read.Val(), want, ids[:0])
	}
}

// reserve says how many messages a reader may ask for; 0 when there is nothing
// left to ask for.
func (k *redisConsumer) reserve(credit int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil {
		return 0
	}
	n := min(credit, k.open)
	k.open -= n
	return n
}

// hand gives the messages to each, adds their ids to ids, and gives back what
// was reserved and did not come.
func (k *redisConsumer) hand(streams []redis.XStream, reserved int, ids []string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range streams {
		for _, m := range s.Messages {
			body, _ := m.Values["body"].(string)
			k.each([]byte(body))
			ids = append(ids, m.ID)
		}
	}
	k.open += reserved - len(ids)
	return ids
}
