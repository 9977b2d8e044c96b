package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// CreateTopics 2–7, DeleteTopics 1–6, CreatePartitions 0–3, DeleteRecords 0–2,
// DescribeLogDirs 1–5, DescribeProducers 0, DescribeTopicPartitions 0,
// ElectLeaders 0–2, reassignments (45: 0–1, 46: 0); users.go has rules and users.
//
// There is one broker: the replication factor is 1, the leader is elected, and no
// replica moves. A topic that JMS consumers are using is not deleted: POLICY_VIOLATION.

var adminHandlers = map[int16]handler{
	int16(kmsg.CreateTopics):                 answering(2, 7, (*connection).createTopics),
	int16(kmsg.DeleteTopics):                 answering(1, 6, (*connection).deleteTopics),
	int16(kmsg.CreatePartitions):             answering(0, 3, (*connection).createPartitions),
	int16(kmsg.DeleteRecords):                answering(0, 2, (*connection).deleteRecords),
	int16(kmsg.DescribeLogDirs):              answering(1, 5, (*connection).describeLogDirs),
	int16(kmsg.DescribeProducers):            answering(0, 0, (*connection).describeProducers),
	int16(kmsg.DescribeTopicPartitions):      answering(0, 0, (*connection).describeTopicPartitions),
	int16(kmsg.ElectLeaders):                 answering(0, 2, (*connection).electLeaders),
	int16(kmsg.AlterPartitionAssignments):    answering(0, 1, (*connection).alterReassignments),
	int16(kmsg.ListPartitionReassignments):   answering(0, 0, (*connection).listReassignments),
	int16(kmsg.DescribeACLs):                 answering(1, 3, (*connection).describeACLs),
	int16(kmsg.CreateACLs):                   answering(1, 3, (*connection).createACLs),
	int16(kmsg.DeleteACLs):                   answering(1, 3, (*connection).deleteACLs),
	int16(kmsg.DescribeConfigs):              answering(1, 4, (*connection).describeConfigs),
	int16(kmsg.AlterConfigs):                 answering(0, 2, (*connection).alterConfigs),
	int16(kmsg.IncrementalAlterConfigs):      answering(0, 1, (*connection).incrementalAlterConfigs),
	int16(kmsg.ListConfigResources):          answering(0, 1, (*connection).listConfigResources),
	int16(kmsg.DescribeClientQuotas):         answering(0, 1, (*connection).describeClientQuotas),
	int16(kmsg.DescribeUserSCRAMCredentials): answering(0, 0, (*connection).describeUsers),
	int16(kmsg.AlterUserSCRAMCredentials):    answering(0, 0, (*connection).alterUsers),
}

func (c *connection) createTopics(ctx context.Context, r *kmsg.CreateTopicsRequest) *kmsg.CreateTopicsResponse {
	response := r.ResponseKind().(*kmsg.CreateTopicsResponse)
	named := map[string]int{}
	for i := range r.Topics {
		named[r.Topics[i].Topic]++
	}
	for i := range r.Topics {
		t := &r.Topics[i]
		if named[t.Topic] == 0 {
			continue // answered
		}
		a := kmsg.NewCreateTopicsResponseTopic()
		a.Topic, a.NumPartitions, a.ReplicationFactor = t.Topic, -1, -1
		var err error
		if named[t.Topic] > 1 {
			err = coded(codeInvalidRequest, "the request names this topic several times")
		} else {
			err = c.createTopic(ctx, t, r.ValidateOnly, &a)
		}
		named[t.Topic] = 0
		a.ErrorCode, a.ErrorMessage = codeOf(err), messageOf(err)
		response.Topics = append(response.Topics, a)
	}
	return response
}

