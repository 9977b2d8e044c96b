package polylog.interop;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.ClassicGroupDescription;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.FeatureMetadata;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.ReplicaInfo;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** The Java admin client. What it does with share groups is in the share suite. */
final class AdminSuite extends Suite {
  private static final Duration patience = Duration.ofSeconds(20);
  private final Cluster cluster;
  private final Admin admin;

  AdminSuite(Run.Options options, Cluster cluster) {
    super("admin", options);
    this.cluster = cluster;
    this.admin = cluster.admin;
  }

  @Override
  void plan() {
    test("describe_cluster", this::describeCluster);
    test("describe_features", this::describeFeatures);
    test("create_topic", this::createTopic);
    test("create_topic_with_configs", this::createWithConfigs);
    test("create_topic_segments_below_batches", this::createSmallSegments);
    test("create_topic_with_assignment", this::createWithAssignment);
    test("create_topic_validate_only", this::validateOnly);
    test("create_topic_refused", this::createRefused);
    test("list_topics", this::listTopics);
    test("describe_topics_by_id", this::describeById);
    test("describe_many_topics", this::describeMany);
    test("delete_topics", this::deleteTopics);
    test("create_partitions", this::createPartitions);
    test("describe_configs_of_topic", this::describeTopicConfigs);
    test("describe_configs_of_broker", this::describeBrokerConfigs);
    test("incremental_alter_configs", this::alterConfigs);
    test("incremental_alter_configs_refused", this::alterRefused);
    test("incremental_alter_configs_of_group", this::alterGroupConfigs);
    test("list_config_resources", this::listConfigResources);
    test("list_offsets", this::listOffsets);
    test("list_offsets_by_time", this::listOffsetsByTime);
    test("delete_records", this::deleteRecords);
    test("delete_records_out_of_range", this::deleteRecordsOutOfRange);
    test("describe_log_dirs", this::describeLogDirs);
    test("describe_producers", this::describeProducers);
    for (String protocol : List.of("classic", "consumer")) {
      test(protocol + "_list_groups", () -> listGroups(protocol));
      test(protocol + "_describe_group", () -> describeGroup(protocol));
      test(protocol + "_delete_group", () -> deleteGroup(protocol));
      test(protocol + "_alter_offsets", () -> alterOffsets(protocol));
      test(protocol + "_delete_offsets", () -> deleteOffsets(protocol));
    }
    test("describe_unknown_group", this::describeUnknownGroup);
    test("remove_members", this::removeMembers);
    test("offsets_of_many_groups", this::offsetsOfManyGroups);
    test("elect_leaders", this::electLeaders);
    test("list_reassignments", this::reassignments);
    test("acls_are_disabled", this::acls);
    test("client_quotas", this::quotas);
    test("deleted_topic_loses_its_offsets", this::deletedTopicOffsets);
  }

  private TopicDescription describe(String topic) throws Exception {
    return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
  }

  private void describeCluster() throws Exception {
    DescribeClusterResult r = admin.describeCluster();
    check(!r.clusterId().get().isEmpty(), "a cluster id");
    equal(1, r.nodes().get().size(), "nodes");
    Node node = r.nodes().get().iterator().next();
    equal(cluster.bootstrap, node.host() + ":" + node.port(), "address");
    check(r.controller().get() != null, "a controller");
  }

  private void describeFeatures() throws Exception {
    FeatureMetadata f = admin.describeFeatures().featureMetadata().get();
    equal((short) 2, f.finalizedFeatures().get("transaction.version").maxVersionLevel(), "transaction.version");
    equal((short) 1, f.finalizedFeatures().get("group.version").maxVersionLevel(), "group.version");
    equal((short) 1, f.finalizedFeatures().get("share.version").maxVersionLevel(), "share.version");
    check(f.supportedFeatures().get("transaction.version").maxVersion() >= 2, "supported transaction.version");
  }

  private void createTopic() throws Exception {
    String topic = cluster.name("topic");
    CreateTopicsResult r = admin.createTopics(List.of(new NewTopic(topic, 3, (short) 1)));
    r.all().get();
    equal(3, r.numPartitions(topic).get(), "partitions told");
    equal(1, r.replicationFactor(topic).get(), "replication factor told");
    check(!r.topicId(topic).get().equals(Uuid.ZERO_UUID), "a topic id");
    check(r.config(topic).get().get("retention.ms") != null, "configs told");
    eventually(patience, "described", () -> describe(topic).partitions().size() == 3);
    equal(r.topicId(topic).get(), describe(topic).topicId(), "topic id");
    check(!describe(topic).isInternal(), "not internal");
  }

