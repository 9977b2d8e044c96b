package topic

import (
	"context"
	"errors"
	"testing"

	"github.com/polylog-mq/polylog/destination"
)

var (
	shareOffice = Spec{Kind: ShareGroup, Name: "office"}
	jmsOffice   = Spec{Kind: SharedDurable, Name: "office"}
)

// TestShareGroupSpansTopics shows that a share group has a subscription on each
// topic, which outlives a restart, and that each is deleted by itself.
func TestShareGroupSpansTopics(t *testing.T) {
	r := newRig(t, "a", "b")
	a, b := r.mustOpen("a", shareOffice), r.mustOpen("b", shareOffice)
	r.publish("a", "1", "2")
	r.publish("b", "3")
	a.gets("1", "2")
	b.gets("3")
	b.acknowledge()
	a.close()
	b.close()
	r.restart("a", "b")
	if n := len(r.registry.GroupTopics("office")); n != 2 {
		t.Fatalf("%d topics", n)
	}
	a, b = r.mustOpen("a", shareOffice), r.mustOpen("b", shareOffice)
	a.gets("1", "2")
	b.gets()
	ctx := context.Background()
	if err := r.registry.DeleteGroup(ctx, r.topics["a"], "office"); !errors.Is(err, destination.ErrConflict) {
		t.Errorf("deleted under its consumer: %v", err)
	}
	if err := r.registry.SeekGroup(ctx, r.topics["a"], "office", map[int32]int64{0: 0}); !errors.Is(err, destination.ErrConflict) {
		t.Errorf("moved under its consumer: %v", err)
	}
	a.close()
	b.close()
	if err := r.registry.Delete(ctx, Query{Name: "office"}); !errors.Is(err, destination.ErrInvalid) {
		t.Errorf("deleted without saying on which topic: %v", err)
	}
	r.must(r.registry.DeleteGroup(ctx, r.topics["a"], "office"))
	r.must(r.registry.Delete(ctx, Query{Name: "office"}))
	if len(r.registry.GroupTopics("office")) != 0 || len(r.memory.records) != 0 {
		t.Error("something is left")
	}
	if _, _, err := r.registry.GroupView(ctx, r.topics["a"], "office"); !errors.Is(err, destination.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	r.must(r.registry.SeekGroup(ctx, r.topics["a"], "office", map[int32]int64{0: 1})) // makes it
	r.mustOpen("a", shareOffice).gets("2")
}

// TestShareGroupIsSharedDurable shows that a share group's subscription and
// JMS's of that name on that topic are one, whoever comes first, and that JMS
// does not make anew what it did not make.
func TestShareGroupIsSharedDurable(t *testing.T) {
	ctx := context.Background()
	for name, specs := range map[string][2]Spec{"group first": {shareOffice, jmsOffice}, "JMS first": {jmsOffice, shareOffice}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "a", "b")
			first := r.mustOpen("a", specs[0])
			first.close()
			r.restart("a", "b")
			second := r.mustOpen("a", specs[1])
			again := r.mustOpen("a", specs[0])
			if second.sub.View != again.sub.View {
				t.Fatal("they are two")
			}
			if n, users := r.registry.Count(r.topics["a"].ID); n != 1 || users != 2 {
				t.Errorf("%d subscriptions with %d users", n, users)
			}
			again.close()
			second.close()
			other := jmsOffice
			other.Selector = "x"
			_, err := r.open("a", other)
			if specs[0].Kind == ShareGroup {
				if !errors.Is(err, destination.ErrConflict) {
					t.Errorf("another selector: %v", err)
				}
				if err := r.registry.Unsubscribe(ctx, "", "office", true); !errors.Is(err, destination.ErrNotFound) {
					t.Errorf("unsubscribe: %v", err)
				}
			} else {
				r.must(err) // it is JMS's own
				if err := r.registry.DeleteGroup(ctx, r.topics["a"], "office"); !errors.Is(err, destination.ErrUnsupported) {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
}

// TestJMSMovesToShareGroup shows that a JMS subscription that changes its topic
// becomes the share group's there.
func TestJMSMovesToShareGroup(t *testing.T) {
	r := newRig(t, "a", "b")
	onA := r.mustOpen("a", jmsOffice)
	group := r.mustOpen("b", shareOffice)
	if _, err := r.open("b", jmsOffice); !errors.Is(err, destination.ErrConflict) {
		t.Errorf("moved under its consumer: %v", err)
	}
	onA.close()
	onB := r.mustOpen("b", jmsOffice)
	if onB.sub.View != group.sub.View || len(r.memory.records) != 1 {
		t.Errorf("they are two, of %d", len(r.memory.records))
	}
	if topics := r.registry.GroupTopics("office"); len(topics) != 1 || topics[0].Name != "b" {
		t.Errorf("topics %v", topics)
	}
}

// TestTopicGoesUnderShareGroup shows that a topic can be deleted although a
// share group consumes it, and not while JMS does.
func TestTopicGoesUnderShareGroup(t *testing.T) {
	r := newRig(t, "a")
	group, jms := r.mustOpen("a", shareOffice), r.mustOpen("a", jmsOffice)
	forget := func(ids []string) error {
		for _, id := range ids {
			delete(r.memory.records, id)
		}
		return nil
	}
	if err := r.registry.DeleteTopic(r.topics["a"], false, forget); !errors.Is(err, destination.ErrConflict) {
		t.Fatalf("error %v", err)
	}
	jms.close()
	r.must(r.registry.DeleteTopic(r.topics["a"], false, forget))
	if err := <-group.closed; err == nil {
		t.Error("the consumer is not closed")
	}
	group.release()
	if len(r.memory.records) != 0 || len(r.registry.GroupTopics("office")) != 0 {
		t.Error("something is left")
	}
	for _, bad := range []Spec{{Kind: ShareGroup}, {Kind: ShareGroup, Name: "s", Selector: "x"}, {Kind: ShareGroup, Name: "s", ClientID: "c"}} {
		if err := bad.check(); !errors.Is(err, destination.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if k, err := ParseKind(ShareGroup.String()); err != nil || k != ShareGroup {
		t.Errorf("kind %v, %v", k, err)
	}
}
