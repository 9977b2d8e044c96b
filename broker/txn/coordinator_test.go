package txn

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

var p0, p1, p2 = TopicPartition{"a", 0}, TopicPartition{"a", 1}, TopicPartition{"b", 0}

// inBubble runs f with a coordinator over nothing.
func inBubble(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, commitlog.NewMemFS(), nil)
		defer func() { r.close() }()
		f(t, r)
	})
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func (r *rig) produce(at TopicPartition, producerID int64, epoch int16, value string) {
	r.t.Helper()
	d, err := r.dataLog(at)
	if err == nil {
		err = d.produce(producerID, epoch, value)
	}
	if err != nil {
		r.t.Error(err)
	}
}

func (r *rig) wantMarkers(at TopicPartition, want ...string) {
	r.t.Helper()
	d, err := r.dataLog(at)
	if err != nil {
		r.t.Fatal(err)
	}
	if got := d.markers(r.t); !reflect.DeepEqual(got, want) {
		r.t.Errorf("markers of %v: %q, want %q", at, got, want)
	}
}

// TestVersion1 is a producer before KIP-890: it adds partitions, and keeps its epoch.
func TestVersion1(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, code := r.init("x")
		want(t, "init", code, 0)
		want(t, "admit what was not added", r.c.Admit(t.Context(), "x", id, epoch, "a", 0, false), codeInvalidTxnState)
		want(t, "add", r.add("x", id, epoch, p0, p1), 0)
		want(t, "add again", r.add("x", id, epoch, p1), 0)
		want(t, "add what is not there", r.add("x", id, epoch, TopicPartition{"a", 10}), codeUnknownTopicOrPartition)
		want(t, "add offsets", r.addOffsets("x", id, epoch, "g"), 0)
		want(t, "admit", r.c.Admit(t.Context(), "x", id, epoch, "a", 0, false), 0)
		want(t, "admit what was not added", r.c.Admit(t.Context(), "x", id, epoch, "b", 0, false), codeInvalidTxnState)
		want(t, "admit offsets", r.c.AdmitOffsets(t.Context(), "x", id, epoch, "g", false), 0)
		want(t, "admit other offsets", r.c.AdmitOffsets(t.Context(), "x", id, epoch, "h", false), codeInvalidTxnState)
		want(t, "state", r.state("x"), "Ongoing")
		r.produce(p0, id, epoch, "1")
		nextID, nextEpoch, code := r.end("x", 3, id, epoch, true)
		want(t, "end", code, 0)
		want(t, "id in the answer", nextID, noID)
		want(t, "epoch in the answer", nextEpoch, noEpoch)
		synctest.Wait()
		want(t, "state", r.state("x"), "CompleteCommit")
		_, _, code = r.end("x", 3, id, epoch, true)
		want(t, "end again", code, 0)
		_, _, code = r.end("x", 3, id, epoch, false)
		want(t, "the other end", code, codeInvalidTxnState)
		marker := fmt.Sprintf("%d/%d true", id, epoch)
		r.wantMarkers(p0, marker)
		r.wantMarkers(p1, marker)
		r.wantMarkers(p2)
		if got := r.group("g").markers(t); !reflect.DeepEqual(got, []string{marker}) {
			t.Errorf("markers of the group: %q", got)
		}
		if d, _ := r.dataLog(TopicPartition{OffsetsTopicName, partitionOf("g", offsetsPartitions)}); len(d.events(t)) > 0 {
			t.Error("a marker in the offsets beside the group's own")
		}
		// The next one, aborted. It need not wait for the first.
		want(t, "add", r.add("x", id, epoch, p2), 0)
		_, _, code = r.end("x", 3, id, epoch, false)
		want(t, "abort", code, 0)
		synctest.Wait()
		r.wantMarkers(p0, marker)
		r.wantMarkers(p2, fmt.Sprintf("%d/%d false", id, epoch))
	})
}

