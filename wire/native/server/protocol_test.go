package server_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
	"github.com/polylog-mq/polylog/wire/native/server"
)

// everything has one frame of each type that a client may send but Hello, and
// of each that only a broker sends.
func everything() []native.Frame {
	return []native.Frame{
		&native.OpenSession{Request: 1, Session: 1},
		&native.CloseSession{Request: 1, Session: 1},
		&native.Flow{Request: 1, Start: true},
		&native.Resolve{Request: 1, Name: "made", Kind: native.KindQueue},
		&native.Send{Request: 1, Session: 1, Handle: 1},
		&native.Subscribe{Request: 1, Session: 1, Consumer: 1, Destination: "made", DestinationKind: native.KindQueue, Credit: 1},
		&native.Credit{Consumer: 1, Messages: 1, Drain: true},
		&native.Settle{Request: 1, Consumer: 1, Spans: []native.Span{{Count: 1}}},
		&native.CloseConsumer{Request: 1, Consumer: 1},
		&native.Unsubscribe{Request: 1, Name: "s"},
		&native.Browse{Request: 1, Destination: "made"},
		&native.Temporary{Request: 1, Kind: native.KindQueue},
		&native.Admin{Request: 1, Verb: native.VerbDestinationDelete, Body: []byte{0x80}},
		&native.Ping{}, &native.Pong{},
		&native.Welcome{}, &native.OK{}, &native.Fail{}, &native.Confirm{}, &native.Deliver{}, &native.Drained{},
		&native.ConsumerClosed{}, &native.Joined{}, &native.Check{}, &native.GoAway{},
	}
}

// Whatever comes before Hello ends the connection and changes nothing, also
// what comes right behind it.
func TestBeforeHello(t *testing.T) {
	for _, f := range everything() {
		b := newSmall(t)
		p := open(t, b, server.Options{}, wire.Limits{}).raw()
		p.put(f, nil)
		p.put(&native.Hello{Version: native.Version, ClientID: "claimed"}, nil)
		p.put(&native.Resolve{Request: 2, Name: "made", Kind: native.KindQueue}, nil)
		p.flush()
		p.ended(native.CodeProtocol)
		if changes := b.changesNow(); len(changes) > 0 {
			t.Errorf("%s before Hello: %v", f.Type(), changes)
		}
	}
}

func TestHello(t *testing.T) {
	d := open(t, newSmall(t), server.Options{Name: "b 1", MaxFrame: 1 << 20, Heartbeat: 7 * time.Second}, wire.Limits{})
	p := d.raw()
	p.send(&native.Hello{Version: native.Version, ClientID: "shop"}, nil)
	w, _ := expect[native.Welcome](p)
	if w.Version != native.Version || w.Broker != "b 1" || w.Connection == 0 || w.Epoch != 1 || w.MaxFrame != 1<<20 || w.HeartbeatMS != 7000 {
		t.Errorf("%+v", w)
	}
	again := d.raw()
	again.send(&native.Hello{Version: native.Version, ClientID: "shop"}, nil)
	again.ended(native.CodeConflict)
	p.send(&native.Bye{}, nil)
	if f, _ := p.next(); f != nil {
		t.Errorf("after Bye came %s", show(f))
	}
	eventually(t, "the client id is free again", func() bool { return d.server.Connections() == 0 })
	d.hello(func(h *native.Hello) { h.ClientID = "shop" })

	other := d.raw()
	other.send(&native.Hello{Version: 2}, nil)
	other.ended(native.CodeUnsupported)
	twice := d.hello()
	twice.send(&native.Hello{Version: native.Version}, nil)
	twice.ended(native.CodeProtocol)
}

func TestAuthentication(t *testing.T) {
	d := open(t, newSmall(t), server.Options{Authenticate: func(user, password string) (string, error) {
		if user == "ann" && password == "secret" {
			return "ann", nil
		}
		return "", errors.New("the password of " + user + " is not " + password)
	}}, wire.Limits{})
	wrong := d.raw()
	wrong.send(&native.Hello{Version: native.Version, User: "ann", Password: "guess"}, nil)
	f, _ := expect[native.Fail](wrong)
	if f.Error.Code != native.CodeUnauthorized || strings.Contains(f.Error.Message, "guess") {
		t.Errorf("%+v", f)
	}
	d.hello(func(h *native.Hello) { h.User, h.Password = "ann", "secret" })
}

// A stranger's frame is small, its time is short however it spends it, and a
// length that lies costs nothing.
func TestHandshakeLimits(t *testing.T) {
	d := open(t, newSmall(t), server.Options{}, wire.Limits{})
	big := d.raw()
	big.send(&native.Hello{Version: native.Version}, make([]byte, native.MaxHelloFrame))
	big.ended(native.CodeProtocol)
	lying := d.raw()
	lying.conn.Write([]byte{0x7f, 0xff, 0xff, 0xff, 1})
	lying.ended(native.CodeProtocol)
	bad := d.raw()
	bad.conn.Write([]byte{0, 0, 0, 7, 1, 0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0})
	bad.ended(native.CodeProtocol)
}

