package stomp_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/selector"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/stomp"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func compile(text string) (queue.Selector, error) {
	s, err := selector.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", destination.ErrBadSelector, err)
	}
	return s, nil
}

// door is a broker that is reached by STOMP alone.
type door struct {
	t        testing.TB
	listener *wire.Listener
}

func open(t testing.TB, o stomp.Options) *door {
	t.Helper()
	silent := slog.New(slog.DiscardHandler)
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Logger: silent, CompileSelector: compile})
	if err != nil {
		t.Fatal(err)
	}
	o.Logger, o.CompileSelector = silent, compile
	l, err := wire.Listen(wire.Config{}, wire.NewGuard(wire.Limits{}), stomp.New(b, o), silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &door{t, l}
}

// client is a peer that writes frames as text.
type client struct {
	t    testing.TB
	conn net.Conn
	in   *frame.Reader
}

func (d *door) dial() *client {
	near, far := wire.Pipe()
	d.listener.ServeConn(far)
	d.t.Cleanup(func() { near.Close() })
	_ = near.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{d.t, near, frame.NewReader(near, frame.Limits{Headers: 99, HeaderBytes: 1 << 16, Body: 1 << 20})}
}

// connect dials and agrees on a version.
func (d *door) connect(version, headers string) *client {
	d.t.Helper()
	c := d.dial()
	c.send("CONNECT\naccept-version:" + version + "\nhost:h\n" + headers + "\n")
	if f := c.expect("CONNECTED"); f.Get("version") != version {
		d.t.Fatalf("version %q", f.Get("version"))
	}
	c.in.SetVersion(map[string]frame.Version{"1.0": frame.V10, "1.1": frame.V11, "1.2": frame.V12}[version])
	return c
}

// send writes a frame that has no NUL yet.
func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text+"\x00\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) expect(command string) *frame.Frame {
	c.t.Helper()
	f, err := c.in.Next()
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", command, err)
	}
	if f.Command != command {
		c.t.Fatalf("%s %v %q, want %s", f.Command, f.Headers, f.Body, command)
	}
	return f
}

// receipt writes a frame, and waits for its receipt.
func (c *client) receipt(text string) {
	c.t.Helper()
	command, rest, _ := strings.Cut(text, "\n")
	c.send(command + "\nreceipt:r-" + command + "\n" + rest)
	if f := c.expect("RECEIPT"); f.Get("receipt-id") != "r-"+command {
		c.t.Fatalf("receipt %q", f.Get("receipt-id"))
	}
}

func (c *client) message(body string) *frame.Frame {
	c.t.Helper()
	f := c.expect("MESSAGE")
	if string(f.Body) != body {
		c.t.Fatalf("%q, want %q", f.Body, body)
	}
	return f
}

// leave disconnects, and waits for the end.
func (c *client) leave() {
	c.t.Helper()
	c.receipt("DISCONNECT\n\n")
	if _, err := c.in.Next(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("after DISCONNECT: %v", err)
	}
}

func TestMessageComesBack(t *testing.T) {
	d := open(t, stomp.Options{})
	for _, version := range []string{"1.0", "1.1", "1.2"} {
		c := d.connect(version, "")
		q := "/queue/q" + version
		c.receipt("SEND\ndestination:" + q + "\npriority:7\ncorrelation-id:k\ntype:t\nreply-to:/topic/answers\nexpires:99999999999999\ncolour:red\ncolour:blue\n\nhello")
		c.send("SUBSCRIBE\nid:1\ndestination:" + q + "\nack:client\nselector:colour = 'red' AND JMSPriority = 7\n\n")
		f := c.message("hello")
		for name, want := range map[string]string{
			"priority": "7", "correlation-id": "k", "type": "t", "reply-to": "/topic/answers", "expires": "99999999999999",
			"colour": "red", "content-type": "text/plain", "destination": q, "subscription": "1", "persistent": "true", "content-length": "5",
		} {
			if got := f.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", version, name, got, want)
			}
		}
		c.leave()
	}
}

