package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog"
)

// polylogPeer is the program under test with the native client.
type polylogPeer struct {
	binary string
	memory bool // durability=memory on every queue
}

func (p polylogPeer) start(dir string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	debug := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s, err := child(dir, nil, p.binary, "serve", "--data", "{dir}/data", "--native-listen", "{addr}", "--kafka-listen", "", "--amqp-listen", "", "--stomp-listen", "", "--http-listen", "", "--debug-listen", debug)
	if err != nil {
		return nil, err
	}
	s.debug = debug
	return s, nil
}

func (p polylogPeer) connect(s *server) (client, error) {
	c, err := polylog.Connect(context.Background(), "polylog://"+s.addr)
	return &polylogClient{c, p.memory}, err
}

type polylogClient struct {
	conn   *polylog.Connection
	memory bool
}

func (c *polylogClient) close() { c.conn.Close() }

func (c *polylogClient) declare(queue string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	spec := polylog.DestinationSpec{Name: queue, Kind: "queue"}
	if c.memory {
		spec.Settings = map[string]string{"durability": "memory"}
	}
	_, err := c.conn.Admin().Create(ctx, spec)
	if errors.Is(err, polylog.ErrExists) {
		return nil
	}
	return err
}

func (c *polylogClient) producer(queue string, places int) (producer, error) {
	s, err := c.conn.Session(context.Background(), polylog.IndividualAcknowledge)
	if err != nil {
		return nil, err
	}
	p := &polylogProducer{queue: polylog.QueueOf[[]byte](s, queue), window: newWindow(places)}
	p.done = func(_ polylog.Receipt, err error) {
		if err != nil {
			p.failed.CompareAndSwap(nil, &err)
		}
		p.window.give()
	}
	return p, nil
}

type polylogProducer struct {
	queue  *polylog.Queue[[]byte]
	window window
	done   func(polylog.Receipt, error)
	failed atomic.Pointer[error]
}

func (p *polylogProducer) send(body []byte) error {
	p.window.take()
	if err := p.queue.PutAsync(context.Background(), body, p.done); err != nil {
		return err
	}
	if e := p.failed.Load(); e != nil {
		return *e
	}
	return nil
}

func (p *polylogProducer) flush() error {
	p.window.wait()
	if e := p.failed.Load(); e != nil {
		return *e
	}
	return nil
}

func (c *polylogClient) consumer(queue string, credit int) (consumer, error) {
	s, err := c.conn.Session(context.Background(), polylog.IndividualAcknowledge)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &polylogConsumer{session: s, queue: polylog.QueueOf[[]byte](s, queue), credit: credit, ctx: ctx, cancel: cancel}, nil
}

type polylogConsumer struct {
	session *polylog.Session
	queue   *polylog.Queue[[]byte]
	credit  int
	ctx     context.Context
	cancel  context.CancelFunc
}

func (k *polylogConsumer) stop() { k.cancel() }

func (k *polylogConsumer) take(n int, each func([]byte)) error {
	taken := 0
	for d, err := range k.queue.Consume(k.ctx, polylog.WithPrefetch(k.credit)) {
		if err != nil {
			if k.ctx.Err() != nil {
				break
			}
			return err
		}
		each(d.Value)
		if err := d.AckAsync(); err != nil {
			return err
		}
		if taken++; taken == n {
			break
		}
	}
	return k.session.Close(context.Background()) // waits until the acknowledgements are on disk
}
