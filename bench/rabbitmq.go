package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// rabbitPeer is RabbitMQ from its Debian package with quorum queues, which
// sync before they confirm.
type rabbitPeer struct{ plugins string }

func (p rabbitPeer) start(dir string) (*server, error) {
	epmd, err := freePort()
	if err != nil {
		return nil, err
	}
	dist, err := freePort()
	if err != nil {
		return nil, err
	}
	plugins := filepath.Join(dir, "plugins")
	if err := os.WriteFile(plugins, []byte("["+p.plugins+"]."), 0o644); err != nil {
		return nil, err
	}
	s, err := child(dir, []string{
		"HOME={dir}", "RABBITMQ_NODENAME=bench@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT={port}",
		"RABBITMQ_MNESIA_BASE={dir}/data", "RABBITMQ_LOG_BASE={dir}/log", "RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins,
		"RABBITMQ_CONF_ENV_FILE={dir}/none", "RABBITMQ_CONFIG_FILE={dir}/none",
		fmt.Sprintf("ERL_EPMD_PORT=%d", epmd), "ERL_EPMD_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", dist), "RABBITMQ_SERVER_START_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
	}, "/usr/lib/rabbitmq/bin/rabbitmq-server")
	if err != nil {
		return nil, err
	}
	s.after = func() { stopPortMapper(epmd) }
	for range 100 { // the port answers before the broker does
		if c, err := amqp.Dial("amqp://" + s.addr); err == nil {
			c.Close()
			return s, nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	s.stop()
	return nil, fmt.Errorf("RabbitMQ does not take connections")
}

// stopPortMapper ends Erlang's port mapper, which outlives the broker; this one
// is on a port of its own. It refuses until it has noticed that the broker is
// gone.
func stopPortMapper(port int) {
	for range 50 {
		out, _ := exec.Command("epmd", "-port", strconv.Itoa(port), "-kill").CombinedOutput()
		if strings.HasPrefix(string(out), "Killed") {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (rabbitPeer) connect(s *server) (client, error) {
	c, err := amqp.Dial("amqp://" + s.addr)
	return rabbitClient{c}, err
}

type rabbitClient struct{ conn *amqp.Connection }

func (c rabbitClient) close() { c.conn.Close() }

func (c rabbitClient) declare(queue string) error {
	ch, err := c.conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	_, err = ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	return err
}

func (c rabbitClient) producer(queue string, places int) (producer, error) {
	ch, err := c.conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	p := &rabbitProducer{ch: ch, queue: queue, window: newWindow(places)}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, places))
	go func() {
		for range confirms {
			p.window.give()
		}
	}()
	return p, nil
}

type rabbitProducer struct {
	ch     *amqp.Channel
	queue  string
	window window
}

func (p *rabbitProducer) send(body []byte) error {
	p.window.take()
	return p.ch.PublishWithContext(context.Background(), "", p.queue, false, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body})
}

func (p *rabbitProducer) flush() error { p.window.wait(); return nil }

func (c rabbitClient) consumer(queue string, credit int) (consumer, error) {
	ch, err := c.conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Qos(credit, 0, false); err != nil {
		return nil, err
	}
	tag := fmt.Sprintf("c%p", ch)
	deliveries, err := ch.Consume(queue, tag, false, false, false, false, nil)
	return &rabbitConsumer{ch: ch, tag: tag, deliveries: deliveries}, err
}

type rabbitConsumer struct {
	ch         *amqp.Channel
	tag        string
	deliveries <-chan amqp.Delivery
	stopped    atomic.Bool
}

func (k *rabbitConsumer) stop() {
	if !k.stopped.Swap(true) {
		go k.ch.Cancel(k.tag, false)
	}
}

func (k *rabbitConsumer) take(n int, each func([]byte)) error {
	for range n {
		d, ok := <-k.deliveries
		if !ok {
			if k.stopped.Load() {
				return nil
			}
			return fmt.Errorf("the channel was closed")
		}
		each(d.Body)
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return k.ch.Close() // waits until the acknowledgements before it are taken
}
