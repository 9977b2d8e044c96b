package consumer

import (
	"bytes"
	"maps"
	"slices"
	"time"
)

// member is one member of a group. What is in its values is recorded; its
// deadlines are not.
type member struct {
	id string
	memberValue
	currentValue
	target targetMemberValue

	session   time.Time // when it is fenced for its silence
	rebalance time.Time // when it is fenced for not revoking; zero unless unrevoked
}

// reconciled tells whether the member owns its target of that epoch and waits
// for nothing.
func (m *member) reconciled(epoch int32) bool { return m.state == stable && m.epoch == epoch }

// holds tells the epoch at which a partition was assigned to the member, which
// it may still own although it was told to give it up.
func (m *member) holds(p Partition) (epoch int32, ok bool) {
	if epoch, ok = m.assigned[p]; !ok {
		epoch, ok = m.revoking[p]
	}
	return epoch, ok
}

func (v memberValue) equal(o memberValue) bool {
	return v.instance == o.instance && v.rack == o.rack && v.clientID == o.clientID && v.clientHost == o.clientHost &&
		slices.Equal(v.topics, o.topics) && v.regex == o.regex &&
		v.rebalanceTimeoutMillis == o.rebalanceTimeoutMillis && v.assignor == o.assignor && v.classic.equal(o.classic)
}

func (v *classicValue) equal(o *classicValue) bool {
	if v == nil || o == nil {
		return v == o
	}
	return v.sessionMillis == o.sessionMillis && slices.EqualFunc(v.protocols, o.protocols, func(a, b classicProtocol) bool {
		return a.name == b.name && bytes.Equal(a.metadata, b.metadata)
	})
}

func (v currentValue) equal(o currentValue) bool {
	return v.epoch == o.epoch && v.previousEpoch == o.previousEpoch && v.state == o.state &&
		maps.Equal(v.assigned, o.assigned) && maps.Equal(v.revoking, o.revoking)
}

// at is the value moved to an epoch. The epoch before is kept, because the
// answer that tells the new one may be lost.
func (v currentValue) at(epoch int32) currentValue {
	if epoch != v.epoch {
		v.previousEpoch, v.epoch = v.epoch, epoch
	}
	return v
}
