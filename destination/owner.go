package destination

// ownerKey is a holder, a transaction or a producer, told apart by the state
// that it owns runs in.
type ownerKey struct {
	id    uint64
	state state
}

// owned is how many records someone owns, and within which offsets, so that
// all of them are found without looking at everybody's.
type owned struct{ records, from, to int64 }

// gauge is the counter for a state.
func (c *Cursor) gauge(s state) *int64 {
	switch s {
	case acquired:
		return &c.stats.Acquired
	case scheduled:
		return &c.stats.Scheduled
	case held:
		return &c.stats.Held
	}
	return &c.stats.HeldSends
}

// track adds a run whose offsets were available.
func (c *Cursor) track(r run) {
	*c.gauge(r.state) += r.length()
	if r.state != scheduled {
		key := ownerKey{r.owner, r.state}
		o, ok := c.owners[key]
		if !ok {
			o.from, o.to = r.from, r.to
		}
		c.owners[key] = owned{o.records + r.length(), min(o.from, r.from), max(o.to, r.to)}
	}
	c.runs.insert(r)
	switch {
	case r.state == scheduled:
		c.alarm(&c.schedules, &r)
	case r.state == acquired && r.until > 0:
		c.alarm(&c.locks, &r)
	}
}

// take takes what of [from, to) is in the run at p out of it, and returns that.
func (c *Cursor) take(p place, from, to int64) run {
	r := *c.runs.at(p)
	from, to = max(r.from, from), min(r.to, to)
	c.runs.cut(p, from, to)
	if r.state == acquired {
		r.acquisition += uint64(from - r.from)
	}
	r.from, r.to = from, to
	*c.gauge(r.state) -= r.length()
	if r.state != scheduled {
		key := ownerKey{r.owner, r.state}
		o := c.owners[key]
		if o.records -= r.length(); o.records == 0 {
			delete(c.owners, key)
		} else {
			c.owners[key] = o
		}
	}
	return r
}

// takeOwned takes everything that key owns and calls f with each run, ascending.
func (c *Cursor) takeOwned(key ownerKey, f func(run)) {
	o := c.owners[key]
	for offset := o.from; o.records > 0; {
		p := c.runs.seek(offset)
		for r := c.runs.at(p); r.state != key.state || r.owner != key.id; r = c.runs.at(p) {
			p = c.runs.next(p)
		}
		r := c.take(p, 0, none)
		o.records -= r.length()
		offset = r.to
		f(r)
	}
}

// alarm sets an alarm about r, and throws stale ones away when they are many.
func (c *Cursor) alarm(h *alarms, r *run) {
	h.push(alarm{r.until, r.from, r.to})
	if len(h.heap) <= h.limit {
		return
	}
	h.heap = h.heap[:0]
	for p := (place{}); c.runs.valid(p); p = c.runs.next(p) {
		if o := c.runs.at(p); o.state == r.state && o.until > 0 {
			h.push(alarm{o.until, o.from, o.to})
		}
	}
	h.limit = 2*len(h.heap) + 1024
}

// ring is the place of the first run that alarm a is about.
func (c *Cursor) ring(a alarm, s state) (place, bool) {
	for p := c.runs.seek(a.from); c.runs.valid(p); p = c.runs.next(p) {
		r := c.runs.at(p)
		if r.from >= a.to {
			break
		}
		if r.state == s && r.until == a.at {
			return p, true
		}
	}
	return place{}, false
}
