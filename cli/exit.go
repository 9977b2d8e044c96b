package cli

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/polylog-mq/polylog/wire/native"
)

// The exit codes, which scripts branch on; docs/cli.md lists them.
const (
	exitOK           = 0
	exitFailure      = 1
	exitUsage        = 2
	exitFewer        = 3   // fewer messages than --count asked for
	exitNotFound     = 4   // no such destination or subscription
	exitUnauthorized = 5   // not authenticated, or not permitted
	exitRefused      = 6   // what the broker holds does not permit it: exists, in use, of another kind
	exitUnavailable  = 7   // no broker answers, or it is shutting down
	exitInterrupted  = 130 // SIGINT or SIGTERM before the work was done
	exitBrokenPipe   = 141 // whoever read the output has gone
)

// exitError is an error that names its exit code. An empty message means that
// everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usagef is an error of the caller's: exit code 2.
func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// errInterrupted ends a command that a signal stopped before it was done.
var errInterrupted = &exitError{code: exitInterrupted, err: errors.New("interrupted")}

// codesOf maps the broker's refusals to exit codes; what is not here is a failure.
var codesOf = map[native.Code]int{
	native.CodeNotFound:     exitNotFound,
	native.CodeUnauthorized: exitUnauthorized,
	native.CodeExists:       exitRefused,
	native.CodeWrongKind:    exitRefused,
	native.CodeConflict:     exitRefused,
	native.CodeInvalid:      exitUsage,
	native.CodeBadSelector:  exitUsage,
	native.CodeShuttingDown: exitUnavailable,
	native.CodeBusy:         exitUnavailable,
}

// exitCode is what the process returns for err.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if errors.Is(err, syscall.EPIPE) {
		return exitBrokenPipe
	}
	if e, ok := errors.AsType[*native.Error](err); ok {
		if code, ok := codesOf[e.Code]; ok {
			return code
		}
		return exitFailure
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return exitUnavailable
	}
	return exitFailure
}