// TestVersion2 is a producer of KIP-890: it just produces, and its epoch rises.
func TestVersion2(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		for round := range int16(3) {
			want(t, "epoch", epoch, round)
			want(t, "admit", r.c.Admit(t.Context(), "x", id, epoch, "a", 0, true), 0)
			want(t, "admit again", r.c.Admit(t.Context(), "x", id, epoch, "a", 0, true), 0)
			a, codes := r.c.Enter(t.Context(), "x", id, epoch, []TopicPartition{p2, p1}, true)
			if codes != nil {
				t.Fatal(codes)
			}
			a.Release()
			a.Release()
			want(t, "admit offsets", r.c.AdmitOffsets(t.Context(), "x", id, epoch, "g", true), 0)
			nextID, nextEpoch, code := r.end("x", 5, id, epoch, true)
			want(t, "end", code, 0)
			want(t, "id", nextID, id)
			want(t, "epoch", nextEpoch, epoch+1)
			synctest.Wait()
			_, again, code := r.end("x", 5, id, epoch, true)
			want(t, "end again", code, 0)
			want(t, "epoch again", again, nextEpoch)
			want(t, "admit late", r.c.Admit(t.Context(), "x", id, epoch, "a", 0, true), codeInvalidProducerEpoch)
			epoch = nextEpoch
		}
		r.wantMarkers(p1, fmt.Sprintf("%d/1 true", id), fmt.Sprintf("%d/2 true", id), fmt.Sprintf("%d/3 true", id))
		// An abort without a transaction.
		_, nextEpoch, code := r.end("x", 5, id, epoch, false)
		want(t, "abort of nothing", code, 0)
		want(t, "epoch", nextEpoch, epoch+1)
		synctest.Wait()
		want(t, "state", r.state("x"), "CompleteAbort")
		_, _, code = r.end("x", 5, id, nextEpoch, true)
		want(t, "commit of nothing", code, codeInvalidTxnState)
	})
}

// TestFencing takes a transactional id from a producer with an open transaction.
func TestFencing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		r.add("x", id, epoch, p0)
		r.produce(p0, id, epoch, "old")
		_, _, code := r.init("x")
		want(t, "init over an open transaction", code, codeConcurrentTransactions)
		synctest.Wait()
		newID, newEpoch, code := r.init("x")
		want(t, "init again", code, 0)
		want(t, "id", newID, id)
		want(t, "epoch", newEpoch, epoch+2)
		r.wantMarkers(p0, fmt.Sprintf("%d/%d false", id, epoch+1))
		for version, fenced := range map[int16]int16{1: codeInvalidProducerEpoch, 2: codeProducerFenced, 5: codeProducerFenced} {
			_, _, code = r.end("x", version, id, epoch, true)
			want(t, fmt.Sprintf("commit of the fenced, version %d", version), code, fenced)
		}
		want(t, "add of the fenced", r.add("x", id, epoch, p0), codeProducerFenced)
		want(t, "offsets of the fenced", r.c.AdmitOffsets(t.Context(), "x", id, epoch, "g", true), codeInvalidProducerEpoch)
		want(t, "add with another id", r.add("x", id+1, epoch, p0), codeInvalidProducerIDMapping)
		want(t, "add without init", r.add("y", id, epoch, p0), codeInvalidProducerIDMapping)
		_, _, code = r.initWith("x", 3, id, epoch)
		want(t, "init of the fenced, version 3", code, codeInvalidProducerEpoch)
		_, _, code = r.initWith("x", 4, id, epoch)
		want(t, "init of the fenced, version 4", code, codeProducerFenced)
		_, newest, code := r.initWith("x", 4, id, newEpoch)
		want(t, "init of the newest", code, 0)
		_, again, code := r.initWith("x", 4, id, newEpoch)
		want(t, "the same again", code, 0)
		want(t, "the same epoch", again, newest)
	})
}

func TestInvalidRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		req := kmsg.NewPtrInitProducerIDRequest()
		first := r.c.InitProducerID(t.Context(), req)
		second := r.c.InitProducerID(t.Context(), req)
		if first.ErrorCode != 0 || first.ProducerEpoch != 0 || second.ProducerID <= first.ProducerID {
			t.Errorf("idempotent producers: %+v, %+v", first, second)
		}
		if r.made {
			t.Error("an idempotent producer has made the log of transactions")
		}
		for _, row := range []struct {
			id      string
			timeout int32
			pid     int64
			epoch   int16
			code    int16
		}{
			{"", 1, noID, noEpoch, codeInvalidRequest},
			{string(make([]byte, 1<<15)), 1, noID, noEpoch, codeInvalidRequest},
			{"x", 0, noID, noEpoch, codeInvalidTxnTimeout},
			{"x", -1, noID, noEpoch, codeInvalidTxnTimeout},
			{"x", 900_001, noID, noEpoch, codeInvalidTxnTimeout},
			{"x", 1, 5, noEpoch, codeInvalidRequest},
			{"x", 1, noID, 5, codeInvalidRequest},
			{"x", 1, -2, -2, codeInvalidRequest},
			{"x", 900_000, noID, noEpoch, codeNone},
		} {
			req.Version, req.TransactionalID, req.TransactionTimeoutMillis = 5, &row.id, row.timeout
			req.ProducerID, req.ProducerEpoch = row.pid, row.epoch
			if got := r.c.InitProducerID(t.Context(), req).ErrorCode; got != row.code {
				t.Errorf("%+v: code %d", row, got)
			}
		}
		want(t, "add without id", r.add("", 1, 1, p0), codeInvalidRequest)
		want(t, "admit without id", r.c.Admit(t.Context(), "", 1, 1, "a", 0, true), codeInvalidRequest)
		_, _, code := r.end("", 5, 1, 1, true)
		want(t, "end without id", code, codeInvalidRequest)
		// All or none.
		id, epoch, _ := r.init("y")
		add := kmsg.NewPtrAddPartitionsToTxnRequest()
		add.Version, add.TransactionalID, add.ProducerID, add.ProducerEpoch = 0, "y", id, epoch
		add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "a", Partitions: []int32{0, 77}}}
		got := r.c.AddPartitionsToTxn(t.Context(), add).Topics[0].Partitions
		if got[0].ErrorCode != codeOperationNotAttempted || got[1].ErrorCode != codeUnknownTopicOrPartition {
			t.Errorf("one of two is not there: %+v", got)
		}
		want(t, "state", r.state("y"), "Empty")
	})
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, commitlog.NewMemFS(), func(o *Options) { o.MaxIDs = 2 })
		defer r.close()
		for i, code := range []int16{0, 0, codePolicyViolation} {
			_, _, got := r.init(fmt.Sprint(i))
			want(t, "init", got, code)
		}
		id, epoch, _ := r.init("0")
		for i := range maxGroups {
			if code := r.addOffsets("0", id, epoch, fmt.Sprint(i)); code != 0 {
				t.Fatal(code)
			}
		}
		want(t, "too many groups", r.addOffsets("0", id, epoch, "x"), codePolicyViolation)
	})
}

// TestVerifyOnly is what brokers ask, several transactions at once.
func TestVerifyOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		id2, epoch2, _ := r.init("y")
		r.add("x", id, epoch, p0)
		req := kmsg.NewPtrAddPartitionsToTxnRequest()
		in := []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: "a", Partitions: []int32{0, 1}}}
		req.Transactions = []kmsg.AddPartitionsToTxnRequestTransaction{
			{TransactionalID: "x", ProducerID: id, ProducerEpoch: epoch, VerifyOnly: true, Topics: in},
			{TransactionalID: "x", ProducerID: id, ProducerEpoch: epoch - 1, VerifyOnly: true, Topics: in},
			{TransactionalID: "y", ProducerID: id2, ProducerEpoch: epoch2, Topics: in},
			{TransactionalID: "z", ProducerID: id, ProducerEpoch: epoch, VerifyOnly: true, Topics: in},
		}
		for version, missing := range map[int16]int16{4: codeInvalidTxnState, 5: codeTransactionAbortable} {
			req.Version = version
			resp := r.c.AddPartitionsToTxn(t.Context(), req)
			var got [][2]int16
			for _, txn := range resp.Transactions {
				got = append(got, [2]int16{txn.Topics[0].Partitions[0].ErrorCode, txn.Topics[0].Partitions[1].ErrorCode})
			}
			wanted := [][2]int16{
				{0, missing},
				{codeProducerFenced, codeProducerFenced},
				{0, 0},
				{codeInvalidProducerIDMapping, codeInvalidProducerIDMapping},
			}
			if !reflect.DeepEqual(got, wanted) {
				t.Errorf("version %d: %v", version, got)
			}
		}
		want(t, "state of y", r.state("y"), "Ongoing")
	})
}

