package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/polylog-mq/polylog"
)

// auditSubscribes: the audit service says once that it wants every event, and
// goes home.
func (s *story) auditSubscribes(ctx context.Context) error {
	s.say("%d recorded webhooks, delivered %d times each; broker at %s", len(s.hooks), s.rounds, s.broker.url)
	c, session, err := s.connect(ctx, polylog.WithClientID(auditClient))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := polylog.TopicOf[[]byte](session, eventsTopic).Durable(ctx, auditName); err != nil {
		return err
	}
	s.say("audit service: durable subscription %q opened, and offline", auditName)
	return nil
}

// firstHalf: half of the webhooks arrive while three workers build; one of the
// workers crashes.
func (s *story) firstHalf(ctx context.Context) error {
	workers := s.startWorkers(ctx, "worker-1", "worker-2", "worker-3")
	if err := s.publish(ctx, 0, s.rounds/2); err != nil {
		return err
	}
	workers["worker-2"].crash()
	s.say("worker-2 crashed with build orders in its hands")
	if err := s.untilBuilt(ctx); err != nil {
		return err
	}
	for _, w := range workers {
		w.stop()
	}
	s.say("the others took over: %s done, %s", counted(s.ledger.count(built), "build", "builds"),
		counted(s.ledger.count(dead), "poisoned order is a dead letter", "poisoned orders are dead letters"))
	return nil
}

// secondHalf: the broker is killed while the other half arrives, and started
// again on the same data.
func (s *story) secondHalf(ctx context.Context) error {
	workers := s.startWorkers(ctx, "worker-1", "worker-3")
	var wg sync.WaitGroup
	var publishing error
	wg.Go(func() { publishing = s.publish(ctx, s.rounds/2, s.rounds) })
	if err := s.untilPublished(ctx, s.expected()*3/4); err != nil {
		return err
	}
	s.broker.kill()
	s.say("broker killed (kill -9) after %s", counted(s.ledger.count(published), "delivery", "deliveries"))
	begin := time.Now()
	if err := s.broker.start(); err != nil {
		return err
	}
	s.say("broker back after %d ms", time.Since(begin).Milliseconds())
	wg.Wait()
	if publishing != nil {
		return publishing
	}
	if err := s.untilBuilt(ctx); err != nil {
		return err
	}
	for _, w := range workers {
		w.stop()
	}
	s.say("all published; %s in doubt and sent again under the same delivery id", counted(s.ledger.doubts(), "send was", "sends were"))
	return nil
}

// expected is how many events are published in all.
func (s *story) expected() int { return s.rounds * len(s.hooks) }

// publish delivers the webhooks of some rounds: each to the topic, and those
// that call for a build to the queue. A send in doubt is sent again, as a
// webhook's sender does; the delivery id lets receivers see that.
func (s *story) publish(ctx context.Context, from, to int) error {
	c, session, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	events := polylog.TopicOf[[]byte](session, eventsTopic)
	builds := polylog.QueueOf[[]byte](session, buildsQueue)
	for round := from; round < to; round++ {
		for i, h := range s.hooks {
			id := fmt.Sprintf("%03d-%02d-%s", round, i, h.Event)
			if err := s.insist(func() error {
				_, err := events.Publish(ctx, h.Payload, polylog.WithProperty("delivery", id), polylog.WithProperty("event", h.Event))
				return err
			}); err != nil {
				return fmt.Errorf("publish %s: %w", id, err)
			}
			s.ledger.note(published, id)
			priority, wanted := buildPriority[h.Event]
			if !wanted {
				continue
			}
			body := []byte(h.Payload)
			if s.ledger.count(ordered)%poisonEvery == poisonEvery-1 {
				body = body[:len(body)/2]
			}
			if err := s.insist(func() error {
				_, err := builds.Put(ctx, body, polylog.WithProperty("delivery", id), polylog.WithPriority(priority))
				return err
			}); err != nil {
				return fmt.Errorf("order build %s: %w", id, err)
			}
			s.ledger.note(ordered, id)
		}
	}
	return nil
}

// insist sends again while a send is in doubt.
func (s *story) insist(send func() error) error {
	for {
		err := send()
		if !errors.Is(err, polylog.ErrInDoubt) {
			return err
		}
		s.ledger.doubt()
	}
}

// buildPriority says which events call for a build, and how urgently.
var buildPriority = map[string]int{
	"release": 9, "deployment": 8, "create": 6, "push": 5, "pull_request": 5, "check_suite": 4, "workflow_dispatch": 4,
	"workflow_run": 4, "issue_comment": 2, "repository_dispatch": 1,
}

