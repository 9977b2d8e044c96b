package commitlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
)

// transactional is a batch with real records.
func transactional(id int64, epoch int16, sequence int32, transactional bool, records ...string) record.Batch {
	var b record.Builder
	for _, r := range records {
		key, value, _ := strings.Cut(r, "=")
		b.Append(testNow, []byte(key), []byte(value), nil)
	}
	b.SetProducer(id, epoch, sequence, transactional)
	return slices.Clone(b.Batch())
}

func endMarker(id int64, epoch int16, coordinator int32, commit bool) record.Batch {
	key, value := []byte{0, 0, 0, 0}, make([]byte, 6)
	if commit {
		key[3] = 1
	}
	binary.BigEndian.PutUint32(value[2:], uint32(coordinator))
	var b record.Builder
	b.SetProducer(id, epoch, -1, true)
	b.SetControl()
	b.Append(testNow, key, value, nil)
	return slices.Clone(b.Batch())
}

const testNow = 1_700_000_000_000

func atTestNow(o Options) Options {
	o.Now = func() time.Time { return time.UnixMilli(testNow) }
	return o
}

// history is what was appended, with offsets.
type history []record.Batch

func (h history) end() int64 {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].NextOffset()
}

func (h *history) add(batches ...record.Batch) {
	for _, b := range batches {
		b = slices.Clone(b)
		b.SetBaseOffset(h.end())
		*h = append(*h, b)
	}
}

// naive is what a history says, computed without a thought for time.
type naive struct {
	producers map[int64]*Producer
	batches   map[int64][]ProducerBatch
	aborted   []abortedEntry // by marker
	stable    int64
}

func (h history) naive() naive {
	n := naive{producers: map[int64]*Producer{}, batches: map[int64][]ProducerBatch{}, stable: h.end()}
	for _, b := range h {
		id := b.ProducerID()
		if id < 0 {
			continue
		}
		p := n.producers[id]
		if p == nil {
			p = &Producer{ID: id, LastSequence: -1, LastOffset: -1, CoordinatorEpoch: -1, FirstOffset: -1, Epoch: b.ProducerEpoch()}
			n.producers[id] = p
		}
		if p.Epoch != b.ProducerEpoch() {
			p.Epoch, p.LastSequence, p.OffsetDelta, n.batches[id] = b.ProducerEpoch(), -1, 0, nil
		}
		p.Timestamp = testNow
		if !b.IsControl() {
			p.LastSequence, p.LastOffset, p.OffsetDelta = b.BaseSequence()+b.LastOffsetDelta(), b.LastOffset(), b.LastOffsetDelta()
			n.batches[id] = append(n.batches[id], ProducerBatch{b.LastOffsetDelta() + 1, p.LastSequence, p.LastOffset})
			if b.IsTransactional() && p.FirstOffset < 0 {
				p.FirstOffset = b.BaseOffset()
			}
			continue
		}
		var r record.Reader
		_ = r.Reset(b, len(b))
		r.Next()
		p.CoordinatorEpoch = int32(binary.BigEndian.Uint32(r.Record().Value[2:]))
		first := p.FirstOffset
		p.FirstOffset = -1
		if first < 0 || r.Record().Key[3] == 1 {
			continue
		}
		e := abortedEntry{AbortedTransaction{id, first, b.BaseOffset()}, b.NextOffset()}
		for _, o := range n.producers {
			if o.FirstOffset >= 0 {
				e.stable = min(e.stable, o.FirstOffset)
			}
		}
		n.aborted = append(n.aborted, e)
	}
	for _, p := range n.producers {
		if p.FirstOffset >= 0 {
			n.stable = min(n.stable, p.FirstOffset)
		}
	}
	return n
}

// abortedBetween is what Aborted should say.
func (n *naive) abortedBetween(from, to int64) (list []AbortedTransaction) {
	for _, e := range n.aborted {
		if e.LastOffset >= from && e.FirstOffset < to {
			list = append(list, e.AbortedTransaction)
		}
	}
	slices.SortFunc(list, func(a, b AbortedTransaction) int { return int(a.FirstOffset - b.FirstOffset) })
	return list
}

