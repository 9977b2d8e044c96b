package queue

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestExpiryOfIdle has messages expire that nobody takes, in a long backlog, some
// of which were delivered and came back.
func TestExpiryOfIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		v := r.view(r.destination("q", "expiry.destination", "EXPIRED", "partitions", "2"))
		defer v.Close()
		expired := r.view(r.destination("EXPIRED"))
		defer expired.Close()
		c, s := consume(t, expired, ConsumerOptions{})
		c.Credit(1 << 20)
		start := time.Now()
		const n = 20_000
		all := make([]message, n)
		want := map[time.Duration]int{}
		for i := range all {
			all[i].body = fmt.Sprint(i)
			if after := time.Duration(i%7) * time.Hour; after > 0 {
				all[i].expires = start.Add(after).UnixMilli()
				want[after]++
			}
		}
		for i := 0; i < n; i += 1000 {
			put(t, v, all[i:i+1000]...)
		}
		taker, ts := consume(t, v, ConsumerOptions{}) // it takes some, and goes
		held := drain(t, taker, ts, 500)
		taker.Close(true)
		total := 0
		for hour := range 8 {
			time.Sleep(time.Until(start.Add(time.Duration(hour)*time.Hour + time.Second)))
			synctest.Wait()
			total += want[time.Duration(hour)*time.Hour]
			if got := s.pending(); got != total {
				t.Errorf("after %d hours %d are expired, want %d (%d were held)", hour, got, total, len(held))
			}
		}
		if st := v.Stats(); st.Waiting != n-int64(total) || st.Expired != int64(total) {
			t.Errorf("%+v", st)
		}
	})
}
