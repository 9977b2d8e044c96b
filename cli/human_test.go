package cli

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"
	"time"
)

func TestHuman(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 1536: "1.50 KiB", 10 << 20: "10.0 MiB", 1023 << 20: "1023 MiB",
		1<<30 - 1: "1.00 GiB", math.MaxInt64: "8.00 EiB",
	} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := humanCount(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1048576": 1 << 20, "64MiB": 64 << 20, "64M": 64 << 20, "64mb": 64e6, "1.5 GiB": 3 << 29, "10B": 10} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1XB", "1e30", "NaN", "9999999TiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

// A quantile is never below the true one, and at most 1/32 above it.
func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var all []int64
	for range 10000 {
		n := int64(math.Exp(random.Float64() * 25))
		all = append(all, n)
		h.add(time.Duration(n))
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999} {
		exact := all[int(q*float64(len(all)))]
		got := int64(h.quantile(q))
		if got < exact || float64(got) > float64(exact)*(1+1.0/32)+1 {
			t.Errorf("quantile %g is %d, exactly %d", q, got, exact)
		}
	}
	if got := int64(h.quantile(1)); got != all[len(all)-1] {
		t.Errorf("the largest is %d, exactly %d", got, all[len(all)-1])
	}
	for _, n := range []uint64{0, 31, 32, 33, 63, 64, 1 << 40, 1<<40 + 12345} {
		if u := upperOf(bucketOf(n)); u < int64(n) || bucketOf(uint64(u)) != bucketOf(n) || bucketOf(uint64(u)+1) == bucketOf(n) {
			t.Errorf("%d is in bucket %d, which ends at %d", n, bucketOf(n), u)
		}
	}
}

func TestMemTotal(t *testing.T) {
	if got := memTotal([]byte("MemTotal:       24689764 kB\nMemFree: 1 kB\n")); got != 24689764<<10 {
		t.Error(got)
	}
}
