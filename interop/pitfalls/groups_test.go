package pitfalls

import (
	"errors"
	"fmt"
	"testing"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	segmentio "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/interop/target"
)

// Test01UnknownGroup: the offset of a group that nobody has heard of is -1, and
// asking for it is no error.
func Test01UnknownGroup(t *testing.T) {
	for version := int16(1); version <= 9; version++ {
		t.Run(fmt.Sprintf("kgo-v%d", version), func(t *testing.T) {
			topic, group := target.Topic(t, 1), target.Name(t)
			r := kmsg.NewPtrOffsetFetchRequest()
			if version < 8 {
				rt := kmsg.NewOffsetFetchRequestTopic()
				rt.Topic, rt.Partitions = topic, []int32{0}
				r.Group, r.Topics = group, append(r.Topics, rt)
			} else {
				rt := kmsg.NewOffsetFetchRequestGroupTopic()
				rt.Topic, rt.Partitions = topic, []int32{0}
				g := kmsg.NewOffsetFetchRequestGroup()
				g.Group, g.Topics = group, append(g.Topics, rt)
				r.Groups = append(r.Groups, g)
			}
			answer := target.Ask[*kmsg.OffsetFetchResponse](t, pinned(t, r.Key(), version), r)
			if answer.Version != version {
				t.Fatalf("answered in version %d", answer.Version)
			}
			if version < 8 {
				code(t, "OffsetFetch", answer.ErrorCode, nil)
				if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
					t.Fatalf("%+v", answer)
				}
				p := answer.Topics[0].Partitions[0]
				code(t, "partition", p.ErrorCode, nil)
				if p.Offset != -1 {
					t.Errorf("offset %d", p.Offset)
				}
				return
			}
			if len(answer.Groups) != 1 || len(answer.Groups[0].Topics) != 1 || len(answer.Groups[0].Topics[0].Partitions) != 1 {
				t.Fatalf("%+v", answer)
			}
			code(t, "group", answer.Groups[0].ErrorCode, nil)
			p := answer.Groups[0].Topics[0].Partitions[0]
			code(t, "partition", p.ErrorCode, nil)
			if p.Offset != -1 {
				t.Errorf("offset %d", p.Offset)
			}
		})
	}
	t.Run("kadm", func(t *testing.T) {
		offsets, err := target.Admin(t).FetchOffsets(target.Context(t), target.Name(t))
		if err != nil || len(offsets) != 0 {
			t.Errorf("%v, %v", offsets, err)
		}
	})
	t.Run("librdkafka", func(t *testing.T) {
		topic := target.Topic(t, 1)
		got, err := librdkafkaConsumer(t).Committed(partition(topic, 0), int(target.Patience.Milliseconds()))
		if err != nil || len(got) != 1 || got[0].Error != nil || got[0].Offset != kafka.OffsetInvalid {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("sarama", func(t *testing.T) {
		topic := target.Topic(t, 1)
		a, err := sarama.NewClusterAdmin([]string{target.Bootstrap(t)}, saramaConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		answer, err := a.ListConsumerGroupOffsets(target.Name(t), map[string][]int32{topic: {0}})
		if err != nil {
			t.Fatal(err)
		}
		if b := answer.GetBlock(topic, 0); answer.Err != sarama.ErrNoError || b == nil || b.Err != sarama.ErrNoError || b.Offset != -1 {
			t.Errorf("%v, %+v", answer.Err, b)
		}
	})
	t.Run("kafka-go", func(t *testing.T) {
		topic := target.Topic(t, 1)
		answer, err := segmentioClient(t).OffsetFetch(target.Context(t), &segmentio.OffsetFetchRequest{
			GroupID: target.Name(t), Topics: map[string][]int{topic: {0}},
		})
		if err != nil || answer.Error != nil {
			t.Fatalf("%v, %+v", err, answer)
		}
		if p := answer.Topics[topic]; len(p) != 1 || p[0].Error != nil || p[0].CommittedOffset != -1 {
			t.Errorf("%+v", p)
		}
	})
}

// Test02UnknownMember: who speaks for a group that nobody has heard of is told
// UNKNOWN_MEMBER_ID, upon which clients join anew.
func Test02UnknownMember(t *testing.T) {
	t.Run("kgo", func(t *testing.T) {
		cl, group := target.Client(t), target.Name(t)
		s := kmsg.NewPtrSyncGroupRequest()
		s.Group, s.MemberID, s.Generation = group, "nobody", 1
		s.ProtocolType, s.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
		code(t, "SyncGroup", target.Ask[*kmsg.SyncGroupResponse](t, cl, s).ErrorCode, kerr.UnknownMemberID)
		h := kmsg.NewPtrHeartbeatRequest()
		h.Group, h.MemberID, h.Generation = group, "nobody", 1
		code(t, "Heartbeat", target.Ask[*kmsg.HeartbeatResponse](t, cl, h).ErrorCode, kerr.UnknownMemberID)
	})
	for version := int16(0); version <= 5; version++ {
		t.Run(fmt.Sprintf("kgo-leave-v%d", version), func(t *testing.T) {
			l := kmsg.NewPtrLeaveGroupRequest()
			l.Group, l.MemberID = target.Name(t), "nobody"
			m := kmsg.NewLeaveGroupRequestMember()
			m.MemberID = "nobody"
			l.Members = append(l.Members, m)
			answer := target.Ask[*kmsg.LeaveGroupResponse](t, pinned(t, l.Key(), version), l)
			if version < 3 {
				code(t, "LeaveGroup", answer.ErrorCode, kerr.UnknownMemberID)
				return
			}
			code(t, "LeaveGroup", answer.ErrorCode, nil)
			if len(answer.Members) != 1 {
				t.Fatalf("%+v", answer)
			}
			code(t, "its member", answer.Members[0].ErrorCode, kerr.UnknownMemberID)
		})
	}
	t.Run("sarama", func(t *testing.T) {
		b, group := saramaBroker(t), target.Name(t)
		s, err := b.SyncGroup(&sarama.SyncGroupRequest{Version: 3, GroupId: group, MemberId: "nobody", GenerationId: 1})
		if err != nil || !errors.Is(s.Err, sarama.ErrUnknownMemberId) {
			t.Errorf("SyncGroup: %+v, %v", s, err)
		}
		l, err := b.LeaveGroup(&sarama.LeaveGroupRequest{Version: 0, GroupId: group, MemberId: "nobody"})
		if err != nil || !errors.Is(l.Err, sarama.ErrUnknownMemberId) {
			t.Errorf("LeaveGroup: %+v, %v", l, err)
		}
		h, err := b.Heartbeat(&sarama.HeartbeatRequest{Version: 3, GroupId: group, MemberId: "nobody", GenerationId: 1})
		if err != nil || !errors.Is(h.Err, sarama.ErrUnknownMemberId) {
			t.Errorf("Heartbeat: %+v, %v", h, err)
		}
	})
	// kafka-go is not here: it reads these answers in the wrong order.
}

// A group's lag is 0 once it has committed its end, also behind markers and other
// records that no consumer sees; see Test07Offsets.
func lag(t *testing.T, group, topic string) int64 {
	t.Helper()
	lags, err := target.Admin(t).Lag(target.Context(t), group)
	if err != nil {
		t.Fatal(err)
	}
	l, ok := lags[group].Lag.Lookup(topic, 0)
	if !ok {
		t.Fatalf("no lag of %s: %+v", topic, lags)
	}
	return l.Lag
}
