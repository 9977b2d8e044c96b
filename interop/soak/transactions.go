package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	producers  = 5 // with those that consume, eight
	processors = 3

	topicPartitions = 4
	workTopic       = "soak-work" // what processors consume
	madeTopic       = "soak-made" // what they produce
	processorGroup  = "soak-processors"

	drainLimit = 2 * time.Minute  // processors have consumed everything this long after the last was produced
	auditLimit = 90 * time.Second // consumers are where the log ended this long ago
)

// writtenTopics are what producers who do not consume write to.
var writtenTopics = []string{workTopic, "soak-a", "soak-b"}

func allPlaces() []place {
	var all []place
	for _, topic := range append(slices.Clone(writtenTopics), madeTopic) {
		for p := range int32(topicPartitions) {
			all = append(all, place{topic, p})
		}
	}
	return all
}

// A trial is a run of transactions. Its goroutines are the producers and processors,
// the live reader, the auditor, the chaos and the ticker.
type trial struct {
	o      options
	broker *process
	state  *state

	abort context.CancelCauseFunc // ends the run at once: the broker is broken

	mu       sync.Mutex // guards what follows; no call to a broker is made with it
	journal  *journal
	ledger   *ledger
	next     []int64         // number of a producer's next transaction
	frontier []transactionID // a producer's last that is known to be committed
	own      *faults         // what no ledger finds
	restarts []time.Duration
}

// A transactionsResult is what came out.
type transactionsResult struct {
	Broker       string         `json:"broker"`
	Sessions     int            `json:"sessions"`
	Elapsed      string         `json:"elapsed"`
	Kills        int            `json:"kills"`
	Restart      string         `json:"restart"` // median and longest time until the broker served again
	Transactions map[string]int `json:"transactions"`
	DoubtWhole   int            `json:"doubt_whole"` // in doubt, and found committed
	Records      int            `json:"records"`     // in the log
	Committed    int            `json:"committed_records"`
	Markers      int            `json:"markers"`
	Processed    int            `json:"processed"` // records that processors made something of
	Unfinished   string         `json:"unfinished,omitempty"`
	Found        *faults        `json:"found"`
}

func (r *transactionsResult) good() bool { return r.Found.none() && r.Unfinished == "" }

func (r *transactionsResult) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "transactions with %s: %s in %d sessions, %d kills, ready again after %s\n", r.Broker, r.Elapsed, r.Sessions, r.Kills, r.Restart)
	fmt.Fprintf(&b, "  transactions: %d committed, %d aborted, %d in doubt (%d of them found whole)\n",
		r.Transactions["committed"], r.Transactions["aborted"], r.Transactions["doubt"]+r.Transactions["open"], r.DoubtWhole)
	fmt.Fprintf(&b, "  log: %d records, %d of them committed, and %d markers; %d consumed and produced from\n", r.Records, r.Committed, r.Markers, r.Processed)
	if r.Unfinished != "" {
		fmt.Fprintf(&b, "  UNFINISHED: %s\n", r.Unfinished)
	}
	return b.String() + r.Found.text()
}

