package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
)

// The exchange by which a connection says who it is (KIP-12, KIP-43, KIP-152):
// SaslHandshake names a mechanism; then come SaslAuthenticate requests or, after a
// handshake of version 0, bare tokens with their lengths. Until it is over nothing but
// that and ApiVersions is served, and a request is small.

// maxStranger bounds a request of a peer that has not said who it is, in bytes.
const maxStranger = 64 << 10

// exchange is how far a connection has come.
type exchange struct {
	ticket    *wire.Ticket
	mechanism string // empty: no handshake yet
	step      func(message []byte) (answer []byte, principal string, done bool, err error)
	bare      bool // tokens come without a request around them
	over      bool // the peer is known, or nobody asks
	failed    bool // the connection ends with the answer
}

var (
	errStranger = errors.New("a request before authentication")
	errRefused  = errors.New("authentication failed")
)

// beginExchange begins with a connection that is nobody's yet.
func (c *connection) beginExchange(t *wire.Ticket) {
	c.sasl.ticket = t
	if c.user = wire.CertifiedName(c.conn); c.server.options.Authenticate == nil || c.user != "" {
		c.known()
	} else if limit := t.HandshakeTimeout(); limit > 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(limit))
	}
}

func (c *connection) known() {
	c.sasl.over = true
	c.sasl.ticket.Authenticated()
	_ = c.conn.SetReadDeadline(time.Time{})
	if c.ctx.Err() != nil { // it drains
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// stranger says whether a request must wait until the peer is known.
func (c *connection) stranger(key int16) bool {
	return !c.sasl.over && key != apiVersionsKey && key != int16(kmsg.SASLHandshake) && key != int16(kmsg.SASLAuthenticate)
}

func (c *connection) mechanisms() []string {
	names := []string{"PLAIN"}
	if c.server.options.SCRAM != nil {
		names = append(names, session.SCRAMMechanisms...)
	}
	return names
}

// saslHandshake 0–1. Where nobody is asked who they are, or it is known already, Kafka
// says so in this way.
func (c *connection) saslHandshake(_ context.Context, r *kmsg.SASLHandshakeRequest) *kmsg.SASLHandshakeResponse {
	response := r.ResponseKind().(*kmsg.SASLHandshakeResponse)
	switch {
	case c.sasl.over || c.sasl.mechanism != "":
		response.ErrorCode = codeIllegalSASLState
		return response
	case !slices.Contains(c.mechanisms(), r.Mechanism):
		response.ErrorCode = codeUnsupportedSASLMechanism
		response.SupportedMechanisms = c.mechanisms()
		return response
	}
	response.SupportedMechanisms = c.mechanisms()
	c.sasl.mechanism, c.sasl.bare = r.Mechanism, r.Version == 0
	c.sasl.step = c.plain
	if r.Mechanism != "PLAIN" {
		step, err := c.server.options.SCRAM(r.Mechanism)
		if err != nil {
			response.ErrorCode = codeUnsupportedSASLMechanism
			return response
		}
		c.sasl.step = step
	}
	return response
}

// plain is the one step of PLAIN.
func (c *connection) plain(message []byte) (answer []byte, principal string, done bool, err error) {
	user, password, err := wire.ParsePlain(message)
	if err != nil {
		return nil, "", false, err
	}
	principal, err = c.server.options.Authenticate(user, password)
	return nil, principal, err == nil, err
}

// saslAuthenticate 0–2.
func (c *connection) saslAuthenticate(_ context.Context, r *kmsg.SASLAuthenticateRequest) *kmsg.SASLAuthenticateResponse {
	response := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
	refuse := func(code int16, text string) *kmsg.SASLAuthenticateResponse {
		response.ErrorCode, response.ErrorMessage = code, &text
		return response
	}
	switch {
	case c.server.options.Authenticate == nil:
		return refuse(codeIllegalSASLState, "this listener asks nobody to authenticate")
	case c.sasl.over || c.sasl.mechanism == "":
		return refuse(codeIllegalSASLState, "SaslAuthenticate comes after a SaslHandshake, and once")
	}
	answer, err := c.token(r.SASLAuthBytes)
	if err != nil {
		c.sasl.failed = true
		return refuse(codeSASLAuthenticationFailed, "Authentication failed: wrong user or password")
	}
	response.SASLAuthBytes = answer
	return response
}

// token takes the next step.
func (c *connection) token(message []byte) ([]byte, error) {
	answer, principal, done, err := c.sasl.step(message)
	if err == nil && done {
		who := session.Principal{Name: principal, Host: c.principal().Host}
		err = c.server.broker.Authorize(who, session.OperationConnect, c.clientID)
	}
	if err != nil {
		c.server.options.Logger.Warn("authentication failed", "peer", c.conn.RemoteAddr(), "mechanism", c.sasl.mechanism, "error", err)
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	if done {
		c.user, c.sasl.bare, c.sasl.step = principal, false, nil
		c.known()
	}
	if answer == nil {
		answer = []byte{}
	}
	return answer, nil
}

// bareToken answers a token without a request around it. Its peer has waited for the
// answer before, so nobody else writes.
func (c *connection) bareToken(message []byte) error {
	answer, err := c.token(message)
	if err != nil {
		return err // the protocol has no word for it
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err = c.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...))
	_ = c.conn.SetWriteDeadline(time.Time{})
	return err
}
