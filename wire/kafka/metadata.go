package kafka

import (
	"context"
	"errors"
	"net"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// Metadata 0–13, DescribeCluster 0–2, FindCoordinator 0–6: one broker leads and
// coordinates everything.
//
// Metadata creates topics on first use where the client allows it (before
// version 4 always) and answers when they have their leaders, which is at once
// here. In version 0 an empty list means all topics, later null does. Version
// 10 and later has ids, and 12 asks by them.

// endpoint is where this connection's client finds the broker.
func (c *connection) endpoint() (host string, port int32) {
	o := &c.server.options
	if o.AdvertisedHost != "" {
		return o.AdvertisedHost, o.AdvertisedPort
	}
	if a, ok := c.conn.LocalAddr().(*net.TCPAddr); ok {
		return a.IP.String(), int32(a.Port)
	}
	return "localhost", 9092
}

// Kafka's AclOperation numbers as bits.
const (
	topicOperations   int32 = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11 // read … alter configs
	clusterOperations int32 = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

func (c *connection) metadata(ctx context.Context, r *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	response := r.ResponseKind().(*kmsg.MetadataResponse)
	broker := kmsg.NewMetadataResponseBroker()
	broker.NodeID = c.server.options.NodeID
	broker.Host, broker.Port = c.endpoint()
	response.Brokers = []kmsg.MetadataResponseBroker{broker}
	cluster := c.server.broker.ClusterID()
	response.ClusterID = &cluster
	response.ControllerID = broker.NodeID
	if r.Version >= 8 && r.Version <= 10 && r.IncludeClusterAuthorizedOperations {
		response.AuthorizedOperations = clusterOperations
	}
	if all := r.Topics == nil && r.Version > 0 || r.Version == 0 && len(r.Topics) == 0; all {
		for _, d := range c.server.broker.Destinations() {
			if !d.Temporary && c.server.broker.Authorize(c.principal(), session.OperationDescribe, d.Name) == nil {
				response.Topics = append(response.Topics, c.metadataOf(d, r))
			}
		}
		slices.SortFunc(response.Topics, func(a, b kmsg.MetadataResponseTopic) int {
			return cmpStrings(*a.Topic, *b.Topic)
		})
		return response
	}
	for i := range r.Topics {
		response.Topics = append(response.Topics, c.metadataFor(ctx, r, &r.Topics[i]))
	}
	return response
}

func cmpStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// metadataFor answers for one topic that was asked for, and may create it.
func (c *connection) metadataFor(ctx context.Context, r *kmsg.MetadataRequest, t *kmsg.MetadataRequestTopic) kmsg.MetadataResponseTopic {
	response := kmsg.NewMetadataResponseTopic()
	response.Topic, response.TopicID = t.Topic, t.TopicID
	if t.Topic == nil || t.TopicID != [16]byte{} { // Java asks by id with an empty name
		d, err := c.topicByID(t.TopicID)
		if err != nil {
			response.ErrorCode = codeUnknownTopicID
			return response
		}
		return c.metadataOf(d, r)
	}
	if err := checkTopicName(*t.Topic); err != nil {
		response.ErrorCode = codeInvalidTopic
		return response
	}
	d, err := c.topic(ctx, *t.Topic)
	if errors.Is(err, session.ErrNotFound) && (r.Version < 4 || r.AllowAutoTopicCreation) {
		name := record.DestinationName(*t.Topic)
		if err = c.server.broker.Authorize(c.principal(), session.OperationCreate, name); err == nil {
			d, err = c.server.broker.Destination(ctx, name, destination.KindLog)
		}
	}
	if err == nil {
		err = c.server.broker.Authorize(c.principal(), session.OperationDescribe, d.Name)
	}
	if err != nil {
		response.ErrorCode = codeOf(err)
		return response
	}
	return c.metadataOf(d, r)
}

func (c *connection) metadataOf(d *destination.Destination, r *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	t := kmsg.NewMetadataResponseTopic()
	name := topicName(d)
	t.Topic, t.TopicID, t.IsInternal = &name, d.ID, d.Internal
	if r.Version >= 8 && r.IncludeTopicAuthorizedOperations {
		t.AuthorizedOperations = topicOperations
	}
	node := c.server.options.NodeID
	t.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(d.Partitions))
	for i, p := range d.Partitions {
		m := kmsg.NewMetadataResponseTopicPartition()
		m.Partition, m.Leader, m.LeaderEpoch = p.Number(), node, p.Epoch()
		m.Replicas, m.ISR, m.OfflineReplicas = []int32{node}, []int32{node}, []int32{}
		t.Partitions[i] = m
	}
	return t
}

func (c *connection) describeCluster(_ context.Context, r *kmsg.DescribeClusterRequest) *kmsg.DescribeClusterResponse {
	response := r.ResponseKind().(*kmsg.DescribeClusterResponse)
	response.EndpointType = max(r.EndpointType, 1)
	if r.Version >= 1 && r.EndpointType == 2 {
		response.ErrorCode = 115 // UNSUPPORTED_ENDPOINT_TYPE: there are no controllers to talk to
		return response
	}
	response.ClusterID = c.server.broker.ClusterID()
	response.ControllerID = c.server.options.NodeID
	if r.IncludeClusterAuthorizedOperations {
		response.ClusterAuthorizedOperations = clusterOperations
	}
	b := kmsg.NewDescribeClusterResponseBroker()
	b.NodeID = c.server.options.NodeID
	b.Host, b.Port = c.endpoint()
	response.Brokers = []kmsg.DescribeClusterResponseBroker{b}
	return response
}

// findCoordinator: versions 0 to 3 ask for one key, 4 and later for several.
// Types are group (0), transaction (1) and, from version 6, share (2), whose
// keys are group:topic-id:partition.
func (c *connection) findCoordinator(_ context.Context, r *kmsg.FindCoordinatorRequest) *kmsg.FindCoordinatorResponse {
	response := r.ResponseKind().(*kmsg.FindCoordinatorResponse)
	code := codeNone
	if t := r.CoordinatorType; t < 0 || t > 2 || t == 2 && r.Version < 6 {
		code = codeInvalidRequest
	}
	if code == codeNone && r.CoordinatorType <= 1 {
		if err := c.server.broker.EnsureCoordinator(r.CoordinatorType == 1); err != nil {
			code = codeCoordinatorNotAvailable
		}
	}
	host, port := c.endpoint()
	node := c.server.options.NodeID
	if code != codeNone {
		host, port, node = "", -1, -1
	}
	if r.Version < 4 {
		response.ErrorCode, response.NodeID, response.Host, response.Port = code, node, host, port
		return response
	}
	for _, key := range r.CoordinatorKeys {
		k := kmsg.NewFindCoordinatorResponseCoordinator()
		k.Key, k.ErrorCode, k.NodeID, k.Host, k.Port = key, code, node, host, port
		response.Coordinators = append(response.Coordinators, k)
	}
	return response
}
