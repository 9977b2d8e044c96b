package cli

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitMemory tells the garbage collector how much memory there is, so that a
// broker in a container collects before it is killed. "auto" leaves GOMEMLIMIT
// as it is if it is set, and else takes three quarters of what the machine or
// the container has; the rest is the page cache's, out of which reads are
// served. It returns the limit, 0 if there is none.
func limitMemory(text string, env func(string) (string, bool)) int64 {
	limit := int64(0)
	switch text {
	case "none":
		debug.SetMemoryLimit(math.MaxInt64)
		return 0
	case "auto":
		if _, set := env("GOMEMLIMIT"); set {
			return debug.SetMemoryLimit(-1)
		}
		if limit = memoryAvailable() / 4 * 3; limit == 0 {
			return 0
		}
	default:
		limit, _ = parseSize(text) // checked
	}
	debug.SetMemoryLimit(limit)
	return limit
}

// memoryAvailable is the lesser of the machine's memory and the control
// group's limit, or 0 if neither is told.
func memoryAvailable() int64 {
	available := int64(0)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		available = memTotal(text)
	}
	for _, name := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && n > 0 && (available == 0 || n < available) {
			available = n
		}
	}
	return available
}

// memTotal reads the line "MemTotal: 24689764 kB".
func memTotal(meminfo []byte) int64 {
	for lines := bufio.NewScanner(bytes.NewReader(meminfo)); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:")
		if !ok {
			continue
		}
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		return n << 10
	}
	return 0
}
