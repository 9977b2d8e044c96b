// Package goamqp has programs with go-amqp, a client of AMQP 1.0 that sends no
// transactions, and looks at their messages through the other doors.
package goamqp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/interop/target"
)

func dial(t *testing.T, o *amqp.ConnOptions) *amqp.Session {
	t.Helper()
	c, err := amqp.Dial(target.Context(t), "amqp://"+target.AMQP(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := c.NewSession(target.Context(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sender(t *testing.T, s *amqp.Session, to string, o *amqp.SenderOptions) *amqp.Sender {
	t.Helper()
	l, err := s.NewSender(target.Context(t), to, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func receiver(t *testing.T, s *amqp.Session, from string, o *amqp.ReceiverOptions) *amqp.Receiver {
	t.Helper()
	l, err := s.NewReceiver(target.Context(t), from, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func send(t *testing.T, l *amqp.Sender, all ...*amqp.Message) {
	t.Helper()
	for _, m := range all {
		if err := l.Send(target.Context(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func receive(t *testing.T, l *amqp.Receiver) *amqp.Message {
	t.Helper()
	m, err := l.Receive(target.Context(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func accept(t *testing.T, l *amqp.Receiver, m *amqp.Message) {
	t.Helper()
	if err := l.AcceptMessage(target.Context(t), m); err != nil {
		t.Fatal(err)
	}
}

// native is a session of polylog's own client.
func native(t *testing.T) *polylog.Session {
	t.Helper()
	c, err := polylog.Connect(target.Context(t), "polylog://"+target.Native(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := c.Session(target.Context(t), polylog.IndividualAcknowledge)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func topics(capabilities ...string) (*amqp.SenderOptions, *amqp.ReceiverOptions) {
	return &amqp.SenderOptions{TargetCapabilities: capabilities}, &amqp.ReceiverOptions{SourceCapabilities: capabilities, Credit: 10}
}

func TestPutAndTake(t *testing.T) {
	s, q := dial(t, nil), target.Name(t)
	out := sender(t, s, q, nil)
	for i := range 500 {
		send(t, out, amqp.NewMessage(fmt.Append(nil, i)))
	}
	in := receiver(t, s, q, &amqp.ReceiverOptions{Credit: 50})
	for i := range 500 {
		m := receive(t, in)
		if string(m.GetData()) != fmt.Sprint(i) || m.Header.DeliveryCount != 0 {
			t.Fatalf("%q, %+v", m.GetData(), m.Header)
		}
		accept(t, in, m)
	}
	if m := in.Prefetched(); m != nil {
		t.Errorf("and %q", m.GetData())
	}
}

// Every section of a message comes back as it was.
func TestSections(t *testing.T) {
	s, q := dial(t, nil), target.Name(t)
	out, in := sender(t, s, q, nil), receiver(t, s, q, nil)
	subject, encoding, group, sequence := "subject", "gzip", "g", uint32(7)
	created := time.UnixMilli(1_700_000_000_000)
	for name, sent := range map[string]*amqp.Message{
		"plain": amqp.NewMessage([]byte("x")),
		"several data sections": {
			Data: [][]byte{[]byte("a"), {}, bytes.Repeat([]byte("b"), 300)},
		},
		"everything": {
			Header:      &amqp.MessageHeader{Durable: true, Priority: 8},
			Annotations: amqp.Annotations{"x-opt-mine": int64(5), "x-opt-list": []any{"a", uint8(1)}},
			Properties: &amqp.MessageProperties{
				MessageID: amqp.UUID{1, 2, 3}, UserID: []byte("ann"), Subject: &subject, CorrelationID: uint64(9),
				ContentEncoding: &encoding, CreationTime: &created, GroupID: &group, GroupSequence: &sequence,
			},
			ApplicationProperties: map[string]any{
				"ubyte": uint8(1), "ulong": uint64(1 << 63), "int": int32(-5), "bool": true, "string": "s", "double": 1.5,
				"binary": []byte{1}, "time": created, "uuid": amqp.UUID{9}, "JMSPriority": int32(1), "not an identifier": "x",
			},
			Value:  map[string]any{"nested": map[string]any{"x": uint16(1)}, "symbol": amqp.Symbol("s")},
			Footer: amqp.Annotations{"x-sum": "abc"},
		},
		"a number":   {Value: uint32(12)},
		"a sequence": {Sequence: [][]any{{int32(1), "x"}, {nil}}},
		"null":       {Properties: &amqp.MessageProperties{MessageID: "id"}, Value: "text"},
	} {
		send(t, out, sent)
		got := receive(t, in)
		accept(t, in, got)
		header := got.Header
		got.Header, sent.Header = nil, nil
		if fmt.Sprintf("%+v", got.Properties) == "<nil>" && sent.Properties != nil {
			t.Errorf("%s: no properties", name)
		}
		for what, pair := range map[string][2]any{
			"annotations": {sent.Annotations, got.Annotations}, "properties": {sent.Properties, got.Properties},
			"application properties": {sent.ApplicationProperties, got.ApplicationProperties},
			"data":                   {sent.Data, got.Data}, "value": {fmt.Sprint(sent.Value), fmt.Sprint(got.Value)}, "sequence": {sent.Sequence, got.Sequence}, "footer": {sent.Footer, got.Footer},
		} {
			if !reflect.DeepEqual(pair[0], pair[1]) && !(reflect.ValueOf(pair[0]).Kind() == reflect.Slice && reflect.ValueOf(pair[0]).Len() == 0 && reflect.ValueOf(pair[1]).Len() == 0) {
				t.Errorf("%s: %s: %#v became %#v", name, what, pair[0], pair[1])
			}
		}
		if name == "everything" && (!header.Durable || header.Priority != 8) {
			t.Errorf("%+v", header)
		}
	}
}

func TestOutcomes(t *testing.T) {
	s, q := dial(t, nil), target.Name(t)
	send(t, sender(t, s, q, nil), amqp.NewMessage([]byte("x")))
	in := receiver(t, s, q, nil)
	ctx := target.Context(t)
	if err := in.ReleaseMessage(ctx, receive(t, in)); err != nil {
		t.Fatal(err)
	}
	m := receive(t, in)
	if m.Header.DeliveryCount != 0 {
		t.Errorf("released: %+v", m.Header)
	}
	if err := in.ModifyMessage(ctx, m, &amqp.ModifyMessageOptions{DeliveryFailed: true}); err != nil {
		t.Fatal(err)
	}
	if m = receive(t, in); m.Header.DeliveryCount != 1 || m.Header.FirstAcquirer {
		t.Errorf("failed: %+v", m.Header)
	}
	if err := in.RejectMessage(ctx, m, &amqp.Error{Condition: "my:error", Description: "no good"}); err != nil {
		t.Fatal(err)
	}
	dead := receiver(t, s, "DLQ."+q, nil)
	m = receive(t, dead)
	if m.ApplicationProperties["JMS_POLYLOG_DLQ_ORIGIN"] != q || !strings.Contains(fmt.Sprint(m.ApplicationProperties), "no good") {
		t.Errorf("%v", m.ApplicationProperties)
	}
	accept(t, dead, m)
}

func TestSettledModes(t *testing.T) {
	s, q := dial(t, nil), target.Name(t)
	settled := sender(t, s, q, &amqp.SenderOptions{SettlementMode: amqp.SenderSettleModeSettled.Ptr()})
	send(t, settled, amqp.NewMessage([]byte("a")), amqp.NewMessage([]byte("b")))
	second := receiver(t, s, q, &amqp.ReceiverOptions{SettlementMode: amqp.ReceiverSettleModeSecond.Ptr(), Credit: 1})
	m := receive(t, second)
	accept(t, second, m) // waits for the broker's word
	m = receive(t, second)
	accept(t, second, m)
	if string(m.GetData()) != "b" {
		t.Errorf("%q", m.GetData())
	}
}

func TestLarge(t *testing.T) {
	s, q := dial(t, &amqp.ConnOptions{MaxFrameSize: 1024}), target.Name(t)
	body := bytes.Repeat([]byte("0123456789"), 90_000)
	out, in := sender(t, s, q, nil), receiver(t, s, q, nil)
	send(t, out, amqp.NewMessage(body))
	m := receive(t, in)
	accept(t, in, m)
	if !bytes.Equal(m.GetData(), body) {
		t.Errorf("%d bytes", len(m.GetData()))
	}
	err := out.Send(target.Context(t), amqp.NewMessage(make([]byte, 4<<20)), nil)
	var link *amqp.LinkError
	if err == nil || errors.As(err, &link) && link.RemoteErr != nil && link.RemoteErr.Condition != amqp.ErrCondMessageSizeExceeded {
		t.Errorf("4 MiB: %v", err)
	}
}

func TestTopic(t *testing.T) {
	s, name := dial(t, nil), target.Name(t)
	so, ro := topics("topic")
	one, two := receiver(t, s, name, ro), receiver(t, s, name, ro)
	send(t, sender(t, s, name, so), amqp.NewMessage([]byte("x")))
	for _, in := range []*amqp.Receiver{one, two} {
		if m := receive(t, in); string(m.GetData()) != "x" {
			t.Errorf("%q", m.GetData())
		}
	}
}

func TestDurableSubscription(t *testing.T) {
	name, id := target.Name(t), target.Name(t)
	so, _ := topics("topic")
	durable := &amqp.ReceiverOptions{
		Name: "sub", Credit: 10, SourceCapabilities: []string{"topic"}, SourceDurability: amqp.DurabilityUnsettledState,
		SourceExpiryPolicy: amqp.ExpiryPolicyNever,
	}
	c, err := amqp.Dial(target.Context(t), "amqp://"+target.AMQP(t), &amqp.ConnOptions{ContainerID: id})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSession(target.Context(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	receiver(t, s, name, durable)
	c.Close() // without a detach: the subscription stays
	send(t, sender(t, dial(t, nil), name, so), amqp.NewMessage([]byte("meanwhile")))
	in := receiver(t, dial(t, &amqp.ConnOptions{ContainerID: id}), name, durable)
	m := receive(t, in)
	accept(t, in, m)
	if string(m.GetData()) != "meanwhile" {
		t.Errorf("%q", m.GetData())
	}
}

func TestSelector(t *testing.T) {
	s, q := dial(t, nil), target.Name(t)
	out := sender(t, s, q, nil)
	for i := range 10 {
		m := amqp.NewMessage(fmt.Append(nil, i))
		m.ApplicationProperties = map[string]any{"n": int32(i)}
		send(t, out, m)
	}
	in := receiver(t, s, q, &amqp.ReceiverOptions{Filters: []amqp.LinkFilter{amqp.NewSelectorFilter("n > 7")}})
	for _, want := range []string{"8", "9"} {
		m := receive(t, in)
		accept(t, in, m)
		if string(m.GetData()) != want {
			t.Errorf("%q", m.GetData())
		}
	}
	bad := amqp.LinkFilter(amqp.NewLinkFilter("apache.org:selector-filter:string", 0x0000468C00000004, "n >"))
	if _, err := s.NewReceiver(target.Context(t), q, &amqp.ReceiverOptions{Filters: []amqp.LinkFilter{bad}}); err == nil || !strings.Contains(err.Error(), "invalid-field") {
		t.Errorf("%v", err)
	}
}

func TestRequestAndReply(t *testing.T) {
	s, q := dial(t, nil), target.Name(t)
	answers := receiver(t, s, "", &amqp.ReceiverOptions{DynamicAddress: true})
	to := answers.Address()
	out := sender(t, s, q, nil)
	send(t, out, &amqp.Message{Properties: &amqp.MessageProperties{MessageID: "1", ReplyTo: &to}, Value: "question"})
	server := dial(t, nil)
	in, relay := receiver(t, server, q, nil), sender(t, server, "", nil)
	m := receive(t, in)
	accept(t, in, m)
	send(t, relay, &amqp.Message{Properties: &amqp.MessageProperties{To: m.Properties.ReplyTo, CorrelationID: m.Properties.MessageID}, Value: "answer"})
	if m = receive(t, answers); m.Value != "answer" || m.Properties.CorrelationID != "1" {
		t.Errorf("%v, %+v", m.Value, m.Properties)
	}
}

// What go-amqp sends is seen by polylog's own client and by Kafka's, and the
// reverse.
func TestOtherDoors(t *testing.T) {
	s, name := dial(t, nil), target.Topic(t, 1)
	ctx := target.Context(t)
	out := sender(t, s, name, nil)
	subject, group := "subject", "group"
	send(t, out, &amqp.Message{
		Header:                &amqp.MessageHeader{Durable: true, Priority: 7},
		Properties:            &amqp.MessageProperties{MessageID: "ID:mine", CorrelationID: "c", Subject: &subject, GroupID: &group},
		ApplicationProperties: map[string]any{"n": int32(5)}, Value: "text",
	})
	k := target.Client(t, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	r := k.PollFetches(ctx).Records()
	if len(r) != 1 || string(r[0].Value) != "text" || string(r[0].Key) != "group" {
		t.Fatalf("%+v", r)
	}
	q := polylog.QueueOf[*polylog.Message](native(t), name)
	d, err := q.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m := d.Message()
	if m.Text() != "text" || m.Kind != polylog.BodyText || m.ID != "ID:mine" || m.CorrelationID != "c" || m.Type != "subject" || m.Group() != "group" ||
		m.Priority != 7 || m.Properties["n"] != int32(5) {
		t.Errorf("%+v", m)
	}
	if err := d.Ack(ctx); err != nil {
		t.Fatal(err)
	}
	in := receiver(t, s, name, nil)
	sent := polylog.NewText("from Go")
	sent.CorrelationID = "back"
	if err := sent.SetProperty("p", 1.5); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Put(ctx, sent); err != nil {
		t.Fatal(err)
	}
	back := receive(t, in)
	accept(t, in, back)
	if m := back; m.Value != "from Go" || m.Properties.CorrelationID != "back" || m.ApplicationProperties["p"] != 1.5 || !strings.HasPrefix(m.Properties.MessageID.(string), "ID:") {
		t.Errorf("%v, %+v, %v", m.Value, m.Properties, m.ApplicationProperties)
	}
	if err := k.ProduceSync(ctx, &kgo.Record{Topic: name, Key: []byte("k"), Value: []byte("from Kafka"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, in); string(m.GetData()) != "from Kafka" || m.ApplicationProperties["h"] != "v" {
		t.Errorf("%q, %v", m.GetData(), m.ApplicationProperties)
	}
}

func TestRefusals(t *testing.T) {
	s := dial(t, nil)
	var remote *amqp.Error
	if _, err := s.NewReceiver(target.Context(t), "__delivery_state", nil); !errors.As(err, &remote) && err == nil {
		t.Errorf("the broker's own: %v", err)
	}
	if _, err := s.NewSender(context.Background(), strings.Repeat("x", 5000), nil); err == nil {
		t.Error("a name of 5,000 bytes")
	}
}
