package server

import (
	"fmt"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

// handle handles one frame after Hello. An error ends the connection; what is
// wrong with one request is answered with a Fail.
func (c *connection) handle(typ native.Type, body []byte) error {
	switch typ {
	case native.TypeSend:
		payload, err := c.decoder.Decode(body, &c.in.send)
		if err == nil {
			c.send(&c.in.send, payload)
		}
		return err
	case native.TypeSettle:
		return c.decode(body, &c.in.settle, func() { c.settle(&c.in.settle) })
	case native.TypeCredit:
		return c.decode(body, &c.in.credit, func() { c.credit(&c.in.credit) })
	case native.TypePing:
		return c.decode(body, &c.in.ping, func() { c.out.append(&native.Pong{Number: c.in.ping.Number}, nil) })
	case native.TypePong:
		return c.decode(body, &c.in.pong, func() {})
	case native.TypeHello:
		return errFrame("a second Hello")
	}
	return c.handleRequest(typ, body)
}

// decode decodes a frame that has no payload, and then does do.
func (c *connection) decode(body []byte, f native.Frame, do func()) error {
	payload, err := c.decoder.Decode(body, f)
	switch {
	case err != nil:
		return err
	case len(payload) > 0:
		return errFrame("%s with %d bytes behind it", f.Type(), len(payload))
	}
	do()
	return nil
}

// handleRequest handles what opens, closes or asks. These are rare, so each
// has a frame of its own that may outlive the call.
func (c *connection) handleRequest(typ native.Type, body []byte) error {
	// What was sent and settled before a request is done before it: what is
	// opened or closed comes after.
	c.endPass()
	switch typ {
	case native.TypeOpenSession:
		f := &native.OpenSession{}
		return c.decode(body, f, func() { c.answer(f.Request, c.openSession(f)) })
	case native.TypeCloseSession:
		f := &native.CloseSession{}
		return c.decode(body, f, func() { c.closeSession(f) })
	case native.TypeFetch:
		f := &native.Fetch{}
		return c.decode(body, f, func() { c.fetch(f) })
	case native.TypeGroup:
		f := &native.Group{}
		return c.decode(body, f, func() { c.do(f.Request, func() error { return c.group(f) }) })
	case native.TypeEndWork:
		f := &native.EndWork{}
		return c.decode(body, f, func() { c.endWork(f) })
	case native.TypeBranch:
		f := &native.Branch{}
		return c.decode(body, f, func() { c.branch(f) })
	case native.TypeFlow:
		f := &native.Flow{}
		return c.decode(body, f, func() { c.flow(f) })
	case native.TypeResolve:
		f := &native.Resolve{}
		return c.decode(body, f, func() { c.do(f.Request, func() error { return c.resolve(f) }) })
	case native.TypeSubscribe:
		f := &native.Subscribe{}
		return c.decode(body, f, func() { c.subscribe(f) })
	case native.TypeCloseConsumer:
		f := &native.CloseConsumer{}
		return c.decode(body, f, func() { c.closeConsumer(f) })
	case native.TypeUnsubscribe:
		f := &native.Unsubscribe{}
		return c.decode(body, f, func() { c.do(f.Request, func() error { return c.unsubscribe(f) }) })
	case native.TypeTemporary:
		f := &native.Temporary{}
		return c.decode(body, f, func() { c.do(f.Request, func() error { return c.temporary(f) }) })
	case native.TypeBrowse:
		f := &native.Browse{}
		return c.decode(body, f, func() { c.administer(f.Request, func() error { return c.browse(f) }) })
	case native.TypeAdmin:
		f := &native.Admin{}
		return c.decode(body, f, func() { c.administer(f.Request, func() error { return c.admin(f) }) })
	}
	return errFrame("a client may not send %s", typ)
}

// do queues a request of sessions and destinations; administer one of
// operators, which may take longer and which no session waits for. A draining
// broker takes neither.
func (c *connection) do(request uint64, do func() error) {
	if c.draining.Load() {
		c.out.fail(request, errDraining)
		return
	}
	c.ordered.do(request, do)
}

func (c *connection) administer(request uint64, do func() error) {
	if c.draining.Load() {
		c.out.fail(request, errDraining)
		return
	}
	c.administration.do(request, do)
}

var errDraining = fmt.Errorf("%w: connect to another broker, or later", session.ErrShuttingDown)

// answer answers a request that has no result.
func (c *connection) answer(request uint64, err error) {
	if err != nil {
		c.out.fail(request, err)
		return
	}
	c.out.append(&native.OK{Request: request}, nil)
}