func TestBytesComeBack(t *testing.T) {
	c := open(t, stomp.Options{}).connect("1.2", "")
	c.receipt("SEND\ndestination:/queue/q\ncontent-type:image/x\ncontent-length:3\n\n\x00\xff\x00")
	c.send("SUBSCRIBE\nid:1\ndestination:/queue/q\n\n")
	if f := c.message("\x00\xff\x00"); f.Get("content-type") != "image/x" {
		t.Errorf("content-type %q", f.Get("content-type"))
	}
}

func TestClientAcknowledgesAllBefore(t *testing.T) {
	d := open(t, stomp.Options{})
	c := d.connect("1.2", "")
	for _, body := range []string{"a", "b", "c"} {
		c.receipt("SEND\ndestination:/queue/q\n\n" + body)
	}
	c.send("SUBSCRIBE\nid:1\nack:client\ndestination:/queue/q\n\n")
	c.message("a")
	b := c.message("b")
	c.message("c")
	c.receipt("ACK\nid:" + b.Get("ack") + "\n\n")
	c.leave()
	c = d.connect("1.1", "")
	c.send("SUBSCRIBE\nid:1\nack:client-individual\ndestination:/queue/q\n\n")
	f := c.message("c")
	if f.Get("redelivered") != "" {
		t.Error("marked as redelivered, although its client has left in order")
	}
	c.conn.Close()
	c = d.connect("1.1", "")
	c.send("SUBSCRIBE\nid:1\nack:client-individual\ndestination:/queue/q\n\n")
	if f = c.message("c"); f.Get("redelivered") != "true" {
		t.Error("not marked as redelivered")
	}
	c.receipt("ACK\nsubscription:1\nmessage-id:" + f.Get("message-id") + "\n\n")
}

func TestNackComesAgain(t *testing.T) {
	c := open(t, stomp.Options{}).connect("1.2", "")
	c.receipt("SEND\ndestination:/queue/q\n\na")
	c.send("SUBSCRIBE\nid:1\nack:client-individual\ndestination:/queue/q\n\n")
	c.send("NACK\nid:" + c.message("a").Get("ack") + "\n\n")
	if f := c.message("a"); f.Get("JMSXDeliveryCount") != "2" {
		t.Errorf("delivery count %q", f.Get("JMSXDeliveryCount"))
	}
}

func TestTransactions(t *testing.T) {
	d := open(t, stomp.Options{})
	c := d.connect("1.2", "")
	c.send("BEGIN\ntransaction:one\n\n")
	c.send("BEGIN\ntransaction:two\n\n")
	c.send("SEND\ntransaction:one\ndestination:/queue/q\n\nundone")
	c.send("SEND\ntransaction:two\ndestination:/queue/q\n\ndone")
	c.receipt("ABORT\ntransaction:one\n\n")
	c.receipt("COMMIT\ntransaction:two\n\n")
	c.send("SUBSCRIBE\nid:1\nack:client\ndestination:/queue/q\n\n")
	f := c.message("done")
	c.send("BEGIN\ntransaction:three\n\n")
	c.send("ACK\ntransaction:three\nid:" + f.Get("ack") + "\n\n")
	c.receipt("COMMIT\ntransaction:three\n\n")
	c.leave()
	c = d.connect("1.2", "")
	c.receipt("SEND\ndestination:/queue/q\n\nlast")
	c.send("SUBSCRIBE\nid:1\nack:client\ndestination:/queue/q\n\n")
	c.message("last")
}

func TestDurableSubscription(t *testing.T) {
	d := open(t, stomp.Options{})
	subscribe := "SUBSCRIBE\nid:1\nack:client\ndurable-subscription-name:s\ndestination:/topic/news\n\n"
	c := d.connect("1.2", "client-id:me\n")
	c.receipt(subscribe)
	c.leave()
	d.connect("1.2", "").receipt("SEND\ndestination:/topic/news\n\nmissed")
	c = d.connect("1.2", "client-id:me\n")
	c.send(subscribe)
	c.receipt("ACK\nid:" + c.message("missed").Get("ack") + "\n\n")
	c.receipt("UNSUBSCRIBE\nid:1\ndurable-subscription-name:s\n\n")
	c.send("UNSUBSCRIBE\nid:1\ndurable-subscription-name:s\n\n")
	c.expect("ERROR")
}

