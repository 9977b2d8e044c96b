package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/amqp"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// door is a broker that is reached by AMQP alone.
type door struct {
	t        testing.TB
	broker   *broker.Broker
	listener *wire.Listener
}

func open(t testing.TB, o amqp.Options) *door {
	t.Helper()
	silent := slog.New(slog.DiscardHandler)
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = silent
	l, err := wire.Listen(wire.Config{}, wire.NewGuard(wire.Limits{}), amqp.New(b, o), silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &door{t, b, l}
}

// create makes a destination.
func (d *door) create(name string, kind destination.Kind, settings map[string]string) {
	d.t.Helper()
	if _, err := d.broker.CreateDestination(ctx, name, kind, settings); err != nil {
		d.t.Fatal(err)
	}
}

// peer is a client that writes what a test says, and reads what comes.
type peer struct {
	t       testing.TB
	conn    net.Conn
	frames  *codec.Frames
	decoder codec.Decoder
	payload []byte // of the last Transfer
	channel uint16 // of the last frame
	sent    uint32 // deliveries
}

const maxWait = 10 * time.Second

// dial connects without a word.
func (d *door) dial() *peer {
	d.t.Helper()
	near, far := wire.Pipe()
	d.listener.ServeConn(far)
	d.t.Cleanup(func() { near.Close() })
	_ = near.SetReadDeadline(time.Now().Add(maxWait))
	return &peer{t: d.t, conn: near, frames: codec.NewFrames(near, 1<<20)}
}

// connect opens a connection and a session on channel 0.
func (d *door) connect(id string) *peer {
	d.t.Helper()
	p := d.dial()
	p.open(&codec.Open{ContainerID: id, MaxFrameSize: math.MaxUint32, ChannelMax: 10})
	p.begin(0, math.MaxInt32)
	return p
}

func (p *peer) open(o *codec.Open) *codec.Open {
	p.t.Helper()
	p.write(codec.HeaderAMQP[:])
	if h, err := p.frames.Header(); err != nil || h != codec.HeaderAMQP {
		p.t.Fatalf("header %q, %v", h, err)
	}
	p.say(0, o)
	return want[*codec.Open](p)
}

func (p *peer) begin(channel uint16, window uint32) {
	p.t.Helper()
	p.say(channel, &codec.Begin{IncomingWindow: window, OutgoingWindow: 1000, HandleMax: math.MaxUint32})
	want[*codec.Begin](p)
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) say(channel uint16, f codec.Performative, payload ...byte) {
	p.t.Helper()
	b, at := codec.BeginFrame(nil, codec.FrameAMQP, channel)
	p.write(codec.EndFrame(append(f.Append(b), payload...), at))
}

// next returns the next frame that says something.
func (p *peer) next() (codec.Performative, error) {
	for {
		_, channel, body, err := p.frames.Next()
		if err != nil {
			return nil, err
		}
		if len(body) == 0 {
			continue
		}
		f, payload, err := p.decoder.Decode(body)
		p.payload, p.channel = payload, channel
		return f, err
	}
}

// want returns the next frame, which must be of a type; flows of no interest are
// passed over.
func want[F codec.Performative](p *peer) F {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatalf("waiting for a %T: %v", *new(F), err)
		}
		if got, ok := f.(F); ok {
			return got
		}
		if _, flow := f.(*codec.Flow); !flow {
			p.t.Fatalf("%T %+v where a %T belongs", f, f, *new(F))
		}
	}
}

// ends waits for the peer's connection to be closed, for that reason.
func (p *peer) ends(condition codec.Symbol) {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatalf("waiting for a close with %s: %v", condition, err)
		}
		if c, ok := f.(*codec.Close); ok {
			if c.Error == nil || c.Error.Condition != condition {
				p.t.Fatalf("closed with %v, not %s", c.Error, condition)
			}
			return
		}
	}
}

// attachSender has the peer send to an address.
func (p *peer) attachSender(handle uint32, address string, capabilities ...codec.Symbol) *codec.Attach {
	p.t.Helper()
	p.say(0, &codec.Attach{
		Name: fmt.Sprint("s", handle), Handle: handle, Role: codec.RoleSender, InitialDeliveryCount: codec.Some(0),
		Source: &codec.Source{}, Target: &codec.Target{Address: codec.String{V: address, Set: address != ""}, Capabilities: capabilities},
	})
	a := want[*codec.Attach](p)
	if a.Target != nil {
		if f := want[*codec.Flow](p); f.LinkCredit.V == 0 {
			p.t.Fatalf("no credit: %+v", f)
		}
	}
	return a
}

// attachReceiver has the peer receive from an address.
func (p *peer) attachReceiver(handle uint32, address string, change func(*codec.Attach)) *codec.Attach {
	p.t.Helper()
	a := &codec.Attach{
		Name: fmt.Sprint("r", handle), Handle: handle, Role: codec.RoleReceiver,
		Source: &codec.Source{Address: codec.SomeString(address)}, Target: &codec.Target{},
	}
	if change != nil {
		change(a)
	}
	p.say(0, a)
	return want[*codec.Attach](p)
}

