package commitlog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// journal is the set of journal files. The committer writes to current; files behind it wait for a checkpoint, which makes
// them free to be used again.
type journal struct {
	fs        FS
	fileBytes int64
	maxFiles  int
	epoch     int32

	// Owned by the committer.
	sequence uint64 // of the next entry
	synced   uint64 // the last one that is known to be synced
	position int64  // in current

	mu      sync.Mutex // guards the following; no other lock is taken under it
	current *journalFile
	live    []*journalFile // in the order of use, current the last
	free    []*journalFile
	nextUse uint64
	number  int           // of the newest file
	freed   chan struct{} // a file was freed; capacity 1

	ahead    atomic.Int64  // position, for the preparer
	prepared atomic.Int64  // bytes that the preparer has written and synced
	wake     chan struct{} // the preparer has something to do; capacity 1
}

// journalFile is one preallocated file.
type journalFile struct {
	File
	// zeros is the same file, opened once more for the preparer: a failed write-back is told once to each open file, and
	// the preparer's sync must not be told in the committer's stead (S3).
	zeros  File
	name   string
	header fileHeader
	seed   uint32

	mu       sync.Mutex   // held by who moves prepared, over the write of zeros
	prepared atomic.Int64 // all below has been written once, so that a sync of it changes no metadata
}

const (
	journalDir = "journal"
	// prepareStep is what is written at once, and prepareLead how far the zeros are ahead of the entries: a file is ready
	// at once, and an idle broker has not written it whole.
	prepareStep = 1 << 20
	prepareLead = 16 << 20
)