// compareWith says where a log knows other than h does.
func (h history) compareWith(l *Log) error {
	n := h.naive()
	producers, err := l.Producers()
	if err != nil {
		return err
	}
	if len(producers) != len(n.producers) {
		return fmt.Errorf("%d producers, want %d", len(producers), len(n.producers))
	}
	for _, p := range producers {
		want, batches := *n.producers[p.ID], n.batches[p.ID]
		for i, b := range p.Earlier {
			if j := len(batches) - 2 - i; b.Records > 0 && (j < 0 || batches[j] != b) {
				return fmt.Errorf("producer %+v: batch %+v, of %+v", p, b, batches)
			}
		}
		p.Earlier = [4]ProducerBatch{}
		if p.LastSequence < 0 { // then nobody asks how long the last batch was
			p.OffsetDelta = want.OffsetDelta
		}
		if p != want {
			return fmt.Errorf("producer %+v, want %+v", p, want)
		}
	}
	for _, r := range [][2]int64{{l.Start(), h.end()}, {(l.Start() + h.end()) / 2, h.end()}, {l.Start(), (l.Start() + h.end()) / 2}} {
		have, err := l.Aborted(r[0], r[1])
		if want := n.abortedBetween(r[0], r[1]); err != nil || !slices.Equal(have, want) {
			return fmt.Errorf("aborted from %d to %d: %v, want %v (%w)", r[0], r[1], have, want, err)
		}
	}
	if stable, err := l.lastStable(); err != nil || stable != n.stable {
		return fmt.Errorf("last stable %d, want %d (%w)", stable, n.stable, err)
	}
	return nil
}