func transactions(ctx context.Context, o options) (result, error) {
	if o.killEvery == 0 {
		o.killEvery = min(12*time.Second, o.duration/10)
	}
	t := &trial{
		o: o, ledger: newLedger(workTopic), own: newFaults(transactionFaults...),
		next: make([]int64, producers+processors), frontier: make([]transactionID, producers+processors),
	}
	var err error
	if t.state, err = openState(&o, "transactions"); err != nil {
		return nil, err
	}
	if t.journal, err = openJournal(filepath.Join(o.dir, "journal"), t.ledger.ended); err != nil {
		return nil, err
	}
	defer t.journal.close()
	if t.broker, err = newProcess(ctx, &o); err != nil {
		return nil, err
	}
	progress("starting %s on %s", o.broker, t.broker.address)
	if err := t.broker.start(ctx); err != nil {
		return nil, err
	}
	defer t.broker.kill() // if it has not ended otherwise
	if err := createTopics(ctx, t.broker.address, topicPartitions, append(slices.Clone(writtenTopics), madeTopic)...); err != nil {
		return nil, err
	}
	running, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	t.abort = abort
	err = t.traffic(running)
	r := t.result()
	if err == nil {
		err = t.verdict(running, r)
	}
	if err != nil && ctx.Err() == nil {
		r.Unfinished = err.Error()
	}
	if err := t.broker.stop(); err != nil {
		t.own.add(faultCrash, 1, "%v", err)
	}
	session := fmt.Sprintf("session %d", t.state.Sessions)
	r.Found.merge(session, t.ledger.found)
	r.Found.merge(session, t.own)
	if t.state.Earlier != nil {
		r.Found.merge("before", t.state.Earlier)
	}
	if err != nil { // a later session goes on, and has to know
		t.state.Earlier = r.Found
	}
	if err := t.state.save(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, errInterrupted
	}
	return r, nil
}

// traffic is the run without its last verdict. When it returns nil no transaction is open.
func (t *trial) traffic(ctx context.Context) error {
	live, err := newReader(t.broker.address, kgo.ReadCommitted())
	if err != nil {
		return err
	}
	defer live.Close()
	background, stopBackground := context.WithCancel(ctx)
	var reading, producing, processing sync.WaitGroup
	defer reading.Wait()
	defer stopBackground()
	reading.Go(func() { t.follow(background, live) })
	reading.Go(func() { t.audits(background) })
	reading.Go(func() { t.tick(background) })

	stopProducing, stopProcessing := make(chan struct{}), make(chan struct{})
	for i := range producers {
		producing.Go(func() { newProducer(t, i).run(ctx, stopProducing) })
	}
	for i := range processors {
		processing.Go(func() { newProcessor(t, producers+i).run(ctx, stopProcessing) })
	}
	t.kill(ctx)
	progress("producers finish")
	close(stopProducing)
	producing.Wait()
	drained := t.drain(ctx)
	progress("processors finish")
	close(stopProcessing)
	processing.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if drained != nil {
		return drained
	}
	// What processors did last, a reader has to see as well.
	ends, err := t.ends(ctx)
	if err != nil {
		return err
	}
	return t.caughtUp(ctx, ends)
}

// kill has the chaos run for what is left of the run's time and kills.
func (t *trial) kill(ctx context.Context) {
	left, cancel := context.WithTimeout(ctx, t.o.duration-t.state.Elapsed)
	defer cancel()
	if t.o.kills == 0 {
		<-left.Done()
		return
	}
	t.warmUp(left)
	c := chaos{
		broker: t.broker, every: t.o.killEvery, limit: t.o.kills,
		random: t.random(999),
		killed: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.state.Kills++
		},
		back: func(took time.Duration) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.restarts = append(t.restarts, took)
		},
		broken: func(format string, a ...any) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.own.add(faultCrash, 1, format, a...)
			t.abort(fmt.Errorf(format, a...))
		},
	}
	c.run(left, t.state.Kills)
}

// warmUp gives everybody the time to commit once: Kafka's coordinators take their time
// to make their topics.
func (t *trial) warmUp(ctx context.Context) {
	for began := time.Now(); time.Since(began) < time.Minute && wait(ctx, 100*time.Millisecond); {
		t.mu.Lock()
		cold := slices.ContainsFunc(t.frontier, func(id transactionID) bool { return id.Number == 0 })
		t.mu.Unlock()
		if !cold {
			return
		}
	}
}

func (t *trial) random(of int) *rand.Rand {
	return rand.New(rand.NewPCG(t.o.seed, uint64(t.state.Sessions)<<32|uint64(of)))
}

// begin is called before the first record of a transaction is produced.
func (t *trial) begin(producer, count int) transactionID {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next[producer]++
	id := transactionID{t.state.Sessions, producer, t.next[producer]}
	t.ledger.begun(id, count)
	return id
}

