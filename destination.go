package polylog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polylog-mq/polylog/wire/native"
)

// destination is what a connection knows of one it sends to. The broker gives
// it a number for each connection, so a new connection asks again; how many
// partitions there are is known from then on, and so messages can be batched
// while there is no connection.
type destination struct {
	c    *Connection
	name string
	kind native.DestinationKind

	temporary bool // gone with the link that it was made on

	known atomic.Pointer[resolution]

	mu     sync.Mutex // guards what follows; taken before the connection's
	parked []*lane    // wait for an answer that is under way
	asking bool
}

type resolution struct {
	native.Resolved
	generation uint64 // of the connection that the handle is of
}

type destinationKey struct {
	name string
	kind native.DestinationKind
}

// maxDestinations bounds what a connection remembers. Beyond it an arbitrary
// one is forgotten, which costs those who still send to it nothing.
const maxDestinations = 4096

func (c *Connection) destination(name string, kind native.DestinationKind) *destination {
	key := destinationKey{name, kind}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.destinations[key]
	if d == nil {
		for other := range c.destinations {
			if len(c.destinations) < maxDestinations {
				break
			}
			delete(c.destinations, other)
		}
		d = &destination{c: c, name: name, kind: kind}
		c.destinations[key] = d
	}
	return d
}

// resolve returns what is known, and asks if nothing is.
func (d *destination) resolve(ctx context.Context) (*resolution, error) {
	if r := d.known.Load(); r != nil {
		return r, nil
	}
	answer, err := d.c.call(ctx, true, d.question)
	if err != nil {
		return nil, err
	}
	return d.learn(answer.body, answer.generation)
}

func (d *destination) question(request uint64) native.Frame {
	return &native.Resolve{Request: request, Name: d.name, Kind: d.kind}
}

func (d *destination) learn(body []byte, generation uint64) (*resolution, error) {
	answer, err := native.DecodeResolved(body)
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", d.name, err)
	}
	answer.Partitions = max(answer.Partitions, 1)
	r := &resolution{Resolved: *answer, generation: generation}
	d.known.Store(r)
	return r, nil
}

// forget lets the next send ask again: the destination was deleted.
func (d *destination) forget() { d.known.Store(nil) }

// handle returns the number for the connection of this generation. If there is
// none yet the lane is parked, and comes back when the broker has answered.
func (d *destination) handle(l *link, waiting *lane) (uint64, bool) {
	if r := d.known.Load(); r != nil && r.generation == l.generation {
		return r.Handle, true
	}
	d.mu.Lock()
	if r := d.known.Load(); r != nil && r.generation == l.generation {
		d.mu.Unlock()
		return r.Handle, true
	}
	if d.temporary {
		d.mu.Unlock()
		waiting.fail(temporaryGone(d.name))
		return 0, false
	}
	d.parked = append(d.parked, waiting)
	ask := !d.asking
	d.asking = true
	d.mu.Unlock()
	if ask && !l.request(&destinationQuestion{d, l.generation}, d.question) {
		d.unpark(nil) // the connection broke; they wait for the next
	}
	return 0, false
}

func temporaryGone(name string) error {
	return &Error{Code: native.CodeNotFound, Message: fmt.Sprintf("the temporary destination %s is gone with the connection that it was made on", name)}
}

func (d *destination) unpark(err error) {
	d.mu.Lock()
	parked := d.parked
	d.parked, d.asking = nil, false
	d.mu.Unlock()
	for _, l := range parked {
		if err != nil {
			l.fail(err)
		} else {
			d.c.enqueue(l)
		}
	}
}

// destinationQuestion waits for the answer to a Resolve of the writer's.
type destinationQuestion struct {
	d          *destination
	generation uint64
}

func (q *destinationQuestion) answered(body, _ []byte) {
	_, err := q.d.learn(body, q.generation)
	q.d.unpark(err)
}

func (q *destinationQuestion) refused(err error) { q.d.unpark(err) }

func (q *destinationQuestion) broken(error) { q.d.unpark(nil) }
