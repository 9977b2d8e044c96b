package spill

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/polylog-mq/polylog/destination/record"
)

// store is what has been spilled and is not confirmed yet: segments, oldest first,
// and the position. Messages are numbered one by one, without gaps.
//
// One goroutine appends, another one reads and confirms; each may ask how much
// there is.
type store struct {
	fs           fileSystem
	segmentBytes int64 // a segment that has this many is followed by another one

	builder record.Builder // the writer's

	// The reader's.
	position *position
	head     []item   // read, and not confirmed
	reading  *segment // that the next batch is read from; nil: the oldest
	at, next int64    // where in it, and the number of its first message

	mu        sync.Mutex // guards what follows; a leaf
	segments  []*segment
	appending bool  // the last segment is being written to
	done, end int64 // the numbers of the first message that is not confirmed, and behind the last that is safe
	bytes     int64 // of all segments
}

// openStore reads what is in the directory. The last write is cut off if it was not
// finished. Errors: ErrNewerVersion and ErrCorrupt, with the file named.
func openStore(fs fileSystem, segmentBytes int64) (_ *store, err error) {
	s := &store{fs: fs, segmentBytes: segmentBytes}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.position, err = openPosition(fs); err != nil {
		return nil, err
	}
	s.done = s.position.done
	names, err := fs.ReadDir()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(name string) bool {
		_, ok := parseSegmentName(name)
		return !ok
	})
	for i, name := range names {
		if err := s.load(name, i == len(names)-1); err != nil {
			return nil, err
		}
	}
	if len(s.segments) > 0 {
		s.done = max(s.done, s.segments[0].first)
		s.end = s.segments[len(s.segments)-1].end
	}
	s.end = max(s.end, s.done)
	return s, s.free()
}

// load opens a segment. All but the last end where the next one begins; the last is
// read through.
func (s *store) load(name string, last bool) error {
	first, _ := parseSegmentName(name)
	if n := len(s.segments); n > 0 {
		s.segments[n-1].end = first
	}
	g, err := openSegment(s.fs, name, first)
	switch {
	case errors.Is(err, errUnborn) && last:
		if err := s.fs.Remove(name); err != nil {
			return err
		}
		return s.fs.SyncDir()
	case errors.Is(err, errUnborn):
		return &CorruptError{name, 0, "the header"}
	case err != nil:
		return err
	}
	s.segments = append(s.segments, g)
	if last {
		if err := g.findEnd(); err != nil {
			return err
		}
	}
	s.bytes += g.size
	return nil
}

// pending is how many messages are safe here and not confirmed.
func (s *store) pending() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end - s.done
}

// used is how many bytes the segments have.
func (s *store) used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// append makes entries safe, in order: they are on the disk when it returns. If the
// disk is full, nothing of them is, the error is ErrFull, and the next call may
// succeed. Any other error is for good.
func (s *store) append(entries []*entry) error {
	s.mu.Lock()
	s.appending = true
	var g *segment
	if n := len(s.segments); n > 0 {
		g = s.segments[n-1]
	}
	first := s.end
	s.mu.Unlock()
	g, size, err := s.write(g, entries, first)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appending = false
	if err != nil {
		return err
	}
	s.end += int64(len(entries))
	g.end, g.size = s.end, g.size+size
	s.bytes += size
	return nil
}

func (s *store) write(g *segment, entries []*entry, first int64) (_ *segment, size int64, err error) {
	if g == nil || g.size >= s.segmentBytes {
		if g, err = s.create(first); err != nil {
			return nil, 0, fmt.Errorf("make a file: %w", err)
		}
	}
	b, err := encode(&s.builder, entries, first, g.salt)
	if err != nil {
		return nil, 0, err
	}
	if s.builder.Size() > keptBuilder { // one large message must not stay for ever
		s.builder = record.Builder{}
	}
	if _, err = g.file.WriteAt(b, g.size); err == nil {
		if err = g.file.Sync(); err == nil {
			return g, int64(len(b)), nil
		}
		// What a failed sync has left is not known, and a second one may lie.
		return nil, 0, fmt.Errorf("%w: sync %s: %w", errBroken, g.name, err)
	}
	err = fmt.Errorf("write %s: %w", g.name, err)
	if undo := errors.Join(g.file.Truncate(g.size), g.file.Sync()); undo != nil {
		return nil, 0, fmt.Errorf("%w: %w, and then %w", errBroken, err, undo)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return nil, 0, fmt.Errorf("%w: %w", ErrFull, err)
	}
	return nil, 0, fmt.Errorf("%w: %w", errBroken, err)
}

