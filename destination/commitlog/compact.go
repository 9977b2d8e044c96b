package commitlog

import (
	"context"
	"errors"
	"hash/maphash"
	"math"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
)

// maxCompactKeys bounds the keys of one compaction, about 100 MB. Of the keys beyond, the older records stay until a later
// one.
const maxCompactKeys = 2 << 20

// keyHash stands for a key. With two seeds of 64 bits, two of 2^21 keys meet with a chance below 2^-86.
type keyHash struct{ a, b uint64 }

// Compact keeps of the closed segments only the last record of each key; a record with a null value (a tombstone) goes too
// when it is older than Config.TombstoneAge. Records of aborted transactions go; records without a key stay; so does the end
// marker of a transaction, until nothing of it is left and it is as old as a tombstone. Segments with a record younger
// than minAge are left as they are, but for those behind the last checkpoint see Clean.
func (l *Log) Compact(ctx context.Context, minAge time.Duration, now time.Time) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	segments, err := l.cleanable()
	if err != nil {
		return err
	}
	old := segments[:0:0]
	for _, s := range segments {
		newest, err := l.maxTimestamp(s)
		if err != nil {
			return err
		}
		if newest > now.UnixMilli()-minAge.Milliseconds() {
			break
		}
		old = append(old, s)
	}
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	hash := func(key []byte) keyHash { return keyHash{maphash.Bytes(seeds[0], key), maphash.Bytes(seeds[1], key)} }
	latest := map[keyHash]int64{}
	var whole []*segment // the others are damaged, and stay as they are
	horizon := now.UnixMilli() - l.config.Load().TombstoneAge.Milliseconds()
	ends, err := l.transactionsIn(old, horizon)
	if err != nil {
		return err
	}
	for _, s := range old {
		err := l.eachRecord(ctx, s, ends, func(r *record.Record) {
			if r.Key == nil {
				return
			}
			k := hash(r.Key)
			if _, known := latest[k]; known || len(latest) < maxCompactKeys {
				latest[k] = r.Offset
			}
		})
		switch {
		case err == nil:
			whole = append(whole, s)
		case errors.Is(err, record.ErrCorrupt):
			l.store.logger.Warn("commitlog: a damaged segment is not compacted", "segment", s.name(kindLog), "error", err)
		default:
			return err
		}
	}
	if len(whole) < len(old) {
		horizon, ends.horizon = math.MinInt64, math.MinInt64 // a damaged segment may have values that a tombstone must go on to hide
	}
	for _, s := range whole {
		err := l.cleanSegment(ctx, s, ends, func(r *record.Record) bool {
			if r.Key == nil {
				return true
			}
			if last, ok := latest[hash(r.Key)]; ok && r.Offset < last {
				return false
			}
			return r.Value != nil || r.Timestamp > horizon
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachRecord reads what counts in a closed segment.
func (l *Log) eachRecord(ctx context.Context, s *segment, ends *transactions, visit func(r *record.Record)) error {
	h, err := l.store.cache.acquire(s, kindLog, false)
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	var r record.Reader
	w := &walk{file: h, limit: s.size, buf: make([]byte, 0, walkBytes)}
	for w.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := w.position
		w.position = w.at
		p, err := w.bytes(w.batch.size)
		w.position = end
		if err != nil {
			return err
		}
		b := record.Batch(p)
		if !b.CRCValid() {
			return errNoBatch
		}
		if b.IsControl() || ends.aborts(b) {
			continue
		}
		if err := r.Reset(b, maxDecompressed); err != nil {
			return err
		}
		for r.Next() {
			visit(r.Record())
		}
		if err := r.Err(); err != nil {
			return err
		}
	}
	return w.err
}
