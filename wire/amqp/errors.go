package amqp

import (
	"context"
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// conditions is the one table from the errors of the broker to those of the
// protocol. The first line that errors.Is decides, so what is more special stands
// higher.
var conditions = []struct {
	err       error
	condition codec.Symbol
}{
	{codec.ErrDecode, codec.DecodeError},
	{codec.ErrTooMany, codec.ResourceLimitExceeded},
	{errMessage, codec.DecodeError},
	{session.ErrBadSelector, codec.InvalidField},
	{session.ErrRolledBack, codec.TransactionRollback},
	{session.ErrShuttingDown, codec.ConnectionForced},
	{session.ErrUnauthorized, codec.UnauthorizedAccess},
	{session.ErrNotFound, codec.NotFound},
	{session.ErrExists, codec.NotAllowed},
	{session.ErrWrongKind, codec.NotAllowed},
	{session.ErrConflict, codec.ResourceLocked},
	{session.ErrTooLarge, codec.MessageSizeExceeded},
	{session.ErrBusy, codec.ResourceLimitExceeded},
	{session.ErrPaused, codec.PreconditionFailed},
	{session.ErrQueueFull, codec.ResourceLimitExceeded},
	{session.ErrSlowConsumer, codec.ResourceLimitExceeded},
	{session.ErrUnsupported, codec.NotImplemented},
	{session.ErrInvalid, codec.InvalidField},
	{session.ErrClosed, codec.ResourceDeleted},
	{record.ErrTooLarge, codec.MessageSizeExceeded},
	{commitlog.ErrFull, codec.ResourceLimitExceeded},
	{commitlog.ErrTooLarge, codec.MessageSizeExceeded},
	{commitlog.ErrDeleted, codec.ResourceDeleted},
	{destination.ErrKind, codec.InvalidField},
	{context.Canceled, codec.ConnectionForced},
}

// refusal is err as a peer is told of it.
func refusal(err error) *codec.Error {
	var known *codec.Error
	if errors.As(err, &known) {
		return known
	}
	condition := codec.InternalError
	for _, line := range conditions {
		if errors.Is(err, line.err) {
			condition = line.condition
			break
		}
	}
	text := err.Error()
	return &codec.Error{Condition: condition, Description: text[:min(len(text), maxDescription)]}
}

// maxDescription bounds the text of an error, in bytes, so that it fits every peer's
// frames.
const maxDescription = 256

// broken is what ends a connection, or a session: a peer that does not keep to the
// protocol.
func broken(condition codec.Symbol, format string, args ...any) *codec.Error {
	return &codec.Error{Condition: condition, Description: fmt.Sprintf(format, args...)}
}

// sessionError ends a session, and not its connection.
type sessionError struct{ why *codec.Error }

func (e *sessionError) Error() string { return e.why.Error() }

func endsSession(condition codec.Symbol, format string, args ...any) error {
	return &sessionError{broken(condition, format, args...)}
}
