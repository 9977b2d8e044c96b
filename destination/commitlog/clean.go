package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/polylog-mq/polylog/destination/record"
)

// A cleaned segment is written as .cleaned, synced, renamed to .swap, and then over the old one: a crash leaves the old
// one, or a .swap, which list finishes.
const (
	cleanedSuffix = ".cleaned"
	swapSuffix    = ".swap"
)

// Clean rewrites closed segments without the records that keep refuses, and without those of aborted transactions; offsets
// stay, and so do control batches. Segments with records of open transactions are not touched. It looks
// at segments that are wholly behind the last checkpoint; the record is valid only during the call. A segment of which
// nothing stays is removed; one that is damaged stays as it is. Cleaning goes on while others append and read; it ends
// with ctx between two batches.
func (l *Log) Clean(ctx context.Context, keep func(r *record.Record) bool) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	segments, err := l.cleanable()
	if err != nil {
		return err
	}
	ends, err := l.transactionsIn(segments, math.MinInt64)
	if err != nil {
		return err
	}
	for _, s := range segments {
		err := l.cleanSegment(ctx, s, ends, keep)
		if errors.Is(err, errNoBatch) || errors.Is(err, record.ErrCorrupt) {
			l.store.logger.Warn("commitlog: a damaged segment is not cleaned", "segment", s.name(kindLog), "error", err)
			continue // it stays whole, for a reader to set aside
		}
		if err != nil {
			return fmt.Errorf("clean %s: %w", s.name(kindLog), err)
		}
	}
	return nil
}

// cleanable lists the closed segments that no replay writes to, and no open transaction.
func (l *Log) cleanable() ([]*segment, error) {
	if err := l.ensureFiles(); err != nil {
		return nil, err
	}
	stable, err := l.lastStable()
	if err != nil {
		return nil, err
	}
	l.files.RLock()
	defer l.files.RUnlock()
	var list []*segment
	behind := l.store.checkpointed.Load()
	for i, s := range l.segments {
		if i == len(l.segments)-1 || l.segments[i+1].base > stable || s.base >= l.readable.base || s == l.indexed || s.closed >= behind {
			break
		}
		list = append(list, s)
	}
	return list, nil
}

// cleaning is one segment's rewriting.
type cleaning struct {
	log     *Log
	ends    *transactions
	old     *segment
	shadow  *segment // the new one, while it is not the log's
	file    File
	indexes indexes
	changed bool
	buf     []byte
	read    record.Reader
	markers []int64 // the ends of transactions that go
	offsets []int64 // of the records that stay, of the present batch
}

// cleanSegment writes the new segment and puts it in the place of the old one.
func (l *Log) cleanSegment(ctx context.Context, s *segment, ends *transactions, keep func(r *record.Record) bool) error {
	fresh := &segment{dir: s.dir, base: s.base, maxTimestamp: -1, maxOffset: -1, closed: s.closed}
	name := s.name(kindLog) + cleanedSuffix
	f, err := l.store.fs.OpenFile(name, true)
	if err != nil {
		return err
	}
	c := &cleaning{log: l, ends: ends, old: s, shadow: fresh, file: f}
	err = f.Truncate(0)
	if err == nil {
		err = c.copy(ctx, keep)
	}
	if err == nil && c.changed {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil || !c.changed {
		return errors.Join(err, l.store.fs.Remove(name))
	}
	if err := l.forgetAborted(s, c.markers); err != nil {
		return errors.Join(err, l.store.fs.Remove(name))
	}
	return l.replace(s, c, name)
}

// copy writes what stays.
func (c *cleaning) copy(ctx context.Context, keep func(r *record.Record) bool) error {
	l := c.log
	h, err := l.store.cache.acquire(c.old, kindLog, false)
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	w := &walk{file: h, limit: c.old.size, buf: make([]byte, 0, walkBytes)}
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
		if err := c.batch(record.Batch(p), keep); err != nil {
			return err
		}
	}
	// Where no batch starts the segment is damaged.
	return w.err
}

