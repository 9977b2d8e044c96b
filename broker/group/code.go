package group

import (
	"errors"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// The error codes that a coordinator answers with.
const (
	codeNone                      int16 = 0
	codeUnknownTopicOrPartition   int16 = 3
	codeOffsetMetadataTooLarge    int16 = 12
	codeCoordinatorNotAvailable   int16 = 15
	codeIllegalGeneration         int16 = 22
	codeInconsistentGroupProtocol int16 = 23
	codeInvalidGroupID            int16 = 24
	codeUnknownMemberID           int16 = 25
	codeInvalidCommitOffsetSize   int16 = 28
	codeInvalidProducerEpoch      int16 = 47
	codeInvalidTxnState           int16 = 48
	codeNonEmptyGroup             int16 = 68
	codeGroupIDNotFound           int16 = 69
	codeGroupMaxSizeReached       int16 = 81
	codeGroupSubscribedToTopic    int16 = 86
	codeUnstableOffsetCommit      int16 = 88
	codeUnknownTopicID            int16 = 100
)

// codeOf is the code of what kept a record from being written. Whoever gets
// COORDINATOR_NOT_AVAILABLE tries again.
func codeOf(err error) int16 {
	switch {
	case err == nil:
		return codeNone
	case errors.Is(err, destination.ErrProducerFenced):
		return codeInvalidProducerEpoch
	case errors.Is(err, destination.ErrInvalidTxnState):
		return codeInvalidTxnState
	case errors.Is(err, commitlog.ErrTooLarge):
		return codeInvalidCommitOffsetSize
	}
	return codeCoordinatorNotAvailable
}