// TestTimeout leaves a transaction open.
func TestTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		time.Sleep(time.Hour) // no transaction is open
		want(t, "add", r.add("x", id, epoch, p0), 0)
		r.produce(p0, id, epoch, "1")
		time.Sleep(30 * time.Second)
		want(t, "add", r.add("x", id, epoch, p1), 0)
		time.Sleep(29 * time.Second)
		want(t, "state", r.state("x"), "Ongoing")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want(t, "state", r.state("x"), "CompleteAbort")
		r.wantMarkers(p0, fmt.Sprintf("%d/%d false", id, epoch+1))
		_, _, code := r.end("x", 3, id, epoch, true)
		want(t, "commit, version 1", code, codeProducerFenced)
		_, _, code = r.end("x", 5, id, epoch, true)
		want(t, "commit, version 2", code, codeInvalidTxnState)
		_, next, code := r.end("x", 5, id, epoch, false)
		want(t, "abort, version 2", code, 0)
		want(t, "epoch", next, epoch+1)
		// Two at once, in the other order of their beginning.
		id2, epoch2, _ := r.init("y")
		want(t, "add", r.add("y", id2, epoch2, p1), 0)
		time.Sleep(time.Second)
		want(t, "add", r.add("x", id, next, p1), 0)
		time.Sleep(59*time.Second + time.Millisecond)
		synctest.Wait()
		want(t, "y", r.state("y"), "CompleteAbort")
		want(t, "x", r.state("x"), "Ongoing")
		time.Sleep(time.Second)
		synctest.Wait()
		want(t, "x", r.state("x"), "CompleteAbort")
	})
}

// TestRestart finds open, prepared and finished transactions again.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, commitlog.NewMemFS(), nil)
		defer func() { r.close() }()
		id, epoch, _ := r.init("open")
		r.add("open", id, epoch, p0)
		r.produce(p0, id, epoch, "open")
		id2, epoch2, _ := r.init("prepared")
		r.add("prepared", id2, epoch2, p0, p2)
		r.addOffsets("prepared", id2, epoch2, "g")
		id3, _, _ := r.init("rotated")
		r.c.mu.Lock()
		r.c.transactions["rotated"].current.epoch = maxEpoch - 1
		r.c.mu.Unlock()
		const epoch3 = maxEpoch - 1
		want(t, "admit", r.c.Admit(t.Context(), "rotated", id3, epoch3, "a", 1, true), 0)
		next3, nextEpoch3, code := r.end("rotated", 5, id3, epoch3, true)
		want(t, "end", code, 0)
		want(t, "epoch", nextEpoch3, 0)
		if next3 == id3 {
			t.Error("the same id")
		}
		synctest.Wait()
		r.refuse = func(TopicPartition) error { return commitlog.ErrFull } // no marker yet
		_, _, code = r.end("prepared", 3, id2, epoch2, true)
		want(t, "end", code, 0)
		synctest.Wait()
		want(t, "state", r.state("prepared"), "PrepareCommit")
		want(t, "add meanwhile", r.addOffsets("prepared", id2, epoch2, "g"), codeConcurrentTransactions)

		r = r.reopen()
		synctest.Wait()
		want(t, "prepared", r.state("prepared"), "CompleteCommit")
		r.wantMarkers(p2, fmt.Sprintf("%d/%d true", id2, epoch2))
		if got := r.group("g").markers(t); len(got) != 2 { // once before, once after
			t.Errorf("markers of the group: %q", got)
		}
		want(t, "open", r.state("open"), "Ongoing")
		_, _, code = r.end("prepared", 3, id2, epoch2, true)
		want(t, "end again", code, 0)
		id4, epoch4, code := r.end("rotated", 5, id3, epoch3, true)
		want(t, "end again", code, 0)
		want(t, "id", id4, next3)
		want(t, "epoch", epoch4, 0)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		want(t, "open", r.state("open"), "CompleteAbort")
		r.wantMarkers(p0, fmt.Sprintf("%d/%d true", id2, epoch2), fmt.Sprintf("%d/%d false", id, epoch+1))
	})
}

