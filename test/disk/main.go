// Command disk shows what the broker does when its disk fails: a sync that
// reports an error (S3 FsyncFailStop) and a file system without room (S4
// FullDiskSafe). It needs strace, and root for the loop device.
//
//	go run ./test/disk -polylog bin/polylog sync full
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/polylog-mq/polylog"
)

func main() {
	binary := flag.String("polylog", "bin/polylog", "the program to test")
	flag.Parse()
	tests := map[string]func(context.Context, string, string) error{"sync": failingSync, "full": fullDisk}
	for _, name := range flag.Args() {
		test, ok := tests[name]
		if !ok {
			fmt.Fprintf(os.Stderr, "disk: no test %q\n", name)
			os.Exit(2)
		}
		if err := in(name, *binary, test); err != nil {
			fmt.Fprintf(os.Stderr, "disk %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

func in(name, binary string, test func(context.Context, string, string) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "disk-"+name)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err = filepath.Abs(binary)
	if err != nil {
		return err
	}
	return test(ctx, binary, dir)
}

// client is a connection that does not come back by itself, and a queue.
func client(ctx context.Context, url string) (*polylog.Connection, *polylog.Queue[string], error) {
	c, err := polylog.Connect(ctx, url, polylog.WithReconnect(polylog.ReconnectPolicy{Disabled: true}))
	if err != nil {
		return nil, nil, err
	}
	s, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, polylog.QueueOf[string](s, "disk"), nil
}

// take takes and acknowledges until nothing comes for a while.
func take(ctx context.Context, q *polylog.Queue[string]) (map[string]bool, error) {
	got := map[string]bool{}
	for {
		wait, cancel := context.WithTimeout(ctx, time.Second)
		d, err := q.Take(wait)
		cancel()
		if err != nil {
			return got, nil
		}
		if err := d.Ack(ctx); err != nil {
			return got, fmt.Errorf("acknowledge: %w", err)
		}
		got[d.Value[:8]] = true
	}
}

func missing(confirmed []string, got map[string]bool) (n int) {
	for _, name := range confirmed {
		if !got[name] {
			n++
		}
	}
	return n
}
