package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// notRunning asks for the lock that a Kafka broker holds on its log directory:
// ErrKafkaRuns.
func notRunning(dir string) error {
	f, err := os.Open(filepath.Join(dir, ".lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_RDLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return fmt.Errorf("lock of %s: %w", dir, err)
	}
	if lock.Type != unix.F_UNLCK {
		return fmt.Errorf("%w: process %d has %s; stop it first", ErrKafkaRuns, lock.Pid, dir)
	}
	return nil
}
