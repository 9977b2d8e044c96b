package server

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
)

// handshake takes the Hello and answers it. Until it has, a frame of any other
// type ends the connection and changes nothing; frames are bounded by
// MaxHelloFrame and all of it by the ticket's time, however slowly it comes.
func (c *connection) handshake(t *wire.Ticket) error {
	if limit := t.HandshakeTimeout(); limit > 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(limit))
	}
	typ, body, err := c.frames.Next()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errHandshakeTimeout
	}
	if err != nil {
		return err
	}
	if typ != native.TypeHello {
		return errFrame("%s before Hello", typ)
	}
	hello := &native.Hello{}
	if _, err := c.decoder.Decode(body, hello); err != nil {
		return err
	}
	if hello.Version != native.Version {
		return fmt.Errorf("%w: protocol version %d; this broker speaks %d", session.ErrUnsupported, hello.Version, native.Version)
	}
	if err := c.open(hello); err != nil {
		return err
	}
	c.welcome(hello)
	_ = c.conn.SetReadDeadline(time.Time{})
	return nil
}

// open authenticates the peer and makes its session.Connection.
func (c *connection) open(hello *native.Hello) error {
	o := c.server.options
	who := session.Principal{Host: wire.Host(c.conn.RemoteAddr())}
	if who.Name = wire.CertifiedName(c.conn); o.Authenticate != nil && (who.Name == "" || hello.User != "") {
		var err error
		if who.Name, err = o.Authenticate(hello.User, hello.Password); err != nil {
			// Why is for the broker's log: the peer learns only that it failed.
			o.Logger.Warn("authentication failed", "user", hello.User, "peer", c.conn.RemoteAddr(), "error", err)
			return fmt.Errorf("%w: wrong user or password", session.ErrUnauthorized)
		}
	}
	if err := c.server.broker.Authorize(who, session.OperationConnect, hello.ClientID); err != nil {
		return err
	}
	state := session.NewConnection(c.server.broker, session.Options{
		Principal: who, CompileSelector: o.CompileSelector,
		MaxSessions: o.MaxSessions, MaxConsumers: o.MaxConsumers, MaxTemporary: o.MaxTemporary,
	})
	if hello.ClientID != "" {
		if err := state.SetClientID(hello.ClientID); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
	return nil
}

func (c *connection) welcome(hello *native.Hello) {
	o := c.server.options
	c.frames.SetMax(o.MaxFrame)
	c.watch = startWatch(c, hello.HeartbeatMS)
	c.out.append(&native.Welcome{
		Version: native.Version, Broker: o.Name, Connection: c.state.Number(),
		Epoch: int64(c.server.broker.Epoch()), MaxFrame: uint64(o.MaxFrame),
		HeartbeatMS: uint64(o.Heartbeat / time.Millisecond),
	}, nil)
}