  private String value(ConfigResource.Type type, String name, String config) throws Exception {
    ConfigResource r = new ConfigResource(type, name);
    ConfigEntry e = admin.describeConfigs(List.of(r)).all().get().get(r).get(config);
    return e == null ? null : e.value();
  }

  private String value(String topic, String config) throws Exception {
    return value(ConfigResource.Type.TOPIC, topic, config);
  }

  private void createWithConfigs() throws Exception {
    Map<String, String> configs =
        Map.of(
            "retention.ms", "3600000",
            "retention.bytes", "1000000000",
            "cleanup.policy", "compact",
            "segment.bytes", "1048576",
            "segment.ms", "600000",
            "max.message.bytes", "200000",
            "compression.type", "zstd",
            "message.timestamp.type", "LogAppendTime",
            "min.insync.replicas", "1",
            "delete.retention.ms", "1000");
    String topic = cluster.name("topic");
    admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(configs))).all().get();
    eventually(patience, "described", () -> describe(topic).partitions().size() == 1);
    for (Map.Entry<String, String> e : configs.entrySet()) {
      equal(e.getValue(), value(topic, e.getKey()), e.getKey());
    }
  }

  /** A segment may be smaller than the largest batch, and is by default nearly so. */
  private void createSmallSegments() throws Exception {
    String topic = cluster.topic(1, "segment.bytes", "1048576");
    cluster.fill(topic, 10);
    equal("1048576", value(topic, "segment.bytes"), "segment.bytes");
  }

  private void createWithAssignment() throws Exception {
    int node = admin.describeCluster().nodes().get().iterator().next().id();
    String topic = cluster.name("topic");
    admin.createTopics(List.of(new NewTopic(topic, Map.of(0, List.of(node), 1, List.of(node))))).all().get();
    eventually(patience, "two partitions", () -> describe(topic).partitions().size() == 2);
  }

  private void validateOnly() throws Exception {
    String topic = cluster.name("topic");
    admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all().get();
    check(!admin.listTopics().names().get().contains(topic), "not made");
  }

  private void createRefused() throws Throwable {
    String topic = cluster.topic(1);
    fails(TopicExistsException.class, () -> admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get());
    for (String name : List.of("with space", "umlautä", "..", "x".repeat(250), "")) {
      fails(InvalidTopicException.class, () -> admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all().get());
    }
    String next = cluster.name("topic");
    fails(InvalidPartitionsException.class, () -> admin.createTopics(List.of(new NewTopic(next, 0, (short) 1))).all().get());
    fails(
        InvalidReplicationFactorException.class,
        () -> admin.createTopics(List.of(new NewTopic(next, 1, (short) 3))).all().get());
    fails(
        InvalidConfigurationException.class,
        () ->
            admin
                .createTopics(List.of(new NewTopic(next, 1, (short) 1).configs(Map.of("no.such.config", "1"))))
                .all()
                .get());
    fails(
        InvalidConfigurationException.class,
        () ->
            admin
                .createTopics(List.of(new NewTopic(next, 1, (short) 1).configs(Map.of("retention.ms", "soon"))))
                .all()
                .get());
    // One is refused, the other made.
    CreateTopicsResult r =
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1), new NewTopic(next, 1, (short) 1)));
    r.values().get(next).get();
    fails(TopicExistsException.class, () -> r.values().get(topic).get());
  }

  private void listTopics() throws Exception {
    String topic = cluster.topic(1);
    check(admin.listTopics().names().get().contains(topic), "listed");
    // Something has been committed by now, or is now.
    admin.alterConsumerGroupOffsets(cluster.name("group"), Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0))).all().get();
    check(!admin.listTopics().names().get().contains("__consumer_offsets"), "internal topics are not listed");
    check(
        admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get().contains("__consumer_offsets"),
        "internal topics are listed if one asks");
    check(describe("__consumer_offsets").isInternal(), "described as internal");
  }

  private void describeById() throws Throwable {
    String topic = cluster.topic(2);
    Uuid id = describe(topic).topicId();
    equal(
        topic,
        admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name(),
        "name");
    fails(
        UnknownTopicIdException.class,
        () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds().get());
    fails(UnknownTopicOrPartitionException.class, () -> describe(cluster.name("unknown")));
  }

  private void describeMany() throws Exception {
    List<String> topics = new ArrayList<>();
    List<NewTopic> make = new ArrayList<>();
    for (int i = 0; i < 20; i++) {
      String topic = cluster.name("many");
      topics.add(topic);
      make.add(new NewTopic(topic, 5, (short) 1));
    }
    admin.createTopics(make).all().get();
    eventually(
        patience,
        "20 topics of 5 partitions",
        () ->
            admin.describeTopics(topics).allTopicNames().get().values().stream()
                .allMatch(d -> d.partitions().size() == 5));
    admin.deleteTopics(topics).all().get();
  }

  private void deleteTopics() throws Throwable {
    String topic = cluster.topic(1);
    String other = cluster.topic(1);
    Uuid id = describe(other).topicId();
    admin.deleteTopics(List.of(topic)).all().get();
    admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
    eventually(
        patience,
        "gone",
        () -> admin.listTopics().names().get().stream().noneMatch(t -> t.equals(topic) || t.equals(other)));
    fails(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(topic)).all().get());
    fails(
        UnknownTopicIdException.class, () -> admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get());
  }

  private void createPartitions() throws Throwable {
    String topic = cluster.topic(2);
    admin
        .createPartitions(
            Map.of(topic, NewPartitions.increaseTo(5)), new CreatePartitionsOptions().validateOnly(true))
        .all()
        .get();
    equal(2, describe(topic).partitions().size(), "partitions when nothing but validated");
    admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
    eventually(patience, "4 partitions", () -> describe(topic).partitions().size() == 4);
    for (int n : new int[] {3, 4, -1}) {
      fails(
          InvalidPartitionsException.class,
          () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(n))).all().get());
    }
    fails(
        UnknownTopicOrPartitionException.class,
        () -> admin.createPartitions(Map.of(cluster.name("unknown"), NewPartitions.increaseTo(4))).all().get());
  }

  private void describeTopicConfigs() throws Throwable {
    String topic = cluster.topic(1, "retention.ms", "1234567");
    ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    Config c = admin.describeConfigs(List.of(r)).all().get().get(r);
    ConfigEntry set = c.get("retention.ms");
    equal("1234567", set.value(), "value");
    equal(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, set.source(), "source of what was set");
    check(!set.isDefault() && !set.isReadOnly() && !set.isSensitive(), "its flags: " + set);
    ConfigEntry unset = c.get("cleanup.policy");
    equal("delete", unset.value(), "default");
    check(unset.isDefault(), "default is called so: " + unset);
    for (String name :
        List.of("segment.bytes", "max.message.bytes", "compression.type", "message.timestamp.type", "min.insync.replicas")) {
      check(c.get(name) != null && c.get(name).value() != null, "there is " + name);
    }
    ConfigResource unknown = new ConfigResource(ConfigResource.Type.TOPIC, cluster.name("unknown"));
    fails(UnknownTopicOrPartitionException.class, () -> admin.describeConfigs(List.of(unknown)).all().get());
  }

  private void describeBrokerConfigs() throws Exception {
    String node = admin.describeCluster().nodes().get().iterator().next().idString();
    ConfigResource r = new ConfigResource(ConfigResource.Type.BROKER, node);
    Config c = admin.describeConfigs(List.of(r)).all().get().get(r);
    for (String name :
        List.of("log.retention.ms", "num.partitions", "default.replication.factor", "auto.create.topics.enable")) {
      check(c.get(name) != null, "there is " + name);
    }
  }

  private void alter(String topic, AlterConfigOp... ops) throws Exception {
    admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.TOPIC, topic), List.of(ops))).all().get();
  }

  private static AlterConfigOp op(String name, String value, OpType type) {
    return new AlterConfigOp(new ConfigEntry(name, value), type);
  }

  private void alterConfigs() throws Exception {
    String topic = cluster.topic(1, "max.message.bytes", "100000");
    String before = value(topic, "retention.ms");
    alter(topic, op("retention.ms", "60000", OpType.SET), op("segment.ms", "7000000", OpType.SET));
    eventually(patience, "set", () -> "60000".equals(value(topic, "retention.ms")));
    equal("100000", value(topic, "max.message.bytes"), "what was not named stays");
    alter(topic, op("retention.ms", null, OpType.DELETE));
    eventually(patience, "deleted", () -> before.equals(value(topic, "retention.ms")));
    equal("7000000", value(topic, "segment.ms"), "what was not named stays");
    alter(topic, op("cleanup.policy", "compact", OpType.APPEND));
    eventually(
        patience,
        "appended",
        () -> Set.of(value(topic, "cleanup.policy").split(",")).equals(Set.of("delete", "compact")));
    alter(topic, op("cleanup.policy", "delete", OpType.SUBTRACT));
    eventually(patience, "subtracted", () -> value(topic, "cleanup.policy").equals("compact"));
    ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    admin
        .incrementalAlterConfigs(
            Map.of(r, List.of(op("retention.ms", "5", OpType.SET))), new AlterConfigsOptions().validateOnly(true))
        .all()
        .get();
    equal(before, value(topic, "retention.ms"), "nothing but validated");
  }

  private void alterRefused() throws Throwable {
    String topic = cluster.topic(1);
    fails(InvalidConfigurationException.class, () -> alter(topic, op("no.such.config", "1", OpType.SET)));
    fails(InvalidConfigurationException.class, () -> alter(topic, op("retention.ms", "soon", OpType.SET)));
    fails(InvalidConfigurationException.class, () -> alter(topic, op("cleanup.policy", "burn", OpType.SET)));
    fails(InvalidConfigurationException.class, () -> alter(topic, op("retention.ms", "1", OpType.APPEND)));
    fails(
        UnknownTopicOrPartitionException.class,
        () -> alter(cluster.name("unknown"), op("retention.ms", "1", OpType.SET)));
  }

  private void alterGroupConfigs() throws Throwable {
    String group = cluster.name("group");
    cluster.alter(ConfigResource.Type.GROUP, group, "consumer.session.timeout.ms", "50000", "share.auto.offset.reset", "earliest");
    eventually(
        patience, "set", () -> "50000".equals(value(ConfigResource.Type.GROUP, group, "consumer.session.timeout.ms")));
    equal("earliest", value(ConfigResource.Type.GROUP, group, "share.auto.offset.reset"), "share.auto.offset.reset");
    fails(
        InvalidConfigurationException.class,
        () -> cluster.alter(ConfigResource.Type.GROUP, group, "no.such.config", "1"));
  }

  private void listConfigResources() throws Exception {
    String group = cluster.name("group");
    cluster.alter(ConfigResource.Type.GROUP, group, "consumer.session.timeout.ms", "50000");
    eventually(
        patience,
        "the group is listed",
        () ->
            admin
                .listConfigResources(
                    Set.of(ConfigResource.Type.GROUP), new org.apache.kafka.clients.admin.ListConfigResourcesOptions())
                .all()
                .get()
                .contains(new ConfigResource(ConfigResource.Type.GROUP, group)));
  }

  private long offset(String topic, OffsetSpec spec) throws Exception {
    TopicPartition tp = new TopicPartition(topic, 0);
    return admin.listOffsets(Map.of(tp, spec)).all().get().get(tp).offset();
  }

  private void listOffsets() throws Throwable {
    String topic = cluster.topic(1);
    equal(0L, offset(topic, OffsetSpec.earliest()), "earliest of nothing");
    equal(0L, offset(topic, OffsetSpec.latest()), "latest of nothing");
    equal(-1L, offset(topic, OffsetSpec.maxTimestamp()), "greatest timestamp of nothing");
    cluster.fill(topic, 10);
    equal(0L, offset(topic, OffsetSpec.earliest()), "earliest");
    equal(10L, offset(topic, OffsetSpec.latest()), "latest");
    equal(0L, offset(topic, OffsetSpec.earliestLocal()), "earliest local");
    fails(UnknownTopicOrPartitionException.class, () -> offset(cluster.name("unknown"), OffsetSpec.latest()));
  }

  private void listOffsetsByTime() throws Exception {
    String topic = cluster.topic(1);
    long start = System.currentTimeMillis() - 1_000_000;
    // Timestamps need not rise with offsets.
    int[] seconds = {0, 10, 5, 30, 20, 40, 35};
    try (Producer<String, String> p = cluster.producer()) {
      for (int s : seconds) {
        p.send(new ProducerRecord<>(topic, 0, start + s * 1000L, "k", "v" + s)).get();
      }
    }
    equal(0L, offset(topic, OffsetSpec.forTimestamp(start)), "at the first");
    equal(1L, offset(topic, OffsetSpec.forTimestamp(start + 1)), "just after the first");
    equal(3L, offset(topic, OffsetSpec.forTimestamp(start + 11_000)), "the first that is late enough");
    equal(5L, offset(topic, OffsetSpec.forTimestamp(start + 31_000)), "the first that is late enough");
    equal(-1L, offset(topic, OffsetSpec.forTimestamp(start + 41_000)), "after all");
    equal(5L, offset(topic, OffsetSpec.maxTimestamp()), "greatest timestamp");
    TopicPartition tp = new TopicPartition(topic, 0);
    var info = admin.listOffsets(Map.of(tp, OffsetSpec.forTimestamp(start + 31_000))).all().get().get(tp);
    equal(start + 40_000, info.timestamp(), "its real timestamp");
  }

  private void deleteRecords() throws Exception {
    String topic = cluster.topic(2);
    TopicPartition zero = new TopicPartition(topic, 0);
    TopicPartition one = new TopicPartition(topic, 1);
    cluster.fill(topic, 0, 0, 100);
    cluster.fill(topic, 1, 0, 10);
    var r =
        admin.deleteRecords(Map.of(zero, RecordsToDelete.beforeOffset(30), one, RecordsToDelete.beforeOffset(-1)));
    equal(30L, r.lowWatermarks().get(zero).get().lowWatermark(), "low watermark");
    equal(10L, r.lowWatermarks().get(one).get().lowWatermark(), "low watermark when all is deleted");
    equal(30L, offset(topic, OffsetSpec.earliest()), "earliest");
    List<String> left = new ArrayList<>();
    cluster.read(topic).forEach(x -> left.add(x.partition() + x.value()));
    equal(70, left.size(), "records left");
    check(left.contains("0v30") && !left.contains("0v29"), "the right ones");
  }

  private void deleteRecordsOutOfRange() throws Throwable {
    String topic = cluster.topic(1);
    cluster.fill(topic, 10);
    TopicPartition tp = new TopicPartition(topic, 0);
    fails(
        OffsetOutOfRangeException.class,
        () -> admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(11))).all().get());
    equal(0L, offset(topic, OffsetSpec.earliest()), "earliest");
  }

  private void describeLogDirs() throws Exception {
    String topic = cluster.topic(2);
    cluster.fill(topic, 100);
    int node = admin.describeCluster().nodes().get().iterator().next().id();
    Map<String, LogDirDescription> dirs = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
    check(!dirs.isEmpty(), "a log directory");
    ReplicaInfo found = null;
    for (LogDirDescription d : dirs.values()) {
      check(d.error() == null, "no error");
      check(d.totalBytes().orElse(0) > 0 && d.usableBytes().orElse(-1) >= 0, "size of the volume");
      ReplicaInfo i = d.replicaInfos().get(new TopicPartition(topic, 0));
      found = i == null ? found : i;
    }
    check(found != null, "the partition is in one");
    check(found.size() > 100 && found.offsetLag() == 0 && !found.isFuture(), "its size and lag: " + found);
    TopicPartitionReplica replica = new TopicPartitionReplica(topic, 0, node);
    check(
        admin.describeReplicaLogDirs(List.of(replica)).all().get().get(replica).getCurrentReplicaLogDir() != null,
        "where the replica is");
  }

  private void describeProducers() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    try (Producer<String, String> p = cluster.producer("enable.idempotence", "true")) {
      for (int i = 0; i < 5; i++) {
        p.send(new ProducerRecord<>(topic, 0, "k", "v")).get();
      }
      List<ProducerState> all = admin.describeProducers(List.of(tp)).partitionResult(tp).get().activeProducers();
      equal(1, all.size(), "producers");
      equal(4, all.get(0).lastSequence(), "last sequence");
      equal(0, all.get(0).producerEpoch(), "epoch");
      check(all.get(0).currentTransactionStartOffset().isEmpty(), "no transaction");
      check(Math.abs(System.currentTimeMillis() - all.get(0).lastTimestamp()) < 60_000, "its last timestamp");
    }
  }

  private Consumer<String, String> member(String protocol, String group, String topic, String... more) {
    List<String> configs = new ArrayList<>(List.of("group.protocol", protocol));
    configs.addAll(List.of(more));
    Consumer<String, String> c = cluster.consumer(group, configs.toArray(new String[0]));
    c.subscribe(List.of(topic));
    long end = System.nanoTime() + patience.toNanos();
    while (c.assignment().isEmpty() && System.nanoTime() < end) {
      c.poll(Duration.ofMillis(100));
    }
    check(!c.assignment().isEmpty(), "an assignment");
    return c;
  }

  private static GroupType type(String protocol) {
    return protocol.equals("classic") ? GroupType.CLASSIC : GroupType.CONSUMER;
  }

  private Optional<GroupListing> listing(String group, ListGroupsOptions options) throws Exception {
    return admin.listGroups(options).all().get().stream().filter(g -> g.groupId().equals(group)).findFirst();
  }

  private void listGroups(String protocol) throws Exception {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    try (Consumer<String, String> c = member(protocol, group, topic)) {
      c.commitSync();
      GroupListing g = listing(group, new ListGroupsOptions()).orElseThrow();
      equal(Optional.of(type(protocol)), g.type(), "type");
      equal("consumer", g.protocol(), "protocol");
      equal(Optional.of(GroupState.STABLE), g.groupState(), "state");
      check(listing(group, ListGroupsOptions.forConsumerGroups()).isPresent(), "among the consumer groups");
      check(listing(group, ListGroupsOptions.forShareGroups()).isEmpty(), "not among the share groups");
      check(listing(group, new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))).isEmpty(), "not empty");
      check(listing(group, new ListGroupsOptions().withTypes(Set.of(type(protocol)))).isPresent(), "of its type");
    }
    eventually(
        patience,
        "empty",
        () -> listing(group, new ListGroupsOptions()).orElseThrow().groupState().equals(Optional.of(GroupState.EMPTY)));
  }

  private void describeGroup(String protocol) throws Exception {
    String topic = cluster.topic(3);
    String group = cluster.name("group");
    try (Consumer<String, String> c =
        member(protocol, group, topic, "client.id", "the-client", "group.instance.id", "the-instance")) {
      eventually(
          patience,
          "stable with three partitions",
          () -> {
            c.poll(Duration.ofMillis(50));
            ConsumerGroupDescription d = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            return d.groupState() == GroupState.STABLE
                && d.members().size() == 1
                && d.members().iterator().next().assignment().topicPartitions().size() == 3;
          });
      ConsumerGroupDescription d = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
      MemberDescription m = d.members().iterator().next();
      equal(type(protocol), d.type(), "type");
      equal("the-client", m.clientId(), "client id");
      equal(Optional.of("the-instance"), m.groupInstanceId(), "instance id");
      check(m.host().contains("127.0.0.1"), "host: " + m.host());
      check(d.coordinator() != null && !d.isSimpleConsumerGroup(), "coordinator");
      equal(protocol.equals("classic") ? "range" : "uniform", d.partitionAssignor(), "assignor");
      if (protocol.equals("classic")) {
        ClassicGroupDescription classic = admin.describeClassicGroups(List.of(group)).all().get().get(group);
        equal("consumer", classic.protocol(), "protocol");
        equal(1, classic.members().size(), "members");
      }
    }
  }

  private void deleteGroup(String protocol) throws Throwable {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    try (Consumer<String, String> c = member(protocol, group, topic)) {
      c.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0)));
      fails(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
    }
    eventually(
        patience,
        "deleted",
        () -> {
          admin.deleteConsumerGroups(List.of(group)).all().get();
          return true;
        });
    check(listing(group, new ListGroupsOptions()).isEmpty(), "no longer listed");
    equal(Map.of(), admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(), "offsets");
    fails(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
  }

  private void alterOffsets(String protocol) throws Throwable {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    TopicPartition tp = new TopicPartition(topic, 0);
    cluster.fill(topic, 20);
    try (Consumer<String, String> c = member(protocol, group, topic)) {
      c.commitSync(Map.of(tp, new OffsetAndMetadata(20)));
      fails(
          UnknownMemberIdException.class,
          () -> admin.alterConsumerGroupOffsets(group, Map.of(tp, new OffsetAndMetadata(3))).all().get());
    }
    eventually(
        patience,
        "altered",
        () -> {
          admin.alterConsumerGroupOffsets(group, Map.of(tp, new OffsetAndMetadata(3, "by hand"))).all().get();
          return true;
        });
    OffsetAndMetadata got = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(tp);
    equal(3L, got.offset(), "offset");
    equal("by hand", got.metadata(), "metadata");
    try (Consumer<String, String> c = cluster.consumer(group, "group.protocol", protocol)) {
      c.subscribe(List.of(topic));
      equal("v3", Cluster.poll(c, 1).get(0).value(), "first value from there");
    }
  }

  private void deleteOffsets(String protocol) throws Throwable {
    String topic = cluster.topic(1);
    String other = cluster.topic(1);
    String group = cluster.name("group");
    TopicPartition tp = new TopicPartition(topic, 0);
    TopicPartition unsubscribed = new TopicPartition(other, 0);
    try (Consumer<String, String> c = member(protocol, group, topic)) {
      c.commitSync(Map.of(tp, new OffsetAndMetadata(0), unsubscribed, new OffsetAndMetadata(0)));
      admin.deleteConsumerGroupOffsets(group, Set.of(unsubscribed)).all().get();
      fails(
          org.apache.kafka.common.errors.GroupSubscribedToTopicException.class,
          () -> admin.deleteConsumerGroupOffsets(group, Set.of(tp)).all().get());
    }
    equal(Set.of(tp), admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().keySet(), "offsets left");
    fails(
        GroupIdNotFoundException.class,
        () -> admin.deleteConsumerGroupOffsets(cluster.name("unknown"), Set.of(tp)).all().get());
  }

  /** KIP-1043: an unknown group is an error, no longer a dead group. */
  private void describeUnknownGroup() throws Throwable {
    fails(
        GroupIdNotFoundException.class,
        () -> admin.describeConsumerGroups(List.of(cluster.name("unknown"))).all().get());
  }

  private void removeMembers() throws Exception {
    String topic = cluster.topic(2);
    String group = cluster.name("group");
    Consumer<String, String> c = member("classic", group, topic, "group.instance.id", "goes");
    try {
      admin
          .removeMembersFromConsumerGroup(
              group, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("goes"))))
          .all()
          .get();
      eventually(
          patience,
          "no member is left",
          () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty());
    } finally {
      c.close(org.apache.kafka.clients.consumer.CloseOptions.timeout(Duration.ofSeconds(2)));
    }
    try (Consumer<String, String> d = member("classic", group, topic)) {
      admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
    }
  }

  private void offsetsOfManyGroups() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    Map<String, org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec> specs = new HashMap<>();
    Map<String, Long> want = new HashMap<>();
    for (long i = 0; i < 10; i++) {
      String group = cluster.name("group");
      admin.alterConsumerGroupOffsets(group, Map.of(tp, new OffsetAndMetadata(i))).all().get();
      specs.put(group, new org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec());
      want.put(group, i);
    }
    var got = admin.listConsumerGroupOffsets(specs).all().get();
    equal(
        want,
        got.entrySet().stream().collect(Collectors.toMap(Map.Entry::getKey, e -> e.getValue().get(tp).offset())),
        "offsets");
    check(
        admin.describeConsumerGroups(want.keySet()).all().get().values().stream()
            .allMatch(d -> d.groupState() == GroupState.EMPTY),
        "groups that were never joined are empty");
  }

  private void electLeaders() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    var got = admin.electLeaders(org.apache.kafka.common.ElectionType.PREFERRED, Set.of(tp)).partitions().get();
    check(
        got.get(tp).isEmpty() || got.get(tp).get() instanceof ElectionNotNeededException,
        "elected or not needed: " + got.get(tp));
  }

  private void reassignments() throws Exception {
    equal(Map.of(), admin.listPartitionReassignments().reassignments().get(), "reassignments");
  }

  private void acls() throws Throwable {
    fails(SecurityDisabledException.class, () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
  }

  private void quotas() throws Exception {
    check(
        admin.describeClientQuotas(org.apache.kafka.common.quota.ClientQuotaFilter.all()).entities().get().isEmpty(),
        "no quotas");
  }

  /** A topic of the same name that is made later begins without the offsets of the old one. */
  private void deletedTopicOffsets() throws Exception {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    TopicPartition tp = new TopicPartition(topic, 0);
    admin.alterConsumerGroupOffsets(group, Map.of(tp, new OffsetAndMetadata(7))).all().get();
    admin.deleteTopics(List.of(topic)).all().get();
    eventually(
        patience,
        "no offset is left",
        () -> {
          try {
            return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(tp) == null;
          } catch (ExecutionException e) {
            return e.getCause() instanceof GroupIdNotFoundException;
          }
        });
  }
}
