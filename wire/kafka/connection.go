package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
)

// connection reads requests and handles them one after the other, as Kafka
// does. Its goroutines are the reader, which handles, the writer, and while a
// member waits for others one that looks whether it still does.
type connection struct {
	server   *Server
	conn     net.Conn
	in       *bufio.Reader // of conn
	replies  *replies
	ctx      context.Context // ends with the connection
	cancel   context.CancelFunc
	buffer   []byte // of the request that is being handled
	clientID string
	host     string
	user     string // that it proved to be; empty: nobody
	sasl     exchange
	software string      // name and version, once ApiVersions has said it
	shares   int         // share sessions that it has opened; guarded by theirs
	fetches  *fetchOwner // of its fetch sessions; nil if it never opened one
}

// maxPipelined bounds the requests of a connection that are not answered yet.
const maxPipelined = 256

func newConnection(s *Server, conn net.Conn) *connection {
	c := &connection{server: s, conn: conn, in: bufio.NewReaderSize(conn, 64<<10), replies: newReplies(conn)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.host = "/"
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		c.host += a.IP.String()
	}
	return c
}

// run serves until either side closes.
func (c *connection) run(t *wire.Ticket) {
	c.beginExchange(t)
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.replies.write()
		c.conn.Close() // wakes the reader, if the writer has failed
	}()
	err := c.read()
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && c.ctx.Err() == nil {
		c.server.options.Logger.Debug("kafka connection ended", "peer", c.conn.RemoteAddr(), "client", c.clientID, "error", err)
	}
	c.cancel()
	c.closeShares()
	c.replies.close()
	<-written
}

// drain has the connection end when what it has read is answered.
func (c *connection) drain() {
	c.cancel()
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // it can only fail on a closed connection
}

// whileConnected calls do, which may wait for long, with a context that ends
// when the client hangs up meanwhile. It is called by the reader.
func (c *connection) whileConnected(do func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		if _, err := c.in.Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel()
		}
	}()
	do(ctx)
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	<-looked
	_ = c.conn.SetReadDeadline(time.Time{})
	if c.ctx.Err() != nil { // it drains
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// read handles requests until there are no more.
func (c *connection) read() error {
	for {
		var head [4]byte
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return err
		}
		size := int(int32(binary.BigEndian.Uint32(head[:])))
		least, most := 8, c.server.options.MaxRequestBytes
		if !c.sasl.over {
			most = maxStranger
		}
		if c.sasl.bare {
			least = 0
		}
		if size < least || size > most {
			return fmt.Errorf("request of %d bytes", size)
		}
		if err := c.fill(c.in, size); err != nil {
			return err
		}
		if c.sasl.bare {
			if err := c.bareToken(c.buffer); err != nil {
				return err
			}
			continue
		}
		if err := c.handle(c.buffer); err != nil {
			return err
		}
		if c.sasl.failed {
			return errRefused
		}
	}
}

// fillStep is how much room is made at once for a request that has not come
// yet: a length alone costs nothing.
const fillStep = 1 << 20

func (c *connection) fill(in io.Reader, size int) error {
	b := c.buffer[:0]
	for len(b) < size {
		n := min(size-len(b), max(fillStep, len(b)))
		if cap(b)-len(b) < n {
			grown := make([]byte, len(b), len(b)+n)
			copy(grown, b)
			b = grown
		}
		from := len(b)
		b = b[:from+n]
		if _, err := io.ReadFull(in, b[from:]); err != nil {
			return err
		}
	}
	c.buffer = b
	return nil
}

// handle decodes one request and has it answered. An error ends the
// connection: what does not decode has no answer in this protocol.
func (c *connection) handle(p []byte) error {
	h, body, err := parseHeader(p)
	if err != nil {
		return err
	}
	key, version := h.key, h.version
	if c.stranger(key) {
		return fmt.Errorf("%w: %s", errStranger, kmsg.NameForKey(key))
	}
	if h.clientID != nil && string(h.clientID) != c.clientID {
		c.clientID = string(h.clientID)
	}
	served, known := handlers[key]
	switch {
	case key == apiVersionsKey && (version < served.min || version > served.max):
		// Version 0 and code 35, so that any client can read it (KIP-511).
		reply := c.replies.add(h.correlation, 0, key)
		response := kmsg.NewPtrApiVersionsResponse()
		response.ErrorCode = codeUnsupportedVersion
		own := kmsg.NewApiVersionsResponseApiKey()
		own.ApiKey, own.MinVersion, own.MaxVersion = key, served.min, served.max
		response.ApiKeys = append(response.ApiKeys, own)
		reply.done(response)
		return nil
	case !known, version < served.min, version > served.max:
		return fmt.Errorf("request %s version %d is not served", kmsg.NameForKey(key), version)
	}
	request := kmsg.RequestForKey(key)
	request.SetVersion(version)
	if request.IsFlexible() {
		if body, err = skipTags(body); err != nil {
			return err
		}
	}
	if err := checkRequest(request, body); err != nil {
		return err
	}
	if err := request.ReadFrom(body); err != nil {
		return fmt.Errorf("%s version %d: %w", kmsg.NameForKey(key), version, err)
	}
	var answer *reply
	if !answersNothing(request) {
		answer = c.replies.add(h.correlation, version, key)
	}
	if response := c.refused(request); response != nil {
		answer.done(response)
	} else {
		served.serve(c, request, answer)
	}
	if !served.copies || cap(c.buffer) > fillStep {
		c.buffer = nil // what was decoded refers to it
	}
	return nil
}

// requestHeader is what stands before every request.
type requestHeader struct {
	key, version int16
	correlation  int32
	clientID     []byte // nil: null
}

var errHeader = errors.New("malformed request header")

func parseHeader(p []byte) (h requestHeader, body []byte, err error) {
	if len(p) < 10 {
		return h, nil, errHeader
	}
	h.key = int16(binary.BigEndian.Uint16(p))
	h.version = int16(binary.BigEndian.Uint16(p[2:]))
	h.correlation = int32(binary.BigEndian.Uint32(p[4:]))
	n := int(int16(binary.BigEndian.Uint16(p[8:])))
	p = p[10:]
	switch {
	case n < -1 || n > len(p):
		return h, nil, errHeader
	case n >= 0:
		h.clientID, p = p[:n:n], p[n:]
	}
	return h, p, nil
}

// skipTags passes the tagged fields of a flexible header (KIP-482).
func skipTags(p []byte) ([]byte, error) {
	count, n := binary.Uvarint(p)
	if n <= 0 {
		return nil, errHeader
	}
	p = p[n:]
	for ; count > 0; count-- {
		for i := range 2 { // the tag, and the size of what follows
			v, n := binary.Uvarint(p)
			if n <= 0 {
				return nil, errHeader
			}
			p = p[n:]
			if i == 1 {
				if v > uint64(len(p)) {
					return nil, errHeader
				}
				p = p[v:]
			}
		}
	}
	return p, nil
}

// answersNothing is true for a Produce with acks=0 alone.
func answersNothing(r kmsg.Request) bool {
	p, ok := r.(*kmsg.ProduceRequest)
	return ok && p.Acks == 0
}

// client is who asks, for the coordinators.
func (c *connection) client() group.Client {
	return group.Client{ID: c.clientID, Host: c.host}
}

// principal is who asks.
func (c *connection) principal() session.Principal {
	return session.Principal{Name: c.user, Host: strings.TrimPrefix(c.host, "/")}
}
