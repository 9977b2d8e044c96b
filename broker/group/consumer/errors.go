package consumer

import "fmt"

// The error codes of Kafka's protocol that machines answer.
const (
	illegalGeneration         int16 = 22
	inconsistentGroupProtocol int16 = 23
	unknownMemberID           int16 = 25
	invalidSessionTimeout     int16 = 26
	rebalanceInProgress       int16 = 27
	unsupportedVersion        int16 = 35
	invalidRequest            int16 = 42
	memberIDRequired          int16 = 79
	groupMaxSizeReached       int16 = 81
	fencedInstanceID          int16 = 82
	fencedMemberEpoch         int16 = 110
	unreleasedInstanceID      int16 = 111
	unsupportedAssignor       int16 = 112
	staleMemberEpoch          int16 = 113
	invalidRegularExpression  int16 = 128
)

// refusal is why a request is refused; nothing was changed by it.
type refusal struct {
	code    int16
	message string
}

func refuse(code int16, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// What a member may say of itself is bounded: INVALID_REQUEST.
const (
	maxIDBytes       = 4096 // of ids of groups, members, instances and racks
	maxSubscriptions = 10_000
)

// The members are bounded too, unless Options say otherwise: GROUP_MAX_SIZE_REACHED.
const (
	maxGroup      = 10_000
	maxShareGroup = 200
)

// text refuses strings that are empty, though they must not be, or too long.
func text(name, s string, mayBeEmpty bool) *refusal {
	switch {
	case s == "" && !mayBeEmpty:
		return refuse(invalidRequest, "%s can't be empty.", name)
	case len(s) > maxIDBytes:
		return refuse(invalidRequest, "%s can't be longer than %d bytes.", name, maxIDBytes)
	}
	return nil
}

func optionalText(name string, s *string) *refusal {
	if s == nil {
		return nil
	}
	return text(name, *s, false)
}

func firstRefusal(all ...*refusal) *refusal {
	for _, r := range all {
		if r != nil {
			return r
		}
	}
	return nil
}
