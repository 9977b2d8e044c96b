package codec

import (
	"errors"
	"fmt"
)

// ErrDecode says that bytes are not what the specification demands:
// amqp:decode-error.
var ErrDecode = errors.New("not valid AMQP")

// ErrTooMany says that a value has more elements, or is deeper, than is taken:
// amqp:resource-limit-exceeded.
var ErrTooMany = errors.New("a value of too many parts")

func decodeError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDecode}, args...)...)
}

// The conditions of errors: §2.8.15 to §2.8.17, §3.5.10 of messaging's, §4.5.8.
const (
	InternalError         Symbol = "amqp:internal-error"
	NotFound              Symbol = "amqp:not-found"
	UnauthorizedAccess    Symbol = "amqp:unauthorized-access"
	DecodeError           Symbol = "amqp:decode-error"
	ResourceLimitExceeded Symbol = "amqp:resource-limit-exceeded"
	NotAllowed            Symbol = "amqp:not-allowed"
	InvalidField          Symbol = "amqp:invalid-field"
	NotImplemented        Symbol = "amqp:not-implemented"
	ResourceLocked        Symbol = "amqp:resource-locked"
	PreconditionFailed    Symbol = "amqp:precondition-failed"
	ResourceDeleted       Symbol = "amqp:resource-deleted"
	IllegalState          Symbol = "amqp:illegal-state"
	FrameSizeTooSmall     Symbol = "amqp:frame-size-too-small"

	ConnectionForced Symbol = "amqp:connection:forced"
	FramingError     Symbol = "amqp:connection:framing-error"

	WindowViolation  Symbol = "amqp:session:window-violation"
	ErrantLink       Symbol = "amqp:session:errant-link"
	HandleInUse      Symbol = "amqp:session:handle-in-use"
	UnattachedHandle Symbol = "amqp:session:unattached-handle"

	DetachForced          Symbol = "amqp:link:detach-forced"
	TransferLimitExceeded Symbol = "amqp:link:transfer-limit-exceeded"
	MessageSizeExceeded   Symbol = "amqp:link:message-size-exceeded"
	LinkStolen            Symbol = "amqp:link:stolen"

	UnknownTransactionID Symbol = "amqp:transaction:unknown-id"
	TransactionRollback  Symbol = "amqp:transaction:rollback"
	TransactionTimeout   Symbol = "amqp:transaction:timeout"
)

// Error is what a peer is told, or tells (§2.8.14).
type Error struct {
	Condition   Symbol
	Description string
	Info        Map
}

// Error implements error.
func (e *Error) Error() string {
	if e.Description == "" {
		return string(e.Condition)
	}
	return string(e.Condition) + ": " + e.Description
}
