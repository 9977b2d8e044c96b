package commitlog

import (
	"errors"

	"github.com/polylog-mq/polylog/destination/record"
)

// OffsetForTime returns the first record at or after a time in ms, below Stable and not below Start; offset -1 and
// timestamp -1 if there is none (Kafka's ListOffsets by timestamp).
func (l *Log) OffsetForTime(ms int64) (offset, timestamp int64, err error) {
	if err := l.ensureFiles(); err != nil {
		return -1, -1, err
	}
	l.files.RLock()
	segments := l.segments
	l.files.RUnlock()
	for _, s := range segments {
		newest, err := l.maxTimestamp(s)
		if err != nil {
			return -1, -1, err
		}
		if newest < ms {
			continue
		}
		from, err := l.timeFloor(s, ms)
		if err != nil {
			return -1, -1, err
		}
		offset, timestamp, err = l.searchTime(max(from, l.start.Load()), ms)
		if err != nil || offset >= 0 {
			return offset, timestamp, err
		}
	}
	return -1, -1, nil
}

// maxTimestamp is the largest timestamp of a segment, from memory or from its time index.
func (l *Log) maxTimestamp(s *segment) (int64, error) {
	l.files.RLock()
	t, size := s.maxTimestamp, s.size
	l.files.RUnlock()
	if t != unknownTimestamp || size == 0 {
		return t, nil
	}
	e, err := lastTime(l.store.cache, s)
	if errors.Is(err, errStaleIndex) {
		var x *indexes
		if x, err = rebuildIndexes(l.store.cache, s, size); err == nil && len(x.times) > 0 {
			e = x.times[len(x.times)-1]
		} else if err == nil {
			e.timestamp = -1
		}
	}
	if err != nil {
		return 0, err
	}
	l.files.Lock()
	defer l.files.Unlock()
	s.maxTimestamp, s.maxOffset = e.timestamp, s.base+int64(e.relative)
	return e.timestamp, nil
}

// timeFloor is an offset below which a segment has nothing at or after ms.
func (l *Log) timeFloor(s *segment, ms int64) (int64, error) {
	l.files.RLock()
	if s == l.indexed {
		defer l.files.RUnlock()
		return l.indexes.findTime(s, ms), nil
	}
	l.files.RUnlock()
	offset, err := fileTime(l.store.cache, s, ms)
	if errors.Is(err, errStaleIndex) {
		return s.base, nil
	}
	return offset, err
}

// searchTime reads from an offset on.
func (l *Log) searchTime(offset, ms int64) (int64, int64, error) {
	var buf []byte
	var r record.Reader
	for {
		var err error
		if buf, err = l.Read(offset, walkBytes, buf[:0]); err != nil || len(buf) == 0 {
			if errors.Is(err, ErrOffsetOutOfRange) { // truncated or trimmed meanwhile
				err = nil
			}
			return -1, -1, err
		}
		for rest := buf; len(rest) > 0; {
			b, tail, err := record.Next(rest)
			if err != nil {
				return -1, -1, err
			}
			rest, offset = tail, b.NextOffset()
			if b.MaxTimestamp() < ms || b.IsControl() {
				continue
			}
			if err := r.Reset(b, maxDecompressed); err != nil {
				return -1, -1, err
			}
			for r.Next() {
				if m := r.Record(); m.Timestamp >= ms && m.Offset >= l.start.Load() {
					return m.Offset, m.Timestamp, nil
				}
			}
			if err := r.Err(); err != nil {
				return -1, -1, err
			}
		}
	}
}

// maxDecompressed bounds what one stored batch may become; it was checked against the broker's own bound when it came.
const maxDecompressed = 256 << 20
