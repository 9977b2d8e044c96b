package consumer

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// The types of records, which their keys begin with. The formats are those of
// group-coordinator/src/main/resources/common/message in Apache Kafka 4.4:
// <type>Key and <type>Value, all of version 0.
const (
	typeGroup        int16 = 3  // ConsumerGroupMetadata
	typeTopics       int16 = 4  // ConsumerGroupPartitionMetadata: read, and erased, only
	typeMember       int16 = 5  // ConsumerGroupMemberMetadata
	typeTarget       int16 = 6  // ConsumerGroupTargetAssignmentMetadata
	typeTargetMember int16 = 7  // ConsumerGroupTargetAssignmentMember
	typeCurrent      int16 = 8  // ConsumerGroupCurrentMemberAssignment
	typeRegex        int16 = 16 // ConsumerGroupRegularExpression

	typeShareMember       int16 = 10 // ShareGroupMemberMetadata
	typeShareGroup        int16 = 11 // ShareGroupMetadata
	typeShareTarget       int16 = 12 // ShareGroupTargetAssignmentMetadata
	typeShareTargetMember int16 = 13 // ShareGroupTargetAssignmentMember
	typeShareCurrent      int16 = 14 // ShareGroupCurrentMemberAssignment
	typeShareState        int16 = 15 // ShareGroupStatePartitionMetadata
)

// key is the key of a record. The item is a member's id, or a regular
// expression, in the types that have one.
type key struct {
	kind        int16
	group, item string
}

func hasItem(kind int16) bool {
	switch kind {
	case typeMember, typeTargetMember, typeCurrent, typeRegex, typeShareMember, typeShareTargetMember, typeShareCurrent:
		return true
	}
	return false
}

func (k key) bytes() []byte {
	b := appendString(appendInt16(make([]byte, 0, 6+len(k.group)+len(k.item)), k.kind), k.group)
	if hasItem(k.kind) {
		b = appendString(b, k.item)
	}
	return b
}

func parseKey(b []byte) (key, error) {
	r := reader{b: b}
	k := key{kind: r.int16()}
	if r.err == nil && !isConsumer(k.kind) && !isShare(k.kind) {
		return k, fmt.Errorf("record type %d is not one of a consumer or share group", k.kind)
	}
	k.group = r.string()
	if hasItem(k.kind) {
		k.item = r.string()
	}
	if err := r.end(); err != nil {
		return k, fmt.Errorf("read key of type %d: %w", k.kind, err)
	}
	return k, nil
}

func isConsumer(kind int16) bool {
	return kind >= typeGroup && kind <= typeCurrent || kind == typeRegex
}
func isShare(kind int16) bool { return kind >= typeShareMember && kind <= typeShareState }

// Owns tells what a record of __consumer_offsets is about, by its key: the id
// of the group, and whether a Group or a ShareGroup wants to Replay it. It is
// neither for offsets, classic groups and what is not known here.
func Owns(recordKey []byte) (group string, consumer, share bool) {
	k, err := parseKey(recordKey)
	if err != nil {
		return "", false, false
	}
	return k.group, isConsumer(k.kind), isShare(k.kind)
}

// value is the value of a record. One type of value may serve several types of
// records, which differ in what they leave out.
type value interface {
	append(b []byte, kind int16) []byte
}

// groupValue: the epoch of the group, and a hash of the topics that members
// subscribe to, by which changes of topics are noticed.
type groupValue struct {
	epoch int32
	hash  int64
}

// memberValue is what a member said of itself. Empty strings are null.
type memberValue struct {
	instance, rack         string
	clientID, clientHost   string
	topics                 []string // sorted
	regex                  string
	rebalanceTimeoutMillis int32
	assignor               string
	classic                *classicValue // nil, unless it uses the classic protocol; never changed
}

// classicValue is what JoinGroup says besides.
type classicValue struct {
	sessionMillis int32
	protocols     []classicProtocol // one or more, in order of preference, each name once
}

type classicProtocol struct {
	name     string
	metadata []byte
}

// targetValue is the epoch for which the target assignment was computed.
type targetValue struct{ epoch int32 }

// targetMemberValue is what one member is to own, in order.
type targetMemberValue []Partition

// memberState is where a member is on its way to the target.
type memberState int8

const (
	stable     memberState = 0
	unrevoked  memberState = 1 // it has yet to give up what is in revoking
	unreleased memberState = 2 // it waits for partitions that others have
)

// currentValue is what a member owns.
type currentValue struct {
	epoch, previousEpoch int32
	state                memberState
	// assigned and revoking have, for each partition, the epoch of the member
	// at which it was assigned (KIP-1251).
	assigned, revoking map[Partition]int32
}

