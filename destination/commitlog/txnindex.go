package commitlog

// AbortedTransaction is a transaction that was aborted: its records lie between FirstOffset and LastOffset, which is that of
// its end marker.
type AbortedTransaction struct {
	ProducerID              int64
	FirstOffset, LastOffset int64
}

// Aborted lists the aborted transactions that overlap [from, to), by first offset. Those whose end marker is at or above
// Stable are not among them.
func (l *Log) Aborted(from, to int64) ([]AbortedTransaction, error) { return nil, nil }
