package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// TestAdopt takes over a directory whose partitions lie as a Kafka broker's do:
// ids, offsets and bytes are the same, the leader epoch is higher, and what is
// appended later goes on behind.
func TestAdopt(t *testing.T) {
	options := func(dir string) Options {
		return Options{Dir: dir, Log: commitlog.Options{JournalFileBytes: 4 << 20}, Logger: slog.New(slog.DiscardHandler)}
	}
	source, target := t.TempDir(), t.TempDir()
	var old *Broker
	for range 3 { // so that the epoch is 2
		b, err := Open(options(source))
		if err != nil {
			t.Fatal(err)
		}
		old = b
		d, err := b.Destination(context.Background(), "t", 0)
		if errors.Is(err, destination.ErrNotFound) {
			_, err = b.CreateDestination(context.Background(), "t", destination.KindLog, map[string]string{"partitions": "3"})
			if err == nil {
				d, err = b.Destination(context.Background(), "t", 0)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		for p := range d.Partitions {
			for i := range 10 * (p + 1) {
				appendOne(t, d.Partitions[p], fmt.Sprint(p, i))
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if old.Epoch() != 2 {
		t.Fatalf("epoch %d", old.Epoch())
	}
	b, list, err := Adopt(context.Background(), options(target), AdoptOptions{From: filepath.Join(source, "log"), Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Partitions != 3 || list[0].Records != 3*(10+20+30) {
		t.Errorf("adopted %+v", list)
	}
	for range 2 {
		if b.Epoch() <= 2 {
			t.Errorf("epoch %d", b.Epoch())
		}
		d, err := b.Destination(context.Background(), "t", 0)
		if err != nil {
			t.Fatal(err)
		}
		for p, partition := range d.Partitions {
			end := partition.End()
			got, err := partition.Read(0, 1<<20, nil)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(source, "log", directory("t", p), "00000000000000000000.log"))
			if err != nil || len(got) < len(want) || string(got[:len(want)]) != string(want) {
				t.Errorf("partition %d: %d bytes, %d in the source, %v", p, len(got), len(want), err)
			}
			if appendOne(t, partition, "new"); partition.End() != end+1 {
				t.Errorf("partition %d: the end went from %d to %d", p, end, partition.End())
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if b, err = Open(options(target)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b, list, err = Adopt(context.Background(), options(target), AdoptOptions{From: filepath.Join(source, "log")}); err != nil || len(list) != 0 {
		t.Fatalf("again: %v, %v", list, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Adopt(context.Background(), options(target), AdoptOptions{From: filepath.Join(source, "log"), Topics: []string{"u"}}); !errors.Is(err, destination.ErrNotFound) {
		t.Errorf("a topic that is not there: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(source, "log", "t-1")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Adopt(context.Background(), options(t.TempDir()), AdoptOptions{From: filepath.Join(source, "log")}); err == nil {
		t.Error("a topic without one of its partitions was adopted")
	}
}

func appendOne(t *testing.T, p *destination.Partition, value string) {
	t.Helper()
	var b record.Builder
	b.Append(1, nil, []byte(value), nil)
	w := make(synced, 1)
	if _, err := p.Append(b.Batch(), w); err != nil {
		t.Fatal(err)
	}
	if err := <-w; err != nil {
		t.Fatal(err)
	}
}
