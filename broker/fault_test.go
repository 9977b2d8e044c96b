package broker

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
)

// S3: after a failed sync nothing is confirmed, and the broker says that the
// process has to end.
func TestFailedSyncStops(t *testing.T) {
	r := newRig(t)
	r.put("orders", "one")
	k := r.take("orders")
	k.gets("one")
	broken := errors.New("the disk is gone")
	r.fs.Inject(func(op commitlog.Op, _ string) error {
		if op == commitlog.OpSync {
			return broken
		}
		return nil
	})
	r.is(put(t, r.queue("orders"), "two"), commitlog.ErrFailed)
	select {
	case <-r.b.Failed():
	case <-time.After(10 * time.Second):
		t.Fatal("Failed is not closed")
	}
	r.is(r.b.Err(), broken)
	r.fs.Inject(nil)
	if err := k.settle(queue.Acknowledge); err == nil {
		t.Error("an acknowledgement was confirmed")
	}
	if err := put(t, r.queue("orders"), "three"); err == nil {
		t.Error("a message was confirmed")
	}
	r.crash(1)
	k = r.take("orders")
	if got := k.next(1); got[0] != "one" {
		t.Errorf("got %q", got)
	}
}

// S4: on a full disk producers get an error, consumers go on, and when there
// is room again so do producers, without a restart.
func TestFullDisk(t *testing.T) {
	r := newRig(t)
	body := string(make([]byte, 10_000))
	r.put("orders", body)
	k := r.take("orders")
	k.next(1)
	r.fs.SetCapacity(r.fs.Used() + 1<<20)
	stored := 1
	var err error
	for err == nil && stored < 10_000 {
		if err = put(t, r.queue("orders"), body); err == nil {
			stored++
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d messages: %v", stored, err)
	}
	k.next(stored - 1)
	k.acknowledge()
	select {
	case <-r.b.Failed():
		t.Fatal("a full disk is not a failure")
	default:
	}
	r.fs.SetCapacity(0)
	for range 200 {
		if err = put(t, r.queue("orders"), "again"); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.must(err)
	k.gets("again")
	r.crash(2)
	r.take("orders").gets("again")
}

// A directory that cannot be opened is given up completely, so that the next
// attempt finds it free.
func TestOpenGivesUpCleanly(t *testing.T) {
	r := newRigOnDisk(t)
	r.put("orders", "one")
	r.close()
	r.options.Defaults = map[string]string{"partitions": "none"}
	if _, err := Open(r.options); !errors.Is(err, destination.ErrSettingValue) {
		t.Errorf("error %v", err)
	}
	r.options.Defaults = nil
	memory := commitlog.NewMemFS()
	memory.Stop()
	r.options.FS = memory
	if _, err := Open(r.options); err == nil {
		t.Error("opened without a disk")
	}
	r.options.FS = nil
	r.open()
	r.take("orders").gets("one")
}
