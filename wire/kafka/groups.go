package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
)

// Groups are package group's: classic (JoinGroup 0–9, SyncGroup 0–5, Heartbeat
// 0–4, LeaveGroup 0–5) and KIP-848 (68, 69: 0–1), offsets (OffsetCommit 2–10,
// OffsetFetch 1–10, OffsetDelete 0), and what administrators ask.

var groupHandlers = map[int16]handler{
	int16(kmsg.OffsetCommit):           answering(2, 10, (*connection).offsetCommit),
	int16(kmsg.OffsetFetch):            answering(1, 10, (*connection).offsetFetch),
	int16(kmsg.OffsetDelete):           grouped(0, 0, (*group.Coordinator).OffsetDelete),
	int16(kmsg.JoinGroup):              joining(0, 9, (*group.Coordinator).JoinGroup),
	int16(kmsg.SyncGroup):              joining(0, 5, (*group.Coordinator).SyncGroup),
	int16(kmsg.Heartbeat):              grouped(0, 4, (*group.Coordinator).Heartbeat),
	int16(kmsg.LeaveGroup):             grouped(0, 5, (*group.Coordinator).LeaveGroup),
	int16(kmsg.DescribeGroups):         answering(0, 6, (*connection).describeGroups),
	int16(kmsg.ListGroups):             answering(0, 5, (*connection).listGroups),
	int16(kmsg.DeleteGroups):           answering(0, 3, (*connection).deleteGroups),
	int16(kmsg.ConsumerGroupHeartbeat): grouped(0, 1, (*group.Coordinator).ConsumerGroupHeartbeat),
	int16(kmsg.ConsumerGroupDescribe):  answering(0, 1, (*connection).consumerGroupDescribe),
	int16(kmsg.ShareGroupHeartbeat):    grouped(1, 1, (*group.Coordinator).ShareGroupHeartbeat),
	int16(kmsg.ShareGroupDescribe):     answering(1, 1, (*connection).shareGroupDescribe),
}
