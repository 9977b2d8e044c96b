package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A processor consumes in a group and produces in transactions that carry its offsets:
// one record from each.
type processor struct {
	t      *trial
	id     int
	random *rand.Rand
}

func newProcessor(t *trial, id int) *processor { return &processor{t, id, t.random(id)} }

func (p *processor) open() (*kgo.GroupTransactSession, error) {
	o := append(p.t.options(p.id),
		kgo.ConsumerGroup(processorGroup),
		kgo.ConsumeTopics(workTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(500*time.Millisecond),
		// A member that is gone without a word, because the broker was, is waited for
		// no longer than this when the others join again.
		kgo.SessionTimeout(6*time.Second),
		kgo.RebalanceTimeout(2*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond),
	)
	if p.t.o.groupProtocol == "consumer" {
		o = append(o, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	}
	return kgo.NewGroupTransactSession(o...)
}

func (p *processor) run(ctx context.Context, stop <-chan struct{}) {
	for !stopped(ctx, stop) {
		s, err := p.open()
		if err != nil {
			p.t.abort(err)
			return
		}
		for !stopped(ctx, stop) && p.transaction(ctx, s) {
		}
		s.Close()
	}
	p.t.lastWords(ctx, p.id)
}

// transaction consumes some records, if there are any, and produces from them. It
// reports whether the session can go on: a commit in doubt ends it, for the session
// knows no better than we do from where it is to go on.
func (p *processor) transaction(ctx context.Context, s *kgo.GroupTransactSession) bool {
	poll, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	fetched := s.PollRecords(poll, 1+p.random.IntN(40))
	cancel()
	if fetched.IsClientClosed() {
		return false
	}
	records := fetched.Records()
	if len(records) == 0 {
		return true
	}
	if err := s.Begin(); err != nil {
		return false
	}
	n := len(records)
	id := p.t.begin(p.id, n)
	plan := p.random.Float64()
	abort, forget := plan < 0.15, plan >= 0.15 && plan < 0.17
	try, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	var batch produced
	for i, r := range records {
		from, err := parseStamp(r.Value)
		if err != nil { // the ledger sees it, too
			from.transactionID = transactionID{Session: -1}
		}
		made := stamp{
			transactionID: id, Position: i, Count: n, Abort: abort || forget,
			From: &origin{from.transactionID, from.Position},
		}
		batch.produce(try, s, &kgo.Record{
			Topic: madeTopic, Partition: p.random.Int32N(topicPartitions), Value: made.value(p.random.IntN(200)),
		})
	}
	wait(ctx, time.Duration(p.random.IntN(100))*time.Millisecond)
	if forget {
		_ = s.Client().Flush(try)
		p.t.ended(id, n, aborted)
		return false
	}
	if err := s.Client().Flush(try); err != nil { // its context has ended
		p.t.ended(id, n, aborted)
		return false
	}
	if abort || batch.err() != nil {
		p.t.ended(id, n, aborted)
		_, err := s.End(try, kgo.TryAbort)
		return err == nil
	}
	done, err := s.End(try, kgo.TryCommit)
	switch {
	case done:
		p.t.ended(id, n, committed)
		return true
	case err == nil: // a rebalance
		p.t.ended(id, n, aborted)
		return true
	default:
		p.t.ended(id, n, doubt)
		return false
	}
}
