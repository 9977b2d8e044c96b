package commitlog

import (
	"time"
)

// Retain removes closed segments as p says, oldest first, and moves Start behind them, durably. It returns the bytes that
// it has removed.
func (l *Log) Retain(p Retention, now time.Time) (deletedBytes int64, err error) {
	l.admin.Lock()
	defer l.admin.Unlock()
	infos, err := l.describe()
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, s := range infos {
		total += s.Bytes
	}
	start := int64(-1)
	for i := 0; i+1 < len(infos); i++ {
		s, end := infos[i], infos[i+1].Base
		expired := p.Age > 0 && s.MaxTimestamp < now.UnixMilli()-p.Age.Milliseconds()
		surplus := p.Bytes > 0 && total-s.Bytes >= p.Bytes
		consumed := end <= p.Floor
		if !(p.Consumed && consumed) && !((expired || surplus) && (consumed || p.Hard)) {
			break
		}
		if end > l.stable.Load() {
			break
		}
		start = end
		total -= s.Bytes
	}
	if start < 0 {
		return 0, nil
	}
	return l.advanceStart(start)
}

// Bytes is the size of all segments.
func (l *Log) Bytes() int64 {
	if l.ensureFiles() != nil {
		return 0
	}
	l.files.RLock()
	defer l.files.RUnlock()
	n := int64(0)
	for _, s := range l.segments {
		n += s.size
	}
	return n
}

// Segments lists the segments, oldest first; nil if they cannot be read.
func (l *Log) Segments() []SegmentInfo {
	infos, err := l.describe()
	if err != nil {
		l.store.logger.Error("commitlog: list segments", "dir", l.dir, "error", err)
		return nil
	}
	return infos
}

func (l *Log) describe() ([]SegmentInfo, error) {
	if err := l.ensureFiles(); err != nil {
		return nil, err
	}
	l.files.RLock()
	segments := l.segments
	l.files.RUnlock()
	infos := make([]SegmentInfo, len(segments))
	for i, s := range segments {
		newest, err := l.maxTimestamp(s)
		if err != nil {
			return nil, err
		}
		l.files.RLock()
		infos[i] = SegmentInfo{Base: s.base, Bytes: s.size, MaxTimestamp: newest, Active: i == len(segments)-1}
		l.files.RUnlock()
	}
	return infos, nil
}
