package group

import (
	"errors"
	"fmt"

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
	codeFencedMemberEpoch         int16 = 110
	codeStaleMemberEpoch          int16 = 113
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

// refusals are the codes as errors, for who asks without Kafka's protocol.
var refusals = map[int16]struct {
	kind error
	text string
}{
	codeUnknownTopicOrPartition:   {destination.ErrNotFound, "no such topic or partition"},
	codeUnknownTopicID:            {destination.ErrNotFound, "no such topic"},
	codeGroupIDNotFound:           {destination.ErrNotFound, "no such group, or one of another kind"},
	codeNonEmptyGroup:             {destination.ErrConflict, "it has members; stop them first"},
	codeGroupSubscribedToTopic:    {destination.ErrConflict, "its members consume the topic"},
	codeInconsistentGroupProtocol: {destination.ErrConflict, "its members are of another protocol"},
	codeUnknownMemberID:           {destination.ErrStaleToken, "not a member, or not any more"},
	codeIllegalGeneration:         {destination.ErrStaleToken, "not of the present generation"},
	codeFencedMemberEpoch:         {destination.ErrStaleToken, "the member is fenced"},
	codeStaleMemberEpoch:          {destination.ErrStaleToken, "the member has another epoch by now"},
	codeGroupMaxSizeReached:       {destination.ErrBusy, "it has as many members as it may"},
	codeUnstableOffsetCommit:      {destination.ErrBusy, "a transaction has offsets that have not ended"},
	codeCoordinatorNotAvailable:   {destination.ErrBusy, "not available just now"},
	codeOffsetMetadataTooLarge:    {destination.ErrTooLarge, "metadata of an offset"},
}

// Error is the error of a code: nil for none.
func Error(group string, code int16) error {
	if code == codeNone {
		return nil
	}
	r, ok := refusals[code]
	if !ok {
		return fmt.Errorf("group %q: %w: Kafka's error %d", group, destination.ErrInvalid, code)
	}
	return fmt.Errorf("group %q: %w: %s", group, r.kind, r.text)
}
