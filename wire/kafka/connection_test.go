package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A member that hangs up while it waits for the others is gone, and does not
// hold them up until their rebalance is over.
func TestHangUpInJoin(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	join := func(member string) *kmsg.JoinGroupRequest {
		q := kmsg.NewPtrJoinGroupRequest()
		q.Group, q.MemberID, q.ProtocolType = "g", member, "consumer"
		q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = 30_000, 60_000
		q.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		return q
	}
	first := ask[*kmsg.JoinGroupResponse](c, join(""), 3)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", first.MemberID, first.Generation
	if a := ask[*kmsg.SyncGroupResponse](c, sync, 2); a.ErrorCode != 0 {
		t.Fatalf("sync: %d", a.ErrorCode)
	}
	members := func() int {
		q := kmsg.NewPtrDescribeGroupsRequest()
		q.Groups = []string{"g"}
		return len(ask[*kmsg.DescribeGroupsResponse](c, q, 5).Groups[0].Members)
	}
	until := func(n int) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); members() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d members, want %d", members(), n)
			}
		}
	}
	other := r.dial()
	other.send(join(""), 3)
	until(2)
	other.conn.Close()
	until(1)

	// One that has more to say while it waits is heard when the wait is over.
	third := r.dial()
	asked := join("")
	third.send(asked, 3)
	until(2)
	third.send(&kmsg.ApiVersionsRequest{}, 0)
	if a := ask[*kmsg.JoinGroupResponse](c, join(first.MemberID), 3); a.ErrorCode != 0 || len(a.Members) != 2 {
		t.Fatalf("join: %+v", a)
	}
	if a := third.receive(asked, third.correlation-1).(*kmsg.JoinGroupResponse); a.ErrorCode != 0 {
		t.Errorf("join: %d", a.ErrorCode)
	}
	if a := third.receive(&kmsg.ApiVersionsRequest{}, third.correlation).(*kmsg.ApiVersionsResponse); a.ErrorCode != 0 {
		t.Errorf("ApiVersions: %d", a.ErrorCode)
	}
}
