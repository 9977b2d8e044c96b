package session

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// one is a single delivery.
type one struct {
	consumer    *Consumer
	partition   int32
	offset      int64
	acquisition uint64
}

func deliveries(h *history) (all []one) {
	for _, r := range h.runs {
		for i := range r.span.Count {
			all = append(all, one{r.consumer, r.span.Partition, r.span.Offset + int64(i), r.span.Acquisition + uint64(i)})
		}
	}
	return all
}

// A history compared with a list of single deliveries.
func TestHistoryModel(t *testing.T) {
	consumers := []*Consumer{{}, {}}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var h history
		var want []one
		acquisition := uint64(1)
		offsets := map[int32]int64{}
		span := func() (*Consumer, queue.Span) {
			k, partition := consumers[random.IntN(2)], int32(random.IntN(2))
			return k, queue.Span{Partition: partition, Offset: offsets[partition], Acquisition: acquisition, Count: 1 + int32(random.IntN(4))}
		}
		for range 60 {
			if random.IntN(3) > 0 {
				k, s := span()
				s.Offset += int64(random.IntN(2))
				s.Acquisition += uint64(random.IntN(8) / 7)
				offsets[s.Partition], acquisition = s.Offset+int64(s.Count), s.Acquisition+uint64(s.Count)
				h.add(k, s)
				for i := range s.Count {
					want = append(want, one{k, s.Partition, s.Offset + int64(i), s.Acquisition + uint64(i)})
				}
				check(t, seed, deliveries(&h), want)
				continue
			}
			if len(want) == 0 {
				continue
			}
			// What begins before, within or behind what is there; at times with
			// numbers or a consumer that do not fit.
			d := want[random.IntN(len(want))]
			shift := int64(random.IntN(4)) - 2
			s := queue.Span{Partition: d.partition, Offset: d.offset + shift, Acquisition: d.acquisition + uint64(shift), Count: int32(random.IntN(5))}
			k := d.consumer
			switch random.IntN(8) {
			case 0:
				s.Acquisition++
			case 1:
				k = consumers[random.IntN(2)]
			case 2:
				s.Partition = 1 - s.Partition
			}
			h.remove(k, []queue.Span{s})
			var kept []one
			for _, d := range want {
				i := d.offset - s.Offset
				if d.consumer != k || d.partition != s.Partition || i < 0 || i >= int64(s.Count) || d.acquisition != s.Acquisition+uint64(i) {
					kept = append(kept, d)
				}
			}
			want = kept
			check(t, seed, deliveries(&h), want)
		}
		parts := h.takeAll()
		if len(parts) > 2 || len(h.runs) != 0 {
			t.Fatalf("seed %d: %d parts of 2 consumers, %d runs left", seed, len(parts), len(h.runs))
		}
		for _, p := range parts {
			var own history
			for _, s := range p.spans {
				own.add(p.consumer, s)
			}
			var wantOwn []one
			for _, d := range want {
				if d.consumer == p.consumer {
					wantOwn = append(wantOwn, d)
				}
			}
			check(t, seed, deliveries(&own), wantOwn)
		}
	}
}

func check(t *testing.T, seed uint64, got, want []one) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("seed %d: %d deliveries, want %d", seed, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("seed %d: delivery %d is %+v, want %+v", seed, i, got[i], want[i])
		}
	}
}

// What continues the delivery before is one run with it; what is another
// consumer's, of another partition, or leaves a gap is not.
func TestHistoryJoins(t *testing.T) {
	k := &Consumer{}
	for name, test := range map[string]struct {
		k    *Consumer
		span queue.Span
		runs int
	}{
		"continues":     {k, queue.Span{Offset: 12, Acquisition: 7, Count: 3}, 1},
		"other":         {&Consumer{}, queue.Span{Offset: 12, Acquisition: 7, Count: 3}, 2},
		"partition":     {k, queue.Span{Partition: 1, Offset: 12, Acquisition: 7, Count: 3}, 2},
		"offset":        {k, queue.Span{Offset: 13, Acquisition: 7, Count: 3}, 2},
		"offset before": {k, queue.Span{Offset: 11, Acquisition: 7, Count: 3}, 2},
		"acquisition":   {k, queue.Span{Offset: 12, Acquisition: 8, Count: 3}, 2},
	} {
		var h history
		h.add(k, queue.Span{Offset: 10, Acquisition: 5, Count: 2})
		if h.add(test.k, test.span); len(h.runs) != test.runs || len(deliveries(&h)) != 5 {
			t.Errorf("%s: %+v", name, h.runs)
		}
	}
}

