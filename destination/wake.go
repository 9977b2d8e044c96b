package destination

// alarm says that at a time something is due about runs within [from, to).
type alarm struct {
	at       int64 // ms
	from, to int64
}

// alarms is a heap, earliest first. An alarm is not taken out when what it is
// about is settled before: whoever takes one looks at the runs, and the cursor
// builds the heap anew when most of it is stale.
type alarms struct {
	heap  []alarm
	limit int // length beyond which it is worth building anew
}

func (a alarm) before(b alarm) bool {
	return a.at < b.at || a.at == b.at && a.from < b.from
}

func (h *alarms) push(a alarm) {
	h.heap = append(h.heap, a)
	i := len(h.heap) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !a.before(h.heap[parent]) {
			break
		}
		h.heap[i] = h.heap[parent]
		i = parent
	}
	h.heap[i] = a
}

func (h *alarms) pop() alarm {
	top := h.heap[0]
	last := h.heap[len(h.heap)-1]
	h.heap = h.heap[:len(h.heap)-1]
	n := len(h.heap)
	if n == 0 {
		return top
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && h.heap[child+1].before(h.heap[child]) {
			child++
		}
		if !h.heap[child].before(last) {
			break
		}
		h.heap[i] = h.heap[child]
		i = child
	}
	h.heap[i] = last
	return top
}

func (h *alarms) clear() { h.heap, h.limit = nil, 0 }