func (t *trial) ended(id transactionID, count int, o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.journal.ended(id, count, o); err != nil {
		t.abort(err)
	}
	t.ledger.ended(id, count, o)
	if o == committed {
		t.frontier[id.Producer] = id
	}
}

// follow is the read_committed consumer that reads while the log is written.
func (t *trial) follow(ctx context.Context, live *client) {
	for ctx.Err() == nil {
		live.poll(ctx, func(f kgo.Fetches) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.ledger.take(f)
		})
	}
}

// take reads what a consumer was given.
func (l *ledger) take(f kgo.Fetches) {
	f.EachRecord(func(r *kgo.Record) {
		if at := (place{r.Topic, r.Partition}); r.Attrs.IsControl() {
			l.marker(at, r.Offset)
		} else {
			l.read(at, r.Offset, r.Value)
		}
	})
	f.EachError(func(topic string, partition int32, err error) {
		if loss := (*kgo.ErrDataLoss)(nil); errors.As(err, &loss) || errors.Is(err, kerr.OffsetOutOfRange) {
			l.found.add(faultChanged, 1, "%s-%d: %v", topic, partition, err)
		}
	})
}

// audits settles what must have been read by now, again and again: a producer's
// transactions before the last one of which it knows that it committed. They have all
// their markers, else that one could not have begun.
func (t *trial) audits(ctx context.Context) {
	for wait(ctx, 5*time.Second) {
		t.mu.Lock()
		frontier := slices.Clone(t.frontier)
		t.mu.Unlock()
		ends, err := t.ends(ctx)
		if err != nil {
			continue // the broker is gone, or the run is over
		}
		if err := t.caughtUp(ctx, ends); err != nil {
			if ctx.Err() == nil {
				t.abort(err)
			}
			return
		}
		t.mu.Lock()
		for producer, id := range frontier {
			if id.Number > 0 {
				t.ledger.settle(producer, &id)
			}
		}
		t.mu.Unlock()
	}
}

// ends are the high watermarks.
func (t *trial) ends(ctx context.Context) (map[place]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(patient(t.broker.address, 20*time.Second)...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	return listEnds(ctx, kadm.NewClient(cl).ListEndOffsets)
}

func listEnds(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error)) (map[place]int64, error) {
	offsets, err := list(ctx, append(slices.Clone(writtenTopics), madeTopic)...)
	if err != nil {
		return nil, err
	}
	if err := offsets.Error(); err != nil {
		return nil, err
	}
	ends := map[place]int64{}
	offsets.Each(func(o kadm.ListedOffset) { ends[place{o.Topic, o.Partition}] = o.Offset })
	for _, at := range allPlaces() {
		if _, ok := ends[at]; !ok {
			return nil, fmt.Errorf("no end of %s", at)
		}
	}
	return ends, nil
}

