package main

import (
	"context"
	"errors"
	"log"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// jetstreamPeer is NATS JetStream, a file store with its default sync
// interval (two minutes), or syncing each message.
type jetstreamPeer struct{ sync bool }

func (p jetstreamPeer) start(dir string) (*server, error) {
	mode := "default"
	if p.sync {
		mode = "sync"
	}
	return child(dir, nil, os.Args[0], "serve", "jetstream", "{addr}", "{dir}", mode)
}

func serveJetstream(addr, dir, mode string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		log.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		log.Fatal(err)
	}
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: host, Port: n, JetStream: true, StoreDir: dir, SyncAlways: mode == "sync",
		NoLog: true, NoSigs: true, JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 64 << 30,
	})
	if err != nil {
		log.Fatal(err)
	}
	s.Start()
	select {}
}

func (jetstreamPeer) connect(s *server) (client, error) {
	nc, err := nats.Connect("nats://" + s.addr)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	return &natsClient{nc, js}, err
}

type natsClient struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func (c *natsClient) close() { c.nc.Close() }

func (c *natsClient) declare(queue string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := c.js.CreateStream(ctx, jetstream.StreamConfig{Name: queue, Subjects: []string{queue}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		return err
	}
	_, err := c.js.CreateConsumer(ctx, queue, jetstream.ConsumerConfig{Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 100_000})
	return err
}

func (c *natsClient) producer(queue string, places int) (producer, error) {
	// A JetStream context has its own window of asynchronous publishes.
	js, err := jetstream.New(c.nc, jetstream.WithPublishAsyncMaxPending(places))
	return &natsProducer{js, queue}, err
}

type natsProducer struct {
	js    jetstream.JetStream
	queue string
}

func (p *natsProducer) send(body []byte) error {
	_, err := p.js.PublishAsync(p.queue, append([]byte(nil), body...), jetstream.WithStallWait(time.Minute))
	return err
}

func (p *natsProducer) flush() error {
	select {
	case <-p.js.PublishAsyncComplete():
		return nil
	case <-time.After(2 * time.Minute):
		return errors.New("publishes not confirmed in two minutes")
	}
}

func (c *natsClient) consumer(queue string, credit int) (consumer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	k, err := c.js.Consumer(ctx, queue, "workers")
	if err != nil {
		return nil, err
	}
	m, err := k.Messages(jetstream.PullMaxMessages(credit))
	return &natsConsumer{nc: c.nc, m: m}, err
}

type natsConsumer struct {
	nc      *nats.Conn
	m       jetstream.MessagesContext
	stopped atomic.Bool
}

func (k *natsConsumer) stop() { k.stopped.Store(true); k.m.Stop() }

func (k *natsConsumer) take(n int, each func([]byte)) error {
	for range n {
		msg, err := k.m.Next()
		if k.stopped.Load() {
			return k.nc.Flush()
		}
		if err != nil {
			return err
		}
		each(msg.Data())
		if err := msg.Ack(); err != nil {
			return err
		}
	}
	k.m.Stop()
	return k.nc.Flush()
}