func TestSlowHandshake(t *testing.T) {
	b := newSmall(t)
	synctest.Test(t, func(t *testing.T) {
		s := server.New(b, server.Options{Logger: silent})
		l, err := wire.Listen(wire.Config{}, wire.NewGuard(wire.Limits{}), s, silent)
		if err != nil {
			t.Fatal(err)
		}
		near, far := wire.Pipe()
		l.ServeConn(far)
		began := time.Now()
		p := &peer{t: t, conn: near, encoder: native.NewEncoder(), decoder: native.NewDecoder(), reader: native.NewReader(near, 1<<20)}
		hello := p.encoder.Append(nil, &native.Hello{Version: native.Version}, nil)
		var writer sync.WaitGroup
		writer.Go(func() {
			for _, b := range hello { // a byte every two seconds
				if _, err := near.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(2 * time.Second)
			}
		})
		p.ended(native.CodeProtocol)
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("it had %v", took)
		}
		near.Close()
		writer.Wait()
		l.Close()
	})
}

// A frame after Hello that breaks the protocol ends the connection; what is
// only wrong is answered.
func TestBrokenFrames(t *testing.T) {
	d := open(t, newSmall(t), server.Options{MaxFrame: 4096}, wire.Limits{})
	for _, f := range everything()[15:] {
		p := d.hello()
		p.send(f, nil)
		p.ended(native.CodeProtocol)
	}
	for name, bytes := range map[string][]byte{
		"unknown type":   {0, 0, 0, 1, 99},
		"no type":        {0, 0, 0, 0},
		"cut":            {0, 0, 0, 2, byte(native.TypeResolve), 1},
		"too large":      {0, 0, 0x10, 1, byte(native.TypeSend)},
		"negative count": {0, 0, 0, 11, byte(native.TypeSettle), 1, 1, 0, 0, 0xc2, 0xa0, 0xdd, 0xff, 0xff, 0xff},
		"trailing bytes": {0, 0, 0, 3, byte(native.TypePing), 1, 1},
	} {
		p := d.hello()
		p.conn.Write(bytes)
		t.Run(name, func(t *testing.T) { p.ended(native.CodeProtocol) })
	}
}