// TestRetriedInitAfterRestart: lastEpoch survives.
func TestRetriedInitAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, commitlog.NewMemFS(), nil)
		defer func() { r.close() }()
		id, epoch, _ := r.init("x")
		_, next, _ := r.initWith("x", 5, id, epoch)
		r = r.reopen()
		_, again, code := r.initWith("x", 5, id, epoch)
		want(t, "code", code, 0)
		want(t, "epoch", again, next)
	})
}

// TestDeletedTopic: what is gone needs no marker.
func TestDeletedTopic(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		r.add("x", id, epoch, p0, p2)
		r.mu.Lock()
		r.deleted["a"] = true
		r.mu.Unlock()
		_, _, code := r.end("x", 3, id, epoch, true)
		want(t, "end", code, 0)
		synctest.Wait()
		want(t, "state", r.state("x"), "CompleteCommit")
		r.wantMarkers(p2, fmt.Sprintf("%d/%d true", id, epoch))
	})
}

// TestMarkersAreTriedAgain has markers refused at once, and later. It writes only those again that failed.
func TestMarkersAreTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		r.add("x", id, epoch, p0, p1, p2)
		r.addOffsets("x", id, epoch, "g")
		var fail atomic.Bool
		fail.Store(true)
		r.refuse = func(at TopicPartition) error {
			if at == p1 && fail.Load() {
				return commitlog.ErrFull
			}
			return nil
		}
		r.late = func(at TopicPartition) error {
			if at == p2 && fail.Load() {
				return commitlog.ErrFull
			}
			return nil
		}
		r.groupEnd = func(string) error {
			if fail.Load() {
				return errors.New("not now")
			}
			return nil
		}
		_, _, code := r.end("x", 3, id, epoch, true)
		want(t, "end", code, 0)
		time.Sleep(5 * time.Second)
		want(t, "state", r.state("x"), "PrepareCommit")
		synctest.Wait()
		fail.Store(false)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		want(t, "state", r.state("x"), "CompleteCommit")
		marker := fmt.Sprintf("%d/%d true", id, epoch)
		r.wantMarkers(p0, marker)
		r.wantMarkers(p1, marker)
		r.wantMarkers(p2, marker)
		want(t, "markers of the group", len(r.group("g").markers(t)), 1)
	})
}

// TestLateMarker: nothing is complete before its markers are durable.
func TestLateMarker(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		r.add("x", id, epoch, p0, p1)
		late := true
		r.late = func(at TopicPartition) error {
			if at == p1 && late {
				late = false
				return commitlog.ErrFull
			}
			return nil
		}
		var end sync.WaitGroup
		end.Go(func() { r.end("x", 3, id, epoch, true) })
		synctest.Wait()
		want(t, "state", r.state("x"), "PrepareCommit")
		end.Wait()
		want(t, "state", r.state("x"), "CompleteCommit")
		r.wantMarkers(p0, fmt.Sprintf("%d/%d true", id, epoch))
		r.wantMarkers(p1, fmt.Sprintf("%d/%d true", id, epoch))
	})
}

// TestEndIsFinished: whoever is told of the end finds the markers there.
func TestEndIsFinished(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		for round := range 3 {
			r.add("x", id, epoch, p0, p1)
			r.addOffsets("x", id, epoch, "g")
			_, next, code := r.end("x", 5, id, epoch, round != 1)
			want(t, "end", code, 0)
			want(t, "state", r.state("x"), []string{"CompleteCommit", "CompleteAbort", "CompleteCommit"}[round])
			want(t, "markers of the group", len(r.group("g").markers(t)), round+1)
			d, _ := r.dataLog(p1)
			want(t, "markers", len(d.markers(t)), round+1)
			epoch = next
		}
		// It does not wait for ever, nor for a client that has gone.
		stuck := make(chan struct{})
		r.groupEnd = func(string) error { <-stuck; return nil }
		r.addOffsets("x", id, epoch, "g")
		before := time.Now()
		_, next, code := r.end("x", 5, id, epoch, true)
		want(t, "end without markers", code, 0)
		want(t, "time", time.Since(before), 5*time.Second)
		want(t, "state", r.state("x"), "PrepareCommit")
		close(stuck)
		synctest.Wait()
		want(t, "state", r.state("x"), "CompleteCommit")
		stuck = make(chan struct{})
		r.addOffsets("x", id, next, "g")
		ctx, cancel := context.WithCancel(t.Context())
		req := kmsg.NewPtrEndTxnRequest()
		req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = 5, "x", id, next, true
		var end sync.WaitGroup
		before = time.Now()
		end.Go(func() { want(t, "end, given up", r.c.EndTxn(ctx, req).ErrorCode, 0) })
		synctest.Wait()
		cancel()
		end.Wait()
		want(t, "time", time.Since(before), 0)
		close(stuck)
		synctest.Wait()
	})
}

