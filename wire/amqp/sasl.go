package amqp

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/session"
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
	case h == codec.HeaderAMQP && o.Authenticate == nil:
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
	mechanisms := []codec.Symbol{"PLAIN", "ANONYMOUS"}
	if o.Authenticate != nil {
		mechanisms = mechanisms[:1]
	}
	c.sasl(&codec.Mechanisms{Names: mechanisms})
	c.out.Flush()
	typ, _, body, err := c.frames.Next()
	if err != nil {
		return err
	}
	if typ != codec.FrameSASL {
		return fmt.Errorf("%w: a frame of type %d in the security layer", errRefused, typ)
	}
	p, err := codec.DecodeSASL(body)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	init, ok := p.(*codec.Init)
	if !ok {
		return fmt.Errorf("%w: %T in place of an init", errRefused, p)
	}
	if c.principal, err = c.verify(init); err != nil {
		// Why is for the broker's log: the peer learns only that it failed.
		o.Logger.Warn("authentication failed", "peer", c.conn.RemoteAddr(), "mechanism", init.Mechanism, "error", err)
		c.sasl(&codec.Outcome{Code: codec.SASLAuth})
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	c.sasl(&codec.Outcome{Code: codec.SASLOk})
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

// verify says who a peer is.
func (c *connection) verify(init *codec.Init) (principal string, err error) {
	o := c.server.options
	switch {
	case init.Mechanism == "ANONYMOUS" && o.Authenticate == nil:
		return "", nil
	case init.Mechanism != "PLAIN":
		return "", fmt.Errorf("%w: mechanism %q", session.ErrUnsupported, init.Mechanism)
	}
	// RFC 4616: [authzid] NUL authcid NUL passwd.
	parts := bytes.Split(init.Response, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 {
		return "", fmt.Errorf("%w: not a response of PLAIN", session.ErrInvalid)
	}
	if len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
		return "", fmt.Errorf("%w: to act as somebody else", session.ErrUnsupported)
	}
	if o.Authenticate == nil {
		return "", nil
	}
	return o.Authenticate(string(parts[1]), string(parts[2]))
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
