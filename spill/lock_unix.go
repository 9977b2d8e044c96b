//go:build unix

package spill

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile holds until the file is closed, also by a crash.
func lockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		}
		return err
	}
}