// keptBuilder is the size of a batch, bytes, up to which its memory is kept.
const keptBuilder = 2 * batchBytes

// create makes the next segment. Its header is safe, and its name, before a message
// is in it. One that could not be made is left for the next open to remove.
func (s *store) create(first int64) (*segment, error) {
	g, err := createSegment(s.fs, first)
	if err == nil {
		if err = s.fs.SyncDir(); err != nil {
			err = errors.Join(err, g.file.Close())
		}
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return nil, fmt.Errorf("%w: %w", ErrFull, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	s.mu.Lock()
	s.segments = append(s.segments, g)
	s.bytes += g.size
	s.mu.Unlock()
	return g, nil
}

// read returns the oldest messages that are not confirmed, up to most of them or
// about roundBytes, in order. None: there are none. They stay until confirm.
func (s *store) read(most int) ([]item, error) {
	n, size := 0, int64(0)
	for n < most {
		if n == len(s.head) {
			more, err := s.readBatch()
			if err != nil && n == 0 {
				return nil, err
			}
			if err != nil || !more { // an error comes again, when it is next
				break
			}
			continue
		}
		if size += s.head[n].size(); n > 0 && size > roundBytes {
			break
		}
		n++
	}
	return s.head[:n], nil
}

// readBatch reads the next batch behind what is in head. It returns false if there
// is none.
func (s *store) readBatch() (more bool, err error) {
	s.mu.Lock()
	done := s.done
	if done == s.end || s.reading != nil && s.next == s.end {
		s.mu.Unlock()
		return false, nil
	}
	if s.reading == nil {
		s.reading, s.at, s.next = s.segments[0], segmentHeader, s.segments[0].first
	}
	g := *s.reading // as it is now: it may grow
	s.mu.Unlock()
	if s.at == g.size && s.next == g.end {
		return true, s.turn()
	}
	b, err := g.batchAt(s.at, s.next)
	if err != nil {
		return false, err
	}
	head, err := decode(s.head, b, done)
	if err != nil {
		return false, &CorruptError{g.name, s.at, err.Error()}
	}
	s.head, s.at, s.next = head, s.at+int64(len(b)), b.NextOffset()
	return true, nil
}

// turn goes on with the segment behind the one that has been read.
func (s *store) turn() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.segments, s.reading)
	if i < 0 || i+1 == len(s.segments) {
		return fmt.Errorf("%w: %d messages are missing", ErrCorrupt, s.end-s.done)
	}
	s.reading, s.at = s.segments[i+1], segmentHeader
	return nil
}

// confirm notes that the broker has the first n of what read returned, and frees
// the room of whole segments.
func (s *store) confirm(n int) error {
	s.head = s.head[n:]
	return s.pass(int64(n))
}

// pass is confirm of messages that were spilled while they were under way, and that
// nobody has read.
func (s *store) pass(n int64) error {
	s.mu.Lock()
	s.done += n
	done := s.done
	s.mu.Unlock()
	err := s.position.note(done)
	if errors.Is(err, syscall.ENOSPC) {
		err = nil // it will be sent again after a crash, at worst
	}
	return errors.Join(err, s.free())
}

// free removes the segments of which all is confirmed, oldest first and each for
// good before the next, so that what a power cut brings back has no gaps.
func (s *store) free() error {
	for {
		s.mu.Lock()
		if len(s.segments) == 0 || s.segments[0].end > s.done || len(s.segments) == 1 && s.appending {
			s.mu.Unlock()
			return nil
		}
		g := s.segments[0]
		s.segments = s.segments[1:]
		s.bytes -= g.size
		s.mu.Unlock()
		if s.reading == g {
			s.reading = nil
		}
		err := errors.Join(g.file.Close(), s.fs.Remove(g.name))
		if err == nil {
			err = s.fs.SyncDir()
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", g.name, err)
		}
	}
}

// close closes the files; nobody reads or appends any more.
func (s *store) close() error {
	var err error
	for _, g := range s.segments {
		err = errors.Join(err, g.file.Close())
	}
	if s.position != nil {
		err = errors.Join(err, s.position.close())
	}
	return err
}
