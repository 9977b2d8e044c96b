package polylog.interop;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** Kafka's command-line tools, each with the arguments that people give it. */
final class ToolSuite extends Suite {
  private final Cluster cluster;
  private final Path work;

  ToolSuite(Run.Options options, Cluster cluster, Path work) {
    super("tools", options);
    this.cluster = cluster;
    this.work = work;
  }

  @Override
  void plan() {
    Duration limit = Duration.ofSeconds(120);
    test("topics_create_list_describe_delete", limit, this::topics);
    test("topics_alter_partitions", limit, this::topicsAlter);
    testFull("topics_refusals", limit, this::topicsRefusals);
    testFull("topics_describe_filters", limit, this::topicsFilters);
    test("console_producer_consumer", limit, this::console);
    test("console_keys_headers", limit, this::consoleKeysHeaders);
    testFull("console_consumer_offset_partition", limit, this::consoleOffset);
    test("console_consumer_group", limit, this::consoleGroup);
    testFull("console_consumer_read_committed", limit, this::consoleCommitted);
    testFull("console_producer_compression_acks", limit, this::consoleCompression);
    test("console_consumer_of_offsets_topic", limit, this::consoleOffsetsTopic);
    testFull("console_consumer_of_transaction_topic", limit, this::consoleTransactionTopic);
    test("consumer_groups_list", limit, this::groupsList);
    test("consumer_groups_describe", limit, this::groupsDescribe);
    testFull("consumer_groups_describe_members", limit, this::groupsMembers);
    test("consumer_groups_reset_offsets", limit, this::groupsReset);
    testFull("consumer_groups_reset_by_file", limit, this::groupsResetFile);
    test("consumer_groups_delete", limit, this::groupsDelete);
    testFull("consumer_groups_delete_offsets", limit, this::groupsDeleteOffsets);
    testFull("consumer_groups_describe_all", limit, this::groupsAll);
    testFull("groups_list", limit, this::groupsCommand);
    test("configs_of_topic", limit, this::configsTopic);
    testFull("configs_of_broker", limit, this::configsBroker);
    testFull("configs_of_group", limit, this::configsGroup);
    testFull("configs_refusals", limit, this::configsRefusals);
    test("get_offsets", limit, this::getOffsets);
    testFull("delete_records", limit, this::deleteRecords);
    test("log_dirs", limit, this::logDirs);
    test("verifiable_producer_consumer", limit, this::verifiable);
    testFull("verifiable_consumer_kip848", limit, this::verifiable848);
    test("verifiable_share_consumer", limit, this::verifiableShare);
    test("producer_performance", limit, this::producerPerformance);
    testFull("producer_performance_transactional", limit, this::producerPerformanceTransactional);
    test("consumer_performance", limit, this::consumerPerformance);
    test("share_consumer_performance", limit, this::sharePerformance);
    testFull("end_to_end_latency", limit, this::latency);
    test("transactional_message_copier", limit, this::copier);
    test("console_share_consumer", limit, this::consoleShare);
    test("share_groups_list_describe", limit, this::shareGroups);
    testFull("share_groups_reset_delete", limit, this::shareGroupsReset);
    test("transactions_list_describe", limit, this::transactions);
    testFull("transactions_describe_producers_abort", limit, this::transactionsAbort);
    testFull("transactions_find_hanging", limit, this::transactionsHanging);
    test("broker_api_versions", limit, this::apiVersions);
    testFull("cluster_id", limit, this::clusterId);
    testFull("features", limit, this::features);
    testFull("leader_election", limit, this::leaderElection);
    testFull("reassign_partitions_list", limit, this::reassign);
    testFull("acls_are_disabled", limit, this::acls);
    testFull("streams_groups_list", limit, this::streamsGroups);
    testFull("client_metrics_list", limit, this::clientMetrics);
    testFull("metadata_quorum", limit, this::metadataQuorum);
    test("client_compatibility", limit, this::compatibility);
  }

  private String[] with(String... arguments) {
    List<String> all = new ArrayList<>(List.of("--bootstrap-server", cluster.bootstrap));
    all.addAll(List.of(arguments));
    return all.toArray(new String[0]);
  }

  /** Runs a tool that takes --bootstrap-server. */
  private Tool.Output tool(String main, String... arguments) throws Exception {
    try (Tool t = new Tool(main, with(arguments))) {
      return t.output();
    }
  }

  private Tool.Output produce(String input, String... arguments) throws Exception {
    try (Tool t = new Tool("ConsoleProducer", with(arguments))) {
      return t.input(input).output().succeeds();
    }
  }

  private Tool.Output consume(String... arguments) throws Exception {
    return tool("consumer.ConsoleConsumer", arguments).succeeds();
  }

