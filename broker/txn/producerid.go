package txn

import (
	"context"
	"fmt"
)

// producerIDs are those of the last block that are not given out.
type producerIDs struct {
	next, end int64
	fetching  chan struct{} // closed when the block that somebody fetches is there
}

// newProducerID gives out a producer id that nobody has had. It may wait for a
// new block; those who come meanwhile wait for the same.
func (c *Coordinator) newProducerID(ctx context.Context) (int64, error) {
	for {
		c.mu.Lock()
		p := &c.ids
		if p.next < p.end {
			id := p.next
			p.next++
			c.mu.Unlock()
			return id, nil
		}
		if fetching := p.fetching; fetching != nil {
			c.mu.Unlock()
			select {
			case <-fetching:
				continue
			case <-ctx.Done():
				return noID, ctx.Err()
			}
		}
		p.fetching = make(chan struct{})
		c.mu.Unlock()
		if err := c.fetchProducerIDs(); err != nil {
			c.o.Logger.Warn("no new producer ids", "error", err)
			return noID, err
		}
	}
}

func (c *Coordinator) fetchProducerIDs() error {
	first, n, err := c.o.NextProducerIDBlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.ids.fetching)
	c.ids.fetching = nil
	if err == nil && (n <= 0 || first < 0) {
		err = fmt.Errorf("a block of %d producer ids from %d", n, first)
	}
	if err == nil {
		c.ids.next, c.ids.end = first, first+int64(n)
	}
	return err
}
