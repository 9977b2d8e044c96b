package commitlog

import (
	"errors"
	"fmt"
	"os"
	"sync"

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

// syncFileSystem is for Linux 5.8 and later; before, syncfs says nothing of failed write-backs.
func syncFileSystem(f *os.File) error {
	if !syncfsTells() {
		return errors.ErrUnsupported
	}
	return retryInterrupted(func() error { return unix.Syncfs(int(f.Fd())) })
}

var syncfsTells = sync.OnceValue(func() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
})

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