func (c *connection) createTopic(ctx context.Context, t *kmsg.CreateTopicsRequestTopic, validateOnly bool, a *kmsg.CreateTopicsResponseTopic) error {
	if err := checkTopicName(t.Topic); err != nil {
		return coded(codeInvalidTopic, "Topic name is invalid: "+err.Error())
	}
	name := record.DestinationName(t.Topic)
	if err := c.server.broker.Authorize(c.principal(), session.OperationCreate, name); err != nil {
		return err
	}
	settings, err := c.settingsOf(t)
	if err != nil {
		return err
	}
	if _, err := c.topic(ctx, t.Topic); err == nil {
		return coded(codeTopicAlreadyExists, fmt.Sprintf("Topic '%s' already exists.", t.Topic))
	}
	var info destination.Info
	if validateOnly {
		s, err := c.server.broker.Settings(settings)
		if err != nil {
			return coded(codeInvalidConfig, err.Error())
		}
		info.Settings = s
	} else if info, err = c.server.broker.CreateDestination(ctx, name, destination.KindLog, settings); err != nil {
		if errors.Is(err, session.ErrInvalid) {
			return coded(codeInvalidConfig, err.Error())
		}
		return err
	}
	partitions, _ := strconv.Atoi(info.Settings["partitions"])
	a.TopicID, a.NumPartitions, a.ReplicationFactor = info.ID, int32(partitions), 1
	for _, e := range topicConfigs(info.Settings) {
		k := kmsg.NewCreateTopicsResponseTopicConfig()
		k.Name, k.Value, k.Source, k.ReadOnly = e.name, &e.value, int8(e.source()), e.readOnly
		a.Configs = append(a.Configs, k)
	}
	return nil
}

// settingsOf are the settings that a CreateTopics asks for.
func (c *connection) settingsOf(t *kmsg.CreateTopicsRequestTopic) (map[string]string, error) {
	partitions := int(t.NumPartitions)
	switch {
	case len(t.ReplicaAssignment) > 0:
		if t.NumPartitions != -1 || t.ReplicationFactor != -1 {
			return nil, coded(codeInvalidRequest, "both an assignment and a number of partitions or replicas were given")
		}
		partitions = len(t.ReplicaAssignment)
		seen := make([]bool, partitions)
		for _, a := range t.ReplicaAssignment {
			if a.Partition < 0 || int(a.Partition) >= partitions || seen[a.Partition] ||
				len(a.Replicas) != 1 || a.Replicas[0] != c.server.options.NodeID {
				return nil, coded(codeInvalidReplicaAssignment, fmt.Sprintf("each partition, from 0, needs the one replica %d", c.server.options.NodeID))
			}
			seen[a.Partition] = true
		}
	case t.ReplicationFactor != 1 && t.ReplicationFactor != -1:
		return nil, coded(codeInvalidReplicationFactor, fmt.Sprintf("Unable to replicate the partition %d time(s): there is 1 broker", t.ReplicationFactor))
	case partitions == 0 || partitions < -1 || partitions > destination.MaxPartitions:
		return nil, coded(codeInvalidPartitions, fmt.Sprintf("Number of partitions was set to %d, 1 to %d are possible", partitions, destination.MaxPartitions))
	}
	settings := map[string]string{}
	if partitions > 0 {
		settings["partitions"] = strconv.Itoa(partitions)
	}
	for i := range t.Configs {
		if err := setConfig(settings, t.Configs[i].Name, t.Configs[i].Value); err != nil {
			return nil, err
		}
	}
	return settings, nil
}

func (c *connection) deleteTopics(ctx context.Context, r *kmsg.DeleteTopicsRequest) *kmsg.DeleteTopicsResponse {
	response := r.ResponseKind().(*kmsg.DeleteTopicsResponse)
	topics := r.Topics
	for i := range r.TopicNames {
		topics = append(topics, kmsg.DeleteTopicsRequestTopic{Topic: &r.TopicNames[i]})
	}
	for i := range topics {
		t := &topics[i]
		a := kmsg.NewDeleteTopicsResponseTopic()
		a.Topic, a.TopicID = t.Topic, t.TopicID
		name := ""
		if t.Topic != nil {
			name = *t.Topic
		}
		d, code := c.lookup(name, t.TopicID, t.Topic == nil, session.OperationDelete)
		a.ErrorCode = code
		if code == codeNone {
			full := topicName(d)
			a.Topic, a.TopicID = &full, d.ID
			err := c.server.broker.DeleteDestination(ctx, d.Name)
			a.ErrorCode, a.ErrorMessage = codeOf(err), messageOf(err)
			if d.Internal {
				a.ErrorCode = codeInvalidRequest
			}
		}
		response.Topics = append(response.Topics, a)
	}
	return response
}

