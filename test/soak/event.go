package main

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// kind says what happened.
type kind uint8

const (
	sending    kind = iota + 1 // is about to send: from now on it may be there
	sent                       // and it is
	unsent                     // the broker has refused it
	arrived                    // was delivered, to consumer aux
	acking                     // is about to acknowledge or to reject
	acked                      // done
	unacked                    // the broker has refused it
	died                       // was delivered by a dead letter queue
	burying                    // is about to acknowledge it there
	buried                     // done
	attempt                    // is about to send, in a unit of work, for a message that it took
	attemptOf                  // which message that is; follows attempt, of producer aux
	committing                 // is about to commit a unit: its attempts from sequence on, aux of them
	committed                  // done
	rolledBack                 // the unit was undone
)

// What flags say.
const (
	ordered uint16 = 1 << iota // its place in the order of its producer and group counts
	mortal                     // it may expire
)

// event is one thing that a client knows. Clients write events to files, an
// intent before they act on it, so that nothing that a client did is unknown
// when it is killed.
type event struct {
	At       int64 // ns on the machine's monotonic clock
	Kind     kind
	View     view
	Flags    uint16
	Producer uint32
	Sequence uint32
	Aux      uint32
}

const eventBytes = 24

func (e event) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(e.At))
	b = append(b, byte(e.Kind), byte(e.View))
	b = binary.LittleEndian.AppendUint16(b, e.Flags)
	b = binary.LittleEndian.AppendUint32(b, e.Producer)
	b = binary.LittleEndian.AppendUint32(b, e.Sequence)
	return binary.LittleEndian.AppendUint32(b, e.Aux)
}

func decodeEvent(b []byte) event {
	return event{
		At: int64(binary.LittleEndian.Uint64(b)), Kind: kind(b[8]), View: view(b[9]), Flags: binary.LittleEndian.Uint16(b[10:]),
		Producer: binary.LittleEndian.Uint32(b[12:]), Sequence: binary.LittleEndian.Uint32(b[16:]), Aux: binary.LittleEndian.Uint32(b[20:]),
	}
}

// clock is the same for all processes.
func clock() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// journal is a client's file of events. What write has returned from survives
// the client.
type journal struct {
	mu  sync.Mutex
	f   *os.File
	buf []byte
}

func openJournal(name string) (*journal, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &journal{f: f}, err
}

// write writes events, with the time, in one piece. A client that cannot say
// what it does must not do it.
func (j *journal) write(events ...event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = j.buf[:0]
	for _, e := range events {
		e.At = clock()
		j.buf = e.append(j.buf)
	}
	if _, err := j.f.Write(j.buf); err != nil {
		panic(err)
	}
}

// tail reads a journal as it grows.
type tail struct {
	f      *os.File
	offset int64
}

// read appends the events that are new.
func (t *tail) read(events []event) ([]event, error) {
	buf := make([]byte, 4096*eventBytes)
	for {
		n, err := t.f.ReadAt(buf, t.offset)
		n -= n % eventBytes
		for b := buf[:n]; len(b) > 0; b = b[eventBytes:] {
			events = append(events, decodeEvent(b))
		}
		t.offset += int64(n)
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			return events, nil
		}
		if err != nil {
			return events, err
		}
	}
}
