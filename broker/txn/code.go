package txn

import (
	"errors"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

// Kafka's error codes, as far as this package answers them.
const (
	codeNone                     int16 = 0
	codeUnknownServerError       int16 = -1
	codeUnknownTopicOrPartition  int16 = 3
	codeCoordinatorLoading       int16 = 14
	codeCoordinatorNotAvailable  int16 = 15
	codeNotEnoughReplicas        int16 = 19
	codeInvalidRequest           int16 = 42
	codePolicyViolation          int16 = 44
	codeInvalidProducerEpoch     int16 = 47
	codeInvalidTxnState          int16 = 48
	codeInvalidProducerIDMapping int16 = 49
	codeInvalidTxnTimeout        int16 = 50
	codeConcurrentTransactions   int16 = 51
	codeOperationNotAttempted    int16 = 55
	codeProducerFenced           int16 = 90
	codeTransactionalIDNotFound  int16 = 105
	codeTransactionAbortable     int16 = 120
	codeInvalidRegularExpression int16 = 128
)

// fencedBelow is what a client hears that knows PRODUCER_FENCED only from a
// version on: before, the epoch is called invalid.
func fencedBelow(code, version, since int16) int16 {
	if code == codeProducerFenced && version < since {
		return codeInvalidProducerEpoch
	}
	return code
}

// producing is a refusal as Produce words it. A producer takes PRODUCER_FENCED
// there for INVALID_PRODUCER_EPOCH; what passes with time is said with a code
// that makes every client try again, without new metadata.
func producing(code int16) int16 {
	switch code {
	case codeProducerFenced:
		return codeInvalidProducerEpoch
	case codeConcurrentTransactions, codeCoordinatorLoading, codeCoordinatorNotAvailable:
		return codeNotEnoughReplicas
	}
	return code
}

// committing is a refusal as TxnOffsetCommit words it.
func committing(code int16) int16 {
	switch code {
	case codeProducerFenced:
		return codeInvalidProducerEpoch
	case codeConcurrentTransactions:
		return codeCoordinatorLoading
	}
	return code
}

// ofAppend is how a record that could not be written is answered.
func ofAppend(err error) int16 {
	switch {
	case err == nil:
		return codeNone
	case errors.Is(err, commitlog.ErrTooLarge):
		return codeUnknownServerError
	}
	return codeCoordinatorNotAvailable
}
