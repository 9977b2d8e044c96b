package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
)

type contains string

func (c contains) Match(r *record.Record) bool { return strings.Contains(string(r.Value), string(c)) }

func selectors(o *Options) {
	o.CompileSelector = func(text string) (queue.Selector, error) {
		if text == "(" {
			return nil, fmt.Errorf("%w: at 1", destination.ErrBadSelector)
		}
		return contains(text), nil
	}
}

// A dead letter goes to DLQ.name, which is made for it, says where it comes
// from, and can be sent back there as it was.
func TestDeadLetterAndRedrive(t *testing.T) {
	r := newRig(t)
	r.put("orders", "good", "bad")
	k := r.take("orders")
	k.gets("good", "bad")
	before := k.header
	k.spans = []queue.Span{{Offset: 1, Acquisition: k.spans[0].Acquisition + 1, Count: 1}}
	r.must(k.settle(queue.Reject))
	dead := r.take("DLQ.orders")
	dead.gets("bad")
	if dead.header[originHeader] != "orders" {
		t.Errorf("headers of the dead letter: %v", dead.header)
	}
	dead.close()
	k.close()

	_, err := r.b.Redrive(ctx, destination.Transfer{Name: "DLQ.orders", To: "DLQ.orders"})
	r.is(err, destination.ErrInvalid)
	result, err := r.b.Redrive(ctx, destination.Transfer{Name: "DLQ.orders"})
	r.must(err)
	if result.Messages != 1 || result.To["orders"] != 1 || result.More || result.Skipped != 0 {
		t.Errorf("%+v", result)
	}
	r.reopen()
	k = r.take("orders")
	k.gets("good", "bad")
	for name, value := range k.header {
		if before[name] != value && name != queue.Redriven && name != record.JMSHeader {
			t.Errorf("header %s=%q came back with it", name, value)
		}
	}
	r.take("DLQ.orders").nothing()
}

// What dies again and again is not redriven for ever; and a dry run says what
// would be, and does nothing.
func TestRedriveGuard(t *testing.T) {
	r := newRig(t)
	r.put("orders", "poison")
	die := func() string {
		t.Helper()
		k := r.take("orders")
		k.gets("poison")
		times := k.header[queue.Redriven]
		r.must(k.settle(queue.Reject))
		k.close()
		return times
	}
	die()
	for i := range destination.DefaultMaxRedrives {
		for _, dry := range []bool{true, false} {
			result, err := r.b.Redrive(ctx, destination.Transfer{Name: "DLQ.orders", DryRun: dry})
			r.must(err)
			if result.Messages != 1 || result.Skipped != 0 || result.To["orders"] != 1 {
				t.Fatalf("redrive %d, dry run %t: %+v", i, dry, result)
			}
		}
		if got := die(); got != fmt.Sprint(i+1) {
			t.Fatalf("redriven %q times, want %d", got, i+1)
		}
		r.reopen()
	}
	result, err := r.b.Redrive(ctx, destination.Transfer{Name: "DLQ.orders"})
	r.must(err)
	if result.Messages != 0 || result.Skipped != 1 || result.More {
		t.Errorf("%+v", result)
	}
	result, err = r.b.Redrive(ctx, destination.Transfer{Name: "DLQ.orders", MaxRedrives: -1})
	r.must(err)
	if result.Messages != 1 || result.Skipped != 0 {
		t.Errorf("%+v", result)
	}
	// A dry run makes no destination.
	r.put("DLQ.gone", "x")
	if _, err := r.b.Redrive(ctx, destination.Transfer{Name: "DLQ.gone", To: "new", DryRun: true}); err != nil {
		t.Error(err)
	}
	_, err = r.b.Destination(ctx, "new", 0)
	r.is(err, destination.ErrNotFound)
}

// Each call goes on where the one before has ended.
func TestTransferPages(t *testing.T) {
	r := newRig(t, selectors)
	var bodies []string
	for i := range 50 {
		bodies = append(bodies, fmt.Sprint("a", i), fmt.Sprint("b", i))
	}
	r.put("from", bodies...)
	request := destination.Transfer{Name: "from", To: "to", Selector: "a", Max: 7}
	calls, moved := 0, int64(0)
	for more := true; more; calls++ {
		result, err := r.b.Move(ctx, request)
		r.must(err)
		if len(request.After) > 0 && result.Next[0] <= request.After[0] {
			t.Fatalf("%v after %v", result.Next, request.After)
		}
		moved, more, request.After = moved+result.Messages, result.More, result.Next
	}
	if moved != 50 || calls != 8 {
		t.Errorf("%d moved in %d calls", moved, calls)
	}
}

func TestRedriveOfWhatNeverDied(t *testing.T) {
	r := newRig(t)
	r.put("orders", "alive")
	_, err := r.b.Redrive(ctx, destination.Transfer{Name: "orders"})
	r.is(err, destination.ErrInvalid)
	r.take("orders").gets("alive")
}

