package native

import "errors"

// Code says what kind of refusal an [Error] is. Codes are part of the
// protocol: scripts and other clients branch on them.
type Code string

// The codes of the protocol.
const (
	CodeInvalid           Code = "invalid"            // the request makes no sense as sent; sending it again will not help
	CodeUnsupported       Code = "unsupported"        // a version or feature that this peer does not have
	CodeUnauthorized      Code = "unauthorized"       // not authenticated, or not permitted
	CodeNotFound          Code = "not-found"          // no such destination, subscription, session or consumer
	CodeExists            Code = "exists"             // it is there already
	CodeWrongKind         Code = "wrong-kind"         // a queue was opened as a topic, or the reverse, without views=any
	CodeConflict          Code = "conflict"           // in use: client id, subscription, exclusive consumer, temporary destination
	CodeTooLarge          Code = "too-large"          // over a limit that the message names
	CodeFull              Code = "full"               // no space on the broker's disk
	CodeStale             Code = "stale"              // the delivery is held by somebody else by now
	CodeClosed            Code = "closed"             // the session, consumer or broker has closed
	CodeBusy              Code = "busy"               // a limit on concurrent work; try again later
	CodePaused            Code = "paused"             // the destination takes nothing until it is resumed
	CodeQueueFull         Code = "queue-full"         // as many messages wait as max.length permits
	CodeSlowConsumer      Code = "slow-consumer"      // closed, because it has settled nothing for slow.consumer.timeout
	CodeFailed            Code = "failed"             // the broker could not do it; its log says more
	CodeProtocol          Code = "protocol"           // the peer broke the protocol; the connection ends
	CodeBadSelector       Code = "bad-selector"       // the selector's syntax; the message has the position
	CodeRolledBack        Code = "rolled-back"        // nothing of the transaction was done
	CodeHeuristicCommit   Code = "heuristic-commit"   // an operator has committed the branch before its manager ended it
	CodeHeuristicRollback Code = "heuristic-rollback" // an operator has rolled it back
	CodeShuttingDown      Code = "shutting-down"      // the broker drains; connect again
)

// Error is a refusal as it travels: a code to branch on and a sentence that
// says what to do.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

// Is reports whether target is an Error of the same code, so that
// errors.Is(err, &Error{Code: CodeNotFound}) holds whatever the message says.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == ""
}

// AsError returns err as an [Error]; one that is none becomes CodeFailed.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeFailed, Message: err.Error()}
}
