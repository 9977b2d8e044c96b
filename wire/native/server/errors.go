package server

import (
	"context"
	"errors"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

// codes is the one table from the errors of the broker to those of the
// protocol. The first line that errors.Is decides, so what is more special
// stands higher.
var codes = []struct {
	err  error
	code native.Code
}{
	{native.ErrProtocol, native.CodeProtocol},
	{session.ErrBadSelector, native.CodeBadSelector},
	{destination.ErrHeuristicCommit, native.CodeHeuristicCommit},
	{destination.ErrHeuristicRollback, native.CodeHeuristicRollback},
	{session.ErrRolledBack, native.CodeRolledBack},
	{session.ErrShuttingDown, native.CodeShuttingDown},
	{session.ErrUnauthorized, native.CodeUnauthorized},
	{session.ErrNotFound, native.CodeNotFound},
	{session.ErrExists, native.CodeExists},
	{session.ErrWrongKind, native.CodeWrongKind},
	{session.ErrConflict, native.CodeConflict},
	{session.ErrTooLarge, native.CodeTooLarge},
	{session.ErrBusy, native.CodeBusy},
	{session.ErrPaused, native.CodePaused},
	{session.ErrQueueFull, native.CodeQueueFull},
	{session.ErrSlowConsumer, native.CodeSlowConsumer},
	{session.ErrUnsupported, native.CodeUnsupported},
	{session.ErrInvalid, native.CodeInvalid},
	{session.ErrClosed, native.CodeClosed},
	{destination.ErrStaleToken, native.CodeStale},
	{destination.ErrUnknownSetting, native.CodeInvalid},
	{destination.ErrSettingValue, native.CodeInvalid},
	{destination.ErrKind, native.CodeInvalid},
	{record.ErrTooLarge, native.CodeTooLarge},
	{record.ErrCorrupt, native.CodeInvalid},
	{commitlog.ErrFull, native.CodeFull},
	{commitlog.ErrTooLarge, native.CodeTooLarge},
	{commitlog.ErrDeleted, native.CodeNotFound},
	{commitlog.ErrClosed, native.CodeShuttingDown},
	{commitlog.ErrFailed, native.CodeFailed},
	{context.Canceled, native.CodeClosed},
	{context.DeadlineExceeded, native.CodeBusy},
}

// codeOf is CodeFailed for what the table does not know.
func codeOf(err error) native.Code {
	for _, line := range codes {
		if errors.Is(err, line.err) {
			return line.code
		}
	}
	return native.CodeFailed
}

// refusal is err as it travels, its text cut to what a frame may carry.
func refusal(err error) native.Error {
	var known *native.Error
	if errors.As(err, &known) {
		return *known
	}
	text := err.Error()
	return native.Error{Code: codeOf(err), Message: text[:min(len(text), maxMessage)]}
}

// maxMessage bounds the text of an error, in bytes.
const maxMessage = 4 << 10
