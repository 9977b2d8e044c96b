package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/test/child"
	"golang.org/x/sys/unix"
)

// fullDisk fills the file system under a running broker: producers get an
// error, consumers go on, and with room again producers do too, without a
// restart.
func fullDisk(ctx context.Context, binary, dir string) error {
	mount, remove, err := loopMount(dir)
	if err != nil {
		return err
	}
	defer remove()
	b, err := child.Start(binary, filepath.Join(mount, "data"), nil)
	if err != nil {
		return err
	}
	defer b.Kill()
	c, q, err := client(ctx, b.URL)
	if err != nil {
		return err
	}
	defer c.Close()
	body := strings.Repeat("x", 8192)
	var confirmed []string
	put := func() error {
		name := fmt.Sprintf("%08d", len(confirmed))
		_, err := q.Put(ctx, name+body)
		if err == nil {
			confirmed = append(confirmed, name)
		}
		return err
	}
	for range 500 {
		if err := put(); err != nil {
			return err
		}
	}
	ballast := filepath.Join(mount, "ballast")
	if err := fillUp(mount, ballast); err != nil {
		return err
	}
	var full error
	for i := 0; full == nil && i < 200_000; i++ {
		full = put()
	}
	if !errors.Is(full, polylog.ErrFull) {
		return fmt.Errorf("on a full disk a put ended with %v", full)
	}
	atFull := len(confirmed)
	got, err := take(ctx, q)
	if err != nil {
		return fmt.Errorf("on a full disk: %w", err)
	}
	if n := missing(confirmed, got); n > 0 {
		return fmt.Errorf("%d of %d confirmed messages did not come from the full disk", n, atFull)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	begin := time.Now()
	for err := put(); err != nil; err = put() {
		if time.Since(begin) > 20*time.Second {
			return fmt.Errorf("no put succeeds 20 s after room was made: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	resumed := time.Since(begin)
	if got, err = take(ctx, q); err != nil {
		return err
	}
	if n := missing(confirmed[atFull:], got); n > 0 {
		return errors.New("what was put after the disk had room again did not come")
	}
	fmt.Printf("full disk: %d puts confirmed, then %q; all %d taken and acknowledged on the full disk; puts resumed %d ms after room was made\n",
		atFull, full, atFull, resumed.Milliseconds())
	return nil
}

// fillUp takes all room but a few blocks.
func fillUp(mount, name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := int64(0); ; {
		var s unix.Statfs_t
		if err := unix.Statfs(mount, &s); err != nil {
			return err
		}
		room := int64(s.Bfree) * s.Bsize
		if room < 64<<10 {
			return nil
		}
		step := max(room/2, 4096)
		if err := unix.Fallocate(int(f.Fd()), 0, size, step); err != nil {
			return nil // what is left is in pieces
		}
		size += step
	}
}

// loopMount makes an ext4 of 1 GiB on a loop device.
func loopMount(dir string) (mount string, remove func(), err error) {
	image := filepath.Join(dir, "image")
	mount = filepath.Join(dir, "mount")
	f, err := os.Create(image)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(1<<30), os.Mkdir(mount, 0o755)); err != nil {
		return "", nil, err
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, mount}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return mount, func() { _ = exec.Command("umount", mount).Run() }, nil
}
