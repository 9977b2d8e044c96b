package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

const (
	// browseMax bounds the records of a page, and browseBytes its payload: a
	// page ends with the batch that reaches it.
	browseMax   = 1000
	browseBytes = 512 << 10
)

// browse handles a Browse, on the administration lane.
func (c *connection) browse(f *native.Browse) error {
	after, err := decodePosition(f.After)
	if err != nil {
		return err
	}
	page := browsed{after: after}
	most := browseMax
	if f.Max > 0 {
		most = int(min(f.Max, browseMax))
	}
	next, more, err := c.state.Browse(c.ctx, f.Destination, f.Selector, after, most, page.add)
	switch {
	case errors.Is(err, errPageFull):
		page.After = appendPosition(nil, page.after)
	case err != nil:
		return err
	case more:
		page.After = appendPosition(nil, next)
	}
	c.out.append(&native.OK{Request: f.Request, Body: page.Append(nil)}, page.payload)
	return nil
}

var errPageFull = errors.New("page is full")

// browsed is the page that is being read.
type browsed struct {
	native.Browsed
	payload []byte
	after   queue.Position // behind what is in the page
}

func (p *browsed) add(partition int32, b record.Batch, states []queue.State) error {
	if len(p.payload) > 0 && len(p.payload)+len(b) > browseBytes {
		return errPageFull
	}
	p.payload = append(p.payload, b...)
	p.Bodies++
	p.Parts = binary.BigEndian.AppendUint16(p.Parts, uint16(partition))
	for _, s := range states {
		p.States = append(p.States, byte(s))
	}
	for int(partition) >= len(p.after) {
		p.after = append(p.after, 0)
	}
	p.after[partition] = b.NextOffset()
	return nil
}

// appendPosition appends where a browse goes on: eight bytes, big endian, for
// each partition's next offset.
func appendPosition(dst []byte, p queue.Position) []byte {
	for _, offset := range p {
		dst = binary.BigEndian.AppendUint64(dst, uint64(offset))
	}
	return dst
}

func decodePosition(b []byte) (queue.Position, error) {
	if len(b)%8 != 0 {
		return nil, fmt.Errorf("%w: no position of a browse", session.ErrInvalid)
	}
	var p queue.Position
	for ; len(b) > 0; b = b[8:] {
		offset := binary.BigEndian.Uint64(b)
		if offset > math.MaxInt64 {
			return nil, fmt.Errorf("%w: no position of a browse", session.ErrInvalid)
		}
		p = append(p, int64(offset))
	}
	return p, nil
}
