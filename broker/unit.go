package broker

import "github.com/polylog-mq/polylog/queue"

// Commit commits a local transaction: all of it is on disk when u.Done is told,
// or nothing is.
func (b *Broker) Commit(u *queue.Unit) error { return b.units.Commit(u) }

// MaxUnitBytes bounds what one transaction may send, bytes.
func (b *Broker) MaxUnitBytes() int { return b.units.MaxBytes() }