// regexValue are the topics that a regular expression stands for.
type regexValue struct {
	topics              []string // sorted
	version, timeMillis int64
}

// shareStateValue: the partitions a share group has begun to consume.
type shareStateValue struct{ topics []initializedTopic }

type initializedTopic struct {
	id         [16]byte
	name       string
	partitions []int32
}

// valueVersion begins every value.
const valueVersion = 0

func (v groupValue) append(b []byte, kind int16) []byte {
	b = appendInt32(b, v.epoch)
	switch {
	case kind == typeShareGroup:
		b = append(appendInt64(b, v.hash), 0)
	case v.hash == 0:
		b = append(b, 0)
	default:
		b = appendInt64(appendTag(append(b, 1), 0, 8), v.hash)
	}
	return b
}

func (v memberValue) append(b []byte, kind int16) []byte {
	if kind == typeMember {
		b = appendNullable(b, v.instance)
	}
	b = appendNullable(b, v.rack)
	b = appendCompact(b, v.clientID)
	b = appendCompact(b, v.clientHost)
	b = appendStrings(b, v.topics)
	if kind == typeMember {
		b = appendNullable(b, v.regex)
		b = appendInt32(b, v.rebalanceTimeoutMillis)
		b = appendNullable(b, v.assignor)
	}
	if v.classic == nil {
		return append(b, 0)
	}
	field := v.classic.append([]byte{1}) // it is not null
	return append(appendTag(append(b, 1), 0, len(field)), field...)
}

func (v *classicValue) append(b []byte) []byte {
	b = appendLength(appendInt32(b, v.sessionMillis), len(v.protocols))
	for _, p := range v.protocols {
		b = append(appendCompact(appendCompact(b, p.name), string(p.metadata)), 0)
	}
	return append(b, 0)
}

func (v targetValue) append(b []byte, _ int16) []byte { return append(appendInt32(b, v.epoch), 0) }

func (v targetMemberValue) append(b []byte, _ int16) []byte {
	topics := byTopic(v)
	b = appendLength(b, len(topics))
	for _, t := range topics {
		b = append(appendInt32s(append(b, t.id[:]...), t.partitions), 0)
	}
	return append(b, 0)
}

func (v currentValue) append(b []byte, kind int16) []byte {
	b = appendInt32(b, v.epoch)
	b = appendInt32(b, v.previousEpoch)
	b = append(b, byte(v.state))
	b = appendHeld(b, v.assigned, kind)
	if kind == typeCurrent {
		b = appendHeld(b, v.revoking, kind)
	}
	return append(b, 0)
}

func appendHeld(b []byte, held map[Partition]int32, kind int16) []byte {
	topics := byTopic(sorted(held))
	b = appendLength(b, len(topics))
	for _, t := range topics {
		b = appendInt32s(append(b, t.id[:]...), t.partitions)
		if kind != typeCurrent {
			b = append(b, 0)
			continue
		}
		epochs := make([]int32, 0, len(t.partitions))
		for _, p := range t.partitions {
			epochs = append(epochs, held[Partition{Topic: t.id, Index: p}])
		}
		field := appendInt32s(nil, epochs)
		b = append(appendTag(append(b, 1), 0, len(field)), field...)
	}
	return b
}

func (v regexValue) append(b []byte, _ int16) []byte {
	return append(appendInt64(appendInt64(appendStrings(b, v.topics), v.version), v.timeMillis), 0)
}

func (v shareStateValue) append(b []byte, _ int16) []byte {
	b = appendLength(b, 0) // initializing: here it takes no time
	b = appendLength(b, len(v.topics))
	for _, t := range v.topics {
		b = append(b, t.id[:]...)
		b = append(appendInt32s(appendCompact(b, t.name), t.partitions), 0)
	}
	b = appendLength(b, 0) // deleting: nor does this
	return append(b, 0)
}

// newRecord encodes a record; a nil value makes a tombstone.
func newRecord(k key, v value) Record {
	if v == nil {
		return Record{Key: k.bytes()}
	}
	return Record{Key: k.bytes(), Value: v.append(appendInt16(nil, valueVersion), k.kind)}
}