func TestMoveAndPurge(t *testing.T) {
	r := newRig(t, selectors)
	r.put("from", "a1", "b1", "a2", "b2", "a3")
	moved, err := r.b.Move(ctx, destination.Transfer{Name: "from", To: "to", Selector: "a", Max: 2})
	r.must(err)
	if moved.Messages != 2 || !moved.More {
		t.Fatalf("%+v", moved)
	}
	for _, transfer := range []destination.Transfer{
		{Name: "from", To: "from"}, {Name: "from", To: ""}, {Name: "from", To: "__x"}, {Name: "from", To: destination.DeliveryStateName},
	} {
		_, err := r.b.Move(ctx, transfer)
		r.is(err, destination.ErrInvalid)
	}
	_, err = r.b.Move(ctx, destination.Transfer{Name: "nowhere", To: "to"})
	r.is(err, destination.ErrNotFound)
	_, err = r.b.Purge(ctx, destination.Transfer{Name: "from", Selector: "("})
	r.is(err, destination.ErrBadSelector)
	purged, err := r.b.Purge(ctx, destination.Transfer{Name: "from", Selector: "b"})
	r.must(err)
	if purged.Messages != 2 || purged.More {
		t.Errorf("%+v", purged)
	}
	r.crash(1)
	r.take("from").gets("a3")
	k := r.take("to")
	k.gets("a1", "a2")
	purged, err = r.b.Purge(ctx, destination.Transfer{Name: "to"})
	r.must(err)
	if purged.Messages != 0 {
		t.Errorf("purged %d that are delivered", purged.Messages)
	}
	k.close()
	purged, err = r.b.Purge(ctx, destination.Transfer{Name: "to"})
	r.must(err)
	if purged.Messages != 2 {
		t.Errorf("%+v", purged)
	}
	r.take("to").nothing()
	_, err = r.b.Destination(ctx, "news", destination.KindTopic)
	r.must(err)
	_, err = r.b.Purge(ctx, destination.Transfer{Name: "news"})
	r.is(err, destination.ErrWrongKind)
}

func TestSelectorsNeedACompiler(t *testing.T) {
	r := newRig(t)
	r.put("orders", "one")
	_, err := r.b.Purge(ctx, destination.Transfer{Name: "orders", Selector: "a = 1"})
	r.is(err, destination.ErrUnsupported)
}

// One request moves so many, and says that there are more.
func TestMoveIsBounded(t *testing.T) {
	r := newRig(t)
	const n = maxTransfer + 500
	bodies := make([]string, 100)
	for i := range n / len(bodies) {
		for j := range bodies {
			bodies[j] = fmt.Sprint(i*len(bodies) + j)
		}
		r.put("from", bodies...)
	}
	first, err := r.b.Move(ctx, destination.Transfer{Name: "from", To: "to"})
	r.must(err)
	if !first.More || first.Messages == 0 || first.Messages > maxTransfer {
		t.Errorf("%+v", first)
	}
	moved := first.Messages
	for more := true; more; {
		next, err := r.b.Move(ctx, destination.Transfer{Name: "from", To: "to"})
		r.must(err)
		moved, more = moved+next.Messages, next.More
	}
	if moved != n {
		t.Errorf("moved %d of %d", moved, n)
	}
	k := r.take("to")
	for i, body := range k.next(n) {
		if body != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, body)
		}
	}
}

// Q5, Q6: a power cut at any write of a move or a redrive leaves each message
// in one of the two places, and in no other.
func TestCrashInTransfer(t *testing.T) {
	const n = 20
	for _, redrive := range []bool{false, true} {
		for cut := 1; ; cut++ {
			r := newRig(t)
			var want []string
			for i := range n {
				want = append(want, fmt.Sprint("m", i))
			}
			slices.Sort(want)
			from, to := "from", "to"
			r.put("from", want...)
			if redrive {
				k := r.take("from")
				k.gets(want...)
				r.must(k.settle(queue.Reject))
				k.close()
				from, to = "DLQ.from", "from"
			} else {
				r.queue("to")
			}
			calls := 0
			r.fs.Inject(func(commitlog.Op, string) error {
				if calls++; calls >= cut {
					return errors.New("power cut")
				}
				return nil
			})
			var err error
			if redrive {
				_, err = r.b.Redrive(ctx, destination.Transfer{Name: from})
			} else {
				_, err = r.b.Move(ctx, destination.Transfer{Name: from, To: to})
			}
			r.crash(uint64(cut))
			counts := map[string]int64{}
			for _, name := range []string{from, to} {
				info, err := r.b.DescribeDestination(ctx, name)
				r.must(err)
				counts[name] = info.Queue.Waiting
			}
			got := r.take(from).next(int(counts[from]))
			got = append(got, r.take(to).next(int(counts[to]))...)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("redrive %t, cut %d: %v, of which\n%v", redrive, cut, counts, got)
			}
			if err == nil && counts[from] != 0 {
				t.Fatalf("redrive %t, cut %d: confirmed, and %v", redrive, cut, counts)
			}
			r.close()
			if err == nil {
				break
			}
		}
	}
}
