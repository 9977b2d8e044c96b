package main

// peer is a broker to measure.
type peer interface {
	// start runs it on an empty directory.
	start(dir string) (*server, error)
	// connect opens one connection.
	connect(s *server) (client, error)
}

// client is one connection to a peer.
type client interface {
	// declare makes a queue.
	declare(queue string) error
	// producer sends with at most window messages unconfirmed.
	producer(queue string, window int) (producer, error)
	// consumer takes with at most credit messages unacknowledged.
	consumer(queue string, credit int) (consumer, error)
	close()
}

// producer sends to one queue. Its send blocks while the window is full.
type producer interface {
	send(body []byte) error
	// flush waits until all that was sent is confirmed.
	flush() error
}

// consumer takes n messages and acknowledges each on its own.
type consumer interface {
	take(n int, each func(body []byte)) error
}

// known has every peer by name.
func known(s settings) map[string]peer {
	return map[string]peer{
		"ceiling":         ceilingPeer{sync: true},
		"ceiling-memory":  ceilingPeer{},
		"polylog":         polylogPeer{binary: s.binary},
		"polylog-memory":  polylogPeer{binary: s.binary, memory: true},
		"jetstream":       jetstreamPeer{},
		"jetstream-sync":  jetstreamPeer{sync: true},
		"rabbitmq-quorum": rabbitPeer{},
		"activemq":        activemqPeer{},
		"redis-always":    redisPeer{},
	}
}

// window counts unconfirmed messages: a send takes a place, a confirm gives
// places back.
type window struct {
	places chan struct{}
}

func newWindow(n int) window { return window{make(chan struct{}, n)} }
func (w window) take()       { w.places <- struct{}{} }
func (w window) give()       { <-w.places }
func (w window) wait() {
	for range cap(w.places) {
		w.take()
	}
	for range cap(w.places) {
		w.give()
	}
}
