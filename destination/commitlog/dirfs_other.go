//go:build !linux

package commitlog

import (
	"errors"
	"os"
)

// lockFile cannot keep a second process away on this system.
func lockFile(*os.File) error { return nil }

func syncData(f *os.File) error { return f.Sync() }

// syncFileSystem has no portable form; the caller syncs file by file.
func syncFileSystem(*os.File) error { return errors.ErrUnsupported }

func preallocate(*os.File, int64, int64) error { return errors.ErrUnsupported }
