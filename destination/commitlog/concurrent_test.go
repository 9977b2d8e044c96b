package commitlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestConcurrent has appenders, commits, readers and every kind of maintenance at once: each appender's records are read
// once and in order by a reader that follows, and receipts come in order.
func TestConcurrent(t *testing.T) {
	fsys := NewMemFS()
	o := small()
	o.MaxPendingBytes = 32 << 10
	o.MaxOpenFiles = 4
	s := open(t, fsys, o)
	const logs, each = 4, 400
	var readers, writers, maintenance sync.WaitGroup
	stop := make(chan struct{})
	list := make([]*Log, logs)
	for i := range list {
		list[i] = openLog(t, s, i, Config{SegmentBytes: 8000, Memory: i == logs-1})
	}
	for i, l := range list {
		order := &inOrder{}
		writers.Go(func() {
			for n := range each {
				v := fmt.Sprintf("%d %d %s", i, n, strings.Repeat("c", n%700))
				var err error
				if n%3 == 0 {
					s.Hold()
				}
				if n%5 == 0 && i < 2 { // two logs at once, each by its own appender
					err = s.Commit([]Write{{Log: l, Batches: batchOf(v, 1, 1)}, {Log: list[2], Batches: batchOf("also", 1, 1)}}, nil)
				} else {
					_, err = l.Append(batchOf(v, 1, 1), order.next())
				}
				if n%3 == 0 {
					s.Release(n%2 == 0, nil)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
			done := make(waitFor, 1)
			if _, err := l.Append(batchOf("end", 1, 1), done); err != nil || <-done != nil {
				t.Error("last append", err)
			}
		})
		readers.Go(func() { follow(t, l, i, each) })
	}
	maintenance.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			l := list[n%logs]
			_, err := l.Retain(Retention{Floor: math.MaxInt64, Bytes: 1 << 20}, time.Now())
			err = errors.Join(err, s.Checkpoint(context.Background()))
			_, _, found := l.OffsetForTime(math.MaxInt64)
			_ = l.Segments()
			_ = s.Stats()
			other, open := s.OpenLog(logID(100+n), fmt.Sprintf("short-%d", n), Config{})
			if err = errors.Join(err, found, open); err != nil {
				t.Error(err)
				return
			}
			put(t, other, batchOf("short", 1, 1))
			if err := errors.Join(other.TruncateTo(0), other.Delete()); err != nil {
				t.Error(err)
			}
		}
	})
	writers.Wait()
	readers.Wait()
	close(stop)
	maintenance.Wait()
	closeStore(t, s)
}

// inOrder checks that receipts come in the order of the appends.
type inOrder struct{ given, called atomic.Int64 }

type receipt struct {
	order  *inOrder
	number int64
}

func (o *inOrder) next() Waiter { return receipt{o, o.given.Add(1)} }

func (r receipt) Committed(err error) {
	if err != nil || r.order.called.Add(1) != r.number {
		panic(fmt.Sprint("receipt out of order, or failed: ", err))
	}
}

// follow reads a log until its last record.
func follow(t *testing.T, l *Log, i, each int) {
	offset, expected := int64(0), 0
	for {
		list, err := readFrom(l, offset, 3000)
		if err != nil {
			t.Error(err)
			return
		}
		for _, g := range list {
			if g.base != offset {
				t.Errorf("log %d: batch at %d where %d is next", i, g.base, offset)
				return
			}
			offset++
			var from, n int
			switch _, err := fmt.Sscanf(g.value, "%d %d", &from, &n); {
			case g.value == "end":
				if expected != each {
					t.Errorf("log %d: %d records", i, expected)
				}
				return
			case err == nil && (from != i || n != expected):
				t.Errorf("log %d: record %.10s where %d is next", i, g.value, expected)
				return
			case err == nil:
				expected++
			}
		}
		if len(list) == 0 {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// TestAdoptBesideCheckpoints is for the race detector.
func TestAdoptBesideCheckpoints(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	done := make(chan error)
	go func() {
		var err error
		for range 100 {
			err = errors.Join(err, s.Checkpoint(context.Background()))
		}
		done <- err
	}()
	for i := range 30 {
		l, err := s.OpenLog(LogID{Partition: int32(i)}, fmt.Sprintf("copied-%d", i), Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := fsys.MkdirAll(l.Dir()); err != nil {
			t.Fatal(err)
		}
		overwrite(t, fsys, l.Dir()+"/partition.metadata", partitionMetadata(l.ID()))
		overwrite(t, fsys, segmentName(l.Dir(), 0, extensions[kindLog]), batchOf("v", 1, 1))
		if end := l.End(); end != 1 {
			t.Errorf("end %d", end)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	closeStore(t, s)
}