// checkTxnFiles reads the indexes of a closed store by itself: Kafka's AbortedTxn is version, producer id, first offset, last
// offset, and last stable offset, big-endian.
func (h history) checkTxnFiles(fsys *MemFS, l *Log) error {
	n := h.naive()
	entries, err := fsys.ReadDir(l.dir)
	if err != nil {
		return err
	}
	var bases []int64
	for _, e := range entries {
		if base, ok := parseSegmentName(e.Name, ".log"); ok {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	for i, base := range bases {
		end := h.end()
		if i+1 < len(bases) {
			end = bases[i+1]
		}
		var want bytes.Buffer
		for _, e := range n.aborted {
			if e.LastOffset >= base && e.LastOffset < end {
				_ = binary.Write(&want, binary.BigEndian, struct {
					Version                           int16
					Producer, First, Last, LastStable int64
				}{0, e.ProducerID, e.FirstOffset, e.LastOffset, e.stable})
			}
		}
		if end <= l.start.Load() {
			continue // its removal was under way at the crash
		}
		have, err := readFile(fsys, fmt.Sprintf("%s/%020d.txnindex", l.dir, base))
		if err != nil && want.Len() > 0 {
			return err
		}
		if !bytes.Equal(have, want.Bytes()) {
			return fmt.Errorf("segment %d to %d:\n% x\nwant\n% x", base, end, have, want.Bytes())
		}
	}
	return nil
}

// transactionsAtWork appends transactions to one log, and cuts it now and then, at its end or at its start.
type transactionsAtWork struct {
	rnd       *rand.Rand
	truncates bool
	history   history // what was appended
	states    []history
	confirmed int // operations
	waits     []waitFor
	sequences map[[2]int64]int32
	epochs    map[int64]int16
}

func newTransactionsAtWork(seed uint64, truncates bool) *transactionsAtWork {
	return &transactionsAtWork{
		rnd: rand.New(rand.NewPCG(seed, 2)), truncates: truncates, states: []history{nil},
		sequences: map[[2]int64]int32{}, epochs: map[int64]int16{},
	}
}

func (w *transactionsAtWork) settle() error {
	for len(w.waits) > 0 {
		c := w.waits[0]
		w.waits = w.waits[1:]
		if err := <-c; err != nil {
			return err
		}
		w.confirmed++
	}
	return nil
}

func (w *transactionsAtWork) append(l *Log, batches ...record.Batch) error {
	c := make(waitFor, 1)
	if _, err := l.Append(bytes.Join(asBytes(batches), nil), c); err != nil {
		return err
	}
	w.history.add(batches...)
	w.states = append(w.states, slices.Clone(w.history))
	w.waits = append(w.waits, c)
	return nil
}

func (w *transactionsAtWork) data(id int64, txn bool) record.Batch {
	epoch := w.epochs[id]
	n := 1 + w.rnd.IntN(3)
	records := make([]string, n)
	for i := range records {
		records[i] = fmt.Sprintf("k%d=%s", w.rnd.IntN(5), strings.Repeat("v", w.rnd.IntN(300)))
	}
	key := [2]int64{id, int64(epoch)}
	sequence := w.sequences[key]
	w.sequences[key] += int32(n)
	return transactional(id, epoch, sequence, txn, records...)
}

func (w *transactionsAtWork) step(s *Store, l *Log) error {
	id := w.rnd.Int64N(4)
	switch n := w.rnd.IntN(100); {
	case n < 40:
		if err := w.append(l, w.data(id, id > 0)); err != nil {
			return err
		}
	case n < 50:
		if err := w.append(l, w.data(id, id > 0), batchOf(strings.Repeat("p", w.rnd.IntN(300)), 1, testNow)); err != nil {
			return err
		}
	case n < 75 && id > 0:
		if w.rnd.IntN(3) == 0 {
			w.epochs[id]++
		}
		if err := w.append(l, endMarker(id, w.epochs[id], int32(w.rnd.IntN(3)), w.rnd.IntN(2) == 0)); err != nil {
			return err
		}
	case n < 80:
		if err := w.settle(); err != nil {
			return err
		}
		if w.truncates {
			return w.truncate(l)
		}
		return l.AdvanceStart(l.Start() + w.rnd.Int64N(l.Stable()-l.Start()+1)/3)
	case n < 86:
		return s.Checkpoint(context.Background())
	case n < 90:
		_, err := l.Producers()
		return err
	case n < 93:
		_, err := l.Aborted(l.Start(), l.Stable())
		return err
	default:
		return w.settle()
	}
	if len(w.waits) > 6 {
		return w.settle()
	}
	return nil
}

func (w *transactionsAtWork) truncate(l *Log) error {
	if len(w.history) == 0 {
		return nil
	}
	n := len(w.history) - w.rnd.IntN(min(len(w.history), 6))
	offset := w.history[:n].end()
	w.history = slices.Clone(w.history[:n])
	w.states = append(w.states, slices.Clone(w.history))
	if err := l.TruncateTo(offset); err != nil {
		return err
	}
	w.confirmed++
	return nil
}

func (w *transactionsAtWork) run(s *Store, steps int) *Log {
	l, err := s.OpenLog(logID(1), "log1-1", Config{SegmentBytes: 2500})
	for range steps {
		if err != nil {
			return l
		}
		err = w.step(s, l)
	}
	_ = w.settle()
	return l
}

// recovered is the state that the log is in.
func (w *transactionsAtWork) recovered(l *Log) (history, error) {
	for k := w.confirmed; k < len(w.states); k++ {
		if w.states[k].end() == l.End() && w.sameBatches(l, w.states[k]) {
			return w.states[k], nil
		}
	}
	return nil, fmt.Errorf("no state from %d to %d ends at %d", w.confirmed, len(w.states)-1, l.End())
}

func (w *transactionsAtWork) sameBatches(l *Log, h history) bool {
	list, err := readFrom(l, l.Start(), 1<<20)
	if err != nil || len(list) > len(h) {
		return false
	}
	for i, g := range list {
		if b := h[len(h)-len(list)+i]; g.base != b.BaseOffset() || g.value != string(b[record.HeaderSize:]) {
			return false
		}
	}
	return true
}

// TestTransactionsCrashAnywhere crashes at calls that change the disk, and compares what the log knows of producers and of
// aborted transactions with its history; then goes on, closes, reads Kafka's files, and takes some of them away.
func TestTransactionsCrashAnywhere(t *testing.T) {
	const steps = 70
	runs := 0
	for seed := uint64(1); seed <= 8; seed++ {
		fsys := NewMemFS()
		w := newTransactionsAtWork(seed, seed%2 == 0)
		s := open(t, fsys, atTestNow(small()))
		l := w.run(s, steps)
		if err := w.history.compareWith(l); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		closeStore(t, s)
		calls := fsys.Count(OpAny)
		step := 7
		if testing.Short() {
			step = 41
		}
		for n := 1 + int(seed)%step; n < calls; n += step {
			if err := crashTransactions(t, seed, steps, n); err != nil {
				t.Fatalf("seed %d, call %d: %v", seed, n, err)
			}
			runs++
		}
	}
	t.Logf("%d crashes", runs)
}

func crashTransactions(t *testing.T, seed uint64, steps, n int) error {
	fsys := NewMemFS()
	fsys.StopAt(n)
	w := newTransactionsAtWork(seed, seed%2 == 0)
	if s, err := Open(fsys, atTestNow(small())); err == nil {
		w.run(s, steps)
		_ = s.Close()
	}
	fsys = fsys.Crash(seed + uint64(n))
	s, err := Open(fsys, atTestNow(small()))
	if err != nil {
		return err
	}
	l := openLog(t, s, 1, Config{SegmentBytes: 2500})
	h, err := w.recovered(l)
	if err == nil && n%2 == 0 {
		err = h.compareWith(l)
	}
	if err != nil {
		_ = s.Close()
		return err
	}
	// It goes on, with or without having been asked.
	w.history, w.states, w.confirmed, w.waits = slices.Clone(h), []history{h}, 0, nil
	w.truncates = false
	for range 20 {
		if err := w.step(s, l); err != nil {
			return err
		}
	}
	if err := w.settle(); err != nil {
		return err
	}
	h = w.history
	if err := h.compareWith(l); err != nil {
		return fmt.Errorf("after the recovery: %w", err)
	}
	closeStore(t, s)
	if err := h.checkTxnFiles(fsys, l); err != nil {
		return err
	}
	// Some files are lost or damaged.
	if l.Start() > 0 {
		return nil // what was before may have been removed: a transaction from there is not the same any more
	}
	entries, err := fsys.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := l.dir + "/" + e.Name
		size, err := fsys.Stat(name)
		if err != nil {
			return err
		}
		if strings.HasSuffix(e.Name, ".txnindex") && w.rnd.IntN(2) == 0 {
			if err := fsys.Remove(name); err != nil {
				return err
			}
		} else if strings.HasSuffix(e.Name, ".txnindex") && size > 0 && w.rnd.IntN(2) == 0 {
			f, err := fsys.OpenFile(name, false)
			if err == nil {
				_, err = f.WriteAt([]byte{9}, w.rnd.Int64N(size/txnIndexEntry)*txnIndexEntry)
			}
			if err != nil {
				return err
			}
			_ = f.Close()
		}
	}
	s = open(t, fsys, atTestNow(small()))
	l = openLog(t, s, 1, Config{SegmentBytes: 2500})
	if err := h.compareWith(l); err != nil {
		return fmt.Errorf("without some indexes: %w", err)
	}
	closeStore(t, s)
	return h.checkTxnFiles(fsys, l)
}

// TestCompactTransactions shows that compaction drops what was aborted, leaves alone what is open, and drops an end marker
// only when nothing of its transaction was left before; and that committed reads see the same before and after.
func TestCompactTransactions(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, atTestNow(small()))
	c := Config{SegmentBytes: 400, TombstoneAge: time.Hour}
	l := openLog(t, s, 1, c)
	filler := func() {
		for range 8 {
			put(t, l, transactional(9, 0, 0, false, "f="+strings.Repeat("f", 60)))
		}
		if err := s.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	put(t, l, transactional(-1, -1, -1, false, "a=old", "b=old"))
	put(t, l, transactional(1, 0, 0, true, "a=aborted", "x=aborted"))
	put(t, l, transactional(2, 0, 0, true, "b=new"))
	put(t, l, endMarker(1, 0, 0, false))
	put(t, l, endMarker(2, 0, 0, true))
	put(t, l, transactional(1, 0, 2, true, "c=committed"))
	put(t, l, endMarker(1, 0, 0, true))
	filler()
	openAt := put(t, l, transactional(3, 0, 0, true, "a=open"))
	put(t, l, transactional(-1, -1, -1, false, "b=newest", "c=newest"))
	filler()
	compact := func(later time.Duration) {
		t.Helper()
		for range 2 {
			if err := l.Compact(context.Background(), 0, time.UnixMilli(testNow).Add(later)); err != nil {
				t.Fatal(err)
			}
		}
	}
	compact(time.Minute)
	data, markers, headers := contents(t, l)
	want := []string{"a=old", "b=new", "c=committed"}
	if !slices.Equal(data[:3], want) || !slices.Contains(data, "a=open") || !slices.Contains(data, "b=newest") || markers != 3 {
		t.Errorf("%v and %d markers, want %v first, and 3", data, markers, want)
	}
	if aborted, err := l.Aborted(0, l.Stable()); err != nil || len(aborted) != 1 {
		t.Errorf("aborted %v, %v", aborted, err)
	}
	if headers != 0 {
		t.Errorf("%d batches without records", headers)
	}
	if stable, err := l.lastStable(); err != nil || stable != openAt {
		t.Errorf("last stable %d, want %d (%v)", stable, openAt, err)
	}
	put(t, l, endMarker(3, 0, 0, true))
	filler()
	compact(2 * time.Hour)
	data, markers, headers = contents(t, l)
	if got := slices.DeleteFunc(data, func(d string) bool { return d[0] == 'f' }); !slices.Equal(got, []string{"a=open", "b=newest", "c=newest"}) {
		t.Errorf("%v", got)
	}
	// The first transactions have gone with their markers, but the last batches of 1 and 2 tell of their sequences. What was
	// aborted is not in the index any more: a reader would leave out the producer's next transaction.
	if markers != 1 || headers != 2 {
		t.Errorf("%d markers, %d batches without records", markers, headers)
	}
	if aborted, err := l.Aborted(0, l.Stable()); err != nil || len(aborted) != 0 {
		t.Errorf("aborted %v, %v", aborted, err)
	}
	before, err := l.Producers()
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	entries, err := fsys.ReadDir(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name, snapshotExtension) {
			if err := fsys.Remove(l.dir + "/" + e.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = open(t, fsys, atTestNow(small()))
	l = openLog(t, s, 1, c)
	after, err := l.Producers()
	if err != nil || len(after) != len(before) {
		t.Fatalf("producers %+v, want %+v (%v)", after, before, err)
	}
	for i := range after {
		a, b := after[i], before[i]
		if a.LastSequence != b.LastSequence || a.LastOffset != b.LastOffset || a.FirstOffset != -1 {
			t.Errorf("producer %+v, want %+v", a, b)
		}
	}
	closeStore(t, s)
}

// contents are the records of a log in order, and how many end markers and batches without records there are.
func contents(t *testing.T, l *Log) (data []string, markers, headers int) {
	t.Helper()
	for offset := l.Start(); offset < l.Stable(); {
		buf, err := l.Read(offset, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(buf) == 0 {
			break
		}
		for len(buf) > 0 {
			b, rest, err := record.Next(buf)
			if err != nil {
				t.Fatal(err)
			}
			var r record.Reader
			if err := r.Reset(b, 1<<20); err != nil {
				t.Fatal(err)
			}
			n := 0
			for ; r.Next(); n++ {
				if !b.IsControl() {
					data = append(data, fmt.Sprintf("%s=%s", r.Record().Key, r.Record().Value))
				}
			}
			switch {
			case b.IsControl():
				markers++
			case n == 0:
				headers++
			}
			buf, offset = rest, b.NextOffset()
		}
	}
	return data, markers, headers
}

// TestProducersExpire shows that idle producers are forgotten, but not those with an open transaction.
func TestProducersExpire(t *testing.T) {
	now := time.UnixMilli(testNow)
	o := small()
	o.Now = func() time.Time { return now }
	o.ProducerExpiration = time.Hour
	fsys := NewMemFS()
	s := open(t, fsys, o)
	l := openLog(t, s, 1, Config{})
	put(t, l, transactional(1, 0, 0, false, "a=1"))
	put(t, l, transactional(2, 0, 0, true, "a=1"))
	now = now.Add(59 * time.Minute)
	put(t, l, transactional(3, 0, 0, false, "a=1"))
	ids := func() (ids []int64) {
		list, err := l.Producers()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			ids = append(ids, p.ID)
		}
		return ids
	}
	if have := ids(); !slices.Equal(have, []int64{1, 2, 3}) {
		t.Errorf("producers %v", have)
	}
	now = now.Add(2 * time.Minute)
	put(t, l, transactional(-1, -1, -1, false, "a=1"))
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	if have := ids(); !slices.Equal(have, []int64{2, 3}) {
		t.Errorf("producers %v", have)
	}
	closeStore(t, s)
	now = now.Add(2 * time.Hour)
	s = open(t, fsys, o)
	l = openLog(t, s, 1, Config{})
	if have := ids(); !slices.Equal(have, []int64{2}) {
		t.Errorf("producers %v", have)
	}
	closeStore(t, s)
}

// TestWithoutProducers shows that a log that never had a producer is known as such over a crash, and that nobody reads it
// to find out.
func TestWithoutProducers(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	l := openLog(t, s, 1, Config{SegmentBytes: 1000})
	fill(t, l, 0, 50)
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 50, 60)
	fsys = crashed(s, fsys)
	s = open(t, fsys, small())
	l = openLog(t, s, 1, Config{})
	if l.Produced() {
		t.Error("a log without producers is to be searched for them")
	}
	put(t, l, produced(1, 0, 0, 1, true))
	if !l.Produced() {
		t.Error("a log with a producer is not to be searched")
	}
	fsys = crashed(s, fsys)
	s = open(t, fsys, small())
	if l = openLog(t, s, 1, Config{}); !l.Produced() {
		t.Error("forgotten in a crash")
	}
	closeStore(t, s)
	if _, err := fsys.Stat(l.dir + "/" + fmt.Sprintf("%020d.snapshot", 61)); err != nil {
		t.Error(err)
	}
	entries, err := fsys.ReadDir(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(entries, func(e Entry) bool { return strings.HasSuffix(e.Name, ".tmp") }) {
		t.Errorf("%v", entries)
	}
}

// TestAdoptTransactions shows that the transactions in a directory of Kafka's are known, with its indexes, which are there
// only for segments with aborted transactions, and without any.
func TestAdoptTransactions(t *testing.T) {
	source := NewMemFS()
	w := newTransactionsAtWork(3, true)
	s := open(t, source, atTestNow(small()))
	l := w.run(s, 80)
	closeStore(t, s)
	entries, err := source.ReadDir(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, wiped := range []bool{false, true} {
		fsys := NewMemFS()
		if err := fsys.MkdirAll(l.dir); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			p, err := readFile(source, l.dir+"/"+e.Name)
			if err != nil {
				t.Fatal(err)
			}
			index := strings.HasSuffix(e.Name, "index")
			if wiped && index || strings.HasSuffix(e.Name, ".txnindex") && len(p) == 0 {
				continue
			}
			overwrite(t, fsys, l.dir+"/"+e.Name, p)
		}
		s = open(t, fsys, atTestNow(small()))
		l := openLog(t, s, 1, Config{SegmentBytes: 2500})
		if err := w.history.compareWith(l); err != nil {
			t.Errorf("without indexes %t: %v", wiped, err)
		}
		put(t, l, transactional(1, 9, 0, true, "a=1"))
		h := slices.Clone(w.history)
		h.add(transactional(1, 9, 0, true, "a=1"))
		fsys = crashed(s, fsys)
		s = open(t, fsys, atTestNow(small()))
		if err := h.compareWith(openLog(t, s, 1, Config{})); err != nil {
			t.Errorf("without indexes %t, after a crash: %v", wiped, err)
		}
		closeStore(t, s)
	}
}