func newJournal(fsys FS, o Options) *journal {
	return &journal{
		fs: fsys, fileBytes: o.JournalFileBytes, maxFiles: o.JournalFiles,
		freed: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
}

func journalName(number int) string { return fmt.Sprintf("%s/%06d.journal", journalDir, number) }

// create makes a file and takes its room. The caller syncs the directory.
func (j *journal) create(number int) (*journalFile, error) {
	f := &journalFile{name: journalName(number)}
	if err := f.open(j.fs, true); err != nil {
		return nil, err
	}
	if err := f.Preallocate(0, j.fileBytes); err != nil {
		return nil, errors.Join(err, f.Close(), j.fs.Remove(f.name))
	}
	if err := j.fs.SyncDir(journalDir); err != nil {
		return nil, errors.Join(&syncError{err}, f.Close())
	}
	return f, nil
}

func (f *journalFile) open(fsys FS, create bool) (err error) {
	if f.File, err = fsys.OpenFile(f.name, create); err != nil {
		return err
	}
	if f.zeros, err = fsys.OpenFile(f.name, false); err != nil {
		return errors.Join(err, f.File.Close())
	}
	return nil
}

// Close closes both.
func (f *journalFile) Close() error { return errors.Join(f.File.Close(), f.zeros.Close()) }

// spare makes sure that there is a second file, so that the first can always be freed: without it a full journal would
// wait for room that a full disk never has, in place of refusing what is appended.
func (j *journal) spare() error {
	if len(j.live)+len(j.free) >= 2 {
		return nil
	}
	f, err := j.create(j.number + 1)
	if err != nil {
		return err
	}
	j.number++
	j.free = append(j.free, f)
	return nil
}

// syncError marks a failed sync, after which nothing may go on (reliability S3).
type syncError struct{ err error }

func (e *syncError) Error() string { return "sync: " + e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }

// errNoFile means that all files are full.
var errNoFile = errors.New("commitlog: no free journal file")

// advance begins the next file: a free one, or a new one while there may be more.
func (j *journal) advance() error {
	j.mu.Lock()
	var f *journalFile
	if n := len(j.free); n > 0 {
		f = j.free[0]
		j.free = j.free[1:]
	}
	grow := f == nil && len(j.live) < j.maxFiles
	number := j.number + 1
	j.mu.Unlock()
	if grow {
		var err error
		if f, err = j.create(number); errors.Is(err, syscall.ENOSPC) {
			return errNoFile
		} else if err != nil {
			return err
		}
	}
	if f == nil {
		return errNoFile
	}
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails
	j.mu.Lock()
	if grow {
		j.number = number
	}
	f.header = fileHeader{use: j.nextUse, salt: binary.BigEndian.Uint32(salt[:]), first: j.sequence, epoch: j.epoch}
	j.nextUse++
	j.current = f
	j.live = append(j.live, f)
	j.mu.Unlock()
	f.seed = f.header.seed()
	head := make([]byte, journalDataStart)
	copy(head, f.header.appendTo(nil))
	copy(head[journalDataStart/2:], f.header.appendTo(nil))
	f.claim(journalDataStart)
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	j.position = journalDataStart
	j.moved()
	return nil
}

// claim takes a range from the preparer: the entries themselves are written there.
func (f *journalFile) claim(end int64) {
	f.mu.Lock()
	f.prepared.Store(max(f.prepared.Load(), end))
	f.mu.Unlock()
}

// moved tells the preparer where the entries are.
func (j *journal) moved() {
	j.ahead.Store(j.position)
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// fits returns how many of the entries go into the current file, up to and without the first barrier (which goes alone).
func (j *journal) fits(entries []span) int {
	start := entries[0].start
	for i, e := range entries {
		if j.position+int64(e.end-start) > j.fileBytes || i > 0 && e.barrier {
			return i
		}
		if e.barrier {
			return 1
		}
	}
	return len(entries)
}

// write writes sealed entries at the position. If it fails, what it may have written is made void, durably.
func (j *journal) write(p []byte) error {
	f := j.current
	f.claim(j.position + int64(len(p)))
	_, err := f.WriteAt(p, j.position)
	if errors.Is(err, syscall.ENOSPC) {
		// Cannot happen where files are preallocated. The appends are refused, and may not come back after a crash.
		clear(p)
		_, zeroing := f.WriteAt(p, j.position)
		if zeroing == nil {
			zeroing = f.Sync()
		}
		if zeroing != nil {
			return &syncError{errors.Join(err, zeroing)}
		}
	}
	return err
}

// done moves the position behind entries that were written.
func (j *journal) done(bytes, entries int) {
	j.position += int64(align(bytes))
	j.sequence += uint64(entries)
	if j.position+prepareLead > j.current.prepared.Load() {
		j.moved()
	}
}

// release frees the files before a use, after a checkpoint.
func (j *journal) release(use uint64) {
	j.mu.Lock()
	for len(j.live) > 1 && j.live[0].header.use < use {
		j.free = append(j.free, j.live[0])
		j.live = j.live[1:]
	}
	j.mu.Unlock()
	select {
	case j.freed <- struct{}{}:
	default:
	}
}

// prepare writes zeros ahead of the entries, so that their syncs change no metadata. It ends with stop.
func (j *journal) prepare(stop <-chan struct{}, fail func(string, error)) {
	for {
		j.mu.Lock()
		f := j.current
		j.mu.Unlock()
		more, err := j.prepareOnce(f)
		if err != nil {
			fail("prepare "+f.name, err)
			return
		}
		if more {
			select {
			case <-stop:
				return
			default:
				continue
			}
		}
		select {
		case <-stop:
			return
		case <-j.wake:
		}
	}
}

func (j *journal) prepareOnce(f *journalFile) (more bool, err error) {
	f.mu.Lock()
	from := f.prepared.Load()
	to := min(j.fileBytes, from+prepareStep)
	if from >= min(j.fileBytes, j.ahead.Load()+prepareLead) {
		f.mu.Unlock()
		return false, nil
	}
	_, err = f.zeros.WriteAt(zeroes[:to-from], from)
	f.prepared.Store(to)
	f.mu.Unlock()
	if errors.Is(err, syscall.ENOSPC) {
		return false, nil // the entries will tell
	}
	if err == nil {
		err = f.zeros.Sync()
	}
	j.prepared.Store(to)
	return true, err
}

var zeroes [prepareStep]byte

func (j *journal) count() int {
	if j == nil {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.live) + len(j.free)
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs error
	for _, f := range slices.Concat(j.live, j.free) {
		errs = errors.Join(errs, f.Close())
	}
	return errs
}

// place of the next entry, for the checkpoint.
func (j *journal) mark() journalMark {
	m := journalMark{use: j.nextUse, position: journalDataStart, sequence: j.sequence, synced: j.synced}
	if j.current != nil {
		m.use, m.position = j.current.header.use, j.position
	}
	return m
}

// journalMark is where replay starts.
type journalMark struct {
	use      uint64
	position int64
	sequence uint64
	synced   uint64
}
