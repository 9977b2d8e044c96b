package codec

import (
	"encoding/binary"
	"io"
)

// The types of frames (§2.3.1, §5.3.1).
const (
	FrameAMQP byte = 0
	FrameSASL byte = 1
)

// The protocol headers (§2.2, §5.3.2).
var (
	HeaderAMQP = [8]byte{'A', 'M', 'Q', 'P', 0, 1, 0, 0}
	HeaderSASL = [8]byte{'A', 'M', 'Q', 'P', 3, 1, 0, 0}
)

// MinMaxFrameSize is the largest frame that every peer takes (§2.3).
const MinMaxFrameSize = 512

// FrameHeaderSize is how many bytes stand before a frame's body.
const FrameHeaderSize = 8

// ErrFrame says that what came is no frame, or is too large:
// amqp:connection:framing-error.
type FrameError struct{ Reason string }

func (e *FrameError) Error() string { return e.Reason }

// Frames reads frames from a stream, into one buffer that it uses again.
type Frames struct {
	r    io.Reader
	buf  []byte
	have int  // bytes in buf
	at   int  // where the next frame begins
	full bool // the last read filled buf: more was there
	max  uint32
}

// NewFrames returns Frames that refuses what is larger than max.
func NewFrames(r io.Reader, max uint32) *Frames {
	return &Frames{r: r, buf: make([]byte, 4096), max: max}
}

// SetMax sets the largest frame that is taken from now on.
func (f *Frames) SetMax(max uint32) { f.max = max }

// Header reads a protocol header.
func (f *Frames) Header() (h [8]byte, err error) {
	if err := f.fill(8); err != nil {
		return h, err
	}
	copy(h[:], f.buf[f.at:])
	f.at += 8
	return h, nil
}

// Next reads a frame. Its body, which may be empty, is valid until the next call.
// The error is the stream's, or a *FrameError.
func (f *Frames) Next() (typ byte, channel uint16, body []byte, err error) {
	if err := f.fill(FrameHeaderSize); err != nil {
		return 0, 0, nil, err
	}
	head := f.buf[f.at:]
	size, doff := binary.BigEndian.Uint32(head), int(head[4])*4
	switch {
	case size > f.max:
		return 0, 0, nil, &FrameError{"a frame that is larger than max-frame-size"}
	case size < FrameHeaderSize || doff < FrameHeaderSize || uint32(doff) > size:
		return 0, 0, nil, &FrameError{"a frame whose header makes no sense"}
	}
	if err := f.fill(int(size)); err != nil {
		return 0, 0, nil, err
	}
	frame := f.buf[f.at : f.at+int(size)]
	f.at += int(size)
	return frame[5], binary.BigEndian.Uint16(frame[6:]), frame[doff:len(frame):len(frame)], nil
}

// Buffered says whether another frame is there already, whole.
func (f *Frames) Buffered() bool {
	b := f.buf[f.at:f.have]
	return len(b) >= FrameHeaderSize && uint32(len(b)) >= binary.BigEndian.Uint32(b)
}

// fill has n bytes from at on. The buffer grows with what has come, so that a
// size alone costs nothing, and that a peer that sends much is read in large pieces:
// what is read together shares a sync.
func (f *Frames) fill(n int) error {
	if f.have-f.at >= n {
		return nil
	}
	if f.at > 0 {
		copy(f.buf, f.buf[f.at:f.have])
		f.have -= f.at
		f.at = 0
	}
	for f.have < n {
		if f.have == len(f.buf) || f.full && len(f.buf) < readAhead {
			grown := make([]byte, min(2*len(f.buf), max(n, readAhead)))
			copy(grown, f.buf)
			f.buf = grown
		} else if f.have == 0 && len(f.buf) > keepBuffer {
			f.buf = make([]byte, readAhead)
		}
		read, err := f.r.Read(f.buf[f.have:])
		f.have += read
		f.full = f.have == len(f.buf)
		if f.have >= n {
			return nil
		}
		if err == io.EOF && f.have > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	// readAhead is up to where the buffer grows for more than one frame.
	readAhead = 64 << 10
	// keepBuffer is the largest buffer that is kept while nothing comes.
	keepBuffer = 256 << 10
)

// BeginFrame opens a frame, which EndFrame closes.
func BeginFrame(dst []byte, typ byte, channel uint16) ([]byte, int) {
	at := len(dst)
	return append(dst, 0, 0, 0, 0, 2, typ, byte(channel>>8), byte(channel)), at
}

// EndFrame closes the frame that begins at.
func EndFrame(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// AppendFrame appends a whole frame.
func AppendFrame(dst []byte, typ byte, channel uint16, p Performative) []byte {
	dst, at := BeginFrame(dst, typ, channel)
	return EndFrame(p.Append(dst), at)
}
