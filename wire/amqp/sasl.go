package amqp

import (
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// errRefused ends a connection whose peer has been told why.
var errRefused = errors.New("refused")

// authenticate is the exchange before the Open: AMQP 1.0 §5.3. A peer that comes
// without it is nobody, which is refused where users are wanted.
func (c *connection) authenticate() error {
	o := c.server.options
	h, err := c.frames.Header()
	if err != nil {
		return err
	}
	switch {
	case h == codec.HeaderAMQP && (o.Authenticate == nil || wire.CertifiedName(c.conn) != ""):
		c.principal = wire.CertifiedName(c.conn) // §5.2.1: TLS has said who it is
		c.write(codec.HeaderAMQP[:])
		return nil
	case h != codec.HeaderSASL:
		// §2.2: what was wanted is told, and the connection closed.
		if o.Authenticate != nil || h == codec.HeaderAMQP {
			c.write(codec.HeaderSASL[:])
		} else {
			c.write(codec.HeaderAMQP[:])
		}
		return fmt.Errorf("%w: protocol header %q", errRefused, h[:])
	}
	c.write(codec.HeaderSASL[:])
	c.sasl(&codec.Mechanisms{Names: c.mechanisms()})
	c.out.Flush()
	init, err := saslFrame[*codec.Init](c)
	if err != nil {
		return err
	}
	last, err := c.verify(init)
	if err != nil {
		// Why is for the broker's log: the peer learns only that it failed.
		o.Logger.Warn("authentication failed", "peer", c.conn.RemoteAddr(), "mechanism", init.Mechanism, "error", err)
		c.sasl(&codec.Outcome{Code: codec.SASLAuth})
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	c.sasl(&codec.Outcome{Code: codec.SASLOk, Data: last})
	c.out.Flush()
	if h, err = c.frames.Header(); err != nil {
		return err
	}
	c.write(codec.HeaderAMQP[:])
	if h != codec.HeaderAMQP {
		return fmt.Errorf("%w: protocol header %q", errRefused, h[:])
	}
	return nil
}

// mechanisms are those that are offered, the best first.
func (c *connection) mechanisms() []codec.Symbol {
	o := c.server.options
	if o.Authenticate == nil {
		return []codec.Symbol{"PLAIN", "ANONYMOUS"}
	}
	var names []codec.Symbol
	if wire.CertifiedName(c.conn) != "" {
		names = append(names, "EXTERNAL")
	}
	if o.SCRAM != nil {
		for _, m := range session.SCRAMMechanisms {
			names = append(names, codec.Symbol(m))
		}
	}
	return append(names, "PLAIN")
}

// saslFrame reads the next frame of the security layer, which must be a T.
func saslFrame[T codec.Performative](c *connection) (frame T, err error) {
	typ, _, body, err := c.frames.Next()
	if err != nil {
		return frame, err
	}
	if typ != codec.FrameSASL {
		return frame, fmt.Errorf("%w: a frame of type %d in the security layer", errRefused, typ)
	}
	p, err := codec.DecodeSASL(body)
	if err != nil {
		return frame, fmt.Errorf("%w: %w", errRefused, err)
	}
	frame, ok := p.(T)
	if !ok {
		return frame, fmt.Errorf("%w: %T in place of %T", errRefused, p, frame)
	}
	return frame, nil
}

// verify sees who the peer is; last goes with the outcome.
func (c *connection) verify(init *codec.Init) (last []byte, err error) {
	o := c.server.options
	switch {
	case init.Mechanism == "ANONYMOUS" && o.Authenticate == nil:
		return nil, nil
	case init.Mechanism == "PLAIN":
		user, password, err := wire.ParsePlain(init.Response)
		if err != nil || o.Authenticate == nil {
			return nil, err
		}
		c.principal, err = o.Authenticate(user, password)
		return nil, err
	case init.Mechanism == "EXTERNAL" && o.Authenticate != nil:
		name := wire.CertifiedName(c.conn)
		if name == "" || len(init.Response) > 0 && string(init.Response) != name {
			return nil, fmt.Errorf("%w: no certificate, or to act as somebody else", session.ErrUnauthorized)
		}
		c.principal = name
		return nil, nil
	case o.SCRAM == nil || o.Authenticate == nil:
		return nil, fmt.Errorf("%w: mechanism %q", session.ErrUnsupported, init.Mechanism)
	}
	step, err := o.SCRAM(string(init.Mechanism))
	for message := init.Response; err == nil; {
		var answer []byte
		var done bool
		if answer, c.principal, done, err = step(message); err != nil || done {
			return answer, err
		}
		c.sasl(&codec.Challenge{Bytes: answer})
		c.out.Flush()
		var r *codec.Response
		if r, err = saslFrame[*codec.Response](c); err == nil {
			message = r.Bytes
		}
	}
	return nil, err
}

func (c *connection) sasl(p codec.Performative) {
	if b, ok := c.out.Begin(); ok {
		c.out.End(codec.AppendFrame(b, codec.FrameSASL, 0, p))
	}
}

func (c *connection) write(raw []byte) {
	if b, ok := c.out.Begin(); ok {
		c.out.End(append(b, raw...))
	}
}
