package commitlog

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile holds until the file is closed, also by a crash.
func lockFile(f *os.File) error {
	err := retryInterrupted(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

func syncData(f *os.File) error {
	return retryInterrupted(func() error { return unix.Fdatasync(int(f.Fd())) })
}

func syncFileSystem(f *os.File) error {
	return retryInterrupted(func() error { return unix.Syncfs(int(f.Fd())) })
}

// preallocate keeps the size, so that a segment's end stays its file's end.
func preallocate(f *os.File, offset, length int64) error {
	return retryInterrupted(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, offset, length)
	})
}

func retryInterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
