//go:build unix

package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

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

// lockHolder is the process that has a lock on the file, where the system
// lists locks as Linux does; 0 if it is not known.
func lockHolder(name string) int {
	var stat unix.Stat_t
	if err := unix.Stat(name, &stat); err != nil {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(locks)) {
		// 12: FLOCK  ADVISORY  WRITE 4711 fd:01:131090 0 EOF
		var number, kind, mode, access string
		var pid int
		var major, minor uint32
		var inode uint64
		if n, _ := fmt.Sscanf(line, "%s %s %s %s %d %x:%x:%d", &number, &kind, &mode, &access, &pid, &major, &minor, &inode); n != 8 {
			continue // of somebody who waits, or in another form
		}
		device := uint64(stat.Dev)
		if inode == stat.Ino && major == unix.Major(device) && minor == unix.Minor(device) {
			return pid
		}
	}
	return 0
}
