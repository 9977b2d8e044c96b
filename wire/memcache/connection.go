package memcache

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
)

const (
	// passReplies and passBytes bound what is answered at once: commands that were
	// sent ahead are done together, and share a sync.
	passReplies = 1024
	passBytes   = 1 << 20
)

// flagsProperty is the property of a message that has the flags of its set, which
// are not 0.
const flagsProperty = "memcache_flags"

// connection is one peer. One goroutine reads, does and answers.
type connection struct {
	server *Server
	conn   net.Conn
	in     *bufio.Reader

	ctx     context.Context // ends with the connection
	cancel  context.CancelCauseFunc
	leaving atomic.Bool // the broker drains

	state   *session.Connection
	session *session.Session
	queues  map[string]*taker
	known   bool // who the peer is

	// Of the commands since the last answers.
	replies []reply
	holding bool
	sets    *pass
	out     []byte
	taken   []taken
	builder record.Builder
	value   []byte
}

// reply is an answer: a text, or that of a set, whose outcome is awaited.
type reply struct {
	text  []byte
	set   int // its number in the pass, from 1
	quiet bool
}

// taken is a delivery that is acknowledged once it has been written.
type taken struct {
	from *taker
	span queue.Span
}

func newConnection(s *Server, conn net.Conn) *connection {
	c := &connection{server: s, conn: conn, queues: map[string]*taker{}, sets: new(pass)}
	c.sets.done.L = &c.sets.mu
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.in = bufio.NewReaderSize(source{c}, maxLine)
	return c
}

// source is the connection as its reader sees it: before it waits, all that came is
// answered.
type source struct{ c *connection }

func (s source) Read(p []byte) (int, error) {
	if err := s.c.answer(); err != nil {
		return 0, err
	}
	if s.c.leaving.Load() {
		return 0, io.EOF
	}
	return s.c.conn.Read(p)
}

// leave has the connection end once all that came is answered.
func (c *connection) leave() {
	c.leaving.Store(true)
	c.cancel(session.ErrShuttingDown)
	_ = c.conn.SetReadDeadline(time.Now())
}

func (c *connection) run(t *wire.Ticket) {
	defer c.cancel(session.ErrClosed)
	if name := wire.CertifiedName(c.conn); c.server.options.Authenticate == nil || name != "" {
		if err := c.open(name); err != nil {
			c.server.Refuse(c.conn, err)
			return
		}
		t.Authenticated()
	} else if limit := t.HandshakeTimeout(); limit > 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(limit))
	}
	err := c.serve(t)
	if err == nil || errors.Is(err, errLeave) {
		err = c.answer()
	}
	if c.state != nil {
		if closed := c.state.Close(context.WithoutCancel(c.ctx)); closed != nil {
			err = errors.Join(err, closed)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.server.options.Logger.Info("connection ended", "peer", c.conn.RemoteAddr(), "error", err)
	}
}

// open makes the peer's session.
func (c *connection) open(principal string) error {
	who := session.Principal{Name: principal, Host: wire.Host(c.conn.RemoteAddr())}
	if err := c.server.broker.Authorize(who, session.OperationConnect, ""); err != nil {
		return err
	}
	state := session.NewConnection(c.server.broker, session.Options{Principal: who})
	s, err := state.OpenSession(session.AckIndividual)
	if err != nil {
		return err
	}
	c.state, c.session, c.known = state, s, true
	return nil
}

var (
	errLeave  = errors.New("the peer leaves")
	errBinary = errors.New("the client speaks memcached's binary protocol; only the text protocol is understood")
)

func (c *connection) serve(t *wire.Ticket) error {
	if first, err := c.in.Peek(1); err == nil && first[0] == 0x80 {
		return errBinary // it waits for an answer in kind, and gets an end
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			c.say(errFormat.Error())
			return errLeave // where the next command begins is not known
		}
		if err != nil {
			return err
		}
		if err := c.do(bytes.TrimRight(line, "\r\n"), t); err != nil {
			return err
		}
		if len(c.replies) >= passReplies || len(c.out) >= passBytes {
			if err := c.answer(); err != nil {
				return err
			}
		}
	}
}