// TestAdmissionHoldsMarkers: no marker overtakes a batch that was let in.
func TestAdmissionHoldsMarkers(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		r.add("x", id, epoch, p0)
		a, codes := r.c.Enter(t.Context(), "x", id, epoch, []TopicPartition{p0, p1}, false)
		if !reflect.DeepEqual(codes, []int16{0, codeInvalidTxnState}) {
			t.Fatal(codes)
		}
		b, _ := r.c.Enter(t.Context(), "x", id, epoch, []TopicPartition{p0}, false)
		_, _, code := r.end("x", 3, id, epoch, true)
		want(t, "end", code, 0)
		synctest.Wait()
		want(t, "state", r.state("x"), "PrepareCommit")
		want(t, "admit", r.c.Admit(t.Context(), "x", id, epoch, "a", 0, false), codeNotEnoughReplicas)
		r.produce(p0, id, epoch, "late")
		a.Release()
		a.Release()
		synctest.Wait()
		want(t, "state", r.state("x"), "PrepareCommit")
		b.Release()
		synctest.Wait()
		want(t, "state", r.state("x"), "CompleteCommit")
		d, _ := r.dataLog(p0)
		if got := d.outcomes(t)["late"]; got == nil || !*got {
			t.Error("the late record is not committed")
		}
	})
}

// TestPatience: the next transaction waits for the end of the one before,
// instead of being refused.
func TestPatience(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		r.add("x", id, epoch, p0)
		gate := make(chan struct{})
		r.groupEnd = func(string) error { <-gate; return nil }
		r.addOffsets("x", id, epoch, "g")
		_, next, _ := r.end("x", 5, id, epoch, true)
		before := time.Now()
		want(t, "admit for too long", r.c.Admit(t.Context(), "x", id, next, "a", 0, true), codeNotEnoughReplicas)
		want(t, "patience", time.Since(before), 100*time.Millisecond)
		want(t, "offsets for too long", r.c.AdmitOffsets(t.Context(), "x", id, next, "g", true), codeCoordinatorLoading)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		want(t, "admit, given up", r.c.Admit(ctx, "x", id, next, "a", 0, true), codeNotEnoughReplicas)
		_, _, code := r.end("x", 5, id, epoch, true)
		want(t, "end again", code, codeConcurrentTransactions)
		var wg sync.WaitGroup
		wg.Go(func() {
			want(t, "admit", r.c.Admit(t.Context(), "x", id, next, "a", 0, true), 0)
		})
		synctest.Wait()
		close(gate)
		wg.Wait()
	})
}

// TestExpiry forgets what was not used for a week, on disk too.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, commitlog.NewMemFS(), nil)
		defer func() { r.close() }()
		r.init("idle")
		id, epoch, _ := r.init("used")
		time.Sleep(4 * 24 * time.Hour)
		r.add("used", id, epoch, p0)
		time.Sleep(3*24*time.Hour + 2*time.Hour)
		synctest.Wait()
		want(t, "idle", r.state("idle"), fmt.Sprint("error ", codeTransactionalIDNotFound))
		want(t, "used", r.state("used"), "CompleteAbort")
		r = r.reopen()
		want(t, "idle", r.state("idle"), fmt.Sprint("error ", codeTransactionalIDNotFound))
		want(t, "used", r.state("used"), "CompleteAbort")
		time.Sleep(8 * 24 * time.Hour)
		synctest.Wait()
		want(t, "used", r.state("used"), fmt.Sprint("error ", codeTransactionalIDNotFound))
		_, epoch, code := r.init("idle")
		want(t, "init", code, 0)
		want(t, "epoch", epoch, 0)
	})
}

