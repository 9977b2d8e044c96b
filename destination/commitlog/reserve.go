package commitlog

import (
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"syscall"
)

// reserve is a file that takes room as long as there is plenty, so that delivery state and our own metadata have some when
// there is none (reliability S4).
type reserve struct {
	fs     FS
	bytes  int64
	logger *slog.Logger

	mu   sync.Mutex // guards held; over the system calls
	held bool
}

const reserveName = "reserve"

func newReserve(fsys FS, bytes int64, logger *slog.Logger) *reserve {
	return &reserve{fs: fsys, bytes: max(bytes, 0), logger: logger}
}

// take makes the file if it is not there; false if there is no room for it.
func (r *reserve) take() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held || r.bytes == 0 {
		return true
	}
	f, err := r.fs.OpenFile(reserveName, true)
	if err == nil {
		err = f.Preallocate(0, r.bytes)
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, r.fs.Remove(reserveName))
		}
	}
	if err == nil {
		r.held = true
	}
	return err == nil
}

// release gives the room up.
func (r *reserve) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held {
		return
	}
	r.held = false
	if err := r.fs.Remove(reserveName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.logger.Error("commitlog: release the reserve", "error", err)
		return
	}
	r.logger.Warn("commitlog: disk full, reserve released", "bytes", r.bytes)
}

func (r *reserve) intact() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held || r.bytes == 0
}

// withRoom runs what takes room on the disk. On a full disk a reserved caller gets the reserve; others are refused until
// there is room for the reserve again, so that they do not eat what it gave up.
func (s *Store) withRoom(reserved bool, take func() error) error {
	if !reserved && !s.reserve.intact() && !s.reserve.take() {
		return ErrFull
	}
	err := take()
	if reserved && errors.Is(err, syscall.ENOSPC) {
		s.reserve.release()
		err = take()
	}
	return err
}
