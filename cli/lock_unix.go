//go:build unix

package cli

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// errDirectoryInUse says that a broker has the data directory open.
var errDirectoryInUse = errors.New("a broker is running on it; stop the broker first")

// holdLock takes the lock that a broker holds, so that none starts meanwhile.
// It does not make the file: where there is none, no broker has ever run.
func holdLock(name string) (release func(), err error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errDirectoryInUse
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