func TestListTransactions(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.init("empty")
		id, epoch, _ := r.init("open")
		r.add("open", id, epoch, p0, p2)
		id2, epoch2, _ := r.init("done")
		r.add("done", id2, epoch2, p0)
		r.end("done", 3, id2, epoch2, true)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		list := func(change func(*kmsg.ListTransactionsRequest)) (string, *kmsg.ListTransactionsResponse) {
			req := kmsg.NewPtrListTransactionsRequest()
			req.Version = 2
			change(req)
			resp := r.c.ListTransactions(t.Context(), req)
			var names string
			for _, s := range resp.TransactionStates {
				names += s.TransactionalID + " "
			}
			return names, resp
		}
		pattern, bad := "o.*|empty", "("
		for _, row := range []struct {
			change func(*kmsg.ListTransactionsRequest)
			names  string
		}{
			{func(*kmsg.ListTransactionsRequest) {}, "done empty open "},
			{func(q *kmsg.ListTransactionsRequest) { q.StateFilters = []string{"Ongoing", "Strange"} }, "open "},
			{func(q *kmsg.ListTransactionsRequest) { q.StateFilters = []string{"Strange"} }, ""},
			{func(q *kmsg.ListTransactionsRequest) { q.ProducerIDFilters = []int64{id2} }, "done "},
			{func(q *kmsg.ListTransactionsRequest) { q.DurationFilterMillis = 9_000 }, "done empty open "},
			{func(q *kmsg.ListTransactionsRequest) { q.DurationFilterMillis = 11_000 }, "empty "},
			{func(q *kmsg.ListTransactionsRequest) { q.Version, q.DurationFilterMillis = 0, 11_000 }, "done empty open "},
			{func(q *kmsg.ListTransactionsRequest) { q.TransactionalIDPattern = &pattern }, "empty open "},
		} {
			if names, resp := list(row.change); names != row.names || resp.ErrorCode != 0 {
				t.Errorf("%q, want %q", names, row.names)
			}
		}
		_, resp := list(func(q *kmsg.ListTransactionsRequest) { q.StateFilters = []string{"Strange", "Dead"} })
		if !reflect.DeepEqual(resp.UnknownStateFilters, []string{"Strange"}) {
			t.Errorf("unknown: %q", resp.UnknownStateFilters)
		}
		_, resp = list(func(q *kmsg.ListTransactionsRequest) { q.TransactionalIDPattern = &bad })
		want(t, "bad pattern", resp.ErrorCode, codeInvalidRegularExpression)
		req := kmsg.NewPtrDescribeTransactionsRequest()
		req.TransactionalIDs = []string{"open", ""}
		states := r.c.DescribeTransactions(t.Context(), req).TransactionStates
		s := states[0]
		if s.ProducerID != id || s.ProducerEpoch != epoch || s.TimeoutMillis != 60_000 || len(s.Topics) != 2 || s.StartTimestamp <= 0 {
			t.Errorf("%+v", s)
		}
		want(t, "without id", states[1].ErrorCode, codeInvalidRequest)
	})
}

// TestConcurrentEnds: no end waits for another's sync, and the goroutines are bounded.
func TestConcurrentEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		const producers = 200
		var ids [producers]int64
		each := func(f func(i int, name string)) {
			var wg sync.WaitGroup
			for i := range producers {
				wg.Go(func() { f(i, fmt.Sprint(i)) })
			}
			wg.Wait()
			synctest.Wait()
		}
		each(func(i int, name string) { ids[i], _, _ = r.init(name) })
		each(func(i int, name string) {
			r.add(name, ids[i], 0, p0, p1, p2)
			r.addOffsets(name, ids[i], 0, name)
		})
		before := r.store.Stats()
		var waiting atomic.Int32
		gate := make(chan struct{})
		r.groupEnd = func(string) error {
			waiting.Add(1)
			<-gate
			return nil
		}
		each(func(i int, name string) {
			if _, _, code := r.end(name, 3, ids[i], 0, true); code != 0 {
				t.Error(code)
			}
		})
		want(t, "groups that are ended at once", waiting.Load(), maxWorkers)
		d, _ := r.dataLog(p2)
		want(t, "markers meanwhile", len(d.markers(t)), maxWorkers)
		close(gate)
		synctest.Wait()
		want(t, "markers", len(d.markers(t)), producers)
		after := r.store.Stats()
		t.Logf("%d appends, %d syncs", after.Appends-before.Appends, after.Syncs-before.Syncs)
		want(t, "appends", after.Appends-before.Appends, producers*6)
		if r.c.workers != 0 || len(r.c.jobs) != 0 {
			t.Errorf("%d workers, %d jobs are left", r.c.workers, len(r.c.jobs))
		}
		for i := range producers {
			want(t, "state", r.state(fmt.Sprint(i)), "CompleteCommit")
		}
	})
}