  private Tool.Output topic(String... arguments) throws Exception {
    return tool("TopicCommand", arguments);
  }

  private Tool.Output group(String... arguments) throws Exception {
    return tool("consumer.group.ConsumerGroupCommand", arguments);
  }

  private static String lines(List<String> values) {
    return String.join("\n", values) + "\n";
  }

  private void topics() throws Exception {
    String t = cluster.name("tool");
    topic("--create", "--topic", t, "--partitions", "3", "--replication-factor", "1", "--config", "retention.ms=1000000")
        .succeeds()
        .says("Created topic " + t);
    topic("--list").succeeds().hasLine(Pattern.quote(t));
    topic("--describe", "--topic", t)
        .succeeds()
        .says("PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=1000000")
        .hasLine(".*Topic: " + t + "\\s+Partition: 2\\s+Leader: \\d+\\s+Replicas: \\d+\\s+Isr: \\d+.*");
    topic("--delete", "--topic", t).succeeds();
    eventually(Duration.ofSeconds(10), "gone", () -> !cluster.admin.listTopics().names().get().contains(t));
    topic("--list").succeeds().saysNot(t);
  }

  private void topicsAlter() throws Exception {
    String t = cluster.topic(2);
    topic("--alter", "--topic", t, "--partitions", "5").succeeds();
    eventually(
        Duration.ofSeconds(10),
        "5 partitions",
        () -> cluster.admin.describeTopics(List.of(t)).allTopicNames().get().get(t).partitions().size() == 5);
    topic("--alter", "--topic", t, "--partitions", "1").fails().mentions("5");
  }

  private void topicsRefusals() throws Exception {
    String t = cluster.topic(1);
    topic("--create", "--topic", t).fails().mentions("already exists");
    topic("--create", "--topic", t, "--if-not-exists").succeeds();
    topic("--create", "--topic", cluster.name("tool"), "--config", "no.such=1").fails().mentions("no.such");
    topic("--delete", "--topic", cluster.name("unknown")).fails().mentions("does not exist");
    topic("--delete", "--if-exists", "--topic", cluster.name("unknown")).succeeds();
  }

  private void topicsFilters() throws Exception {
    String plain = cluster.topic(1);
    String set = cluster.topic(1, "retention.ms", "12345678");
    topic("--describe", "--topics-with-overrides").succeeds().hasLine(".*Topic: " + set + ".*retention.ms=12345678.*");
    topic("--describe", "--unavailable-partitions", "--topic", plain).succeeds().saysNot(plain);
    topic("--describe", "--under-replicated-partitions", "--topic", plain).succeeds().saysNot(plain);
    topic("--list", "--exclude-internal").succeeds().says(plain).saysNot("__consumer_offsets");
  }

  private void console() throws Exception {
    String t = cluster.topic(1);
    List<String> values = new ArrayList<>(Cluster.values(0, 20));
    values.add("Grüße, Straße");
    produce(lines(values), "--topic", t);
    Tool.Output o = consume("--topic", t, "--from-beginning", "--max-messages", "21", "--timeout-ms", "20000");
    equal(values, o.lines(), "lines");
    o.mentions("Processed a total of 21 messages");
  }

  private void consoleKeysHeaders() throws Exception {
    String t = cluster.topic(1);
    produce(
        "colour:red,size:7\tkey1\tvalue1\ncolour:blue\tkey2\tvalue2\n",
        "--topic",
        t,
        "--reader-property",
        "parse.key=true",
        "--reader-property",
        "parse.headers=true");
    Tool.Output o =
        consume(
            "--topic",
            t,
            "--from-beginning",
            "--max-messages",
            "2",
            "--timeout-ms",
            "20000",
            "--formatter-property",
            "print.key=true",
            "--formatter-property",
            "print.headers=true",
            "--formatter-property",
            "print.partition=true",
            "--formatter-property",
            "print.offset=true",
            "--formatter-property",
            "print.timestamp=true");
    o.hasLine("CreateTime:\\d+\tPartition:0\tOffset:0\tcolour:red,size:7\tkey1\tvalue1");
    o.hasLine("CreateTime:\\d+\tPartition:0\tOffset:1\tcolour:blue\tkey2\tvalue2");
  }

  private void consoleOffset() throws Exception {
    String t = cluster.topic(2);
    cluster.fill(t, 1, 0, 10);
    Tool.Output o =
        consume("--topic", t, "--partition", "1", "--offset", "6", "--max-messages", "4", "--timeout-ms", "20000");
    equal(Cluster.values(6, 10), o.lines(), "lines from offset 6");
    o = consume("--topic", t, "--partition", "1", "--offset", "earliest", "--max-messages", "1", "--timeout-ms", "20000");
    equal(List.of("v0"), o.lines(), "the first line");
  }

