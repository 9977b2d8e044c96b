package broker

// Hold begins what Release ends: see session.Broker.
func (b *Broker) Hold() { b.store.Hold() }

// Release commits in the caller's goroutine where that is quickest, and so on.
// One that has just synced its own message so answers and delivers it before
// anybody has to be woken.
func (b *Broker) Release(mayWait bool, answer func()) {
	runs := b.store.Release(mayWait, b.telling)
	answer()
	for range runs {
		b.work.Release()
	}
}
