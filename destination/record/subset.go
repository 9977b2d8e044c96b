package record

import "encoding/binary"

// Subset returns a batch with those records of b that keep wants, and how many
// they are. Their offsets stay: the base offset, the last offset delta and every
// record's bytes are b's, as they are after compaction, so a batch that is rewritten
// does not move what follows. keep is asked by offset, ascending, once for each.
//
// It writes into the free capacity of dst behind len(dst), or into a new array
// when that is too small; the Batch is that part alone. dst must not share memory
// with b. The records come out uncompressed, but when all are kept the batch is
// copied as it is. When none is kept the Batch is nil. On an uncompressed batch,
// given the room, it does not allocate.
//
// Errors: a CorruptError, or ErrTooLarge beyond 1 GiB.
func Subset(dst []byte, b Batch, keep func(offset int64) bool) (Batch, int, error) {
	if len(b) >= HeaderSize && b.Compression() == None {
		var r Reader
		return r.subset(dst, b, keep)
	}
	r := readers.Get().(*Reader)
	defer r.release()
	return r.subset(dst, b, keep)
}

func (r *Reader) subset(dst []byte, b Batch, keep func(offset int64) bool) (Batch, int, error) {
	if err := r.Reset(b, maxStored); err != nil {
		return nil, 0, err
	}
	records := r.rest
	out := append(dst, b[:HeaderSize]...)
	kept, newest := 0, int64(0)
	runFrom, at := 0, 0 // records[runFrom:at] are wanted and not copied yet
	for r.Next() {
		size := len(r.rec.raw)
		if keep(r.rec.Offset) {
			if kept == 0 || r.rec.Timestamp > newest {
				newest = r.rec.Timestamp
			}
			kept++
		} else {
			out = append(out, records[runFrom:at]...)
			runFrom = at + size
		}
		at += size
	}
	if r.err != nil {
		return nil, 0, r.err
	}
	switch kept {
	case 0:
		return nil, 0, nil
	case b.Count():
		out = append(dst, b...)
		return Batch(out[len(dst):len(out):len(out)]), kept, nil
	}
	out = append(out, records[runFrom:at]...)
	s := Batch(out[len(dst):len(out):len(out)])
	s.setCompression(None)
	binary.BigEndian.PutUint64(s[atMaxTimestamp:], uint64(newest))
	binary.BigEndian.PutUint32(s[atCount:], uint32(kept))
	s.seal()
	return s, kept, nil
}
