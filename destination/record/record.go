package record

import "iter"

// Record is one record of a batch. All its bytes alias the batch, or the buffer
// of the Reader that decompressed it, and are valid as long as those are.
type Record struct {
	Offset    int64
	Timestamp int64  // unix milliseconds; the batch's append time where it has one
	Key       []byte // nil is Kafka's null, which is not an empty key
	Value     []byte // nil is Kafka's null: a tombstone under compaction

	raw         []byte
	headers     []byte // still encoded, without their count
	headerCount int
}

// Header returns the value of the last header of that name, as Kafka's
// lastHeader does. A null value is nil. It does not allocate.
func (r *Record) Header(name string) (value []byte, ok bool) {
	at := 0
	for range r.headerCount {
		h, next := headerAt(r.headers, at)
		if next < 0 {
			break
		}
		if string(r.headers[h.key:h.keyEnd]) == name {
			value, ok = h.valueOf(r.headers), true
		}
		at = next
	}
	return value, ok
}

// Headers walks all headers in order, the repeated ones too. The values alias
// the record; the names are copies. Damaged headers end the walk; DecodeMessage
// and Validate report them.
func (r *Record) Headers() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		at := 0
		for range r.headerCount {
			h, next := headerAt(r.headers, at)
			if next < 0 || !yield(string(r.headers[h.key:h.keyEnd]), h.valueOf(r.headers)) {
				return
			}
			at = next
		}
	}
}

// Raw is the record as it is encoded in the (decompressed) batch, the varint of
// its length included.
func (r *Record) Raw() []byte { return r.raw }

// checkHeaders says whether the headers are whole and nothing follows them.
func (r *Record) checkHeaders() bool {
	at := 0
	for range r.headerCount {
		if _, at = headerAt(r.headers, at); at < 0 {
			return false
		}
	}
	return at == len(r.headers)
}

// headerSpan is where a header's name and value lie. A null value has value -1.
type headerSpan struct {
	key, keyEnd     int
	value, valueEnd int
}

// headerAt reads the header that starts at i; next is -1 when it is damaged.
func headerAt(b []byte, i int) (h headerSpan, next int) {
	size, i := varint32(b, i)
	if i < 0 || size < 0 || int(size) > len(b)-i {
		return h, -1 // a header's name is never null
	}
	h.key = i
	i += int(size)
	h.keyEnd = i
	size, i = varint32(b, i)
	if i < 0 || size < -1 || int(size) > len(b)-i {
		return h, -1
	}
	if size < 0 {
		h.value, h.valueEnd = -1, -1
		return h, i
	}
	h.value = i
	i += int(size)
	h.valueEnd = i
	return h, i
}

func (h headerSpan) valueOf(b []byte) []byte {
	if h.value < 0 {
		return nil
	}
	return b[h.value:h.valueEnd:h.valueEnd]
}