// batch writes one batch, whole or with the records that stay.
func (c *cleaning) batch(b record.Batch, keep func(r *record.Record) bool) error {
	if !b.CRCValid() {
		return errNoBatch
	}
	switch c.ends.judge(b) {
	case goes:
		c.changed = true
		if b.IsControl() {
			c.markers = append(c.markers, b.BaseOffset())
		}
		return nil
	case emptied:
		c.changed, b = true, headerOnly(b)
	case asked:
		kept, err := c.choose(b, keep)
		if err != nil {
			return err
		}
		if !kept {
			c.changed = true
			if len(c.offsets) == 0 {
				if !c.ends.isNewest(b) {
					return nil
				}
				b = headerOnly(b)
				break
			}
			i := 0
			subset, _, err := record.Subset(c.buf[:0], b, func(offset int64) bool {
				for i < len(c.offsets) && c.offsets[i] < offset {
					i++
				}
				return i < len(c.offsets) && c.offsets[i] == offset
			})
			if err != nil {
				return err
			}
			b, c.buf = subset, subset
		}
	}
	h, _ := headerOf(b)
	if _, err := c.file.WriteAt(b, c.shadow.size); err != nil {
		return err
	}
	c.indexes.add(c.shadow, h, c.shadow.size)
	c.shadow.size += int64(len(b))
	return nil
}

// choose asks for every record; all means that the batch stays as it is.
func (c *cleaning) choose(b record.Batch, keep func(r *record.Record) bool) (all bool, err error) {
	c.offsets = c.offsets[:0]
	if err := c.read.Reset(b, maxDecompressed); err != nil {
		return false, err
	}
	all = true
	for c.read.Next() {
		if r := c.read.Record(); keep(r) {
			c.offsets = append(c.offsets, r.Offset)
		} else {
			all = false
		}
	}
	return all, c.read.Err()
}

// replace puts the cleaned file in the place of the old one. Readers of the old one go on with their handle.
func (l *Log) replace(s *segment, c *cleaning, name string) error {
	fsys := l.store.fs
	if c.shadow.size == 0 {
		if err := fsys.Remove(name); err != nil {
			return err
		}
		l.files.Lock()
		defer l.files.Unlock()
		l.swapIn(s, nil)
		return l.removeSegment(s)
	}
	swap := s.name(kindLog) + swapSuffix
	if err := fsys.Rename(name, swap); err != nil {
		return err
	}
	if err := l.syncDir(); err != nil {
		return err
	}
	c.indexes.addTime(c.shadow)
	l.files.Lock()
	defer l.files.Unlock()
	if err := l.store.cache.drop(s); err != nil {
		return err
	}
	if err := l.finishSwap(s.base); err != nil {
		return err
	}
	s.gone = true
	l.swapIn(s, c.shadow)
	return c.indexes.save(l.store.cache, c.shadow)
}

// swapIn replaces a segment in the list. files is held.
func (l *Log) swapIn(old, fresh *segment) {
	list := make([]*segment, 0, len(l.segments))
	for _, s := range l.segments {
		if s != old {
			list = append(list, s)
		} else if fresh != nil {
			list = append(list, fresh)
		}
	}
	l.segments = list
	l.hints.clear()
}

// finishSwap renames a .swap over its segment. The indexes belong to the old one: they go first.
func (l *Log) finishSwap(base int64) error {
	for kind := kindIndex; kind <= kindTime; kind++ {
		err := l.store.fs.Remove(segmentName(l.dir, base, extensions[kind]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	name := segmentName(l.dir, base, extensions[kindLog])
	return l.store.fs.Rename(name+swapSuffix, name)
}

func (l *Log) syncDir() error {
	if err := l.store.fs.SyncDir(l.dir); err != nil {
		l.store.fail("sync "+l.dir, err)
		return l.store.Err()
	}
	return nil
}
