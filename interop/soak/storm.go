package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	stormLength = 20 * time.Second // at most, between calms
	stormPause  = 400 * time.Millisecond
	calmLength  = 2 * time.Second // a group that has settled stays so for this long
	settleLimit = time.Minute     // a group that has not settled after this is given up
	finishLimit = time.Minute

	// A member that says nothing any more is given up after this, in a KIP-848 group,
	// whose brokers tell how long: the longer of those known here.
	serverSessionTimeout = 45 * time.Second
)

// A storm is a run of rebalance with one protocol. Its goroutines are the producer, the
// poller of committed offsets, and the members with those who let them leave.
type storm struct {
	Protocol string         `json:"protocol"`
	Length   string         `json:"length"`
	Joined   int            `json:"joined"`
	Left     int            `json:"left"`
	Crashed  int            `json:"crashed"`
	Produced int            `json:"produced"`
	Reread   int            `json:"processed_again"`
	Commits  int            `json:"commits"`
	Refused  map[string]int `json:"commits_refused"`
	Excused  int            `json:"shared_with_given_up"` // see ownership.Excused
	Settled  []string       `json:"settled_after"`        // each calm
	Slowest  string         `json:"slowest"`
	Found    *faults        `json:"found"`

	o            options
	address      string
	topic, group string
	random       *rand.Rand
	admin        *kadm.Client

	mu    sync.Mutex // guards judge, Refused, and what leaving members change
	judge *ownership

	live    map[int]*member // by number
	next    int
	leaving sync.WaitGroup
	last    time.Time // of the last change
	slowest time.Duration
}

// A rebalanceResult is what came out of all storms.
type rebalanceResult struct {
	Broker   string   `json:"broker"`
	Sessions int      `json:"sessions"`
	Storms   []*storm `json:"storms"`
	Failure  string   `json:"failure,omitempty"`
}

func (r *rebalanceResult) good() bool {
	return r.Failure == "" && !slices.ContainsFunc(r.Storms, func(s *storm) bool { return !s.Found.none() })
}

func (r *rebalanceResult) text() string {
	var b strings.Builder
	for _, s := range r.Storms {
		fmt.Fprintf(&b, "rebalance with %s, %s: %s, %d members joined, %d left, %d crashed\n", r.Broker, s.Protocol, s.Length, s.Joined, s.Left, s.Crashed)
		fmt.Fprintf(&b, "  %d records produced, %d processed again; %d commits, refused %v; %d partitions shared with a member that was given up\n",
			s.Produced, s.Reread, s.Commits, s.Refused, s.Excused)
		fmt.Fprintf(&b, "  settled %d times, at the latest after %s: %s\n", len(s.Settled), s.Slowest, strings.Join(s.Settled, " "))
		b.WriteString(s.Found.text())
	}
	if r.Failure != "" {
		fmt.Fprintf(&b, "  UNFINISHED: %s\n", r.Failure)
	}
	return b.String()
}

func rebalance(ctx context.Context, o options) (result, error) {
	st, err := openState(&o, "rebalance")
	if err != nil {
		return nil, err
	}
	broker, err := newProcess(ctx, &o)
	if err != nil {
		return nil, err
	}
	progress("starting %s on %s", o.broker, broker.address)
	if err := broker.start(ctx); err != nil {
		return nil, err
	}
	defer broker.kill() // if it has not ended otherwise
	r := &rebalanceResult{Broker: o.broker, Sessions: st.Sessions}
	for i, protocol := range strings.Split(o.protocols, ",") {
		if slices.ContainsFunc(st.Storms, func(s *storm) bool { return s.Protocol == protocol }) {
			progress("%s is done", protocol)
			continue
		}
		s := &storm{
			Protocol: protocol, Length: o.duration.String(), Refused: map[string]int{},
			o: o, address: broker.address,
			topic:  fmt.Sprintf("soak-%s-%d", protocol, st.Sessions),
			group:  fmt.Sprintf("soak-%s-%d", protocol, st.Sessions),
			random: rand.New(rand.NewPCG(o.seed, uint64(i))),
			judge:  newOwnership(o.partitions),
			live:   map[int]*member{},
		}
		err := s.run(ctx)
		if ctx.Err() != nil {
			return nil, errors.Join(errInterrupted, broker.stop())
		}
		if broker.failed() {
			s.judge.found.add(faultCrash, 1, "the broker ended by itself")
		}
		s.account()
		if err != nil {
			r.Failure = err.Error()
			r.Storms = append(slices.Clone(st.Storms), s)
			return r, nil
		}
		st.Storms = append(st.Storms, s)
		if err := st.save(); err != nil {
			return nil, err
		}
	}
	r.Storms = st.Storms
	if err := broker.stop(); err != nil {
		r.Failure = err.Error()
	}
	return r, nil
}

