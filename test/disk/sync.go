package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/polylog-mq/polylog/test/child"
)

// failingSync lets one fdatasync report EIO: nothing is confirmed after it,
// the process ends and says why, and a restart serves what was confirmed.
func failingSync(ctx context.Context, binary, dir string) error {
	data := filepath.Join(dir, "data")
	tracer := []string{"strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync:error=EIO:when=100"}
	b, err := child.Start(binary, data, tracer)
	if err != nil {
		return err
	}
	defer b.Kill()
	c, q, err := client(ctx, b.URL)
	if err != nil {
		return err
	}
	defer c.Close()
	var confirmed []string
	var failure error
	for i := 0; failure == nil && i < 10_000; i++ {
		name := fmt.Sprintf("%08d", i)
		if _, failure = q.Put(ctx, name); failure == nil {
			confirmed = append(confirmed, name)
		}
	}
	if failure == nil {
		return errors.New("no sync failed: the test shows nothing")
	}
	for range 20 {
		if _, err := q.Put(ctx, "too late"); err == nil {
			return errors.New("a message was confirmed after a sync had failed")
		}
	}
	ended := b.Wait(20 * time.Second)
	if ended == nil || strings.Contains(ended.Error(), "runs on") {
		return fmt.Errorf("the broker should have ended with an error: %v", ended)
	}
	if said := b.Errors(); !strings.Contains(said, "sync") {
		return fmt.Errorf("the broker did not say why it ended:\n%s", said)
	}
	if b, err = child.Start(binary, data, nil); err != nil {
		return err
	}
	defer b.Kill()
	c, q, err = client(ctx, b.URL)
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := take(ctx, q)
	if err != nil {
		return err
	}
	if n := missing(confirmed, got); n > 0 {
		return fmt.Errorf("%d of %d confirmed messages are gone after the restart", n, len(confirmed))
	}
	fmt.Printf("failed sync: %d confirmed before it, none after; the broker ended (%v); all %d served after the restart\n", len(confirmed), ended, len(confirmed))
	return nil
}
