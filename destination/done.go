package destination

// Done says whether offset needs no more from this cursor: it is acknowledged,
// archived or passed.
func (c *Cursor) Done(offset int64) bool {
	return offset < c.floor || c.done.contains(offset)
}
