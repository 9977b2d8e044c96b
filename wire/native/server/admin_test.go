package server_test

import (
	"fmt"
	"testing"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
	"github.com/polylog-mq/polylog/wire/native/server"
)

func (p *peer) admin(verb string, request, reply any) {
	p.t.Helper()
	body, err := native.MarshalBody(request)
	if err != nil {
		p.t.Fatal(err)
	}
	answer := p.ask(&native.Admin{Request: 60, Verb: verb, Body: body})
	if reply == nil {
		return
	}
	if err := native.UnmarshalBody(answer, reply); err != nil {
		p.t.Fatalf("%s: %v", verb, err)
	}
}

func (p *peer) adminRefused(code native.Code, verb string, request any) {
	p.t.Helper()
	body, err := native.MarshalBody(request)
	if err != nil {
		p.t.Fatal(err)
	}
	p.refused(code, &native.Admin{Request: 60, Verb: verb, Body: body}, nil)
}

// Every verb, on a real broker.
func TestAdministration(t *testing.T) {
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Logger: silent, Version: "v"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	p := open(t, b, server.Options{}, wire.Limits{}).hello(func(h *native.Hello) { h.ClientID = "operator" })

	var info native.DestinationInfo
	p.admin(native.VerbDestinationCreate, native.DestinationSpec{Name: "orders", Kind: "queue", Settings: map[string]string{"max.deliveries": "3"}}, &info)
	if info.Name != "orders" || info.Kind != "queue" || info.Settings["max.deliveries"] != "3" || len(info.Partitions) != 1 || len(info.ID) != 32 {
		t.Errorf("%+v", info)
	}
	p.adminRefused(native.CodeExists, native.VerbDestinationCreate, native.DestinationSpec{Name: "orders", Kind: "queue"})
	p.adminRefused(native.CodeInvalid, native.VerbDestinationCreate, native.DestinationSpec{Name: "x", Kind: "basket"})
	p.adminRefused(native.CodeInvalid, native.VerbDestinationCreate, native.DestinationSpec{Name: "x", Kind: "queue", Settings: map[string]string{"max.delivery": "3"}})
	p.admin(native.VerbDestinationAlter, native.DestinationSpec{Name: "orders", Settings: map[string]string{"max.deliveries": "1"}}, &info)
	if info.Settings["max.deliveries"] != "1" {
		t.Errorf("%+v", info)
	}

	q := p.resolve("orders", native.KindQueue)
	p.putAll(q.Handle, "a", "b", "c", "d")
	p.subscribe(1, 1, "orders")
	p.settle(native.Settle{Kind: native.OutcomeReject, Reason: "bad"}, p.messages(1)...)
	p.ask(&native.CloseConsumer{Request: 4, Consumer: 1})
	var moved native.TransferResult
	p.admin(native.VerbQueueMove, native.TransferSpec{Name: "orders", To: "elsewhere", Max: 1}, &moved)
	if moved.Messages != 1 {
		t.Errorf("%+v", moved)
	}
	p.admin(native.VerbQueueRedrive, native.TransferSpec{Name: "DLQ.orders"}, &moved)
	if moved.Messages != 1 || moved.More {
		t.Errorf("%+v", moved)
	}
	p.admin(native.VerbDestinationDescribe, native.DestinationQuery{Name: "orders"}, &info)
	if info.Queue == nil || info.Queue.Waiting != 3 || info.Queue.DeadLettered != 1 {
		t.Errorf("%+v", info.Queue)
	}
	p.admin(native.VerbQueuePurge, native.TransferSpec{Name: "orders"}, &moved)
	if moved.Messages != 3 {
		t.Errorf("%+v", moved)
	}
	p.adminRefused(native.CodeNotFound, native.VerbQueuePurge, native.TransferSpec{Name: "absent"})
	p.adminRefused(native.CodeUnsupported, native.VerbQueuePurge, native.TransferSpec{Name: "orders", Selector: "a = 1"})

	p.resolve("news", native.KindTopic)
	p.ask(&native.Subscribe{Request: 5, Session: 1, Consumer: 2, Destination: "news", DestinationKind: native.KindTopic, Kind: native.SubscribeDurable, Name: "audit"})
	var subs []native.SubscriptionInfo
	p.admin(native.VerbSubscriptionList, native.SubscriptionSpec{Topic: "news"}, &subs)
	if len(subs) != 1 || subs[0].Name != "audit" || subs[0].ClientID != "operator" || subs[0].Kind != "durable" || subs[0].View.Consumers != 1 {
		t.Errorf("%+v", subs)
	}
	audit := native.SubscriptionSpec{Topic: "news", ClientID: "operator", Name: "audit"}
	p.adminRefused(native.CodeConflict, native.VerbSubscriptionDelete, audit)
	p.ask(&native.CloseConsumer{Request: 4, Consumer: 2})
	p.adminRefused(native.CodeInvalid, native.VerbSubscriptionSeek, audit)
	seek := audit
	seek.To = native.StartBeginning
	var sub native.SubscriptionInfo
	p.admin(native.VerbSubscriptionSeek, seek, &sub)
	if sub.Name != "audit" {
		t.Errorf("%+v", sub)
	}
	seek.To, seek.ToEnd = native.StartDefault, true
	p.admin(native.VerbSubscriptionSeek, seek, &sub)
	p.admin(native.VerbSubscriptionDelete, audit, nil)
	p.adminRefused(native.CodeNotFound, native.VerbSubscriptionDelete, audit)

	var list []native.DestinationInfo
	p.admin(native.VerbDestinationList, native.DestinationQuery{}, &list)
	names := []string{}
	for _, d := range list {
		names = append(names, d.Name)
	}
	if fmt.Sprint(names) != "[DLQ.orders elsewhere news orders]" {
		t.Errorf("%v", names)
	}
	p.admin(native.VerbDestinationDelete, native.DestinationQuery{Name: "elsewhere"}, nil)
	p.adminRefused(native.CodeNotFound, native.VerbDestinationDescribe, native.DestinationQuery{Name: "elsewhere"})
	var stats native.BrokerStats
	p.admin(native.VerbBrokerStats, nil, &stats)
	if stats.Version != "v" || stats.Destinations < 3 || stats.Connections != 1 || stats.Syncs == 0 {
		t.Errorf("%+v", stats)
	}
}

// A destination that goes away closes its consumers, and a handle for it no
// longer takes sends; made anew, it is resolved anew.
func TestDeletedDestination(t *testing.T) {
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	p := open(t, b, server.Options{}, wire.Limits{}).hello()
	q := p.resolve("q", native.KindQueue)
	p.subscribe(1, 5, "q")
	p.adminRefused(native.CodeConflict, native.VerbDestinationDelete, native.DestinationQuery{Name: "q"})
	p.ask(&native.CloseConsumer{Request: 4, Consumer: 1})
	p.admin(native.VerbDestinationDelete, native.DestinationQuery{Name: "q"}, nil)
	p.send(&native.Send{Request: 9, Session: 1, Handle: q.Handle}, batch("x"))
	if f, _ := expect[native.Fail](p); f.Error.Code != native.CodeNotFound {
		t.Errorf("%s", show(f))
	}
	again := p.resolve("q", native.KindQueue)
	if again.Handle != q.Handle {
		t.Errorf("handle %d, was %d", again.Handle, q.Handle)
	}
	p.putAll(again.Handle, "y")
	p.subscribe(1, 5, "q")
	if m := p.messages(1)[0]; m.value != "y" || m.offset != 0 {
		t.Errorf("%+v", m)
	}
}
