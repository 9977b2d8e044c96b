package polylog

import (
	"context"
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/wire/native"
)

// What the broker refuses. They hold for errors.Is; errors.As with *[Error]
// gives the broker's own sentence.
var (
	ErrInvalid           error = &native.Error{Code: native.CodeInvalid}           // the request makes no sense; sending it again will not help
	ErrUnsupported       error = &native.Error{Code: native.CodeUnsupported}       // the broker does not have this feature
	ErrUnauthorized      error = &native.Error{Code: native.CodeUnauthorized}      // not authenticated, or not permitted
	ErrNotFound          error = &native.Error{Code: native.CodeNotFound}          // no such destination or subscription
	ErrExists            error = &native.Error{Code: native.CodeExists}            // it is there already
	ErrWrongKind         error = &native.Error{Code: native.CodeWrongKind}         // a queue was opened as a topic, or the reverse
	ErrConflict          error = &native.Error{Code: native.CodeConflict}          // in use: client id, subscription, exclusive consumer
	ErrTooLarge          error = &native.Error{Code: native.CodeTooLarge}          // over a limit that the message names
	ErrFull              error = &native.Error{Code: native.CodeFull}              // the broker's disk is full
	ErrStale             error = &native.Error{Code: native.CodeStale}             // the delivery is no longer held: settled before, or redelivered
	ErrClosed            error = &native.Error{Code: native.CodeClosed}            // the connection, session or consumer is closed
	ErrBusy              error = &native.Error{Code: native.CodeBusy}              // a limit on concurrent work; try again later
	ErrShuttingDown      error = &native.Error{Code: native.CodeShuttingDown}      // the broker drains and takes nothing new; nothing was done
	ErrPaused            error = &native.Error{Code: native.CodePaused}            // the destination takes nothing until it is resumed
	ErrQueueFull         error = &native.Error{Code: native.CodeQueueFull}         // as many messages wait as the destination's max.length permits
	ErrSlowConsumer      error = &native.Error{Code: native.CodeSlowConsumer}      // the consumer was closed: it has settled nothing for slow.consumer.timeout
	ErrFailed            error = &native.Error{Code: native.CodeFailed}            // the broker could not do it; its log says more
	ErrRolledBack        error = &native.Error{Code: native.CodeRolledBack}        // nothing of the transaction was done; what it received comes again
	ErrHeuristicCommit   error = &native.Error{Code: native.CodeHeuristicCommit}   // an operator has committed the branch; have it forgotten
	ErrHeuristicRollback error = &native.Error{Code: native.CodeHeuristicRollback} // an operator has rolled it back; have it forgotten
	ErrBadSelector       error = &native.Error{Code: native.CodeBadSelector}       // the selector's syntax; the message has the position
)

// What only the client knows.
var (
	// ErrNoMessage says that a Take ended without a message.
	ErrNoMessage = errors.New("no message")

	// ErrInDoubt says that the connection broke, or that the caller stopped
	// waiting, after a request was written and before its answer came: it may
	// have been done or not. A message that is sent again has a new id.
	ErrInDoubt = errors.New("in doubt: written, but not confirmed")

	// ErrBody says that a message's body is not what the queue or topic is
	// typed for. The delivery comes with the error, so that it can be
	// rejected.
	ErrBody = errors.New("the body does not fit the type")

	// errBroken is the cause that a connection loss gives to what was under
	// way.
	errBroken   = errors.New("the connection broke")
	errPanicked = errors.New("the listener panicked")
	errNotSent  = fmt.Errorf("%w before the request was sent", errBroken)
)

// Error is a refusal by the broker: a code to branch on and a sentence that
// says what to do.
type Error = native.Error

func closedError(format string, args ...any) error {
	return &native.Error{Code: native.CodeClosed, Message: fmt.Sprintf(format, args...)}
}

func staleError(format string, args ...any) error {
	return &native.Error{Code: native.CodeStale, Message: fmt.Sprintf(format, args...)}
}

// doubt marks the cause of an answer that never came.
func doubt(cause error) error { return fmt.Errorf("%w: %w", ErrInDoubt, cause) }

// noMessage marks why a Take came back empty.
func noMessage(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoMessage, err)
	}
	return ErrNoMessage
}