  private void consoleGroup() throws Exception {
    String t = cluster.topic(1);
    String g = cluster.name("group");
    cluster.fill(t, 10);
    equal(
        10,
        consume("--topic", t, "--group", g, "--from-beginning", "--max-messages", "10", "--timeout-ms", "20000")
            .lines()
            .size(),
        "lines");
    cluster.fill(t, 0, 10, 13);
    Tool.Output o =
        consume(
            "--topic", t, "--group", g, "--max-messages", "3", "--timeout-ms", "20000", "--command-property", "group.protocol=consumer");
    equal(Cluster.values(10, 13), o.lines(), "lines after the commit");
  }

  private void consoleCommitted() throws Exception {
    String t = cluster.topic(1);
    try (Producer<String, String> p = cluster.producer("transactional.id", cluster.name("txn"))) {
      p.initTransactions();
      p.beginTransaction();
      Cluster.send(p, t, 0, 0, 3);
      p.abortTransaction();
      p.beginTransaction();
      Cluster.send(p, t, 0, 3, 6);
      p.commitTransaction();
    }
    Tool.Output o =
        consume(
            "--topic", t, "--from-beginning", "--isolation-level", "read_committed", "--max-messages", "3", "--timeout-ms", "20000");
    equal(Cluster.values(3, 6), o.lines(), "committed lines");
  }

  private void consoleCompression() throws Exception {
    String t = cluster.topic(1);
    produce("a\nb\n", "--topic", t, "--compression-codec", "zstd", "--request-required-acks", "all");
    produce("c\n", "--topic", t, "--compression-codec", "snappy", "--request-required-acks", "1", "--sync");
    equal(List.of("a", "b", "c"), Cluster.values(cluster.read(t)), "values");
  }

  private void consoleOffsetsTopic() throws Exception {
    String t = cluster.topic(1);
    String g = cluster.name("group");
    cluster.admin.alterConsumerGroupOffsets(g, Map.of(new TopicPartition(t, 0), new OffsetAndMetadata(17))).all().get();
    tool(
            "consumer.ConsoleConsumer",
            "--topic",
            "__consumer_offsets",
            "--from-beginning",
            "--formatter",
            "org.apache.kafka.tools.consumer.OffsetsMessageFormatter",
            "--timeout-ms",
            "5000")
        .hasLine(".*\"group\":\"" + g + "\",\"topic\":\"" + t + "\",\"partition\":0.*\"offset\":17.*");
    tool(
            "consumer.ConsoleConsumer",
            "--topic",
            "__consumer_offsets",
            "--from-beginning",
            "--formatter",
            "org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter",
            "--timeout-ms",
            "5000")
        .saysNot("Exception");
  }

  private void consoleTransactionTopic() throws Exception {
    String t = cluster.topic(1);
    String id = cluster.name("txn");
    try (Producer<String, String> p = cluster.producer("transactional.id", id)) {
      p.initTransactions();
      p.beginTransaction();
      Cluster.send(p, t, 0, 0, 3);
      p.commitTransaction();
    }
    Tool.Output o =
        tool(
            "consumer.ConsoleConsumer",
            "--topic",
            "__transaction_state",
            "--from-beginning",
            "--formatter",
            "org.apache.kafka.tools.consumer.TransactionLogMessageFormatter",
            "--timeout-ms",
            "5000");
    o.hasLine(".*\"transactionalId\":\"" + id + "\".*\"transactionStatus\":1.*");
    o.hasLine(".*\"transactionalId\":\"" + id + "\".*\"transactionStatus\":4.*");
  }

  /** A group with committed offsets and nobody in it. */
  private String offsets(String t, long... offsets) throws Exception {
    String g = cluster.name("group");
    Map<TopicPartition, OffsetAndMetadata> all = new java.util.HashMap<>();
    for (int p = 0; p < offsets.length; p++) {
      all.put(new TopicPartition(t, p), new OffsetAndMetadata(offsets[p]));
    }
    cluster.admin.alterConsumerGroupOffsets(g, all).all().get();
    return g;
  }

  /** A group with one member, whose assignment is whole. */
  private Consumer<String, String> member(String g, String t, String protocol) {
    Consumer<String, String> c = cluster.consumer(g, "group.protocol", protocol, "client.id", "the-client");
    c.subscribe(List.of(t));
    long end = System.nanoTime() + Duration.ofSeconds(20).toNanos();
    while (c.assignment().isEmpty() && System.nanoTime() < end) {
      c.poll(Duration.ofMillis(100));
    }
    check(!c.assignment().isEmpty(), "an assignment");
    return c;
  }