func (c *connection) createPartitions(ctx context.Context, r *kmsg.CreatePartitionsRequest) *kmsg.CreatePartitionsResponse {
	response := r.ResponseKind().(*kmsg.CreatePartitionsResponse)
	for i := range r.Topics {
		t := &r.Topics[i]
		a := kmsg.NewCreatePartitionsResponseTopic()
		a.Topic = t.Topic
		err := c.addPartitions(ctx, t, r.ValidateOnly)
		a.ErrorCode, a.ErrorMessage = codeOf(err), messageOf(err)
		response.Topics = append(response.Topics, a)
	}
	return response
}

func (c *connection) addPartitions(ctx context.Context, t *kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	d, code := c.lookup(t.Topic, [16]byte{}, false, session.OperationAlter)
	if code != codeNone {
		return coded(code, "")
	}
	present := len(d.Partitions)
	switch {
	case int(t.Count) == present:
		return coded(codeInvalidPartitions, fmt.Sprintf("Topic already has %d partition(s).", present))
	case int(t.Count) < present:
		return coded(codeInvalidPartitions, fmt.Sprintf("The topic %s currently has %d partition(s); %d would not be an increase.", t.Topic, present, t.Count))
	case t.Count > destination.MaxPartitions:
		return coded(codeInvalidPartitions, fmt.Sprintf("%d partitions are the most", destination.MaxPartitions))
	case t.Assignment != nil && len(t.Assignment) != int(t.Count)-present:
		return coded(codeInvalidReplicaAssignment, fmt.Sprintf("%d partitions are added, %d are assigned", int(t.Count)-present, len(t.Assignment)))
	}
	for _, p := range t.Assignment {
		if !slices.Equal(p.Replicas, []int32{c.server.options.NodeID}) {
			return coded(codeInvalidReplicaAssignment, fmt.Sprintf("the one replica is %d", c.server.options.NodeID))
		}
	}
	if validateOnly {
		return nil
	}
	_, err := c.server.broker.AlterDestination(ctx, d.Name, map[string]string{"partitions": strconv.Itoa(int(t.Count))})
	return err
}