// A transaction notes as many runs as its bound says.
func TestNotedLimit(t *testing.T) {
	s := &Session{connection: &Connection{}, mode: AckTransacted}
	s.work.noted.runs = make([]run, maxNoted-1)
	gap := queue.Span{Offset: 1 << 40, Acquisition: 1, Count: 1}
	if err := s.note(&Consumer{}, []queue.Span{gap, gap}, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("two more than there is room for: %v", err)
	}
	if err := s.note(&Consumer{}, []queue.Span{gap}, nil); err != nil || len(s.work.noted.runs) != maxNoted {
		t.Errorf("the last one: %v, %d runs", err, len(s.work.noted.runs))
	}
	if err := s.note(&Consumer{}, []queue.Span{gap}, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one too many: %v", err)
	}
}

// told counts what a waiter is told.
type told []error

func (w *told) Committed(err error) { *w = append(*w, err) }

// A joint tells once, when the last part is done, the first error.
func TestJoint(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	for _, parts := range [][]error{{nil}, {nil, nil}, {first, nil, second}, {nil, first}} {
		var w told
		j := newJoint(len(parts), &w)
		var want error
		for i, err := range parts {
			if want == nil {
				want = err
			}
			if len(w) > 0 {
				t.Errorf("%v: told after %d", parts, i)
			}
			j.Committed(err)
		}
		if len(w) != 1 || w[0] != want {
			t.Errorf("%v: told %v", parts, w)
		}
	}
	newJoint(1, nil).Committed(nil)
}

// What makes no sense is refused before anything is opened.
func TestSpec(t *testing.T) {
	for _, test := range []struct {
		spec     Spec
		clientID string
		ok       bool
	}{
		{Spec{Destination: "q"}, "", true},
		{Spec{}, "", false},
		{Spec{Destination: "q", Name: "s"}, "", false},
		{Spec{Destination: "q", Exclusive: true}, "", true},
		{Spec{Destination: "q", NoLocal: true}, "c", false},
		{Spec{Destination: "q", Start: queue.Start{Kind: queue.StartBeginning}}, "", false},
		{Spec{Destination: "t", Subscription: topic.Temporary}, "", true},
		{Spec{Destination: "t", Subscription: topic.Temporary, Name: "s"}, "", false},
		{Spec{Destination: "t", Subscription: topic.Temporary, NoLocal: true}, "c", true},
		{Spec{Destination: "t", Subscription: topic.Temporary, NoLocal: true}, "", false},
		{Spec{Destination: "t", Subscription: topic.Temporary, Exclusive: true}, "", false},
		{Spec{Destination: "t", Subscription: topic.Temporary, Start: queue.Start{Kind: queue.StartBeginning}}, "", true},
		{Spec{Destination: "t", Subscription: topic.Durable, Name: "s"}, "c", true},
		{Spec{Destination: "t", Subscription: topic.Durable, Name: "s"}, "", false},
		{Spec{Destination: "t", Subscription: topic.Durable}, "c", false},
		{Spec{Destination: "t", Subscription: topic.Durable, Name: "s", NoLocal: true}, "c", true},
		{Spec{Destination: "t", Subscription: topic.Shared, Name: "s"}, "", true},
		{Spec{Destination: "t", Subscription: topic.Shared, Name: "s", NoLocal: true}, "c", false},
		{Spec{Destination: "t", Subscription: topic.SharedDurable, Name: "s"}, "", true},
		{Spec{Destination: "t", Subscription: topic.SharedDurable, Name: "s", NoLocal: true}, "c", false},
		{Spec{Destination: "t", Subscription: topic.Exclusive, Name: "s"}, "", true},
	} {
		if err := test.spec.check(test.clientID); (err == nil) != test.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v for %q: %v", test.spec, test.clientID, err)
		}
	}
}