func (p *peer) credit(handle, count, credit uint32, drain bool) {
	p.t.Helper()
	p.say(0, &codec.Flow{
		NextIncomingID: codec.Some(0), IncomingWindow: math.MaxInt32, OutgoingWindow: 1000,
		Handle: codec.Some(handle), DeliveryCount: codec.Some(count), LinkCredit: codec.Some(credit), Drain: drain,
	})
}

// send sends a message on a link and returns the outcome.
func (p *peer) send(handle uint32, payload []byte) codec.State {
	p.t.Helper()
	id := p.sent
	p.sent++
	p.say(0, &codec.Transfer{Handle: handle, DeliveryID: codec.Some(id), DeliveryTag: []byte{byte(id)}, MessageFormat: codec.Some(0)}, payload...)
	d := want[*codec.Disposition](p)
	if d.First != id || !d.Settled || d.Role != codec.RoleReceiver {
		p.t.Fatalf("%+v for delivery %d", d, id)
	}
	return d.State
}

func text(s string) []byte { return codec.AppendText(nil, []byte(s)) }

// put puts texts into a queue, by a connection of its own.
func (d *door) put(queue string, texts ...string) {
	d.t.Helper()
	p := d.connect("")
	p.attachSender(0, queue)
	for _, s := range texts {
		if state := p.send(0, text(s)); state.Kind != codec.Accepted {
			d.t.Fatalf("%+v", state)
		}
	}
	p.say(0, &codec.Close{})
	want[*codec.Close](p)
	p.conn.Close()
}

// delivery is a message that came.
type delivery struct {
	id      uint32
	text    string
	count   uint32
	settled bool
}

// receive waits for a message of one frame.
func (p *peer) receive() delivery {
	p.t.Helper()
	f := want[*codec.Transfer](p)
	return p.delivery(f.DeliveryID.V, f.Settled, p.payload)
}