// TestRefusedRecord: what the log did not take did not happen.
func TestRefusedRecord(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id, epoch, _ := r.init("x")
		r.c.mu.Lock()
		r.c.transactions["x"].current.groups = []string{string(make([]byte, 4<<20))}
		r.c.transactions["x"].current.state, r.c.transactions["x"].current.startMS = ongoing, time.Now().UnixMilli()
		r.c.mu.Unlock()
		_, _, code := r.end("x", 5, id, epoch, true)
		want(t, "end", code, codeUnknownServerError)
		want(t, "state", r.state("x"), "Ongoing")
		r.c.mu.Lock()
		r.c.transactions["x"].current.groups = nil
		r.c.mu.Unlock()
		_, _, code = r.end("x", 5, id, epoch, true)
		want(t, "end", code, 0)
	})
}

func TestNoProducerIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no metadata")
		r := openRig(t, commitlog.NewMemFS(), func(o *Options) {
			block := o.NextProducerIDBlock
			o.NextProducerIDBlock = func() (int64, int, error) {
				if broken != nil {
					return 0, 0, broken
				}
				return block()
			}
		})
		defer r.close()
		_, _, code := r.init("x")
		want(t, "init", code, codeCoordinatorLoading)
		broken = nil
		// Many at once share one block after the other.
		var wg sync.WaitGroup
		seen := sync.Map{}
		for range 30 {
			wg.Go(func() {
				id, err := r.c.newProducerID(t.Context())
				if _, twice := seen.LoadOrStore(id, true); twice || err != nil {
					t.Errorf("id %d, %v", id, err)
				}
			})
		}
		wg.Wait()
		want(t, "blocks", r.blocks, 10)
	})
}

// TestClose answers who waits.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, commitlog.NewMemFS(), nil)
		id, epoch, _ := r.init("x")
		r.addOffsets("x", id, epoch, "g")
		gate := make(chan struct{})
		r.groupEnd = func(string) error { <-gate; return nil }
		r.end("x", 5, id, epoch, true)
		var wg sync.WaitGroup
		wg.Go(func() {
			want(t, "add", r.add("x", id, epoch+1, p0), codeCoordinatorNotAvailable)
		})
		synctest.Wait()
		wg.Go(func() { r.close() })
		synctest.Wait()
		_, _, code := r.init("x")
		want(t, "init", code, codeCoordinatorNotAvailable)
		want(t, "admit", r.c.Admit(t.Context(), "x", id, epoch+1, "a", 0, false), codeNotEnoughReplicas)
		close(gate)
		wg.Wait()
	})
}

// TestFirstUse: many at once make the log once.
func TestFirstUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		var r *rig
		r = openRig(t, commitlog.NewMemFS(), func(o *Options) {
			o.Log = func() (*destination.Destination, error) {
				if calls++; calls == 1 {
					time.Sleep(time.Second)
					return nil, errors.New("not yet")
				}
				time.Sleep(time.Second)
				return r.txns, nil
			}
		})
		defer r.close()
		_, _, code := r.init("x")
		want(t, "init", code, codeCoordinatorNotAvailable)
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				_, _, code := r.init(fmt.Sprint(i))
				want(t, "init", code, 0)
			})
		}
		wg.Wait()
		want(t, "calls", calls, 2)
	})
}

// TestFind: nothing is made by opening.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, commitlog.NewMemFS(), nil)
		defer r.close()
		want(t, "made", r.made, false)
		broken := errors.New("broken")
		o := r.o
		o.Find = func() (*destination.Destination, error) { return nil, broken }
		if _, err := Open(o); !errors.Is(err, broken) {
			t.Error(err)
		}
	})
}
