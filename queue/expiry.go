package queue

import (
	"math"

	"github.com/polylog-mq/polylog/destination/record"
)

// expiryBucket is how many offsets share one entry of an expiry.
const expiryBucket = 4096

// expiry finds the messages of a partition that expire while nobody takes them,
// for a view whose expired messages go somewhere. It looks at each message once,
// a slice at a time, and remembers for each stretch of the log when the first of
// it expires; then it looks at that stretch again.
type expiry struct {
	lane    lane
	buckets map[int64]int64 // by offset / expiryBucket: when the first of it expires, ms
	next    int64           // when the first of all does
}

// nothing is the selector of a lane that looks at everything and takes nothing.
type nothing struct{}

func (nothing) Match(*record.Record) bool { return false }

// note remembers that a message expires.
func (e *expiry) note(offset, at int64) {
	bucket := offset / expiryBucket
	if old, ok := e.buckets[bucket]; !ok || at < old {
		e.buckets[bucket] = at
		e.next = min(e.next, at)
	}
}

// due has the lane look again at the stretches of which something has expired.
func (e *expiry) due(now int64) {
	if now < e.next {
		return
	}
	e.next = math.MaxInt64
	for bucket, at := range e.buckets {
		if at > now {
			e.next = min(e.next, at)
			continue
		}
		delete(e.buckets, bucket)
		e.lane.giveBack(bucket*expiryBucket, (bucket+1)*expiryBucket)
	}
}

// expireIdle looks for what expires while nobody takes it.
func (v *View) expireIdle(now int64) {
	for _, p := range v.parts {
		if v.settings.ExpiryDestination == "" {
			p.expiry = nil
			continue
		}
		if p.expiry == nil {
			e := &expiry{buckets: map[int64]int64{}, next: math.MaxInt64}
			e.lane = lane{p: p, consumer: &Consumer{v: v, selector: nothing{}}, scan: p.cursor.Floor(), expiry: e}
			p.expiry = e
		}
		e := p.expiry
		e.due(now)
		p.stable = p.p.Stable()
		v.scan.left = scanBytes
		e.lane.fill(now)
		if len(e.lane.back) > 0 || e.lane.scan < p.stable {
			v.timer.want(now + scanPause)
		}
		if e.next < math.MaxInt64 {
			v.timer.want(e.next)
		}
	}
}