func (s *story) untilPublished(ctx context.Context, n int) error {
	return s.until(ctx, "publishing", func() bool { return s.ledger.count(published) >= n })
}

// untilBuilt waits until every build order has been built or is a dead letter.
func (s *story) untilBuilt(ctx context.Context) error {
	return s.until(ctx, "building", func() bool { return s.ledger.settled() })
}

func (s *story) until(ctx context.Context, what string, done func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not end in time: %s", what, s.ledger)
		case <-tick.C:
		}
	}
	return nil
}

// auditCatchesUp: the audit service comes back and reads all that it missed,
// in the order of publishing.
func (s *story) auditCatchesUp(ctx context.Context) error {
	c, session, err := s.connect(ctx, polylog.WithClientID(auditClient))
	if err != nil {
		return err
	}
	defer c.Close()
	sub, err := polylog.TopicOf[[]byte](session, eventsTopic).Durable(ctx, auditName)
	if err != nil {
		return err
	}
	begin := time.Now()
	for d, err := range sub.Consume(ctx) {
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		s.ledger.note(audited, deliveryID(d.Message()))
		if err := d.AckAsync(); err != nil {
			return err
		}
		if s.ledger.count(audited) == s.expected() {
			break
		}
	}
	if err := session.Close(ctx); err != nil {
		return err
	}
	s.say("audit service caught up: %s in %d ms", counted(s.ledger.count(audited), "event", "events"), time.Since(begin).Milliseconds())
	return nil
}

// redrive: the dead letters are looked at, and after a fix sent back.
func (s *story) redrive(ctx context.Context) error {
	c, session, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	letters := map[string]bool{}
	for m, err := range polylog.QueueOf[[]byte](session, "DLQ."+buildsQueue).Browse(ctx) {
		if err != nil {
			return err
		}
		if len(letters) == 0 {
			s.say("first dead letter: from %v, because %v", m.Message().Properties["JMS_POLYLOG_DLQ_ORIGIN"], m.Message().Properties["JMS_POLYLOG_DLQ_REASON"])
		}
		letters[deliveryID(m.Message())] = true
	}
	if missing := s.ledger.outside(dead, letters); len(missing) > 0 {
		return fmt.Errorf("rejected, but no dead letters: %v", missing)
	}
	s.ledger.clear(dead)
	workers := s.startWorkers(ctx, "worker-fixed")
	defer workers["worker-fixed"].stop()
	moved, err := c.Admin().Redrive(ctx, polylog.TransferSpec{Name: "DLQ." + buildsQueue})
	if err != nil {
		return fmt.Errorf("redrive: %w", err)
	}
	if err := s.untilEmpty(ctx, c); err != nil {
		return err
	}
	s.say("%s redriven and built by a worker that can mend such", counted(int(moved.Messages), "dead letter", "dead letters"))
	return nil
}

// untilEmpty waits until the broker counts no build order any more.
func (s *story) untilEmpty(ctx context.Context, c *polylog.Connection) error {
	var failed error
	err := s.until(ctx, "emptying "+buildsQueue, func() bool {
		info, err := c.Admin().Describe(ctx, buildsQueue)
		if err != nil {
			failed = err
			return true
		}
		return unsettled(info.Queue) == 0 && s.ledger.settled()
	})
	return errors.Join(failed, err)
}

// unsettled counts what is not done with.
func unsettled(v *polylog.ViewInfo) int64 { return v.Waiting + v.Acquired + v.Scheduled + v.Held }

// account compares what was sent with what became of it, and with the
// broker's own count.
func (s *story) account(ctx context.Context) error {
	c, _, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	waiting := map[string]int64{}
	for _, name := range []string{buildsQueue, "DLQ." + buildsQueue} {
		info, err := c.Admin().Describe(ctx, name)
		if err != nil {
			return err
		}
		waiting[name] = unsettled(info.Queue)
	}
	subs, err := c.Admin().Subscriptions(ctx, eventsTopic)
	if err != nil {
		return err
	}
	for _, sub := range subs {
		waiting[eventsTopic] += unsettled(&sub.View)
	}
	return s.ledger.print(s.out, waiting)
}

func deliveryID(m *polylog.Message) string {
	id, _ := m.Properties["delivery"].(string)
	return id
}

// wellFormed is what makes a build order one that can be built.
func wellFormed(body []byte) bool { return json.Valid(body) }
