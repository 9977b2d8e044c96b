package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// machineFigures are this machine's own limits, measured before the run.
type machineFigures struct {
	SyncAppendUS, SyncRecycledUS float64 // 4 KiB and fdatasync, medians: growing file, preallocated file
	SequentialMBs                float64
}

func (m machineFigures) String() string {
	return fmt.Sprintf("4 KiB + fdatasync %.0f us appended, %.0f us into a preallocated file; sequential write %.0f MB/s",
		m.SyncAppendUS, m.SyncRecycledUS, m.SequentialMBs)
}

func measureMachine(dir string) (m machineFigures, err error) {
	path := filepath.Join(dir, "machine")
	f, err := os.Create(path)
	if err != nil {
		return m, err
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, 4096)
	rounds := func() (float64, error) {
		var times []time.Duration
		for i := range 500 {
			begin := time.Now()
			if _, err := f.WriteAt(block, int64(i)*4096); err != nil {
				return 0, err
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				return 0, err
			}
			times = append(times, time.Since(begin))
		}
		slices.Sort(times)
		return float64(times[len(times)/2].Microseconds()), nil
	}
	if m.SyncAppendUS, err = rounds(); err != nil {
		return m, err
	}
	if m.SyncRecycledUS, err = rounds(); err != nil { // the same bytes again: allocated by now
		return m, err
	}
	big := make([]byte, 1<<20)
	begin := time.Now()
	for i := range 512 {
		if _, err := f.WriteAt(big, int64(i)<<20); err != nil {
			return m, err
		}
	}
	err = f.Sync()
	m.SequentialMBs = 512 * 1.048576 / time.Since(begin).Seconds()
	return m, err
}