func (p *peer) delivery(id uint32, settled bool, payload []byte) delivery {
	p.t.Helper()
	s, err := codec.Split(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	h, err := codec.DecodeHeader(s.Header)
	if err != nil {
		p.t.Fatal(err)
	}
	body, _ := codec.TextBody(s.Body)
	return delivery{id: id, text: string(body), count: h.DeliveryCount, settled: settled}
}

// nothing says that nothing is delivered: what is asked last is answered next.
func (p *peer) nothing() {
	p.t.Helper()
	time.Sleep(20 * time.Millisecond) // for what ought not to come
	p.say(0, &codec.Flow{NextIncomingID: codec.Some(0), IncomingWindow: math.MaxInt32, OutgoingWindow: 1, Echo: true})
	f, err := p.next()
	if _, ok := f.(*codec.Flow); err != nil || !ok {
		p.t.Fatalf("%T %+v, %v where nothing belongs", f, f, err)
	}
}

func (p *peer) settle(id uint32, state codec.State, settled bool) {
	p.t.Helper()
	p.say(0, &codec.Disposition{Role: codec.RoleReceiver, First: id, Last: id, Settled: settled, State: state})
}

func TestHandshake(t *testing.T) {
	users := func(user, password string) (string, error) {
		if user == "ann" && password == "secret" {
			return user, nil
		}
		return "", errors.New("wrong")
	}
	t.Run("bare", func(t *testing.T) {
		o := open(t, amqp.Options{Name: "polylog test"}).dial().open(&codec.Open{ContainerID: "c", MaxFrameSize: 1000, ChannelMax: 10})
		if o.ContainerID != "polylog test" || !slices.Contains(o.Offered, "ANONYMOUS-RELAY") || !slices.Contains(o.Offered, "SHARED-SUBS") ||
			o.IdleTimeOut != 30_000 || o.MaxFrameSize != 1<<20 {
			t.Errorf("%+v", o)
		}
	})
	t.Run("bare where users are wanted", func(t *testing.T) {
		p := open(t, amqp.Options{Authenticate: users}).dial()
		p.write(codec.HeaderAMQP[:])
		if h, err := p.frames.Header(); err != nil || h != codec.HeaderSASL {
			t.Errorf("%q, %v", h, err)
		}
		if _, err := p.next(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	t.Run("another protocol", func(t *testing.T) {
		p := open(t, amqp.Options{}).dial()
		p.write([]byte("GET / HTTP/1.1\r\n\r\n"))
		if h, err := p.frames.Header(); err != nil || h != codec.HeaderAMQP {
			t.Errorf("%q, %v", h, err)
		}
		if _, err := p.next(); err == nil {
			t.Error("went on")
		}
	})
	for name, c := range map[string]struct {
		options   amqp.Options
		mechanism codec.Symbol
		response  string
		code      uint8
	}{
		"anonymous":              {amqp.Options{}, "ANONYMOUS", "", codec.SASLOk},
		"anybody":                {amqp.Options{}, "PLAIN", "\x00x\x00y", codec.SASLOk},
		"ann":                    {amqp.Options{Authenticate: users}, "PLAIN", "\x00ann\x00secret", codec.SASLOk},
		"ann as ann":             {amqp.Options{Authenticate: users}, "PLAIN", "ann\x00ann\x00secret", codec.SASLOk},
		"ann as bob":             {amqp.Options{Authenticate: users}, "PLAIN", "bob\x00ann\x00secret", codec.SASLAuth},
		"wrong password":         {amqp.Options{Authenticate: users}, "PLAIN", "\x00ann\x00no", codec.SASLAuth},
		"anonymous where wanted": {amqp.Options{Authenticate: users}, "ANONYMOUS", "", codec.SASLAuth},
		"no response":            {amqp.Options{Authenticate: users}, "PLAIN", "", codec.SASLAuth},
		"unknown mechanism":      {amqp.Options{}, "GSSAPI", "", codec.SASLAuth},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, c.options).dial()
			p.write(codec.HeaderSASL[:])
			if h, err := p.frames.Header(); err != nil || h != codec.HeaderSASL {
				t.Fatalf("%q, %v", h, err)
			}
			sasl := func() codec.Performative {
				typ, _, body, err := p.frames.Next()
				if err != nil || typ != codec.FrameSASL {
					t.Fatal(typ, err)
				}
				f, err := codec.DecodeSASL(body)
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			m := sasl().(*codec.Mechanisms)
			if anonymous := slices.Contains(m.Names, "ANONYMOUS"); anonymous != (c.options.Authenticate == nil) {
				t.Errorf("offered %v", m.Names)
			}
			p.write(codec.AppendFrame(nil, codec.FrameSASL, 0, &codec.Init{Mechanism: c.mechanism, Response: []byte(c.response)}))
			if o := sasl().(*codec.Outcome); o.Code != c.code {
				t.Fatalf("outcome %d", o.Code)
			}
			if c.code != codec.SASLOk {
				if _, err := p.next(); !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				return
			}
			p.open(&codec.Open{ContainerID: "c", MaxFrameSize: 1000})
		})
	}
}

// Nothing but the handshake does anything before it is over.
func TestBeforeTheOpen(t *testing.T) {
	for _, f := range []codec.Performative{
		&codec.Begin{}, &codec.Attach{Name: "x"}, &codec.Flow{}, &codec.Transfer{}, &codec.Disposition{}, &codec.Detach{}, &codec.End{}, &codec.Close{},
	} {
		d := open(t, amqp.Options{})
		p := d.dial()
		p.write(codec.HeaderAMQP[:])
		if _, err := p.frames.Header(); err != nil {
			t.Fatal(err)
		}
		p.say(0, f)
		want[*codec.Open](p)
		p.ends(codec.NotAllowed)
		if all, err := d.broker.ListDestinations(ctx, "", false); err != nil || len(all) > 0 {
			t.Errorf("%T: %v, %v", f, all, err)
		}
	}
}

func TestClientIDs(t *testing.T) {
	d := open(t, amqp.Options{})
	d.connect("me")
	p := d.dial()
	o := p.open(&codec.Open{ContainerID: "me", MaxFrameSize: 1000, Desired: []codec.Symbol{"sole-connection-for-container"}})
	if o.Properties.Get("amqp:connection-establishment-failed") != true {
		t.Errorf("%+v", o)
	}
	if c := want[*codec.Close](p); c.Error.Condition != codec.InvalidField || c.Error.Info.Get("invalid-field") != codec.Symbol("container-id") {
		t.Errorf("%+v", c.Error)
	}
	d.connect("me") // who does not ask to be alone may come
}

// What breaks the protocol ends as much as it must, with the specified error, and
// nobody else.
func TestBroken(t *testing.T) {
	d := open(t, amqp.Options{MaxLinks: 10})
	honest := d.connect("honest")
	honest.attachSender(0, "honest")
	transfer := func(id uint32) *codec.Transfer {
		return &codec.Transfer{Handle: 0, DeliveryID: codec.Some(id), DeliveryTag: []byte{1}}
	}
	raw := func(s string) func(*peer) { return func(p *peer) { p.write([]byte(s)) } }
	for name, c := range map[string]struct {
		do        func(p *peer)
		condition codec.Symbol
		ends      string // connection, session or link
	}{
		"a frame that is too large":     {raw("\x7f\xff\xff\xff\x02\x00\x00\x00"), codec.FramingError, "connection"},
		"a frame without a header":      {raw("\x00\x00\x00\x04\x02\x00\x00\x00"), codec.FramingError, "connection"},
		"an offset past the frame":      {raw("\x00\x00\x00\x08\x05\x00\x00\x00"), codec.FramingError, "connection"},
		"a frame of the security layer": {raw("\x00\x00\x00\x08\x02\x01\x00\x00"), codec.FramingError, "connection"},
		"a frame of nonsense":           {raw("\x00\x00\x00\x0c\x02\x00\x00\x00abcd"), codec.DecodeError, "connection"},
		"an array of 4 billion":         {raw("\x00\x00\x00\x1a\x02\x00\x00\x00\x00\x53\x10\xc0\x0d\x01\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40\x40\x40"), codec.DecodeError, "connection"},
		"a second open":                 {func(p *peer) { p.say(0, &codec.Open{ContainerID: "x"}) }, codec.NotAllowed, "connection"},
		"a channel past the last":       {func(p *peer) { p.say(2000, &codec.Begin{}) }, codec.FramingError, "connection"},
		"a second begin":                {func(p *peer) { p.say(0, &codec.Begin{}) }, codec.NotAllowed, "connection"},
		"a begin that answers":          {func(p *peer) { p.say(1, &codec.Begin{HasRemote: true}) }, codec.InvalidField, "connection"},
		"an attach before a begin":      {func(p *peer) { p.say(3, &codec.Attach{Name: "x"}) }, codec.NotAllowed, "connection"},
		"an end without a session":      {func(p *peer) { p.say(3, &codec.End{}) }, codec.NotAllowed, "connection"},
		"a handle past the last":        {func(p *peer) { p.say(0, &codec.Attach{Name: "x", Handle: 10}) }, codec.FramingError, "connection"},
		"a handle that is in use":       {func(p *peer) { p.say(0, &codec.Attach{Name: "x"}) }, codec.HandleInUse, "session"},
		"a transfer on no link":         {func(p *peer) { p.say(0, &codec.Transfer{Handle: 9}) }, codec.UnattachedHandle, "session"},
		"a flow for no link":            {func(p *peer) { p.say(0, &codec.Flow{Handle: codec.Some(9)}) }, codec.UnattachedHandle, "session"},
		"a detach of no link":           {func(p *peer) { p.say(0, &codec.Detach{Handle: 9}) }, codec.UnattachedHandle, "session"},
		"a delivery without an id":      {func(p *peer) { p.say(0, &codec.Transfer{Handle: 0}) }, codec.InvalidField, "session"},
		"a disposition that ends early": {func(p *peer) { p.say(0, &codec.Disposition{Role: codec.RoleReceiver, First: 5, Last: 3}) }, codec.InvalidField, "session"},
		"a transaction that is not there": {func(p *peer) {
			p.say(0, &codec.Disposition{Role: codec.RoleReceiver, State: codec.State{Transactional: true, TxnID: []byte("x")}})
		}, codec.UnknownTransactionID, "session"},
		"delivery-ids that go backwards": {func(p *peer) {
			p.say(0, transfer(7), text("a")...)
			want[*codec.Disposition](p)
			p.say(0, transfer(6), text("b")...)
		}, codec.InvalidField, "session"},
		"a delivery within another": {func(p *peer) {
			f := transfer(0)
			f.More = true
			p.say(0, f, 1)
			p.say(0, transfer(1), 2)
		}, codec.InvalidField, "session"},
		"a message that has no end": {func(p *peer) {
			f := transfer(0)
			f.More = true
			for range 4 {
				p.say(0, f, make([]byte, 1<<20-100)...)
			}
		}, codec.MessageSizeExceeded, "link"},
	} {
		t.Run(name, func(t *testing.T) {
			p := d.connect("")
			p.t = t
			p.attachSender(0, "q")
			c.do(p)
			switch c.ends {
			case "connection":
				p.ends(c.condition)
				if _, err := p.next(); !errors.Is(err, io.EOF) {
					t.Errorf("went on: %v", err)
				}
			case "session":
				if e := want[*codec.End](p); e.Error == nil || e.Error.Condition != c.condition {
					t.Fatalf("ended with %v", e.Error)
				}
				p.say(0, transfer(9), text("crossed")...) // what comes before the answer is nothing
				p.say(0, &codec.End{})
				p.sent = 0
				p.begin(0, 10) // and the connection lives
				p.attachSender(0, "q")
				if s := p.send(0, text("x")); s.Kind != codec.Accepted {
					t.Errorf("%+v", s)
				}
			case "link":
				if e := want[*codec.Detach](p); !e.Closed || e.Error == nil || e.Error.Condition != c.condition {
					t.Fatalf("detached with %v", e.Error)
				}
				p.say(0, &codec.Detach{Handle: 0, Closed: true})
				p.attachSender(1, "q")
				p.sent = 1
				if s := p.send(1, text("x")); s.Kind != codec.Accepted {
					t.Errorf("%+v", s)
				}
			}
			if s := honest.send(0, text("still here")); s.Kind != codec.Accepted {
				t.Errorf("who does nothing wrong: %+v", s)
			}
		})
	}
}

// A message that is wrong is rejected, and no other.
func TestBrokenMessages(t *testing.T) {
	d := open(t, amqp.Options{})
	p := d.connect("")
	p.attachSender(0, "q")
	p.attachSender(1, "")
	for name, payload := range map[string][]byte{
		"empty":          {},
		"nonsense":       []byte("nonsense"),
		"half a section": text("hello")[:5],
		"not UTF-8":      text("a\xff"),
		"wrong order":    append(text("a"), (&codec.MessageHeader{Durable: true}).Append(nil)...),
	} {
		state := p.send(0, payload)
		if name == "empty" { // has no body, and is a message
			continue
		}
		if state.Kind != codec.Rejected || state.Error == nil || state.Error.Condition != codec.DecodeError {
			t.Errorf("%s: %+v", name, state)
		}
	}
	if state := p.send(1, text("to nobody")); state.Kind != codec.Rejected || state.Error.Condition != codec.InvalidField {
		t.Errorf("to nobody: %+v", state)
	}
	to := codec.MessageProperties{To: codec.SomeString("relayed")}
	if state := p.send(1, codec.AppendText(to.Append(nil), []byte("x"))); state.Kind != codec.Accepted {
		t.Errorf("relayed: %+v", state)
	}
}

func TestRefusedLinks(t *testing.T) {
	d := open(t, amqp.Options{})
	d.create("news", destination.KindTopic, nil)
	d.create("queue", destination.KindQueue, nil)
	for name, c := range map[string]struct {
		attach    *codec.Attach
		condition codec.Symbol
	}{
		"a bad selector": {&codec.Attach{Role: codec.RoleReceiver, Source: &codec.Source{
			Address: codec.SomeString("queue"), Filter: codec.Map{{Key: codec.Symbol("jms-selector"), Value: &codec.Described{Descriptor: uint64(0x468C00000004), Value: "a ="}}},
		}}, codec.NotImplemented}, // this door has been given no selectors
		"a filter that is none": {&codec.Attach{Role: codec.RoleReceiver, Source: &codec.Source{
			Address: codec.SomeString("queue"), Filter: codec.Map{{Key: codec.Symbol("x"), Value: "a"}},
		}}, codec.InvalidField},
		"no address":           {&codec.Attach{Role: codec.RoleReceiver, Source: &codec.Source{}}, codec.InvalidField},
		"no target":            {&codec.Attach{Role: codec.RoleSender, Source: &codec.Source{}}, codec.InvalidField},
		"a queue as a topic":   {&codec.Attach{Role: codec.RoleReceiver, Source: &codec.Source{Address: codec.SomeString("queue"), Capabilities: []codec.Symbol{"topic"}}}, codec.NotAllowed},
		"a topic as a queue":   {&codec.Attach{Role: codec.RoleReceiver, Source: &codec.Source{Address: codec.SomeString("news"), Capabilities: []codec.Symbol{"queue"}}}, codec.NotAllowed},
		"no such temporary":    {&codec.Attach{Role: codec.RoleSender, Target: &codec.Target{Address: codec.SomeString("temp-queue/x"), Capabilities: []codec.Symbol{"temporary-queue"}}}, codec.NotFound},
		"the broker's own":     {&codec.Attach{Role: codec.RoleSender, Target: &codec.Target{Address: codec.SomeString("__delivery_state")}}, codec.UnauthorizedAccess},
		"no such subscription": {&codec.Attach{Role: codec.RoleReceiver, Name: "none"}, codec.NotFound},
		"a durable one without a client id": {&codec.Attach{Role: codec.RoleReceiver, Name: "x", Source: &codec.Source{
			Address: codec.SomeString("news"), Durable: codec.DurabilityUnsettled,
		}}, codec.InvalidField},
	} {
		t.Run(name, func(t *testing.T) {
			p := d.connect("")
			p.t = t
			c.attach.SenderSettleMode = codec.SenderMixed
			if c.attach.Name == "" {
				c.attach.Name = "l"
			}
			p.say(0, c.attach)
			a := want[*codec.Attach](p)
			if c.attach.Role == codec.RoleReceiver && a.Source != nil || c.attach.Role == codec.RoleSender && a.Target != nil {
				t.Errorf("%+v", a)
			}
			if e := want[*codec.Detach](p); !e.Closed || e.Error == nil || e.Error.Condition != c.condition {
				t.Errorf("%+v", e.Error)
			}
			p.say(0, &codec.Detach{Handle: 0, Closed: true})
			p.nothing() // two Detaches are enough
		})
	}
}

func TestCredit(t *testing.T) {
	d := open(t, amqp.Options{})
	d.put("q", "a", "b", "c", "d", "e", "f")
	p := d.connect("")
	p.attachReceiver(0, "q", nil)
	p.nothing()
	p.credit(0, 0, 2, false)
	for _, want := range []string{"a", "b"} {
		if got := p.receive(); got.text != want {
			t.Fatalf("%+v", got)
		}
	}
	p.nothing()
	p.credit(0, 0, 3, false) // what it says of two that are on their way: one more
	if got := p.receive(); got.text != "c" {
		t.Fatalf("%+v", got)
	}
	p.nothing()
	p.credit(0, 3, 100, false)
	for _, want := range []string{"d", "e", "f"} {
		if got := p.receive(); got.text != want {
			t.Fatalf("%+v", got)
		}
	}
	p.say(0, &codec.Flow{NextIncomingID: codec.Some(6), IncomingWindow: 100, Handle: codec.Some(0), DeliveryCount: codec.Some(6), LinkCredit: codec.Some(0), Echo: true})
	want[*codec.Flow](p) // it is taken back
	d.put("q", "g")
	p.nothing()
	p.credit(0, 6, 5, true) // what there is, and no more
	if got := p.receive(); got.text != "g" {
		t.Fatalf("%+v", got)
	}
	f := want[*codec.Flow](p)
	for !f.Drain {
		f = want[*codec.Flow](p)
	}
	if f.LinkCredit.V != 0 || f.DeliveryCount.V != 11 || f.Handle.V != 0 {
		t.Fatalf("drained: %+v", f)
	}
	d.put("q", "h")
	p.nothing()
	p.credit(0, 11, 1, false)
	if got := p.receive(); got.text != "h" {
		t.Fatalf("%+v", got)
	}
	p.say(0, &codec.Flow{NextIncomingID: codec.Some(8), IncomingWindow: 100, Handle: codec.Some(0), DeliveryCount: codec.Some(12), LinkCredit: codec.Some(0), Echo: true})
	if f := want[*codec.Flow](p); f.DeliveryCount.V != 12 || f.LinkCredit.V != 0 {
		t.Errorf("%+v", f)
	}
}

// Nothing is sent beyond the session's window, whatever the link's credit, and a
// message may be in parts on both sides of it.
func TestWindow(t *testing.T) {
	d := open(t, amqp.Options{})
	long := strings.Repeat("long ", 300)
	d.put("q", "a", long, "c")
	p := d.dial()
	p.open(&codec.Open{ContainerID: "", MaxFrameSize: 512})
	p.begin(0, 0)
	p.attachReceiver(0, "q", nil)
	p.say(0, &codec.Flow{NextIncomingID: codec.Some(0), Handle: codec.Some(0), DeliveryCount: codec.Some(0), LinkCredit: codec.Some(10)})
	var texts []string
	var whole []byte
	frames := uint32(0)
	for len(texts) < 3 {
		p.say(0, &codec.Flow{NextIncomingID: codec.Some(frames), IncomingWindow: 1, OutgoingWindow: 1})
		f := want[*codec.Transfer](p)
		frames++
		if len(p.payload) > 512 {
			t.Fatalf("a payload of %d bytes", len(p.payload))
		}
		if f.DeliveryID.Set != (len(whole) == 0) {
			t.Fatalf("%+v", f)
		}
		if whole = append(whole, p.payload...); !f.More {
			texts = append(texts, p.delivery(0, false, whole).text)
			whole = nil
		}
	}
	if !slices.Equal(texts, []string{"a", long, "c"}) || frames < 5 {
		t.Errorf("%d frames: %.40q", frames, texts)
	}
}

func TestMultiFrameTransfers(t *testing.T) {
	d := open(t, amqp.Options{})
	p := d.connect("")
	p.attachSender(0, "q")
	p.attachSender(1, "q")
	long := text(strings.Repeat("x", 50_000))
	send := func(handle, id uint32, more, aborted bool, payload []byte) {
		p.say(0, &codec.Transfer{Handle: handle, DeliveryID: codec.Some(id), DeliveryTag: []byte{9}, More: more, Aborted: aborted}, payload...)
	}
	send(0, 0, true, false, long[:20_000])
	send(1, 1, false, false, text("between")) // of another link
	if got := want[*codec.Disposition](p); got.First != 1 || got.State.Kind != codec.Accepted {
		t.Fatalf("%+v", got)
	}
	send(0, 0, true, false, long[20_000:40_000])
	send(0, 0, false, false, long[40_000:])
	if got := want[*codec.Disposition](p); got.First != 0 || got.State.Kind != codec.Accepted {
		t.Fatalf("%+v", got)
	}
	send(0, 2, true, false, []byte("half"))
	send(0, 2, false, true, nil)
	p.sent = 3
	p.send(0, text("after"))
	p.attachReceiver(2, "q", nil)
	p.credit(2, 0, 10, false)
	for _, want := range []string{"between", strings.Repeat("x", 50_000), "after"} {
		if got := p.receive(); got.text != want {
			t.Errorf("%.40q", got.text)
		}
	}
	p.nothing()
}

func TestOutcomes(t *testing.T) {
	d := open(t, amqp.Options{})
	d.put("q", "a")
	p := d.connect("")
	p.attachReceiver(0, "q", nil)
	credit := uint32(0)
	next := func(count uint32) uint32 {
		t.Helper()
		p.credit(0, credit, 1, false)
		credit++
		got := p.receive()
		if got.text != "a" || got.count != count {
			t.Fatalf("%+v, not with %d", got, count)
		}
		return got.id
	}
	p.settle(next(0), codec.State{Kind: codec.Released}, true)
	p.settle(next(0), codec.State{Kind: codec.Modified}, true)
	p.settle(next(0), codec.State{Kind: codec.Modified, Failed: true}, true)
	id := next(1)
	p.settle(id, codec.State{Kind: codec.Received}, false) // changes nothing
	p.settle(id, codec.State{Kind: codec.Modified, Failed: true}, false)
	if got := want[*codec.Disposition](p); got.First != id || !got.Settled || got.Role != codec.RoleSender || got.State.Kind != codec.Modified {
		t.Fatalf("%+v", got)
	}
	p.settle(next(2), codec.State{Kind: codec.Rejected, Error: &codec.Error{Condition: "my:reason", Description: "no"}}, true)
	p.credit(0, credit, 1, false)
	p.nothing()
	p.attachReceiver(1, "DLQ.q", nil)
	p.credit(1, 0, 1, false)
	dead := p.receive()
	s, _ := codec.Split(p.payload)
	properties, err := codec.DecodeMap(s.ApplicationProperties)
	if dead.text != "a" || err != nil || properties.Get("JMS_POLYLOG_DLQ_ORIGIN") != "q" || !strings.Contains(fmt.Sprint(properties), "my:reason: no") {
		t.Errorf("%+v: %v, %v", dead, properties, err)
	}
	p.settle(dead.id, codec.State{Kind: codec.Accepted}, false)
	if got := want[*codec.Disposition](p); got.State.Kind != codec.Accepted || !got.Settled {
		t.Fatalf("%+v", got)
	}
}

// A detached link's deliveries go back, uncounted; of a range, those that are there.
func TestDetachGivesBack(t *testing.T) {
	d := open(t, amqp.Options{})
	d.put("q", "a", "b", "c", "d")
	p := d.connect("")
	p.attachReceiver(0, "q", nil)
	p.credit(0, 0, 10, false)
	for range 4 {
		p.receive()
	}
	p.say(0, &codec.Disposition{Role: codec.RoleReceiver, First: 1, Last: 2, Settled: true, State: codec.State{Kind: codec.Accepted}})
	p.say(0, &codec.Disposition{Role: codec.RoleReceiver, First: 100, Last: 1 << 30, Settled: true, State: codec.State{Kind: codec.Accepted}})
	p.say(0, &codec.Detach{Handle: 0, Closed: true})
	if e := want[*codec.Detach](p); !e.Closed || e.Error != nil {
		t.Fatalf("%+v", e)
	}
	p.attachReceiver(0, "q", nil)
	p.credit(0, 0, 10, false)
	for _, want := range []string{"a", "d"} {
		if got := p.receive(); got.text != want || got.count != 0 {
			t.Fatalf("%+v", got)
		}
	}
	// With the session's end likewise; without a word, they count.
	p.say(0, &codec.End{})
	want[*codec.End](p)
	p.begin(0, 1000)
	p.attachReceiver(0, "q", nil)
	p.credit(0, 0, 10, false)
	for range 2 {
		if got := p.receive(); got.count != 0 {
			t.Fatalf("%+v", got)
		}
	}
	p.conn.Close()
	p = d.connect("")
	p.attachReceiver(0, "q", nil)
	p.credit(0, 0, 10, false)
	for range 2 {
		if got := p.receive(); got.count != 1 {
			t.Fatalf("%+v", got)
		}
	}
}

func TestSettledLinks(t *testing.T) {
	d := open(t, amqp.Options{})
	p := d.connect("")
	p.attachSender(0, "q")
	p.say(0, &codec.Transfer{Handle: 0, DeliveryID: codec.Some(0), DeliveryTag: []byte{1}, Settled: true}, text("a")...)
	p.attachReceiver(1, "q", func(a *codec.Attach) { a.SenderSettleMode = codec.SenderSettled })
	p.credit(1, 0, 10, false)
	if got := p.receive(); got.text != "a" || !got.settled {
		t.Fatalf("%+v", got)
	}
	p.conn.Close()
	p = d.connect("")
	p.attachReceiver(1, "q", nil)
	p.credit(1, 0, 10, false)
	p.nothing()
}

func TestTransactions(t *testing.T) {
	d := open(t, amqp.Options{})
	d.put("q", "a", "b")
	p := d.connect("")
	p.attachSender(0, "out")
	p.attachReceiver(1, "q", nil)
	p.say(0, &codec.Attach{Name: "c", Handle: 2, Source: &codec.Source{}, Coordinator: &codec.Coordinator{Capabilities: []codec.Symbol{"amqp:local-transactions"}}})
	if a := want[*codec.Attach](p); a.Coordinator == nil {
		t.Fatalf("%+v", a)
	}
	declare := func() []byte {
		t.Helper()
		s := p.send(2, codec.AppendBodyValue(nil, &codec.Described{Descriptor: uint64(0x31), Value: codec.List{}}))
		if s.Kind != codec.Declared || len(s.TxnID) == 0 {
			t.Fatalf("%+v", s)
		}
		return bytes.Clone(s.TxnID)
	}
	discharge := func(id []byte, fail bool) codec.State {
		return p.send(2, codec.AppendBodyValue(nil, &codec.Described{Descriptor: uint64(0x32), Value: codec.List{id, fail}}))
	}
	sendIn := func(id []byte, s string) {
		t.Helper()
		n := p.sent
		p.sent++
		p.say(0, &codec.Transfer{Handle: 0, DeliveryID: codec.Some(n), DeliveryTag: []byte{1}, State: codec.State{Transactional: true, TxnID: id}}, text(s)...)
		if got := want[*codec.Disposition](p); got.State.Kind != codec.Accepted || !got.State.Transactional || !bytes.Equal(got.State.TxnID, id) {
			t.Fatalf("%+v", got)
		}
	}
	one, two := declare(), declare()
	sendIn(one, "one")
	sendIn(two, "two")
	p.credit(1, 0, 2, false)
	a, b := p.receive(), p.receive()
	p.settle(a.id, codec.State{Kind: codec.Accepted, Transactional: true, TxnID: one}, true)
	p.settle(b.id, codec.State{Kind: codec.Accepted, Transactional: true, TxnID: two}, true)
	if s := discharge(two, true); s.Kind != codec.Accepted {
		t.Fatalf("%+v", s)
	}
	if s := discharge(one, false); s.Kind != codec.Accepted {
		t.Fatalf("%+v", s)
	}
	if s := discharge(one, false); s.Kind != codec.Rejected || s.Error.Condition != codec.UnknownTransactionID {
		t.Fatalf("%+v", s)
	}
	p.credit(1, 2, 1, false)
	if got := p.receive(); got.text != "b" || got.count != 1 {
		t.Fatalf("rolled back: %+v", got)
	}
	three := declare()
	sendIn(three, "three")
	p.say(0, &codec.Detach{Handle: 2, Closed: true}) // is a rollback
	want[*codec.Detach](p)
	p.attachReceiver(3, "out", nil)
	p.credit(3, 0, 10, false)
	if got := p.receive(); got.text != "one" {
		t.Fatalf("%+v", got)
	}
	p.nothing()
}

func TestDynamicNodes(t *testing.T) {
	d := open(t, amqp.Options{})
	p := d.connect("")
	a := p.attachReceiver(0, "", func(a *codec.Attach) { a.Source = &codec.Source{Dynamic: true} })
	name := a.Source.Address.V
	if name == "" || !a.Source.Dynamic {
		t.Fatalf("%+v", a.Source)
	}
	d.put(name, "to it")
	p.credit(0, 0, 1, false)
	if got := p.receive(); got.text != "to it" {
		t.Fatalf("%+v", got)
	}
	p.say(0, &codec.Detach{Handle: 0, Closed: true})
	want[*codec.Detach](p)
	if a := p.attachSender(1, name); a.Target != nil {
		t.Errorf("it is there still: %+v", a)
	}
}

func TestBrowser(t *testing.T) {
	d := open(t, amqp.Options{})
	var all []string
	for i := range 250 {
		all = append(all, fmt.Sprint(i))
	}
	d.put("q", all...)
	p := d.connect("")
	p.attachReceiver(0, "q", func(a *codec.Attach) { a.Source.DistributionMode = codec.DistributionCopy })
	p.credit(0, 0, 5, false)
	for i := range 5 {
		if got := p.receive(); got.text != all[i] || !got.settled {
			t.Fatalf("%+v", got)
		}
	}
	p.nothing()
	p.credit(0, 5, 1000, true)
	for i := 5; i < 250; i++ {
		if got := p.receive(); got.text != all[i] {
			t.Fatalf("%+v", got)
		}
	}
	f := want[*codec.Flow](p)
	for !f.Drain {
		f = want[*codec.Flow](p)
	}
	if f.DeliveryCount.V != 1005 || f.LinkCredit.V != 0 {
		t.Errorf("%+v", f)
	}
	d.put("q", "later")
	p.credit(0, 1005, 1, false)
	if got := p.receive(); got.text != "later" {
		t.Fatalf("%+v", got)
	}
}

// A full queue refuses, or has its sender wait, and nobody else.
func TestFullQueues(t *testing.T) {
	d := open(t, amqp.Options{})
	d.create("fails", destination.KindQueue, map[string]string{"max.length": "2", "overflow": "fail"})
	d.create("blocks", destination.KindQueue, map[string]string{"max.length": "2", "overflow": "block"})
	p := d.connect("")
	p.attachSender(0, "fails")
	p.send(0, text("a"))
	p.send(0, text("b"))
	if s := p.send(0, text("c")); s.Kind != codec.Rejected || s.Error.Condition != codec.ResourceLimitExceeded {
		t.Errorf("%+v", s)
	}
	p.attachSender(1, "blocks")
	p.send(1, text("a"))
	p.send(1, text("b"))
	for i := range uint32(2) {
		p.say(0, &codec.Transfer{Handle: 1, DeliveryID: codec.Some(p.sent + i), DeliveryTag: []byte{byte(i)}}, text(fmt.Sprint(i))...)
	}
	waiting := p.sent
	p.sent += 2
	p.attachSender(2, "others")
	p.send(2, text("x"))
	k := d.connect("")
	k.attachReceiver(0, "blocks", nil)
	k.credit(0, 0, 10, false)
	for _, want := range []string{"a", "b", "0", "1"} {
		got := k.receive()
		if got.text != want {
			t.Fatalf("%+v, not %s", got, want)
		}
		k.settle(got.id, codec.State{Kind: codec.Accepted}, true)
	}
	for i := range uint32(2) {
		if got := want[*codec.Disposition](p); got.First != waiting+i || got.State.Kind != codec.Accepted {
			t.Errorf("%+v", got)
		}
	}
}

// A peer that is silent for too long is closed, and one that listens is told that
// we are here.
func TestIdle(t *testing.T) {
	d := open(t, amqp.Options{IdleTimeout: 300 * time.Millisecond})
	p := d.dial()
	o := p.open(&codec.Open{ContainerID: "", MaxFrameSize: 1000, IdleTimeOut: 200})
	if o.IdleTimeOut != 150 {
		t.Errorf("%d", o.IdleTimeOut)
	}
	empty := 0
	for {
		_, _, body, err := p.frames.Next()
		if err != nil {
			t.Fatal(err)
		}
		if len(body) > 0 {
			f, _, err := p.decoder.Decode(body)
			if c, ok := f.(*codec.Close); err != nil || !ok || c.Error == nil || c.Error.Condition != codec.ResourceLimitExceeded {
				t.Errorf("%T %+v, %v", f, f, err)
			}
			break
		}
		empty++
	}
	if empty == 0 {
		t.Error("no empty frame")
	}
}

// A broker that drains takes its leave of who is quiet.
func TestDrain(t *testing.T) {
	d := open(t, amqp.Options{})
	p := d.connect("")
	p.attachSender(0, "q")
	p.send(0, text("a"))
	drained := make(chan struct{})
	go func() {
		d.listener.Drain(ctx)
		close(drained)
	}()
	p.ends(codec.ConnectionForced)
	<-drained
}
