package queue

import (
	"runtime"
	"sync"
)

// Dispatcher is the workers that all views of a broker share. A view that has
// something to do waits in line; a worker gives it a bounded turn, and if that
// was not enough it goes to the end of the line, so that one busy queue does
// not keep a hundred others waiting.
//
// Its goroutines are the workers, which Close waits for.
type Dispatcher struct {
	workers sync.WaitGroup

	mu     sync.Mutex // guards what follows; a leaf
	wake   *sync.Cond
	line   []*View // from head on
	head   int
	holds  int // of those who will give a turn
	closed bool
}

// NewDispatcher starts the workers; 0 means two, or as many as there are
// processors if that is fewer.
func NewDispatcher(workers int) *Dispatcher {
	if workers <= 0 {
		workers = min(2, runtime.GOMAXPROCS(0))
	}
	d := &Dispatcher{}
	d.wake = sync.NewCond(&d.mu)
	d.workers.Add(workers)
	for range workers {
		go d.work()
	}
	return d
}

// Close ends the workers and waits for them. Views are closed before; those
// that are not get no more turns.
func (d *Dispatcher) Close() {
	d.mu.Lock()
	d.closed = true
	d.line, d.head = nil, 0
	d.mu.Unlock()
	d.wake.Broadcast()
	d.workers.Wait()
}

func (d *Dispatcher) enqueue(v *View) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	if d.head > 0 && len(d.line) == cap(d.line) {
		n := copy(d.line, d.line[d.head:])
		clear(d.line[n:])
		d.line, d.head = d.line[:n], 0
	}
	d.line = append(d.line, v)
	wake := d.holds == 0
	d.mu.Unlock()
	if wake {
		d.wake.Signal()
	}
}

// Hold keeps the workers asleep over views that come in line until Release,
// which must follow soon.
func (d *Dispatcher) Hold() {
	d.mu.Lock()
	d.holds++
	d.mu.Unlock()
}

// Release ends a Hold. The caller gives the first view in line its turn, which
// saves waking a worker for it, and the workers get the others.
func (d *Dispatcher) Release() {
	d.mu.Lock()
	d.holds--
	var v *View
	if d.head < len(d.line) {
		v = d.pop()
	}
	others := d.head < len(d.line)
	d.mu.Unlock()
	if others {
		d.wake.Broadcast()
	}
	if v != nil {
		v.turn()
	}
}

func (d *Dispatcher) work() {
	defer d.workers.Done()
	for v := d.next(); v != nil; v = d.next() {
		v.turn()
	}
}

// next waits for a view, or returns nil when the dispatcher closes.
func (d *Dispatcher) next() *View {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.closed && d.head == len(d.line) {
		d.wake.Wait()
	}
	if d.closed {
		return nil
	}
	return d.pop()
}

// pop takes the first in line, of which there is one.
func (d *Dispatcher) pop() *View {
	v := d.line[d.head]
	d.line[d.head] = nil
	if d.head++; d.head == len(d.line) {
		d.line, d.head = d.line[:0], 0
	}
	return v
}

// What a view's state says.
const (
	viewIdle    int32 = iota
	viewQueued        // in the dispatcher's line
	viewRunning       // a worker has it
	viewAgain         // a worker has it, and something has happened since
)

// trigger says that there may be something to do. It never blocks on the view:
// the committer calls it.
func (v *View) trigger() {
	for {
		switch v.state.Load() {
		case viewIdle:
			if v.state.CompareAndSwap(viewIdle, viewQueued) {
				v.deps.Dispatcher.enqueue(v)
				return
			}
		case viewRunning:
			if v.state.CompareAndSwap(viewRunning, viewAgain) {
				return
			}
		default:
			return
		}
	}
}

// turn is a worker's. At most one is under way for each view.
func (v *View) turn() {
	v.state.Store(viewRunning)
	more := v.run()
	for _, c := range v.served {
		c.sink.Flush()
	}
	v.first.Room().Freed()
	if more || !v.state.CompareAndSwap(viewRunning, viewIdle) {
		v.state.Store(viewQueued)
		v.deps.Dispatcher.enqueue(v)
	}
}