  private void groupsList() throws Exception {
    String g = offsets(cluster.topic(1), 0);
    group("--list").succeeds().hasLine(Pattern.quote(g));
    group("--list", "--state").succeeds().hasLine(Pattern.quote(g) + "\\s+Empty");
    group("--list", "--state", "stable").succeeds().saysNot(g + " ");
    group("--list", "--type").succeeds().hasLine(Pattern.quote(g) + "\\s+Classic");
  }

  private void groupsDescribe() throws Exception {
    String t = cluster.topic(2);
    cluster.fill(t, 0, 0, 10);
    cluster.fill(t, 1, 0, 10);
    String g = offsets(t, 4, 10);
    group("--describe", "--group", g)
        .succeeds()
        .hasLine(g + "\\s+" + t + "\\s+0\\s+4\\s+10\\s+6\\s+-\\s+-\\s+-")
        .hasLine(g + "\\s+" + t + "\\s+1\\s+10\\s+10\\s+0\\s+-\\s+-\\s+-")
        .mentions("has no active members");
    group("--describe", "--group", cluster.name("unknown")).mentions("not found");
  }

  private void groupsMembers() throws Exception {
    for (String protocol : List.of("classic", "consumer")) {
      String t = cluster.topic(3);
      String g = cluster.name("group");
      try (Consumer<String, String> c = member(g, t, protocol)) {
        c.commitSync();
        group("--describe", "--group", g).succeeds().hasLine(g + "\\s+" + t + "\\s+2\\s+.*/127.0.0.1\\s+the-client");
        group("--describe", "--group", g, "--members", "--verbose")
            .succeeds()
            .hasLine(g + "\\s+.*/127.0.0.1\\s+the-client\\s+3\\s+.*" + t + ".*");
        group("--describe", "--group", g, "--state")
            .succeeds()
            .hasLine(
                g + "\\s+127.0.0.1:\\d+\\s+\\(\\d+\\)\\s+" + (protocol.equals("classic") ? "range" : "uniform") + "\\s+Stable\\s+1");
      }
    }
  }

  private Long offset(String g, String t, int partition) throws Exception {
    OffsetAndMetadata o =
        cluster.admin.listConsumerGroupOffsets(g).partitionsToOffsetAndMetadata().get().get(new TopicPartition(t, partition));
    return o == null ? null : o.offset();
  }

