package stomp

import (
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

// maxText bounds the text of an error, in bytes.
const maxText = 512

// refused is what a frame is refused for.
type refused struct {
	receipt string // that the frame asked for
	err     error
}

func (e *refused) Error() string { return e.err.Error() }
func (e *refused) Unwrap() error { return e.err }

// errVersions refuses a client that speaks none of the versions.
var errVersions = errors.New("supported protocol versions are 1.0, 1.1, 1.2")

// invalid is an error of a client that does not keep to the protocol.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", session.ErrInvalid, fmt.Sprintf(format, args...))
}

// errorFrame tells a peer why its connection ends. STOMP 1.2, ERROR
func errorFrame(err error) *frame.Frame {
	text := err.Error()
	text = text[:min(len(text), maxText)]
	f := &frame.Frame{Command: "ERROR"}
	var r *refused
	if errors.As(err, &r) && r.receipt != "" {
		f.Add("receipt-id", r.receipt)
	}
	if errors.Is(err, errVersions) {
		f.Add("version", "1.0,1.1,1.2")
	}
	f.Add("message", text)
	f.Add("content-type", "text/plain")
	f.Body = []byte(text)
	return f
}