// parseValue is the value of a record that is no tombstone.
func parseValue(kind int16, b []byte) (value, error) {
	r := reader{b: b}
	if version := r.int16(); r.err == nil && version != valueVersion {
		return nil, fmt.Errorf("value of a record of type %d has version %d, and only %d is known", kind, version, valueVersion)
	}
	var v value
	switch kind {
	case typeGroup, typeShareGroup:
		v = r.group(kind)
	case typeMember, typeShareMember:
		v = r.member(kind)
	case typeTarget, typeShareTarget:
		v = targetValue{epoch: r.int32()}
		r.noTags() // the time of the assignment
	case typeTargetMember, typeShareTargetMember:
		v = targetMemberValue(sorted(r.held(0)))
		r.noTags()
	case typeCurrent, typeShareCurrent:
		v = r.current(kind)
	case typeRegex:
		x := regexValue{topics: r.strings(), version: r.int64(), timeMillis: r.int64()}
		slices.Sort(x.topics)
		r.noTags()
		v = x
	case typeShareState:
		v = r.shareState()
	default: // typeTopics: the value is of no use any more
		return nil, nil
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("read value of a record of type %d: %w", kind, err)
	}
	if c, ok := v.(currentValue); ok && (c.state < stable || c.state > unreleased) {
		return nil, fmt.Errorf("member state %d is not known", c.state)
	}
	return v, nil
}

func (r *reader) group(kind int16) groupValue {
	v := groupValue{epoch: r.int32()}
	if kind == typeShareGroup {
		v.hash = r.int64()
		r.noTags()
		return v
	}
	r.tags(func(tag uint64, field *reader) {
		if tag == 0 {
			v.hash = field.int64()
		}
	})
	return v
}

func (r *reader) member(kind int16) memberValue {
	var v memberValue
	if kind == typeMember {
		v.instance = r.compact()
	}
	v.rack, v.clientID, v.clientHost = r.compact(), r.compact(), r.compact()
	v.topics = r.strings()
	slices.Sort(v.topics)
	if kind == typeMember {
		v.regex = r.compact()
		v.rebalanceTimeoutMillis = r.int32()
		v.assignor = r.compact()
	}
	r.tags(func(tag uint64, field *reader) {
		if tag == 0 && kind == typeMember && field.int8() == 1 {
			v.classic = field.classic()
		}
	})
	return v
}

// classic is nil if there is no protocol in it.
func (r *reader) classic() *classicValue {
	v := &classicValue{sessionMillis: r.int32()}
	for range r.length(3) {
		v.protocols = append(v.protocols, classicProtocol{r.compact(), []byte(r.compact())})
		r.noTags()
	}
	r.noTags()
	if len(v.protocols) == 0 {
		return nil
	}
	return v
}

func (r *reader) current(kind int16) currentValue {
	v := currentValue{epoch: r.int32(), previousEpoch: r.int32(), state: memberState(r.int8())}
	v.assigned = r.held(v.epoch)
	if kind == typeCurrent {
		v.revoking = r.held(v.epoch)
	}
	r.noTags()
	return v
}

// held reads partitions by topic. Those without an assignment epoch get the
// one given.
func (r *reader) held(epoch int32) map[Partition]int32 {
	held := map[Partition]int32{}
	for range r.length(18) {
		id, partitions := r.uuid(), r.int32s()
		var epochs []int32
		r.tags(func(tag uint64, field *reader) {
			if tag == 0 {
				epochs = field.int32s()
			}
		})
		for i, p := range partitions {
			e := epoch
			if i < len(epochs) {
				e = epochs[i]
			}
			held[Partition{Topic: id, Index: p}] = e
		}
	}
	return held
}

func (r *reader) shareState() shareStateValue {
	var v shareStateValue
	topics := func() (all []initializedTopic) {
		for range r.length(19) {
			t := initializedTopic{id: r.uuid(), name: r.compact(), partitions: r.int32s()}
			r.noTags()
			slices.Sort(t.partitions)
			all = append(all, t)
		}
		return all
	}
	topics() // initializing: they will be when they are subscribed to
	v.topics = topics()
	for range r.length(18) { // deleting
		r.uuid()
		r.compact()
		r.noTags()
	}
	r.noTags()
	return v
}

func comparePartitions(a, b Partition) int {
	return cmp.Or(bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Index, b.Index))
}

func sorted[V any](set map[Partition]V) []Partition {
	all := make([]Partition, 0, len(set))
	for p := range set {
		all = append(all, p)
	}
	slices.SortFunc(all, comparePartitions)
	return all
}

type topicPartitions struct {
	id         [16]byte
	partitions []int32
}

// byTopic groups sorted partitions.
func byTopic(all []Partition) []topicPartitions {
	var topics []topicPartitions
	for _, p := range all {
		if n := len(topics); n == 0 || topics[n-1].id != p.Topic {
			topics = append(topics, topicPartitions{id: p.Topic})
		}
		last := &topics[len(topics)-1]
		last.partitions = append(last.partitions, p.Index)
	}
	return topics
}
