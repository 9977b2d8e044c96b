package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker"
)

// TestConsumerGroupConfigs sets what members of KIP-848 groups are told.
func TestConsumerGroupConfigs(t *testing.T) {
	r := newShareRig(t)
	r.create("t")
	c := r.dial()
	consume := func(epoch, interval int32) {
		t.Helper()
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Group, q.MemberID, q.MemberEpoch = "g", "m", epoch
		if epoch == 0 {
			q.RebalanceTimeoutMillis, q.SubscribedTopicNames, q.Topics = 60_000, []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}
		a := ask[*kmsg.ConsumerGroupHeartbeatResponse](c, q, 1)
		if a.ErrorCode != 0 || a.HeartbeatIntervalMillis != interval {
			t.Errorf("code %d, heartbeats every %d ms, not %d", a.ErrorCode, a.HeartbeatIntervalMillis, interval)
		}
	}
	consume(0, 3000)
	for name, values := range map[string][]string{
		broker.ConsumerSessionTimeout:    {"5999", "1800001", "-1", "x", "1e4", "99999999999999999999"},
		broker.ConsumerHeartbeatInterval: {"99", "1800001", "45000", "46000"},
		broker.ShareSessionTimeout:       {"5999"},
		broker.ShareHeartbeatInterval:    {"0", "45000"},
		"consumer.session.timeout":       {"10000"},
	} {
		for _, value := range values {
			r.configure(c, "g", name, value, codeInvalidConfig)
		}
	}
	consume(1, 3000)
	r.configure(c, "g", broker.ConsumerHeartbeatInterval, "10000", 0)
	consume(1, 10_000)
	r.configure(c, "g", broker.ConsumerSessionTimeout, "10000", codeInvalidConfig) // not more than the other
	r.configure(c, "g", broker.ConsumerSessionTimeout, "60000", 0)
	r.configure(c, "g", broker.ConsumerHeartbeatInterval, "50000", 0)
	r.configure(c, "g", broker.ConsumerSessionTimeout, "", codeInvalidConfig) // 45000 is not, either
	q := kmsg.NewPtrDescribeConfigsRequest()
	q.Resources = append(q.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: "g"})
	for _, k := range ask[*kmsg.DescribeConfigsResponse](c, q, 4).Resources[0].Configs {
		if k.ReadOnly {
			t.Errorf("%s cannot be changed", k.Name)
		}
		if want := map[string]string{broker.ConsumerSessionTimeout: "60000", broker.ConsumerHeartbeatInterval: "50000"}[k.Name]; want != "" && *k.Value != want {
			t.Errorf("%s is %s, not %s", k.Name, *k.Value, want)
		}
	}
	r.configure(c, "g", broker.ConsumerHeartbeatInterval, "", 0)
	consume(1, 3000)
}
