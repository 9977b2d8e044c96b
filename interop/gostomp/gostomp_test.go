// Package gostomp has programs with go-stomp, a client of STOMP 1.0 to 1.2, and looks at
// their messages through the other doors.
package gostomp

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-stomp/stomp/v3"
	"github.com/go-stomp/stomp/v3/frame"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/interop/target"
)

func dial(t *testing.T, with ...func(*stomp.Conn) error) *stomp.Conn {
	t.Helper()
	c, err := stomp.Dial("tcp", target.STOMP(t), with...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.MustDisconnect() })
	return c
}

// put sends, and waits for the receipt.
func put(t *testing.T, c *stomp.Conn, to, body string, headers ...string) {
	t.Helper()
	options := []func(*frame.Frame) error{stomp.SendOpt.Receipt}
	for i := 0; i < len(headers); i += 2 {
		options = append(options, stomp.SendOpt.Header(headers[i], headers[i+1]))
	}
	if err := c.Send(to, "text/plain", []byte(body), options...); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t *testing.T, c *stomp.Conn, from string, mode stomp.AckMode, headers ...string) *stomp.Subscription {
	t.Helper()
	var options []func(*frame.Frame) error
	for i := 0; i < len(headers); i += 2 {
		options = append(options, stomp.SubscribeOpt.Header(headers[i], headers[i+1]))
	}
	s, err := c.Subscribe(from, mode, options...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func receive(t *testing.T, s *stomp.Subscription, body string) *stomp.Message {
	t.Helper()
	select {
	case m := <-s.C:
		if m == nil || m.Err != nil || string(m.Body) != body {
			t.Fatalf("%+v, want %q", m, body)
		}
		return m
	case <-time.After(target.Patience):
		t.Fatalf("nothing for %s, want %q", target.Patience, body)
	}
	return nil
}

func nothing(t *testing.T, s *stomp.Subscription) {
	t.Helper()
	select {
	case m := <-s.C:
		t.Fatalf("%+v", m)
	case <-time.After(300 * time.Millisecond):
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPutAndTake(t *testing.T) {
	for _, version := range []stomp.Version{stomp.V10, stomp.V11, stomp.V12} {
		t.Run(version.String(), func(t *testing.T) {
			c, q := dial(t, stomp.ConnOpt.AcceptVersion(version)), "/queue/"+target.Name(t)
			for i := range 300 {
				put(t, c, q, fmt.Sprint(i))
			}
			s := subscribe(t, c, q, stomp.AckClient)
			for i := range 300 {
				m := receive(t, s, fmt.Sprint(i))
				if i%10 == 9 {
					must(t, c.Ack(m)) // and those before
				}
			}
			must(t, c.Disconnect())
			nothing(t, subscribe(t, dial(t), q, stomp.AckAuto))
		})
	}
}

func TestNack(t *testing.T) {
	c, q := dial(t), "/queue/"+target.Name(t)
	put(t, c, q, "x")
	s := subscribe(t, c, q, stomp.AckClientIndividual)
	must(t, c.Nack(receive(t, s, "x")))
	m := receive(t, s, "x")
	if m.Header.Get("redelivered") != "true" || m.Header.Get("JMSXDeliveryCount") != "2" {
		t.Errorf("%v", m.Header)
	}
	must(t, c.Ack(m))
}

func TestTransactions(t *testing.T) {
	c, q := dial(t), "/queue/"+target.Name(t)
	s := subscribe(t, c, q, stomp.AckClientIndividual)
	aborted, committed := c.Begin(), c.Begin()
	must(t, aborted.Send(q, "text/plain", []byte("undone")))
	must(t, committed.Send(q, "text/plain", []byte("done")))
	must(t, aborted.AbortWithReceipt())
	must(t, committed.CommitWithReceipt())
	m := receive(t, s, "done")
	unit := c.Begin()
	must(t, unit.Ack(m))
	must(t, unit.Send(q, "text/plain", []byte("next")))
	must(t, unit.CommitWithReceipt())
	must(t, c.Ack(receive(t, s, "next")))
	nothing(t, s)
}

func TestDurableSubscription(t *testing.T) {
	id, where := target.Name(t), "/topic/"+target.Name(t)
	as := stomp.ConnOpt.Header("client-id", id)
	c := dial(t, as)
	subscribe(t, c, where, stomp.AckClient, "durable-subscription-name", "sub")
	put(t, c, "/queue/"+id, "so that the subscription is there")
	must(t, c.Disconnect())
	put(t, dial(t), where, "meanwhile")
	c = dial(t, as)
	s := subscribe(t, c, where, stomp.AckClient, "durable-subscription-name", "sub")
	must(t, c.Ack(receive(t, s, "meanwhile")))
	must(t, s.Unsubscribe(stomp.SubscribeOpt.Header("durable-subscription-name", "sub")))
}

func TestTopicsAndSelectors(t *testing.T) {
	c, where := dial(t), "/topic/"+target.Name(t)
	all := subscribe(t, c, where, stomp.AckAuto)
	red := subscribe(t, c, where, stomp.AckAuto, "selector", "colour = 'red'")
	for _, colour := range []string{"blue", "red"} {
		put(t, c, where, colour, "colour", colour)
	}
	receive(t, all, "blue")
	receive(t, all, "red")
	receive(t, red, "red")
	nothing(t, red)
}

func TestRequestAndReply(t *testing.T) {
	asks, q := dial(t), "/queue/"+target.Name(t)
	answers := subscribe(t, asks, "/temp-queue/mine", stomp.AckAuto)
	put(t, asks, q, "question", "reply-to", "/temp-queue/mine", "correlation-id", "1")
	server := dial(t)
	m := receive(t, subscribe(t, server, q, stomp.AckAuto), "question")
	put(t, server, m.Header.Get("reply-to"), "answer", "correlation-id", m.Header.Get("correlation-id"))
	if m = receive(t, answers, "answer"); m.Header.Get("correlation-id") != "1" {
		t.Errorf("%v", m.Header)
	}
}

func TestLarge(t *testing.T) {
	c, q := dial(t), "/queue/"+target.Name(t)
	body := strings.Repeat("0123456789\x00", 90_000)
	put(t, c, q, body)
	receive(t, subscribe(t, c, q, stomp.AckAuto), body)
	if err := c.Send(q, "", make([]byte, 4<<20), stomp.SendOpt.Receipt); err == nil {
		t.Error("4 MiB are taken")
	}
}

func TestHeartBeats(t *testing.T) {
	c, q := dial(t, stomp.ConnOpt.HeartBeat(time.Second, time.Second)), "/queue/"+target.Name(t)
	s := subscribe(t, c, q, stomp.AckAuto)
	time.Sleep(4 * time.Second) // the client gives up a silent broker
	put(t, c, q, "still here")
	receive(t, s, "still here")
}

// What go-stomp sends is seen by polylog's own client and by Kafka's, and the reverse.
func TestOtherDoors(t *testing.T) {
	c, name, ctx := dial(t), target.Topic(t, 1), target.Context(t)
	put(t, c, "/queue/"+name, "text", "priority", "7", "correlation-id", "c", "type", "t", "JMSXGroupID", "group", "colour", "red", "expires", "99999999999999")
	must(t, c.Send("/queue/"+name, "image/png", []byte{0, 1, 0xff}, stomp.SendOpt.Receipt))
	r := target.Client(t, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())).PollFetches(ctx).Records()
	if len(r) < 1 || string(r[0].Value) != "text" || string(r[0].Key) != "group" {
		t.Fatalf("%+v", r)
	}
	conn, err := polylog.Connect(ctx, "polylog://"+target.Native(t))
	must(t, err)
	defer conn.Close()
	session, err := conn.Session(ctx, polylog.IndividualAcknowledge)
	must(t, err)
	q := polylog.QueueOf[*polylog.Message](session, name)
	d, err := q.Take(ctx)
	must(t, err)
	m := d.Message()
	if m.Text() != "text" || m.Kind != polylog.BodyText || m.CorrelationID != "c" || m.Type != "t" || m.Group() != "group" || m.Priority != 7 ||
		m.Properties["colour"] != "red" || m.Expiration != 99999999999999 || !strings.HasPrefix(m.ID, "ID:") {
		t.Errorf("%+v", m)
	}
	must(t, d.Ack(ctx))
	if d, err = q.Take(ctx); err != nil || !bytes.Equal(d.Message().Body, []byte{0, 1, 0xff}) || d.Message().Kind != polylog.BodyBytes {
		t.Errorf("%+v, %v", d, err)
	}
	must(t, d.Ack(ctx))
	back := polylog.NewText("back")
	back.CorrelationID, back.Type = "k", "u"
	must(t, back.SetProperty("n", int64(5)))
	if _, err := q.Put(ctx, back); err != nil {
		t.Fatal(err)
	}
	got := receive(t, subscribe(t, c, "/queue/"+name, stomp.AckAuto), "back")
	for header, want := range map[string]string{"correlation-id": "k", "type": "u", "n": "5", "priority": "4", "content-type": "text/plain"} {
		if got.Header.Get(header) != want {
			t.Errorf("%s is %q, want %q", header, got.Header.Get(header), want)
		}
	}
}