  private void groupsReset() throws Exception {
    String t = cluster.topic(1);
    cluster.fill(t, 20);
    Thread.sleep(20);
    Instant between = Instant.now();
    Thread.sleep(20);
    cluster.fill(t, 0, 20, 30);
    String g = offsets(t, 10);
    String[][] plans = {
      {"--to-earliest", "0"},
      {"--to-latest", "30"},
      {"--to-offset 7", "7"},
      {"--shift-by 5", "12"},
      {"--shift-by -100", "0"},
      {"--to-current", "0"},
      {"--to-datetime " + DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS").format(between.atOffset(ZoneOffset.UTC)), "20"},
      {"--by-duration PT1H", "0"},
    };
    for (String[] plan : isFull() ? plans : new String[][] {plans[4], plans[6]}) {
      List<String> arguments = new ArrayList<>(List.of("--reset-offsets", "--group", g, "--topic", t, "--execute"));
      arguments.addAll(List.of(plan[0].split(" ")));
      group(arguments.toArray(new String[0])).succeeds().hasLine(g + "\\s+" + t + "\\s+0\\s+" + plan[1]);
      equal(Long.valueOf(plan[1]), offset(g, t, 0), "offset after " + plan[0]);
    }
    group("--reset-offsets", "--group", g, "--topic", t, "--to-offset", "3", "--dry-run")
        .succeeds()
        .hasLine(g + "\\s+" + t + "\\s+0\\s+3");
    equal(isFull() ? 0L : 20L, offset(g, t, 0), "offset after a dry run");
    try (Consumer<String, String> c = member(g, t, "classic")) {
      group("--reset-offsets", "--group", g, "--topic", t, "--to-earliest", "--execute")
          .mentions("Assignments can only be reset if the group '" + g + "' is inactive");
    }
  }

  private void groupsResetFile() throws Exception {
    String t = cluster.topic(2);
    cluster.fill(t, 0, 0, 10);
    cluster.fill(t, 1, 0, 10);
    String g = offsets(t, 4, 5);
    String csv =
        group("--reset-offsets", "--group", g, "--all-topics", "--to-current", "--export", "--dry-run").succeeds().out();
    Path file = work.resolve(g + ".csv");
    Files.writeString(file, csv.replace("," + 4, "," + 8));
    group("--reset-offsets", "--group", g, "--from-file", file.toString(), "--execute").succeeds();
    equal(8L, offset(g, t, 0), "offset of partition 0");
    equal(5L, offset(g, t, 1), "offset of partition 1");
  }

  private void groupsDelete() throws Exception {
    String t = cluster.topic(1);
    String g = offsets(t, 0);
    try (Consumer<String, String> c = member(g, t, "classic")) {
      group("--delete", "--group", g).mentions("not empty");
    }
    eventually(
        Duration.ofSeconds(10),
        "empty",
        () -> cluster.admin.describeConsumerGroups(List.of(g)).all().get().get(g).members().isEmpty());
    group("--delete", "--group", g).succeeds().says("Deletion of requested consumer groups ('" + g + "') was successful");
    group("--list").succeeds().saysNot(g + "\n");
  }

  private void groupsDeleteOffsets() throws Exception {
    String t = cluster.topic(2);
    String g = offsets(t, 1, 2);
    group("--delete-offsets", "--group", g, "--topic", t + ":1").succeeds().hasLine(t + "\\s+1\\s+Successful");
    equal(null, offset(g, t, 1), "offset of partition 1");
    equal(1L, offset(g, t, 0), "offset of partition 0");
  }

  private void groupsAll() throws Exception {
    String t = cluster.topic(1);
    String g = offsets(t, 0);
    group("--describe", "--all-groups", "--state").succeeds().hasLine(g + "\\s+127.0.0.1:\\d+.*Empty.*");
  }

  private void groupsCommand() throws Exception {
    String g = offsets(cluster.topic(1), 0);
    tool("GroupsCommand", "--list").succeeds().hasLine(g + "\\s+Classic.*");
  }

  private Tool.Output configs(String... arguments) throws Exception {
    return tool("kafka.admin.ConfigCommand", arguments);
  }

  private void configsTopic() throws Exception {
    String t = cluster.topic(1);
    configs("--alter", "--entity-type", "topics", "--entity-name", t, "--add-config", "retention.ms=600000,cleanup.policy=[compact,delete]")
        .succeeds()
        .says("Completed updating config for topic " + t);
    configs("--describe", "--entity-type", "topics", "--entity-name", t)
        .succeeds()
        .says("retention.ms=600000", "cleanup.policy=compact,delete");
    configs("--alter", "--topic", t, "--delete-config", "retention.ms").succeeds();
    configs("--describe", "--topic", t).succeeds().saysNot("retention.ms=").says("cleanup.policy");
    configs("--describe", "--topic", t, "--all").succeeds().says("retention.ms=604800000", "segment.bytes=");
  }

  private void configsBroker() throws Exception {
    String node = cluster.admin.describeCluster().nodes().get().iterator().next().idString();
    configs("--describe", "--entity-type", "brokers", "--entity-name", node, "--all")
        .succeeds()
        .says("All configs for broker " + node, "num.partitions=");
    configs("--describe", "--entity-type", "brokers", "--entity-default").succeeds().says("Default configs for brokers");
  }

  private void configsGroup() throws Exception {
    String g = cluster.name("group");
    configs("--alter", "--entity-type", "groups", "--entity-name", g, "--add-config", "share.record.lock.duration.ms=20000").succeeds();
    configs("--describe", "--group", g).succeeds().says("share.record.lock.duration.ms=20000");
  }

  private void configsRefusals() throws Exception {
    String t = cluster.topic(1);
    configs("--alter", "--topic", t, "--add-config", "no.such=1").fails().mentions("no.such");
    configs("--alter", "--topic", t, "--add-config", "retention.ms=soon").fails().mentions("retention.ms");
    configs("--describe", "--topic", cluster.name("unknown")).mentions("doesn't exist");
  }

  private void getOffsets() throws Exception {
    String t = cluster.topic(2);
    cluster.fill(t, 0, 0, 10);
    cluster.fill(t, 1, 0, 5);
    equal(List.of(t + ":0:10", t + ":1:5"), tool("GetOffsetShell", "--topic", t).succeeds().lines(), "latest");
    equal(
        List.of(t + ":0:0", t + ":1:0"),
        tool("GetOffsetShell", "--topic", t, "--time", "earliest").succeeds().lines(),
        "earliest");
    tool("GetOffsetShell", "--topic-partitions", t + ":1", "--time", "max-timestamp").succeeds().hasLine(t + ":1:\\d");
    equal(
        List.of(t + ":0:0"),
        tool("GetOffsetShell", "--topic", t, "--partitions", "0", "--time", "" + (System.currentTimeMillis() - 3_600_000))
            .succeeds()
            .lines(),
        "of the last hour");
    tool("GetOffsetShell", "--exclude-internal-topics").succeeds().says(t + ":0:10").saysNot("__consumer_offsets");
  }

  private void deleteRecords() throws Exception {
    String t = cluster.topic(1);
    cluster.fill(t, 10);
    Path file = work.resolve(t + ".json");
    Files.writeString(file, "{\"partitions\":[{\"topic\":\"" + t + "\",\"partition\":0,\"offset\":4}],\"version\":1}");
    tool("DeleteRecordsCommand", "--offset-json-file", file.toString())
        .succeeds()
        .says("partition: " + t + "-0\tlow_watermark: 4");
    equal(Cluster.values(4, 10), Cluster.values(cluster.read(t)), "values left");
  }

  private void logDirs() throws Exception {
    String t = cluster.topic(1);
    cluster.fill(t, 100);
    tool("LogDirsCommand", "--describe", "--topic-list", t)
        .succeeds()
        .says("\"partition\":\"" + t + "-0\"", "\"size\":", "\"offsetLag\":0", "\"error\":null");
  }

  private void verifiable() throws Exception {
    String t = cluster.topic(2);
    tool("VerifiableProducer", "--topic", t, "--max-messages", "200", "--throughput", "-1")
        .succeeds()
        .says("\"name\":\"tool_data\"", "\"acked\":200", "\"sent\":200");
    tool("VerifiableConsumer", "--topic", t, "--group-id", cluster.name("group"), "--max-messages", "200")
        .succeeds()
        .says("partitions_assigned", "records_consumed", "offsets_committed", "\"success\":true", "shutdown_complete")
        .saysNot("\"success\":false");
  }

  private void verifiable848() throws Exception {
    String t = cluster.topic(2);
    cluster.fill(t, 50);
    tool(
            "VerifiableConsumer",
            "--topic",
            t,
            "--group-id",
            cluster.name("group"),
            "--group-protocol",
            "consumer",
            "--max-messages",
            "50")
        .succeeds()
        .says("partitions_assigned", "\"success\":true", "shutdown_complete")
        .saysNot("\"success\":false");
  }

  private void verifiableShare() throws Exception {
    String t = cluster.topic(1);
    cluster.fill(t, 50);
    tool(
            "VerifiableShareConsumer",
            "--topic",
            t,
            "--group-id",
            cluster.name("share"),
            "--offset-reset-strategy",
            "earliest",
            "--acknowledgement-mode",
            "sync",
            "--max-messages",
            "50")
        .succeeds()
        .says("records_consumed", "offsets_acknowledged", "shutdown_complete")
        .saysNot("\"success\":false");
  }

  private void producerPerformance() throws Exception {
    String t = cluster.topic(1);
    for (String acks : List.of("1", "all")) {
      tool(
              "ProducerPerformance",
              "--topic",
              t,
              "--num-records",
              "20000",
              "--record-size",
              "100",
              "--throughput",
              "-1",
              "--command-property",
              "acks=" + acks,
              "compression.type=lz4")
          .succeeds()
          .hasLine("20000 records sent, .*99.9th.*");
    }
    equal(40000, cluster.read(t).size(), "records");
  }

  private void producerPerformanceTransactional() throws Exception {
    String t = cluster.topic(1);
    tool(
            "ProducerPerformance",
            "--topic",
            t,
            "--num-records",
            "5000",
            "--record-size",
            "100",
            "--throughput",
            "5000",
            "--transactional-id",
            cluster.name("txn"),
            "--transaction-duration-ms",
            "100")
        .succeeds()
        .hasLine("5000 records sent, .*99.9th.*");
    equal(5000, cluster.readCommitted(t).size(), "committed records");
  }

  private void consumerPerformance() throws Exception {
    String t = cluster.topic(1);
    cluster.fill(t, 5000);
    tool("ConsumerPerformance", "--topic", t, "--num-records", "5000", "--hide-header")
        .succeeds()
        .hasLine("[^,]+, [^,]+, [\\d.]+, [\\d.]+, 5\\d\\d\\d, .*");
  }

  private void sharePerformance() throws Exception {
    String t = cluster.topic(1);
    String g = cluster.name("share");
    cluster.alter(ConfigResource.Type.GROUP, g, "share.auto.offset.reset", "earliest");
    cluster.fill(t, 5000);
    tool("ShareConsumerPerformance", "--topic", t, "--group", g, "--num-records", "5000", "--hide-header")
        .succeeds()
        .hasLine("[^,]+, [^,]+, [\\d.]+, [\\d.]+, [\\d.]+, 5\\d\\d\\d, .*");
  }

  private void latency() throws Exception {
    String t = cluster.topic(1);
    try (Tool tool = new Tool("EndToEndLatency", cluster.bootstrap, t, "200", "all", "100")) {
      tool.output().succeeds().says("Avg latency:", "Percentiles:");
    }
    equal(200, cluster.read(t).size(), "records");
  }

  private void copier() throws Exception {
    String from = cluster.topic(1);
    String to = cluster.topic(1);
    cluster.fill(from, 1000);
    try (Tool tool =
        new Tool(
            "TransactionalMessageCopier",
            "--broker-list",
            cluster.bootstrap,
            "--input-topic",
            from,
            "--input-partition",
            "0",
            "--output-topic",
            to,
            "--transactional-id",
            cluster.name("txn"),
            "--consumer-group",
            cluster.name("group"),
            "--transaction-size",
            "50",
            "--enable-random-aborts",
            "--use-group-metadata")) {
      tool.output().succeeds().says("\"remaining\":0");
    }
    equal(Cluster.values(0, 1000), Cluster.values(cluster.readCommitted(to)), "values");
  }

  private void consoleShare() throws Exception {
    String t = cluster.topic(1);
    String g = cluster.name("share");
    cluster.alter(ConfigResource.Type.GROUP, g, "share.auto.offset.reset", "earliest");
    cluster.fill(t, 10);
    Tool.Output o =
        tool("consumer.ConsoleShareConsumer", "--topic", t, "--group", g, "--max-messages", "10", "--timeout-ms", "20000");
    equal(Cluster.values(0, 10), o.succeeds().lines(), "lines");
    cluster.fill(t, 0, 10, 12);
    tool(
            "consumer.ConsoleShareConsumer",
            "--topic",
            t,
            "--group",
            g,
            "--release",
            "--max-messages",
            "2",
            "--timeout-ms",
            "20000")
        .succeeds()
        .says("v10", "v11");
    tool(
            "consumer.ConsoleShareConsumer",
            "--topic",
            t,
            "--group",
            g,
            "--max-messages",
            "2",
            "--timeout-ms",
            "20000",
            "--formatter-property",
            "print.delivery=true",
            "--formatter-property",
            "print.offset=true")
        .succeeds()
        .hasLine(".*Delivery:2.*v10")
        .hasLine(".*Delivery:2.*v11");
  }

  private Tool.Output shareGroup(String... arguments) throws Exception {
    return tool("consumer.group.ShareGroupCommand", arguments);
  }

  /** A share group whose member has accepted that many records and is gone. */
  private String shared(String t, int records) throws Exception {
    String g = cluster.name("share");
    cluster.alter(ConfigResource.Type.GROUP, g, "share.auto.offset.reset", "earliest");
    cluster.fill(t, records);
    try (var c = cluster.share(g)) {
      c.subscribe(List.of(t));
      int[] n = new int[1];
      eventually(
          Duration.ofSeconds(20),
          records + " records",
          () -> {
            c.poll(Duration.ofMillis(200))
                .forEach(
                    r -> {
                      c.acknowledge(r);
                      n[0]++;
                    });
            return n[0] >= records;
          });
      c.commitSync();
    }
    eventually(
        Duration.ofSeconds(20),
        "empty",
        () -> cluster.admin.describeShareGroups(List.of(g)).all().get().get(g).members().isEmpty());
    return g;
  }

  private void shareGroups() throws Exception {
    String t = cluster.topic(1);
    String g = shared(t, 10);
    shareGroup("--list").succeeds().hasLine(Pattern.quote(g));
    shareGroup("--list", "--state").succeeds().hasLine(Pattern.quote(g) + "\\s+Empty");
    shareGroup("--describe", "--group", g).succeeds().hasLine(g + "\\s+" + t + "\\s+0\\s+\\d+\\s+0");
    shareGroup("--describe", "--group", g, "--state").succeeds().hasLine(g + "\\s+127.0.0.1:\\d+\\s+\\(\\d+\\)\\s+Empty\\s+0");
    try (var c = cluster.share(g, "client.id", "the-client")) {
      c.subscribe(List.of(t));
      eventually(
          Duration.ofSeconds(20),
          "a member",
          () -> {
            c.poll(Duration.ofMillis(100));
            return cluster.admin.describeShareGroups(List.of(g)).all().get().get(g).members().stream()
                .anyMatch(m -> m.assignment().topicPartitions().size() == 1);
          });
      shareGroup("--describe", "--group", g, "--members").succeeds().hasLine(g + "\\s+.*the-client\\s+1\\s+" + t + ":0");
    }
  }

  private void shareGroupsReset() throws Exception {
    String t = cluster.topic(1);
    String g = shared(t, 10);
    shareGroup("--reset-offsets", "--group", g, "--topic", t, "--to-earliest", "--execute")
        .succeeds()
        .hasLine(g + "\\s+" + t + "\\s+0\\s+0");
    shareGroup("--delete-offsets", "--group", g, "--topic", t).succeeds().hasLine(t + "\\s+Successful");
    shareGroup("--delete", "--group", g).succeeds().says("Deletion of requested share groups ('" + g + "') was successful");
    shareGroup("--list").succeeds().saysNot(g + "\n");
  }

  private Producer<String, String> open(String id, String t) throws Exception {
    Producer<String, String> p = cluster.producer("transactional.id", id, "transaction.timeout.ms", "40000");
    p.initTransactions();
    p.beginTransaction();
    p.send(new ProducerRecord<>(t, 0, "k", "v")).get();
    return p;
  }

  private void transactions() throws Exception {
    String t = cluster.topic(1);
    String id = cluster.name("txn");
    try (Producer<String, String> p = open(id, t)) {
      tool("TransactionsCommand", "list").succeeds().hasLine(id + "\\s+\\d+\\s+\\d+\\s+Ongoing\\s*");
      tool("TransactionsCommand", "describe", "--transactional-id", id)
          .succeeds()
          .hasLine("\\d+\\s+" + id + "\\s+\\d+\\s+\\d+\\s+Ongoing\\s+40000\\s+.*" + t + "-0\\s*");
      p.commitTransaction();
    }
  }

  private void transactionsAbort() throws Exception {
    String t = cluster.topic(1);
    Producer<String, String> p = open(cluster.name("txn"), t);
    try {
      tool("TransactionsCommand", "describe-producers", "--topic", t, "--partition", "0")
          .succeeds()
          .hasLine("\\d+\\s+\\d+\\s+-?\\d+\\s+0\\s+\\d+\\s+0\\s*");
      tool("TransactionsCommand", "abort", "--topic", t, "--partition", "0", "--start-offset", "0").succeeds();
      tool("TransactionsCommand", "describe-producers", "--topic", t, "--partition", "0")
          .succeeds()
          .hasLine("\\d+\\s+.*\\s+None\\s*");
    } finally {
      p.close(Duration.ZERO);
    }
  }

  private void transactionsHanging() throws Exception {
    String t = cluster.topic(1);
    try (Producer<String, String> p = open(cluster.name("txn"), t)) {
      tool("TransactionsCommand", "find-hanging", "--topic", t, "--partition", "0", "--max-transaction-timeout", "1")
          .succeeds()
          .saysNot(t);
      p.commitTransaction();
    }
  }

  private void apiVersions() throws Exception {
    Set<String> seen =
        tool("BrokerApiVersionsCommand").succeeds().lines().stream()
            .filter(l -> l.contains("usable:"))
            .map(l -> l.substring(0, l.indexOf('(')))
            .collect(Collectors.toCollection(TreeSet::new));
    for (String api : List.of("Produce", "Fetch", "ListOffsets", "Metadata", "JoinGroup", "ConsumerGroupHeartbeat", "ShareFetch")) {
      check(seen.contains(api), api + " is usable: " + seen);
    }
  }

  private void clusterId() throws Exception {
    String id = cluster.admin.describeCluster().clusterId().get();
    try (Tool t = new Tool("ClusterTool", "cluster-id", "--bootstrap-server", cluster.bootstrap)) {
      t.output().succeeds().says("Cluster ID: " + id);
    }
    try (Tool t = new Tool("ClusterTool", "list-endpoints", "--bootstrap-server", cluster.bootstrap)) {
      t.output().succeeds().says("127.0.0.1");
    }
  }

  private void features() throws Exception {
    tool("FeatureCommand", "describe").succeeds().hasLine("Feature: transaction.version\\s+.*FinalizedVersionLevel: 2\\s+.*");
  }

  private void leaderElection() throws Exception {
    String t = cluster.topic(1);
    tool("LeaderElectionCommand", "--election-type", "preferred", "--topic", t, "--partition", "0")
        .succeeds()
        .mentions("Valid replica already elected for partitions " + t + "-0");
  }

  private void reassign() throws Exception {
    tool("reassign.ReassignPartitionsCommand", "--list").succeeds().says("No partition reassignments found.");
  }

  private void acls() throws Exception {
    tool("AclCommand", "--list").mentions("No Authorizer is configured");
  }

  private void streamsGroups() throws Exception {
    tool("streams.StreamsGroupCommand", "--list").succeeds();
  }

  private void clientMetrics() throws Exception {
    tool("ClientMetricsCommand", "--list").succeeds();
  }

  private void metadataQuorum() throws Exception {
    tool("MetadataQuorumCommand", "describe", "--status").succeeds().says("LeaderId:");
  }

  private void compatibility() throws Exception {
    String t = cluster.name("compatibility");
    try (Tool tool =
        new Tool(
            "ClientCompatibilityTest",
            "--bootstrap-server",
            cluster.bootstrap,
            "--topic",
            t,
            "--offsets-for-times-supported",
            "true",
            "--cluster-id-supported",
            "true",
            "--expect-record-too-large-exception",
            "false",
            "--num-cluster-nodes",
            "1",
            "--create-topics-supported",
            "true",
            "--describe-acls-supported",
            "true",
            "--describe-configs-supported",
            "true",
            "--idempotent-producer-supported",
            "true")) {
      tool.output().succeeds();
    }
  }
}