// do does a command. An error ends the connection.
func (c *connection) do(line []byte, t *wire.Ticket) error {
	cmd, failed := parse(line)
	var value []byte
	if cmd.bytes < 0 {
		c.say(failed.Error())
		return errLeave // where the next command begins is not known
	}
	if cmd.verb == set || cmd.verb == store {
		for i, k := range cmd.keys {
			cmd.keys[i] = bytes.Clone(k) // reading the value overwrites the line
		}
		var err error
		if value, err = c.read(cmd.bytes); errors.Is(err, errChunk) || errors.Is(err, errLarge) {
			failed = err
		} else if err != nil {
			return err
		}
	}
	switch {
	case failed != nil:
		if !cmd.noreply {
			c.say(failed.Error())
		}
		if errors.Is(failed, errChunk) {
			return errLeave
		}
	case !c.known && cmd.verb == set:
		return c.authenticate(value, t)
	case !c.known && cmd.verb != quit && cmd.verb != version:
		c.say("CLIENT_ERROR unauthenticated")
		return errLeave
	case cmd.verb == set:
		c.put(&cmd, value)
	case cmd.verb == get || cmd.verb == gets:
		return c.get(&cmd)
	case cmd.verb == deletes:
		c.purge(&cmd)
	case cmd.verb == stats:
		c.stats(&cmd)
	case cmd.verb == version:
		c.say("VERSION " + c.server.options.Version)
	case cmd.verb == verbosity:
		if !cmd.noreply {
			c.say("OK")
		}
	case cmd.verb == quit:
		return errLeave
	case !cmd.noreply:
		c.say(errVerb.Error())
	}
	return nil
}

// read reads a value and the end of its line. Of one that is too large nothing is
// kept.
func (c *connection) read(n int) ([]byte, error) {
	if n > maxValue {
		if _, err := c.in.Discard(n); err != nil {
			return nil, err
		}
		c.value = c.value[:0]
	} else {
		if cap(c.value) < n {
			c.value = make([]byte, 0, min(n, maxValue))
		}
		c.value = c.value[:n]
		if _, err := io.ReadFull(c.in, c.value); err != nil {
			return nil, err
		}
	}
	end, err := c.in.Peek(2)
	switch {
	case err != nil && len(end) == 0:
		return nil, err
	case end[0] == '\n':
		_, _ = c.in.Discard(1)
	case len(end) == 2 && end[0] == '\r' && end[1] == '\n':
		_, _ = c.in.Discard(2)
	default:
		return nil, errChunk
	}
	if n > maxValue {
		return nil, errLarge
	}
	return c.value, nil
}

// authenticate takes a set for what it is where users are wanted.
func (c *connection) authenticate(value []byte, t *wire.Ticket) error {
	user, password, _ := strings.Cut(string(value), " ")
	principal, err := c.server.options.Authenticate(user, password)
	if err == nil {
		err = c.open(principal)
	}
	if err != nil {
		c.server.options.Logger.Warn("authentication failed", "user", user, "peer", c.conn.RemoteAddr(), "error", err)
		c.say("CLIENT_ERROR authentication failure")
		return errLeave
	}
	t.Authenticated()
	_ = c.conn.SetReadDeadline(time.Time{})
	c.say("STORED")
	return nil
}

// say adds a line to the answers.
func (c *connection) say(line string) {
	c.replies = append(c.replies, reply{text: append([]byte(line), "\r\n"...)})
}

// answer writes the answers, and then acknowledges what they gave.
func (c *connection) answer() error {
	c.settleSets()
	c.out = c.out[:0]
	for _, r := range c.replies {
		switch {
		case r.quiet:
		case r.set == 0:
			c.out = append(c.out, r.text...)
		case c.sets.errs[r.set-1] != nil:
			c.out = append(appendError(c.out, c.sets.errs[r.set-1]), "\r\n"...)
		default:
			c.out = append(c.out, "STORED\r\n"...)
		}
	}
	clear(c.replies)
	c.replies, c.sets.errs = c.replies[:0], c.sets.errs[:0]
	if len(c.out) > 0 {
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.server.options.WriteTimeout))
		if _, err := c.conn.Write(c.out); err != nil {
			return err // what was taken goes back
		}
		if cap(c.out) > 2*passBytes {
			c.out = nil
		}
	}
	for _, t := range c.taken {
		if err := t.from.consumer.Settle([]queue.Span{t.span}, queue.Outcome{Kind: queue.Acknowledge}, nil); err != nil {
			c.server.options.Logger.Debug("acknowledging", "peer", c.conn.RemoteAddr(), "error", err)
		}
	}
	c.taken = c.taken[:0]
	return nil
}

// appendError appends an error as the protocol has it, in one line.
func appendError(dst []byte, err error) []byte {
	kind := "SERVER_ERROR "
	if errors.Is(err, session.ErrInvalid) || errors.Is(err, session.ErrUnauthorized) || errors.Is(err, session.ErrWrongKind) {
		kind = "CLIENT_ERROR "
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, err.Error())
	return append(append(dst, kind...), text[:min(len(text), 512)]...)
}
