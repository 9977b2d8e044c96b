//go:build unix

package wire

import "syscall"

const canTryWrite = true

// tryWrite writes what a socket takes without waiting, and returns how many
// bytes that was.
func tryWrite(fd uintptr, p []byte) int {
	n, err := syscall.Write(int(fd), p)
	if err != nil {
		return 0
	}
	return n
}
