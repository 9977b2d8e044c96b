//go:build linux || darwin

package broker

import "golang.org/x/sys/unix"

// Volume is the size of the file system that the data is on, and what of it is
// left, in bytes; -1 where that cannot be said.
func (b *Broker) Volume() (total, usable int64) {
	var s unix.Statfs_t
	if err := unix.Statfs(b.Dir(), &s); err != nil {
		return -1, -1
	}
	return int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize)
}
