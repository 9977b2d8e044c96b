package cli

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets that are no wider than 1/32 of what
// they hold. It may be added to by several goroutines.
type histogram struct {
	buckets [64 * 32]atomic.Int64
	count   atomic.Int64
	largest atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	n := max(int64(d), 0)
	h.buckets[bucketOf(uint64(n))].Add(1)
	h.count.Add(1)
	for {
		old := h.largest.Load()
		if n <= old || h.largest.CompareAndSwap(old, n) {
			return
		}
	}
}

// bucketOf is the number of the bucket that holds n nanoseconds: below 32 each
// has its own, above the five bits behind the highest choose.
func bucketOf(n uint64) int {
	if n < 32 {
		return int(n)
	}
	shift := bits.Len64(n) - 6
	return (shift+1)*32 + int(n>>shift)&31
}

// upperOf is the largest value that bucket i holds.
func upperOf(i int) int64 {
	if i < 32 {
		return int64(i)
	}
	shift := i/32 - 1
	return int64(uint64(i%32+33)<<shift - 1)
}

// quantile is a duration that the share q of all is no longer than.
func (h *histogram) quantile(q float64) time.Duration {
	wanted := int64(q * float64(h.count.Load()))
	var seen int64
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen > wanted {
			return time.Duration(min(upperOf(i), h.largest.Load()))
		}
	}
	return time.Duration(h.largest.Load())
}

// latencies are a histogram's quantiles in microseconds, for JSON.
type latencies struct {
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p99_9_us"`
	Max  float64 `json:"max_us"`
}

func (h *histogram) latencies() latencies {
	us := func(d time.Duration) float64 { return float64(d) / 1e3 }
	return latencies{us(h.quantile(0.5)), us(h.quantile(0.9)), us(h.quantile(0.99)), us(h.quantile(0.999)), us(time.Duration(h.largest.Load()))}
}

func (l latencies) String() string {
	text := ""
	for _, q := range []struct {
		name string
		us   float64
	}{{"50%", l.P50}, {"90%", l.P90}, {"99%", l.P99}, {"99.9%", l.P999}, {"max", l.Max}} {
		text += q.name + " " + humanDuration(time.Duration(q.us*1e3)) + "  "
	}
	return text[:len(text)-2]
}
