package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/polylog-mq/polylog/wire/native"
)

// The exit codes, which scripts branch on.
const (
	exitOK           = 0
	exitFailure      = 1
	exitUsage        = 2
	exitFewer        = 3   // fewer messages than --count asked for
	exitNotFound     = 4   // no such destination, subscription or group
	exitUnauthorized = 5   // not authenticated, or not permitted
	exitRefused      = 6   // what the broker holds does not permit it: exists, in use, of another kind, paused, full
	exitUnavailable  = 7   // no broker answers, or it is shutting down
	exitInterrupted  = 130 // SIGINT or SIGTERM before the work was done
	exitBrokenPipe   = 141 // whoever read the output has gone
)

// exitCodes say what each means, for help and docs/cli.md.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "done; for put, publish and write: every message is confirmed; for what has no end of its own (serve, dev; take --follow, subscribe and stream read, unless --count or --timeout gives them one): ended by SIGINT or SIGTERM"},
	{exitFailure, "failed; for check: something is wrong with the data"},
	{exitUsage, "wrong usage, configuration, selector or setting"},
	{exitFewer, "fewer messages came than --count asked for; those that came are printed, and acknowledged or committed"},
	{exitNotFound, "no such destination, subscription or group; for check: no data directory"},
	{exitUnauthorized, "not authenticated, or not permitted"},
	{exitRefused, "refused in the broker's present state: exists already, in use, of another kind, paused, full"},
	{exitUnavailable, "no broker answers, or it is shutting down or too busy"},
	{exitInterrupted, "interrupted by SIGINT or SIGTERM before the work was done"},
	{exitBrokenPipe, "whoever read the output has gone"},
}

// exitCodesHelp lists them for the top command's help.
func exitCodesHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "\n   %-3d  %s", e.code, strings.ReplaceAll(e.meaning, "; for ", ";\n        for "))
	}
	return b.String()
}

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

// afterSignal is the error of a command that ended with err after a signal had
// told it to. What was done all the same is done, and a real failure remains
// one. Whoever was stopped at something else was interrupted; but a command
// that has no end of its own has just been told it.
func afterSignal(err error, endless bool) error {
	interrupted := errors.Is(err, errInterrupted)
	switch {
	case !interrupted && !errors.Is(err, context.Canceled):
		return err
	case endless:
		return nil
	case interrupted:
		return err // which may say more
	}
	return errInterrupted
}

// codesOf maps the broker's refusals to exit codes; what is not here is a failure.
var codesOf = map[native.Code]int{
	native.CodeNotFound:          exitNotFound,
	native.CodeUnauthorized:      exitUnauthorized,
	native.CodeExists:            exitRefused,
	native.CodeWrongKind:         exitRefused,
	native.CodeConflict:          exitRefused,
	native.CodePaused:            exitRefused,
	native.CodeQueueFull:         exitRefused,
	native.CodeHeuristicCommit:   exitRefused,
	native.CodeHeuristicRollback: exitRefused,
	native.CodeInvalid:           exitUsage,
	native.CodeBadSelector:       exitUsage,
	native.CodeShuttingDown:      exitUnavailable,
	native.CodeBusy:              exitUnavailable,
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