// deleteRecords moves the start of partitions up; -1 is up to the end.
func (c *connection) deleteRecords(_ context.Context, r *kmsg.DeleteRecordsRequest) *kmsg.DeleteRecordsResponse {
	response := r.ResponseKind().(*kmsg.DeleteRecordsResponse)
	for i := range r.Topics {
		t := &r.Topics[i]
		answer := kmsg.NewDeleteRecordsResponseTopic()
		answer.Topic = t.Topic
		d, code := c.lookup(t.Topic, [16]byte{}, false, session.OperationDelete)
		if code == codeNone && (d.Internal || d.Settings.CleanupPolicy == destination.CleanupCompact) {
			code = codePolicyViolation
		}
		for _, q := range t.Partitions {
			a := kmsg.NewDeleteRecordsResponseTopicPartition()
			a.Partition, a.ErrorCode, a.LowWatermark = q.Partition, code, -1
			if code == codeNone {
				if p := partitionOf(d, q.Partition); p == nil {
					a.ErrorCode = codeUnknownTopicOrPartition
				} else if a.ErrorCode = deleteBelow(p, q.Offset); a.ErrorCode == codeNone {
					a.LowWatermark = p.Start()
				}
			}
			answer.Partitions = append(answer.Partitions, a)
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}

func deleteBelow(p *destination.Partition, offset int64) int16 {
	if offset == -1 {
		offset = p.Stable()
	}
	if offset < 0 || offset > p.Stable() {
		return codeOffsetOutOfRange
	}
	return codeOf(p.Log().AdvanceStart(offset))
}

func (c *connection) describeLogDirs(_ context.Context, r *kmsg.DescribeLogDirsRequest) *kmsg.DescribeLogDirsResponse {
	response := r.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = c.server.broker.Dir()
	dir.TotalBytes, dir.UsableBytes = c.server.broker.Volume()
	asked := map[string][]int32{}
	for _, t := range r.Topics {
		asked[t.Topic] = append(asked[t.Topic], t.Partitions...)
	}
	for _, d := range c.server.broker.Destinations() {
		name := topicName(d)
		partitions, named := asked[name]
		if d.Temporary || r.Topics != nil && !named {
			continue
		}
		t := kmsg.NewDescribeLogDirsResponseDirTopic()
		t.Topic = name
		for _, p := range d.Partitions {
			if r.Topics != nil && !slices.Contains(partitions, p.Number()) {
				continue
			}
			a := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			a.Partition, a.Size = p.Number(), p.Log().Bytes()
			t.Partitions = append(t.Partitions, a)
		}
		dir.Topics = append(dir.Topics, t)
	}
	response.Dirs = append(response.Dirs, dir)
	return response
}

func (c *connection) describeProducers(_ context.Context, r *kmsg.DescribeProducersRequest) *kmsg.DescribeProducersResponse {
	response := r.ResponseKind().(*kmsg.DescribeProducersResponse)
	for i := range r.Topics {
		t := &r.Topics[i]
		answer := kmsg.NewDescribeProducersResponseTopic()
		answer.Topic = t.Topic
		d, code := c.lookup(t.Topic, [16]byte{}, false, session.OperationConsume)
		for _, number := range t.Partitions {
			a := kmsg.NewDescribeProducersResponseTopicPartition()
			a.Partition, a.ErrorCode = number, code
			if code == codeNone {
				if p := partitionOf(d, number); p == nil {
					a.ErrorCode = codeUnknownTopicOrPartition
				} else {
					a.ActiveProducers, a.ErrorCode = activeProducers(p)
				}
			}
			answer.Partitions = append(answer.Partitions, a)
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}

func activeProducers(p *destination.Partition) ([]kmsg.DescribeProducersResponseTopicPartitionActiveProducer, int16) {
	producers, err := p.Producers()
	list := make([]kmsg.DescribeProducersResponseTopicPartitionActiveProducer, 0, len(producers))
	for _, s := range producers {
		a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		a.ProducerID, a.ProducerEpoch, a.LastSequence = s.ID, int32(s.Epoch), s.LastSequence
		a.LastTimestamp, a.CoordinatorEpoch, a.CurrentTxnStartOffset = s.Timestamp, s.CoordinatorEpoch, s.FirstOffset
		list = append(list, a)
	}
	return list, codeOf(err)
}

// describeTopicPartitions is Metadata in pages (KIP-966).
func (c *connection) describeTopicPartitions(ctx context.Context, r *kmsg.DescribeTopicPartitionsRequest) *kmsg.DescribeTopicPartitionsResponse {
	response := r.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	names := make([]string, 0, len(r.Topics))
	for _, t := range r.Topics {
		names = append(names, t.Topic)
	}
	if len(names) == 0 {
		for _, d := range c.server.broker.Destinations() {
			if !d.Temporary {
				names = append(names, topicName(d))
			}
		}
	}
	slices.Sort(names)
	left := int(r.ResponsePartitionLimit)
	if left <= 0 || left > 2000 {
		left = 2000
	}
	for _, name := range slices.Compact(names) {
		first := 0
		if r.Cursor != nil {
			if name < r.Cursor.Topic {
				continue
			}
			if name == r.Cursor.Topic {
				first = max(int(r.Cursor.Partition), 0)
			}
		}
		if left == 0 {
			next := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
			next.Topic, next.Partition = name, int32(first)
			response.NextCursor = &next
			break
		}
		t := kmsg.NewDescribeTopicPartitionsResponseTopic()
		t.Topic = &name
		d, code := c.lookup(name, [16]byte{}, false, session.OperationDescribe)
		if code != codeNone {
			if checkTopicName(name) != nil {
				code = codeInvalidTopic
			}
			t.ErrorCode = code
			response.Topics = append(response.Topics, t)
			continue
		}
		t.TopicID, t.IsInternal, t.AuthorizedOperations = d.ID, d.Internal, topicOperations
		node := c.server.options.NodeID
		for _, p := range d.Partitions[min(first, len(d.Partitions)):] {
			if left == 0 {
				next := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
				next.Topic, next.Partition = name, p.Number()
				response.NextCursor = &next
				break
			}
			left--
			a := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
			a.Partition, a.LeaderID, a.LeaderEpoch = p.Number(), node, p.Epoch()
			a.Replicas, a.ISR, a.OfflineReplicas = []int32{node}, []int32{node}, []int32{}
			a.EligibleLeaderReplicas, a.LastKnownELR = []int32{}, []int32{}
			t.Partitions = append(t.Partitions, a)
		}
		response.Topics = append(response.Topics, t)
		if response.NextCursor != nil {
			break
		}
	}
	return response
}

const codeElectionNotNeeded int16 = 84

func (c *connection) electLeaders(_ context.Context, r *kmsg.ElectLeadersRequest) *kmsg.ElectLeadersResponse {
	response := r.ResponseKind().(*kmsg.ElectLeadersResponse)
	for i := range r.Topics {
		t := &r.Topics[i]
		answer := kmsg.NewElectLeadersResponseTopic()
		answer.Topic = t.Topic
		d, code := c.lookup(t.Topic, [16]byte{}, false, session.OperationAlter)
		for _, number := range t.Partitions {
			a := kmsg.NewElectLeadersResponseTopicPartition()
			a.Partition, a.ErrorCode = number, code
			if code == codeNone {
				a.ErrorCode = codeElectionNotNeeded
				if partitionOf(d, number) == nil {
					a.ErrorCode = codeUnknownTopicOrPartition
				}
			}
			answer.Partitions = append(answer.Partitions, a)
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}

const codeNoReassignmentInProgress int16 = 85

func (c *connection) alterReassignments(_ context.Context, r *kmsg.AlterPartitionAssignmentsRequest) *kmsg.AlterPartitionAssignmentsResponse {
	response := r.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	for i := range r.Topics {
		t := &r.Topics[i]
		answer := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		answer.Topic = t.Topic
		d, code := c.lookup(t.Topic, [16]byte{}, false, session.OperationAlter)
		for _, q := range t.Partitions {
			a := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			a.Partition, a.ErrorCode = q.Partition, code
			switch {
			case code != codeNone:
			case partitionOf(d, q.Partition) == nil:
				a.ErrorCode = codeUnknownTopicOrPartition
			case q.Replicas == nil:
				a.ErrorCode = codeNoReassignmentInProgress
			case !slices.Equal(q.Replicas, []int32{c.server.options.NodeID}):
				a.ErrorCode = codeInvalidReplicaAssignment
			}
			answer.Partitions = append(answer.Partitions, a)
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}

func (c *connection) listReassignments(_ context.Context, r *kmsg.ListPartitionReassignmentsRequest) *kmsg.ListPartitionReassignmentsResponse {
	return r.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse) // there are none
}

// describeClientQuotas 0–1: there are no quotas.
func (c *connection) describeClientQuotas(_ context.Context, r *kmsg.DescribeClientQuotasRequest) *kmsg.DescribeClientQuotasResponse {
	response := r.ResponseKind().(*kmsg.DescribeClientQuotasResponse)
	response.Entries = []kmsg.DescribeClientQuotasResponseEntry{}
	return response
}

// describeUsers 0: there are no users.
