//go:build !linux && !darwin

package broker

// Volume is the size of the file system that the data is on, and what of it is
// left, in bytes; -1 where that cannot be said.
func (b *Broker) Volume() (total, usable int64) { return -1, -1 }
