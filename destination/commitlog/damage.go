package commitlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/polylog-mq/polylog/destination/record"
)

// damagedDir is where damaged files are kept: second names of segments and journal files, and whole directories.
const damagedDir = "damaged"

// damageList remembers what was reported.
type damageList struct {
	store *Store

	mu    sync.Mutex // guards total
	total int64
}

func (d *damageList) init(s *Store) { d.store = s }

// found reports damage once. The caller makes sure that it is new.
func (d *damageList) found(e *DamagedError, inRecovery bool) {
	d.mu.Lock()
	d.total++
	d.mu.Unlock()
	d.store.logger.Error("commitlog: damage", "error", e, "aside", e.Aside)
	if inRecovery {
		d.store.recovery.Damaged = append(d.store.recovery.Damaged, e)
	} else if d.store.options.OnDamage != nil {
		d.store.options.OnDamage(e)
	}
}

func (d *damageList) count() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.total
}

// linkAside gives a file a second name under damaged/, durably, and returns it.
func (s *Store) linkAside(name, as string) (string, error) {
	aside := path.Join(damagedDir, as)
	err := s.fs.Link(name, aside)
	if errors.Is(err, fs.ErrExist) {
		return aside, nil
	}
	if err == nil {
		err = s.fs.SyncDir(damagedDir)
	}
	if err != nil {
		return "", fmt.Errorf("set %s aside: %w", name, err)
	}
	return aside, nil
}

// setDirAside moves a directory that belongs to no log out of the way of one.
func (s *Store) setDirAside(dir string) error {
	for i := 1; ; i++ {
		aside := path.Join(damagedDir, fmt.Sprintf("%s.%d", path.Base(dir), i))
		if _, err := s.fs.Stat(aside); err == nil {
			continue
		}
		s.logger.Warn("commitlog: directory without a known log set aside", "dir", dir, "aside", aside)
		if err := s.fs.Rename(dir, aside); err != nil {
			return err
		}
		return errors.Join(s.fs.SyncDir(parentOf(dir)), s.fs.SyncDir(damagedDir))
	}
}

// passDamaged moves a position behind a range that is known to be damaged.
func (l *Log) passDamaged(s *segment, position int64) int64 {
	l.files.RLock()
	defer l.files.RUnlock()
	for _, d := range s.damaged {
		if position >= d.from && position < d.to {
			return d.to
		}
	}
	return position
}

// damaged sets the segment aside, reports the range, and returns where the next valid batch is, or the limit.
func (r *reader) damaged(position, offset int64, reason string) (int64, error) {
	l, s := r.log, r.segment
	to, next, err := r.nextValid(position, offset)
	if err != nil {
		return 0, err
	}
	l.files.Lock()
	known := slices.Contains(s.damaged, span64{position, to})
	if !known {
		s.damaged = append(s.damaged, span64{position, to})
	}
	l.files.Unlock()
	if known {
		return to, nil
	}
	e := &DamagedError{
		Dir: l.dir, Segment: path.Base(s.name(kindLog)), Offset: offset, Next: next,
		Position: position, Length: to - position, Reason: reason,
	}
	if !l.memory { // a log in memory promises nothing over a power cut
		aside, err := l.store.linkAside(s.name(kindLog), fmt.Sprintf("%s.%s.%d", path.Base(l.dir), e.Segment, position))
		if err != nil {
			l.store.logger.Error("commitlog: cannot set a damaged segment aside", "error", err)
		}
		e.Aside = aside
	}
	l.store.damage.found(e, false)
	return to, nil
}

// nextValid looks for the next whole batch with a valid checksum and an offset that can follow.
func (r *reader) nextValid(position, offset int64) (at, next int64, err error) {
	end := r.nextBase
	if end < 0 {
		end = r.log.stable.Load()
	}
	const chunk = 256 << 10
	buf := make([]byte, chunk+record.HeaderSize)
	w := &walk{file: r.handle, limit: r.limit}
	for from := position + 1; from < r.limit; from += chunk {
		n, err := r.handle.ReadAt(buf[:min(int64(len(buf)), r.limit-from)], from)
		if err != nil && err != io.EOF {
			return 0, 0, err
		}
		for i := 0; i+record.HeaderSize <= n && i < chunk; i++ {
			if buf[i+16] != 2 || buf[i] != 0 {
				continue
			}
			h, ok := headerOf(buf[i:n])
			if !ok || h.base < offset || h.base >= end || from+int64(i+h.size) > r.limit {
				continue
			}
			w.position, w.err = from+int64(i), nil
			if w.next() && w.valid() {
				return from + int64(i), h.base, nil
			}
		}
	}
	return r.limit, end, nil
}
