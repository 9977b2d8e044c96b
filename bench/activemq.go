package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-stomp/stomp/v3"
)

// activemqPeer is ActiveMQ Classic from its Debian package over STOMP, its
// KahaDB journal synced as it is by default.
type activemqPeer struct{}

const activemqConfig = `<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
 <broker xmlns="http://activemq.apache.org/schema/core" brokerName="bench" dataDirectory="DIR/data" useJmx="false" schedulerSupport="false">
  <destinationPolicy><policyMap><policyEntries><policyEntry queue="&gt;" producerFlowControl="true"/></policyEntries></policyMap></destinationPolicy>
  <persistenceAdapter><kahaDB directory="DIR/data/kahadb"/></persistenceAdapter>
  <transportConnectors><transportConnector name="stomp" uri="stomp://ADDR"/></transportConnectors>
 </broker>
</beans>
`

func (activemqPeer) start(dir string) (*server, error) {
	config := filepath.Join(dir, "activemq.xml")
	script := `sed -i "s#ADDRESS#$1#" "$2"; exec java -Xmx1g -Dactivemq.home=/usr/share/activemq -Dactivemq.base="$3" -Dactivemq.conf="$3" -Dactivemq.data="$3/data" -jar /usr/share/activemq/bin/activemq.jar start "xbean:file:$2"`
	text := strings.NewReplacer("ADDR", "ADDRESS", "DIR", dir).Replace(activemqConfig)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return child(dir, nil, "bash", "-c", script, "activemq", "{addr}", config, dir)
}

func (activemqPeer) connect(s *server) (client, error) {
	c, err := stomp.Dial("tcp", s.addr, stomp.ConnOpt.HeartBeat(0, 0), stomp.ConnOpt.ReadChannelCapacity(4096), stomp.ConnOpt.WriteChannelCapacity(4096))
	return stompClient{c}, err
}

type stompClient struct{ conn *stomp.Conn }

func (c stompClient) close()               { c.conn.MustDisconnect() }
func (c stompClient) declare(string) error { return nil }

func (c stompClient) producer(queue string, places int) (producer, error) {
	// The library waits for a receipt inside Send: each place is a goroutine.
	p := &stompProducer{window: newWindow(places), work: make(chan []byte)}
	for range places {
		go func() {
			for body := range p.work {
				err := c.conn.Send("/queue/"+queue, "application/octet-stream", body, stomp.SendOpt.Receipt, stomp.SendOpt.Header("persistent", "true"))
				if err != nil {
					p.failed.CompareAndSwap(nil, &err)
				}
				p.window.give()
			}
		}()
	}
	return p, nil
}

type stompProducer struct {
	window window
	work   chan []byte
	failed atomic.Pointer[error]
}

func (p *stompProducer) send(body []byte) error {
	p.window.take()
	p.work <- append([]byte(nil), body...)
	return p.err()
}

func (p *stompProducer) flush() error { p.window.wait(); return p.err() }

func (p *stompProducer) err() error {
	if e := p.failed.Load(); e != nil {
		return *e
	}
	return nil
}

func (c stompClient) consumer(queue string, credit int) (consumer, error) {
	sub, err := c.conn.Subscribe("/queue/"+queue, stomp.AckClientIndividual, stomp.SubscribeOpt.Header("activemq.prefetchSize", strconv.Itoa(credit)))
	return &stompConsumer{conn: c.conn, sub: sub, stopped: make(chan struct{})}, err
}

type stompConsumer struct {
	conn    *stomp.Conn
	sub     *stomp.Subscription
	stopped chan struct{}
}

func (k *stompConsumer) stop() { close(k.stopped) }

func (k *stompConsumer) take(n int, each func([]byte)) error {
	for range n {
		select {
		case <-k.stopped:
			return k.flush()
		case msg, ok := <-k.sub.C:
			if !ok {
				return fmt.Errorf("the subscription was closed")
			}
			if msg.Err != nil {
				return msg.Err
			}
			each(msg.Body)
			if err := k.conn.Ack(msg); err != nil {
				return err
			}
		}
	}
	return k.flush()
}

// flush waits until the acknowledgements have been handled, and ends the
// subscription.
func (k *stompConsumer) flush() error {
	go func() {
		for range k.sub.C { // what comes too late must not block the connection
		}
	}()
	// The broker handles a connection's frames in order: a receipt for a send
	// says that the acknowledgements before it have been handled.
	err := k.conn.Send("/queue/receipts", "text/plain", nil, stomp.SendOpt.Receipt)
	go k.sub.Unsubscribe() // the library waits longer than the broker needs
	return err
}
