package destination

import "errors"

// The refusals that every protocol maps to its own codes. They stand here, at
// the bottom, so that broker, topic and queue can wrap them with what was
// asked for and what to do about it, and session can name them to protocols.
var (
	// ErrInvalid: the request makes no sense as asked; asking again will not help.
	ErrInvalid = errors.New("invalid request")
	// ErrUnsupported: this release cannot do it.
	ErrUnsupported = errors.New("not supported")
	// ErrUnauthorized: the principal may not do it.
	ErrUnauthorized = errors.New("not permitted")
	// ErrNotFound: no such destination, subscription, session or consumer.
	ErrNotFound = errors.New("not found")
	// ErrExists: it is there already.
	ErrExists = errors.New("exists already")
	// ErrWrongKind: a queue was opened as a topic, or the reverse, and
	// views=any does not permit it.
	ErrWrongKind = errors.New("destination is of another kind")
	// ErrConflict: in use by somebody else.
	ErrConflict = errors.New("in use")
	// ErrTooLarge: over a limit that the message names.
	ErrTooLarge = errors.New("over a limit")
	// ErrBusy: a limit on what may be open at once; trying later may help.
	ErrBusy = errors.New("too much at once")
	// ErrPaused: the destination takes nothing until it is resumed.
	ErrPaused = errors.New("paused")
	// ErrQueueFull: as many messages wait as the setting max.length permits.
	ErrQueueFull = errors.New("queue is full")
	// ErrSlowConsumer: a consumer has settled nothing for slow.consumer.timeout.
	ErrSlowConsumer = errors.New("slow consumer")
	// ErrClosed: the connection, session, consumer, destination or broker has closed.
	ErrClosed = errors.New("closed")
	// ErrShuttingDown: the broker drains and takes nothing new.
	ErrShuttingDown = errors.New("shutting down")
	// ErrBadSelector: the selector's syntax; the message has the position.
	ErrBadSelector = errors.New("bad selector")
	// ErrHeuristicCommit and ErrHeuristicRollback: an operator has ended the
	// branch before its transaction manager did.
	ErrHeuristicCommit   = errors.New("heuristically committed")
	ErrHeuristicRollback = errors.New("heuristically rolled back")
	// ErrRolledBack: nothing of the transaction was done.
	ErrRolledBack = errors.New("transaction rolled back")
)