func (s *storm) account() {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.judge
	s.Produced, s.Reread, s.Commits, s.Excused, s.Found = j.Produced, j.Reread, j.Commits, j.Excused, j.found
	s.Slowest = s.slowest.Round(time.Millisecond).String()
}

// refused is called with mu held.
func (s *storm) refused(err error) {
	name := "no answer"
	if known := (*kerr.Error)(nil); errors.As(err, &known) {
		name = known.Message
	} else if errors.Is(err, context.Canceled) {
		name = "canceled"
	}
	s.Refused[name]++
}

func (s *storm) run(ctx context.Context) error {
	if err := createTopics(ctx, s.address, int32(s.o.partitions), s.topic); err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(patient(s.address, 20*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(s.topic))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	s.admin = kadm.NewClient(cl)
	members, stop := context.WithCancel(ctx)
	defer stop()
	var background sync.WaitGroup
	stopProducing, stopPolling := make(chan struct{}), make(chan struct{})
	var produced sync.WaitGroup
	produced.Go(func() { s.produce(ctx, cl, stopProducing) })
	background.Go(func() { s.poll(ctx, stopPolling) })
	defer background.Wait()
	defer close(stopPolling)

	progress("%s: %d members join", s.Protocol, s.o.consumers)
	end := time.Now().Add(s.o.duration)
	err = s.storms(members, end)
	close(stopProducing)
	produced.Wait()
	if err == nil {
		err = s.drain(ctx)
	}
	s.leaveAll()
	if err == nil {
		err = s.empty(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judge.finish()
	return err
}

// storms has members come and go, and lets the group settle now and then.
func (s *storm) storms(ctx context.Context, end time.Time) error {
	length := min(stormLength, s.o.duration/6)
	for range s.o.consumers {
		if err := s.come(ctx); err != nil {
			return err
		}
	}
	if err := s.calm(ctx); err != nil { // fifty at once is a storm, too
		return err
	}
	for time.Until(end) > 0 {
		for until := time.Now().Add(min(length, time.Until(end))); time.Until(until) > 0; {
			if err := s.change(ctx, time.Until(end)); err != nil {
				return err
			}
			if !wait(ctx, time.Duration(s.random.ExpFloat64()*float64(stormPause))) {
				return ctx.Err()
			}
		}
		if err := s.calm(ctx); err != nil {
			return err
		}
	}
	for len(s.live) < s.o.consumers {
		if err := s.come(ctx); err != nil {
			return err
		}
	}
	return s.calm(ctx)
}

func (s *storm) come(ctx context.Context) error {
	s.next++
	s.changed(time.Now())
	m, err := s.join(ctx, s.next)
	if err != nil {
		return err
	}
	s.live[m.id] = m
	s.Joined++
	return nil
}

// changed notes when the group has changed.
func (s *storm) changed(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.After(s.last) {
		s.last = at
	}
}

// change has somebody join, leave or crash. The group has half of its members at least.
func (s *storm) change(ctx context.Context, left time.Duration) error {
	join := s.random.IntN(2) == 0
	if len(s.live) == s.o.consumers {
		join = false
	} else if len(s.live) <= s.o.consumers/2 {
		join = true
	}
	if join {
		return s.come(ctx)
	}
	var ids []int
	for id := range s.live {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	m := s.live[ids[s.random.IntN(len(ids))]]
	delete(s.live, m.id)
	silent := sessionTimeout
	if s.Protocol == "consumer" {
		silent = serverSessionTimeout
	}
	if s.random.IntN(20) == 0 && left > silent+stormLength {
		s.Crashed++
		s.changed(time.Now().Add(silent)) // that is when the group learns of it
		s.leaving.Go(m.crash)
		return nil
	}
	s.Left++
	s.leaving.Go(func() {
		m.leave()
		s.changed(time.Now())
	})
	return nil
}

func (s *storm) members() []int {
	var ids []int
	for id := range s.live {
		ids = append(ids, id)
	}
	return ids
}

// calm waits until the group has settled, and stays so.
func (s *storm) calm(ctx context.Context) error {
	s.leaving.Wait()
	members := s.members()
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	var since time.Time // when it settled; zero: it has not
	for {
		s.mu.Lock()
		why := s.judge.unsettled(members)
		s.mu.Unlock()
		now := time.Now()
		switch {
		case why != "":
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) > calmLength && now.Sub(last) > calmLength:
			took := max(since.Sub(last), 0)
			s.slowest = max(s.slowest, took)
			s.Settled = append(s.Settled, took.Round(time.Millisecond).String())
			progress("%s: %d members have settled after %s", s.Protocol, len(members), took.Round(time.Millisecond))
			if took > s.o.settle {
				s.mu.Lock()
				s.judge.found.add(faultUnsettled, 1, "%d members, after %s", len(members), took)
				s.mu.Unlock()
			}
			return s.describe(ctx, "Stable", len(members), last)
		}
		if now.Sub(last) > settleLimit {
			s.mu.Lock()
			s.judge.found.add(faultUnsettled, 1, "not after %s: %s", settleLimit, why)
			s.mu.Unlock()
			return fmt.Errorf("the group does not settle: %s", why)
		}
		if !wait(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// describe compares what the coordinator knows of the group with what should be.
// The last change was at last: until the group must have settled, it may be that
// a member has not told it yet what it has.
func (s *storm) describe(ctx context.Context, state string, members int, last time.Time) error {
	for {
		got, n, err := s.described(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("describe the group: %w", err)
		case got == state && n == members:
			return nil
		case time.Since(last) > s.o.settle:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.judge.found.add(faultMembership, 1, "%s with %d members, where %s with %d should be", got, n, state, members)
			return nil
		}
		if !wait(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (s *storm) described(ctx context.Context) (state string, members int, err error) {
	if s.Protocol == "consumer" {
		d, err := s.admin.DescribeConsumerGroups(ctx, s.group)
		if err == nil {
			err = d[s.group].Err
		}
		return d[s.group].State, len(d[s.group].Members), err
	}
	d, err := s.admin.DescribeGroups(ctx, s.group)
	if err == nil {
		err = d[s.group].Err
	}
	return d[s.group].State, len(d[s.group].Members), err
}

// produce writes numbered records into random partitions.
func (s *storm) produce(ctx context.Context, cl *kgo.Client, stop <-chan struct{}) {
	const every = 50 * time.Millisecond
	random := rand.New(rand.NewPCG(s.o.seed, 1000))
	numbers := make([]int, s.o.partitions)
	filler := strings.Repeat(".", 80)
	due := 0.0
	for began := time.Now(); !stopped(ctx, stop); wait(ctx, every) {
		for ; due < s.o.rate*time.Since(began).Seconds(); due++ {
			p := random.IntN(s.o.partitions)
			number := numbers[p]
			numbers[p]++
			cl.Produce(ctx, &kgo.Record{Partition: int32(p), Value: fmt.Appendf(nil, "%d/%d%s", p, number, filler)}, func(_ *kgo.Record, err error) {
				if err == nil {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.judge.acked(int32(p), number)
				}
			})
		}
	}
	_ = cl.Flush(ctx)
}

// poll looks at the committed offsets from outside.
func (s *storm) poll(ctx context.Context, stop <-chan struct{}) {
	for !stopped(ctx, stop) {
		s.committed(ctx)
		wait(ctx, 500*time.Millisecond)
	}
}

func (s *storm) committed(ctx context.Context) map[int32]int64 {
	s.mu.Lock()
	var floors []int64
	for p := range s.judge.partitions {
		floors = append(floors, s.judge.floor(int32(p)))
	}
	s.mu.Unlock()
	offsets, err := s.admin.FetchOffsets(ctx, s.group)
	if err != nil || offsets.Error() != nil {
		return nil // there is no group yet
	}
	got := map[int32]int64{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, floor := range floors {
		o, ok := offsets.Lookup(s.topic, int32(p))
		offset := int64(-1)
		if ok {
			offset = o.At
		}
		if offset >= 0 || floor > 0 {
			s.judge.fetched(int32(p), offset, floor)
		}
		got[int32(p)] = offset
	}
	return got
}

// drain waits until everything that was produced is processed, and committed.
func (s *storm) drain(ctx context.Context) error {
	ends, err := s.admin.ListEndOffsets(ctx, s.topic)
	if err != nil {
		return err
	}
	for began := time.Now(); ; {
		s.mu.Lock()
		left := s.judge.left()
		s.mu.Unlock()
		committed := s.committed(ctx)
		behind := ""
		ends.Each(func(o kadm.ListedOffset) {
			if at := max(committed[o.Partition], 0); at != o.Offset {
				behind = fmt.Sprintf("; partition %d is committed up to %d, and ends at %d", o.Partition, at, o.Offset)
			}
		})
		if left == 0 && behind == "" {
			return nil
		}
		if time.Since(began) > finishLimit {
			return fmt.Errorf("%s after the last record was produced %d are not processed%s", finishLimit, left, behind)
		}
		if !wait(ctx, 200*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (s *storm) leaveAll() {
	for id, m := range s.live {
		delete(s.live, id)
		s.Left++
		s.leaving.Go(m.leave)
	}
	s.leaving.Wait()
}

// empty makes sure that nobody is left behind.
func (s *storm) empty(ctx context.Context) error { return s.describe(ctx, "Empty", 0, time.Now()) }