func TestBrowser(t *testing.T) {
	c := open(t, stomp.Options{}).connect("1.2", "")
	for i := range 250 {
		c.receipt(fmt.Sprintf("SEND\ndestination:/queue/q\nodd:%t\n\n%d", i%2 == 1, i))
	}
	for range 2 {
		c.send("SUBSCRIBE\nid:b\nbrowser:true\nselector:odd = 'true'\ndestination:/queue/q\n\n")
		for i := 1; i < 250; i += 2 {
			c.message(strconv.Itoa(i))
		}
		if f := c.expect("MESSAGE"); f.Get("browser") != "end" || f.Get("subscription") != "b" {
			t.Fatalf("at the end: %v", f.Headers)
		}
		c.receipt("UNSUBSCRIBE\nid:b\n\n")
	}
	c.send("SUBSCRIBE\nid:t\nbrowser:true\ndestination:/topic/t\n\n")
	c.expect("ERROR")
}

func TestReplyToTemporaryQueue(t *testing.T) {
	d := open(t, stomp.Options{})
	asks, answers := d.connect("1.2", ""), d.connect("1.2", "")
	asks.receipt("SUBSCRIBE\nid:1\ndestination:/temp-queue/mine\n\n")
	asks.receipt("SEND\ndestination:/queue/q\nreply-to:/temp-queue/mine\n\nask")
	answers.send("SUBSCRIBE\nid:1\ndestination:/queue/q\n\n")
	to := answers.message("ask").Get("reply-to")
	answers.receipt("SEND\ndestination:" + to + "\n\nanswer")
	if f := asks.message("answer"); f.Get("destination") != "/temp-queue/mine" {
		t.Errorf("from %q", f.Get("destination"))
	}
}

func TestRefusals(t *testing.T) {
	d := open(t, stomp.Options{})
	for _, text := range []string{
		"NOPE\n\n", "SEND\n\n", "SEND\ndestination:elsewhere\n\n", "SEND\ndestination:/queue/q\ntransaction:none\n\n",
		"SEND\ndestination:/queue/q\npriority:10\n\n", "SUBSCRIBE\ndestination:/queue/q\n\n", "SUBSCRIBE\nid:1\ndestination:/queue/q\nack:x\n\n",
		"SUBSCRIBE\nid:1\ndestination:/queue/q\nselector:=\n\n", "UNSUBSCRIBE\nid:none\n\n", "ACK\nid:d1-1\n\n", "BEGIN\n\n",
		"COMMIT\ntransaction:none\n\n", "SUBSCRIBE\nid:1\ndurable-subscription-name:s\ndestination:/topic/t\n\n", "BEGIN\ntransaction:t\n\nbody",
	} {
		c := d.connect("1.2", "")
		command, rest, _ := strings.Cut(text, "\n")
		c.send(command + "\nreceipt:r\n" + rest)
		if f := c.expect("ERROR"); f.Get("receipt-id") != "r" || f.Get("message") == "" {
			t.Errorf("%q: %v", text, f.Headers)
		}
		if _, err := c.in.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%q: the connection goes on: %v", text, err)
		}
	}
}

func TestConnectIsRefused(t *testing.T) {
	d := open(t, stomp.Options{Authenticate: func(login, passcode string) (string, error) {
		if login != "u" || passcode != "p" {
			return "", errors.New("no")
		}
		return login, nil
	}})
	d.connect("1.2", "login:u\npasscode:p\n")
	for _, text := range []string{
		"CONNECT\naccept-version:1.2\nlogin:u\npasscode:q\n\n", "CONNECT\naccept-version:2.0\nlogin:u\npasscode:p\n\n", "SEND\ndestination:/queue/q\n\n",
	} {
		c := d.dial()
		c.send(text)
		c.expect("ERROR")
	}
}
