package kafka

import (
	"context"
	"errors"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// The protocol's error codes that this package answers with.
const (
	codeUnknownServerError        int16 = -1
	codeNone                      int16 = 0
	codeOffsetOutOfRange          int16 = 1
	codeCorruptMessage            int16 = 2
	codeUnknownTopicOrPartition   int16 = 3
	codeRequestTimedOut           int16 = 7
	codeMessageTooLarge           int16 = 10
	codeCoordinatorNotAvailable   int16 = 15
	codeInvalidTopic              int16 = 17
	codeRecordListTooLarge        int16 = 18
	codeNotEnoughReplicas         int16 = 19
	codeInvalidRequiredAcks       int16 = 21
	codeInvalidTimestamp          int16 = 32
	codeTopicAuthorizationFailed  int16 = 29
	codeUnsupportedSASLMechanism  int16 = 33
	codeIllegalSASLState          int16 = 34
	codeSASLAuthenticationFailed  int16 = 58
	codeOperationNotAttempted     int16 = 55
	codeUnsupportedVersion        int16 = 35
	codeTopicAlreadyExists        int16 = 36
	codeInvalidPartitions         int16 = 37
	codeInvalidReplicationFactor  int16 = 38
	codeInvalidReplicaAssignment  int16 = 39
	codeInvalidConfig             int16 = 40
	codeInvalidRequest            int16 = 42
	codePolicyViolation           int16 = 44
	codeOutOfOrderSequence        int16 = 45
	codeInvalidProducerEpoch      int16 = 47
	codeInvalidTxnState           int16 = 48
	codeTransactionalIDAuthFailed int16 = 53
	codeSecurityDisabled          int16 = 54
	codeKafkaStorageError         int16 = 56
	codeFetchSessionIDNotFound    int16 = 70
	codeInvalidFetchSessionEpoch  int16 = 71
	codeFencedLeaderEpoch         int16 = 74
	codeUnknownLeaderEpoch        int16 = 75
	codeThrottlingQuotaExceeded   int16 = 89
	codeInvalidRecord             int16 = 87
	codeTransactionAbortable      int16 = 120
	codeRebootstrapRequired       int16 = 129
	codeUnknownTopicID            int16 = 100
	codeTransactionCoordFenced    int16 = 52
	codeClusterAuthFailed         int16 = 31
	codeGroupAuthFailed           int16 = 30
)

// codes maps what the broker's errors wrap, the first that matches.
var codes = []struct {
	err  error
	code int16
}{
	{commitlog.ErrTooLarge, codeMessageTooLarge},
	{record.ErrTooLarge, codeMessageTooLarge},
	{record.ErrCorrupt, codeCorruptMessage},
	{commitlog.ErrOffsetOutOfRange, codeOffsetOutOfRange},
	{commitlog.ErrDeleted, codeUnknownTopicOrPartition},
	{destination.ErrOutOfOrderSequence, codeOutOfOrderSequence},
	{destination.ErrProducerFenced, codeInvalidProducerEpoch},
	{destination.ErrInvalidTxnState, codeInvalidTxnState},
	{session.ErrNotFound, codeUnknownTopicOrPartition},
	{session.ErrExists, codeTopicAlreadyExists},
	{session.ErrUnauthorized, codeTopicAuthorizationFailed},
	{session.ErrWrongKind, codePolicyViolation},
	{session.ErrConflict, codePolicyViolation},
	{session.ErrInvalid, codeInvalidRequest},
	{session.ErrTooLarge, codeMessageTooLarge},
	{session.ErrBusy, codePolicyViolation},
	{context.DeadlineExceeded, codeRequestTimedOut},
	{context.Canceled, codeRequestTimedOut},
	// What a client may retry: a disk that is full, or a broker that is going.
	{commitlog.ErrFull, codeKafkaStorageError},
	{commitlog.ErrFailed, codeKafkaStorageError},
	{commitlog.ErrClosed, codeKafkaStorageError},
	{session.ErrShuttingDown, codeKafkaStorageError},
}

// codeOf is the protocol's code of an error; 0 for nil.
func codeOf(err error) int16 {
	if err == nil {
		return codeNone
	}
	if e, ok := errors.AsType[*codeError](err); ok {
		return e.code
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return codeUnknownServerError
}

// codeError is an error that has its code: what a coordinator has answered, or
// what only this protocol knows.
type codeError struct {
	code int16
	text string
}

func (e *codeError) Error() string { return e.text }

// coded is such an error; without a text clients have their own.
func coded(code int16, text string) error { return &codeError{code, text} }

// messageOf is an error's text for the responses that carry one; nil for nil.
func messageOf(err error) *string {
	if err == nil {
		return nil
	}
	text := err.Error()
	if text == "" {
		return nil
	}
	return &text
}