func TestRefusals(t *testing.T) {
	b := newSmall(t)
	d := open(t, b, server.Options{MaxSessions: 2, MaxConsumers: 2, MaxHandles: 3}, wire.Limits{})
	if _, err := b.make("narrow", destination.KindQueue, func(s *destination.Settings) { s.MaxMessageBytes = 1024 }); err != nil {
		t.Fatal(err)
	}
	if _, err := b.make("internal", destination.KindLog, nil); err != nil {
		t.Fatal(err)
	}
	b.destinations["internal"].Internal = true
	if _, err := b.make("news", destination.KindTopic, nil); err != nil {
		t.Fatal(err)
	}
	p := d.hello()
	q := p.resolve("q", native.KindQueue)
	narrow := p.resolve("narrow", native.KindAny)
	if q.Handle == narrow.Handle || p.resolve("q", native.KindQueue).Handle != q.Handle || narrow.MaxMessage != 1024 || narrow.Partitions != 1 {
		t.Errorf("%+v, %+v", q, narrow)
	}
	good := batch("x")
	damaged := batch("x")
	damaged[len(damaged)-1] ^= 1
	transactional := batch("x")
	transactional[22] |= 0x10 // the attributes' transactional bit
	send := func(handle, partition, session uint64) native.Frame {
		return &native.Send{Request: 9, Session: session, Handle: handle, Partition: partition}
	}
	p.refused(native.CodeNotFound, send(q.Handle, 0, 7), good)
	p.refused(native.CodeNotFound, send(99, 0, 1), good)
	p.refused(native.CodeNotFound, send(0, 0, 1), good)
	p.refused(native.CodeNotFound, send(1<<63, 0, 1), good)
	p.refused(native.CodeInvalid, send(q.Handle, 1, 1), good)
	p.refused(native.CodeInvalid, send(q.Handle, 1<<63, 1), good)
	p.refused(native.CodeInvalid, send(q.Handle, 0, 1), nil)
	p.refused(native.CodeInvalid, send(q.Handle, 0, 1), damaged)
	p.refused(native.CodeInvalid, send(q.Handle, 0, 1), good[:len(good)-1])
	p.refused(native.CodeInvalid, send(q.Handle, 0, 1), append(batch("x"), batch("y")...))
	p.refused(native.CodeInvalid, send(q.Handle, 0, 1), transactional)
	p.refused(native.CodeTooLarge, send(narrow.Handle, 0, 1), batch(strings.Repeat("x", 2000)))

	p.refused(native.CodeExists, &native.OpenSession{Request: 3, Session: 1}, nil)
	p.refused(native.CodeInvalid, &native.OpenSession{Request: 3}, nil)
	p.refused(native.CodeInvalid, &native.OpenSession{Request: 3, Session: 2, Mode: 9}, nil)
	p.ask(&native.OpenSession{Request: 3, Session: 2})
	p.refused(native.CodeBusy, &native.OpenSession{Request: 3, Session: 3}, nil)
	p.refused(native.CodeNotFound, &native.CloseSession{Request: 3, Session: 3}, nil)
	p.refused(native.CodeNotFound, &native.Flow{Request: 3, Session: 3}, nil)
	p.refused(native.CodeNotFound, &native.Resolve{Request: 3, Name: "absent"}, nil)
	p.refused(native.CodeInvalid, &native.Resolve{Request: 3, Name: "absent", Kind: 17}, nil)
	p.refused(native.CodeUnauthorized, &native.Resolve{Request: 3, Name: "internal"}, nil)
	p.refused(native.CodeUnauthorized, &native.Resolve{Request: 3, Name: "forbidden", Kind: native.KindQueue}, nil)
	list := p.resolve("q, third", native.KindQueue)
	for _, payload := range [][]byte{nil, {1, 2, 3}, good[:len(good)-1], damaged} {
		p.refused(native.CodeInvalid, send(list.Handle, 0, 1), payload)
	}
	p.refused(native.CodeBusy, &native.Resolve{Request: 3, Name: "fourth", Kind: native.KindQueue}, nil)

	subscribe := native.Subscribe{Request: 4, Session: 1, Consumer: 1, Destination: "q", DestinationKind: native.KindQueue}
	for _, c := range []struct {
		code   native.Code
		change func(*native.Subscribe)
	}{
		{native.CodeInvalid, func(f *native.Subscribe) { f.Consumer = 0 }},
		{native.CodeNotFound, func(f *native.Subscribe) { f.Session = 9 }},
		{native.CodeInvalid, func(f *native.Subscribe) { f.Kind = 99 }},
		{native.CodeInvalid, func(f *native.Subscribe) { f.DestinationKind = 99 }},
		{native.CodeInvalid, func(f *native.Subscribe) { f.Start = 99 }},
		{native.CodeInvalid, func(f *native.Subscribe) { f.Start, f.StartAt = native.StartOffset, -1 }},
		{native.CodeInvalid, func(f *native.Subscribe) { f.Start = native.StartBeginning }},
		{native.CodeInvalid, func(f *native.Subscribe) { f.Name = "named" }},
		{native.CodeInvalid, func(f *native.Subscribe) { f.NoLocal = true }},
		{native.CodeUnsupported, func(f *native.Subscribe) { f.Selector = "a = 1" }},
		{native.CodeNotFound, func(f *native.Subscribe) { f.Destination, f.DestinationKind = "absent", native.KindAny }},
		{native.CodeUnauthorized, func(f *native.Subscribe) { f.Destination, f.DestinationKind = "internal", native.KindAny }},
		{native.CodeWrongKind, func(f *native.Subscribe) { f.Destination, f.DestinationKind = "news", native.KindAny }},
		{native.CodeWrongKind, func(f *native.Subscribe) { f.Kind = native.SubscribeTemporary }},
		{native.CodeInvalid, func(f *native.Subscribe) {
			f.Kind, f.Destination, f.DestinationKind = native.SubscribeShared, "news", native.KindAny
		}},
		{native.CodeInvalid, func(f *native.Subscribe) { // durable without a client id
			f.Kind, f.Destination, f.DestinationKind, f.Name = native.SubscribeDurable, "news", native.KindAny, "s"
		}},
		{native.CodeInvalid, func(f *native.Subscribe) {
			f.Kind, f.Destination, f.DestinationKind, f.Exclusive = native.SubscribeTemporary, "news", native.KindAny, true
		}},
	} {
		f := subscribe
		c.change(&f)
		p.refused(c.code, &f, nil)
	}
	p.refused(native.CodeNotFound, &native.CloseConsumer{Request: 5, Consumer: 1}, nil)
	p.refused(native.CodeNotFound, &native.Settle{Request: 5, Consumer: 1, Spans: []native.Span{{Count: 1}}}, nil)
	p.refused(native.CodeInvalid, &native.Settle{Request: 5, Consumer: 1, Kind: 9}, nil)
	p.refused(native.CodeInvalid, &native.Unsubscribe{Request: 5, Name: "s"}, nil)
	p.refused(native.CodeInvalid, &native.Temporary{Request: 5}, nil)
	p.refused(native.CodeNotFound, &native.Browse{Request: 5, Destination: "absent"}, nil)
	p.refused(native.CodeInvalid, &native.Browse{Request: 5, Destination: "q", After: []byte{1}}, nil)
	p.refused(native.CodeUnsupported, &native.Browse{Request: 5, Destination: "q", Selector: "a = 1"}, nil)
	p.refused(native.CodeUnsupported, &native.Admin{Request: 5, Verb: "broker.halt"}, nil)
	p.refused(native.CodeInvalid, &native.Admin{Request: 5, Verb: native.VerbDestinationList, Body: []byte{0xc1}}, nil)
	p.send(&native.Credit{Consumer: 77, Messages: 1}, nil) // may have crossed a ConsumerClosed
	p.send(&native.Ping{Number: 5}, nil)
	if f, _ := expect[native.Pong](p); f.Number != 5 {
		t.Errorf("%+v", f)
	}
}