// caughtUp waits until the live reader has read everything below these offsets.
func (t *trial) caughtUp(ctx context.Context, ends map[place]int64) error {
	for began := time.Now(); ; {
		t.mu.Lock()
		behind := ""
		for at, end := range ends {
			if next := t.ledger.passage(at).Next; next < end {
				behind = fmt.Sprintf("%s: the reader is at %d, and the log was at %d %s ago", at, next, end, time.Since(began).Round(time.Second))
			}
		}
		if behind != "" && time.Since(began) > auditLimit {
			t.own.add(faultHanging, 1, "%s", behind)
			t.mu.Unlock()
			return errors.New(behind)
		}
		t.mu.Unlock()
		if behind == "" {
			return nil
		}
		if !wait(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// drain waits until the processors have consumed everything.
func (t *trial) drain(ctx context.Context) error {
	ends, err := t.ends(ctx)
	if err != nil {
		return err
	}
	// Processors write, too, but what they consume does not grow any more.
	for at := range ends {
		if at.Topic == madeTopic {
			delete(ends, at)
		}
	}
	if err := t.caughtUp(ctx, ends); err != nil {
		return err
	}
	for began := time.Now(); ; {
		t.mu.Lock()
		left := t.ledger.unmade()
		t.mu.Unlock()
		if left == 0 {
			return nil
		}
		if time.Since(began) > drainLimit {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.own.add(faultHanging, 1, "%d records were not consumed by %s %s after the last was produced", left, processorGroup, drainLimit)
			return nil // the verdict counts them
		}
		if !wait(ctx, 500*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// tick counts the time, and tells how it goes.
func (t *trial) tick(ctx context.Context) {
	const every = time.Second
	for n := 1; wait(ctx, every); n++ {
		t.mu.Lock()
		t.state.Elapsed += every
		if err := t.state.save(); err != nil {
			t.abort(err)
		}
		if n%10 == 0 {
			o := t.ledger.outcomes()
			progress("%s, %d kills; transactions: %d committed, %d aborted, %d in doubt; %d records read, %d processed",
				t.state.Elapsed, t.state.Kills, o["committed"], o["aborted"], o["doubt"], t.ledger.Records, len(t.ledger.made))
		}
		t.mu.Unlock()
	}
}

// result is what there is to say before the verdict.
func (t *trial) result() *transactionsResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.Sort(t.restarts)
	restart := "-"
	if n := len(t.restarts); n > 0 {
		restart = fmt.Sprintf("%s (median), %s (longest)", t.restarts[n/2].Round(time.Millisecond), t.restarts[n-1].Round(time.Millisecond))
	}
	return &transactionsResult{
		Broker: t.o.broker, Sessions: t.state.Sessions, Elapsed: t.state.Elapsed.String(), Kills: t.state.Kills, Restart: restart,
		Transactions: t.ledger.outcomes(), Committed: t.ledger.Records, Processed: len(t.ledger.made),
		Found: newFaults(transactionFaults...),
	}
}

// verdict reads everything again, from the beginning, when nobody writes: committed and
// uncommitted.
func (t *trial) verdict(ctx context.Context, r *transactionsResult) error {
	progress("reading everything again")
	ends, err := t.ends(ctx)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(patient(t.broker.address, 20*time.Second)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	stable, err := listEnds(ctx, kadm.NewClient(cl).ListCommittedOffsets)
	if err != nil {
		return err
	}
	for at, end := range ends {
		if stable[at] != end {
			r.Found.add(faultHanging, 1, "%s: the last stable offset is %d, and the log ends at %d", at, stable[at], end)
		}
	}

	again := newLedger(workTopic)
	for id, e := range t.ledger.transactions {
		again.begun(id, e.count)
		again.ended(id, e.count, e.outcome)
	}
	err = readAll(ctx, t.broker.address, kgo.ReadCommitted(), stable, again.take, func(at place) int64 { return again.passage(at).Next })
	if err != nil {
		return fmt.Errorf("read what is committed: %w", err)
	}
	again.settleAll()
	again.judgeSources()
	compareReads(again.found, t.ledger, again)
	r.Found.merge("in the end", again.found)
	r.DoubtWhole = again.doubtWhole()

	a := newAccount()
	err = readAll(ctx, t.broker.address, kgo.ReadUncommitted(), ends, a.take, func(at place) int64 { return a.book(at).committed.Next })
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	a.compare(again)
	r.Found.merge("log", a.found)
	r.Records, r.Markers, r.Committed = a.Records, a.Markers, again.Records
	return nil
}

func (a *account) take(f kgo.Fetches) {
	f.EachRecord(func(r *kgo.Record) {
		if at := (place{r.Topic, r.Partition}); r.Attrs.IsControl() {
			a.marker(at, r.Offset, r.ProducerID, r.Key)
		} else {
			a.record(at, r.Offset, r.ProducerID, r.Value)
		}
	})
}
