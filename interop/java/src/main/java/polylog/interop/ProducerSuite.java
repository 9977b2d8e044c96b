package polylog.interop;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.LongStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;

/** The Java producer. */
final class ProducerSuite extends Suite {
  private final Cluster cluster;

  ProducerSuite(Run.Options options, Cluster cluster) {
    super("producer", options);
    this.cluster = cluster;
  }

  @Override
  void plan() {
    test("idempotent_acks_all", () -> dense("enable.idempotence", "true", "acks", "all"));
    test("acks_all_not_idempotent", () -> dense("enable.idempotence", "false", "acks", "all"));
    test("acks_1", () -> dense("enable.idempotence", "false", "acks", "1"));
    test("acks_0", this::acks0);
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      test("compression_" + codec, () -> dense("compression.type", codec, "linger.ms", "20"));
    }
    test("topic_compression_recompresses", this::topicCompression);
    test("headers", this::headers);
    test("null_key_null_value_empty", this::nulls);
    test("keys_choose_partitions", this::partitioner);
    test("explicit_partition", this::explicitPartition);
    test("create_time_kept", this::createTime);
    test("log_append_time", this::logAppendTime);
    test("timestamp_too_far_ahead", this::timestampAhead);
    test("large_record", this::large);
    test("record_too_large_for_topic", this::tooLarge);
    test("batch_too_large_is_split", this::split);
    test("compacted_topic_wants_keys", this::compactedWantsKeys);
    test("invalid_topic_name", this::invalidName);
    test("topic_is_made_on_first_use", this::autoCreate);
    test("partitions_for", this::partitionsFor);
    test("partitions_added_are_used", this::partitionsAdded);
    test("topic_deleted_and_made_again", this::deletedAndMadeAgain);
    test("many_producers_one_partition", this::manyProducers);
    test("many_partitions", this::manyPartitions);
    testFull("hundred_thousand_records", Duration.ofSeconds(120), this::hundredThousand);
  }

  /** A thousand records get the offsets 0 to 999, and come back as they were sent. */
  private void dense(String... configs) throws Exception {
    String topic = cluster.topic(1);
    List<RecordMetadata> sent;
    try (Producer<String, String> p = cluster.producer(configs)) {
      sent = Cluster.send(p, topic, 0, 0, 1000);
    }
    equal(LongStream.range(0, 1000).boxed().toList(), sent.stream().map(RecordMetadata::offset).toList(), "offsets");
    List<ConsumerRecord<String, String>> got = cluster.read(topic);
    equal(Cluster.values(0, 1000), Cluster.values(got), "values");
    equal("k999", got.get(999).key(), "last key");
    equal(999L, got.get(999).offset(), "last offset");
  }

  private void acks0() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = cluster.producer("enable.idempotence", "false", "acks", "0")) {
      List<RecordMetadata> sent = Cluster.send(p, topic, 0, 0, 100);
      check(sent.stream().noneMatch(RecordMetadata::hasOffset), "acks=0 has no offset to tell");
    }
    // Nobody says when they have arrived.
    eventually(Duration.ofSeconds(10), "100 records", () -> cluster.read(topic).size() == 100);
    equal(Cluster.values(0, 100), Cluster.values(cluster.read(topic)), "values");
  }

  private void topicCompression() throws Exception {
    String topic = cluster.topic(1, "compression.type", "gzip");
    try (Producer<String, String> p = cluster.producer("compression.type", "none")) {
      Cluster.send(p, topic, 0, 0, 100);
    }
    equal(Cluster.values(0, 100), Cluster.values(cluster.read(topic)), "values");
  }

  private void headers() throws Exception {
    String topic = cluster.topic(1);
    List<Header> headers =
        List.of(
            new RecordHeader("text", Cluster.bytes("Grüße")),
            new RecordHeader("twice", Cluster.bytes("first")),
            new RecordHeader("twice", Cluster.bytes("second")),
            new RecordHeader("binary", new byte[] {0, (byte) 0xff, 0x7f, (byte) 0x80}),
            new RecordHeader("empty", new byte[0]),
            new RecordHeader("null", null),
            new RecordHeader("", Cluster.bytes("no name")));
    try (Producer<String, String> p = cluster.producer()) {
      p.send(new ProducerRecord<>(topic, 0, "k", "v", headers)).get();
    }
    Header[] got = cluster.read(topic).get(0).headers().toArray();
    equal(headers.size(), got.length, "number of headers");
    for (int i = 0; i < got.length; i++) {
      equal(headers.get(i).key(), got[i].key(), "name of header " + i);
      check(Arrays.equals(headers.get(i).value(), got[i].value()), "value of header " + got[i].key());
    }
  }

  private void nulls() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = cluster.producer()) {
      p.send(new ProducerRecord<>(topic, 0, null, "no key"));
      p.send(new ProducerRecord<>(topic, 0, "no value", null));
      p.send(new ProducerRecord<>(topic, 0, "", ""));
      p.send(new ProducerRecord<>(topic, 0, null, null)).get();
    }
    List<String> got = new ArrayList<>();
    for (ConsumerRecord<String, String> r : cluster.read(topic)) {
      got.add(r.key() + "=" + r.value());
    }
    equal(List.of("null=no key", "no value=null", "=", "null=null"), got, "records");
  }

  private void partitioner() throws Exception {
    String topic = cluster.topic(5);
    Map<String, Set<Integer>> partitions = new java.util.HashMap<>();
    try (Producer<String, String> p = cluster.producer("linger.ms", "5")) {
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      for (int i = 0; i < 200; i++) {
        sent.add(p.send(new ProducerRecord<>(topic, "key" + i % 20, "v" + i)));
      }
      for (int i = 0; i < 200; i++) {
        partitions.computeIfAbsent("key" + i % 20, k -> new TreeSet<>()).add(sent.get(i).get().partition());
      }
    }
    check(partitions.values().stream().allMatch(s -> s.size() == 1), "a key has one partition: " + partitions);
    Set<Integer> used = new HashSet<>();
    partitions.values().forEach(used::addAll);
    check(used.size() > 1, "20 keys use several partitions");
    equal(200, cluster.read(topic).size(), "records");
  }

  private void explicitPartition() throws Exception {
    String topic = cluster.topic(3);
    try (Producer<String, String> p = cluster.producer()) {
      for (int i = 0; i < 3; i++) {
        equal(i, p.send(new ProducerRecord<>(topic, i, "k", "v" + i)).get().partition(), "partition");
      }
    }
    for (ConsumerRecord<String, String> r : cluster.read(topic)) {
      equal("v" + r.partition(), r.value(), "value in partition " + r.partition());
    }
  }

  private void createTime() throws Exception {
    String topic = cluster.topic(1);
    long yesterday = System.currentTimeMillis() - Duration.ofDays(1).toMillis();
    try (Producer<String, String> p = cluster.producer()) {
      equal(yesterday, p.send(new ProducerRecord<>(topic, 0, yesterday, "k", "v")).get().timestamp(), "timestamp sent");
    }
    ConsumerRecord<String, String> r = cluster.read(topic).get(0);
    equal(yesterday, r.timestamp(), "timestamp");
    equal(TimestampType.CREATE_TIME, r.timestampType(), "kind of timestamp");
  }

  private void logAppendTime() throws Exception {
    String topic = cluster.topic(1, "message.timestamp.type", "LogAppendTime");
    long before = System.currentTimeMillis();
    try (Producer<String, String> p = cluster.producer()) {
      RecordMetadata m = p.send(new ProducerRecord<>(topic, 0, before - 100_000, "k", "v")).get();
      check(m.timestamp() >= before - 1000, "the broker's timestamp is told to the producer");
    }
    ConsumerRecord<String, String> r = cluster.read(topic).get(0);
    check(r.timestamp() >= before - 1000, "the broker's timestamp");
    equal(TimestampType.LOG_APPEND_TIME, r.timestampType(), "kind of timestamp");
  }

  /** KIP-937: the default of message.timestamp.after.max.ms is an hour. */
  private void timestampAhead() throws Throwable {
    String topic = cluster.topic(1);
    long tomorrow = System.currentTimeMillis() + Duration.ofDays(1).toMillis();
    try (Producer<String, String> p = cluster.producer()) {
      fails(
          InvalidTimestampException.class, () -> p.send(new ProducerRecord<>(topic, 0, tomorrow, "k", "v")).get());
      equal(0L, p.send(new ProducerRecord<>(topic, 0, "k", "v")).get().offset(), "offset of the next");
    }
  }

  private void large() throws Exception {
    String topic = cluster.topic(1, "max.message.bytes", "5000000");
    char[] text = new char[4_000_000];
    Random random = new Random(1);
    for (int i = 0; i < text.length; i++) {
      text[i] = (char) ('a' + random.nextInt(26));
    }
    String value = new String(text);
    try (Producer<String, String> p =
        cluster.producer("max.request.size", "5000000", "buffer.memory", "16000000")) {
      p.send(new ProducerRecord<>(topic, 0, "k", value)).get();
    }
    List<ConsumerRecord<String, String>> got = cluster.read(topic, "max.partition.fetch.bytes", "1000");
    check(value.equals(got.get(0).value()), "value of four megabytes");
  }

  private void tooLarge() throws Throwable {
    String topic = cluster.topic(1, "max.message.bytes", "10000");
    try (Producer<String, String> p = cluster.producer()) {
      fails(
          RecordTooLargeException.class,
          () -> p.send(new ProducerRecord<>(topic, 0, "k", "x".repeat(20_000))).get());
      p.send(new ProducerRecord<>(topic, 0, "k", "small")).get();
    }
    equal(List.of("small"), Cluster.values(cluster.read(topic)), "values");
  }

  /** A batch of many records that is too large is split by the client when it hears MESSAGE_TOO_LARGE. */
  private void split() throws Exception {
    String topic = cluster.topic(1, "max.message.bytes", "10000");
    try (Producer<String, String> p = cluster.producer("batch.size", "100000", "linger.ms", "200")) {
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      for (int i = 0; i < 50; i++) {
        sent.add(p.send(new ProducerRecord<>(topic, 0, "k", "v" + i + "x".repeat(1000))));
      }
      for (Future<RecordMetadata> f : sent) {
        f.get();
      }
    }
    List<ConsumerRecord<String, String>> got = cluster.read(topic);
    equal(50, got.size(), "records");
    for (int i = 0; i < 50; i++) {
      check(got.get(i).value().startsWith("v" + i + "x"), "order");
    }
  }

  private void compactedWantsKeys() throws Throwable {
    String topic = cluster.topic(1, "cleanup.policy", "compact");
    try (Producer<String, String> p = cluster.producer()) {
      fails(
          org.apache.kafka.common.InvalidRecordException.class,
          () -> p.send(new ProducerRecord<>(topic, 0, null, "v")).get());
      p.send(new ProducerRecord<>(topic, 0, "k", "v")).get();
    }
    equal(List.of("v"), Cluster.values(cluster.read(topic)), "values");
  }

  private void invalidName() throws Throwable {
    try (Producer<String, String> p = cluster.producer("max.block.ms", "5000")) {
      fails(InvalidTopicException.class, () -> p.send(new ProducerRecord<>("not a name!", "k", "v")).get());
    }
  }

  private void autoCreate() throws Exception {
    String topic = cluster.name("auto");
    try (Producer<String, String> p = cluster.producer()) {
      p.send(new ProducerRecord<>(topic, "k", "v")).get();
    }
    equal(List.of("v"), Cluster.values(cluster.read(topic)), "values");
  }

  private void partitionsFor() throws Exception {
    String topic = cluster.topic(4);
    try (Producer<String, String> p = cluster.producer()) {
      List<PartitionInfo> all = p.partitionsFor(topic);
      equal(4, all.size(), "partitions");
      for (PartitionInfo i : all) {
        check(i.leader() != null && i.replicas().length >= 1 && i.inSyncReplicas().length >= 1, "leader and replicas: " + i);
      }
    }
  }

  private void partitionsAdded() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = cluster.producer("metadata.max.age.ms", "300")) {
      p.send(new ProducerRecord<>(topic, 0, "k", "v")).get();
      cluster
          .admin
          .createPartitions(Map.of(topic, org.apache.kafka.clients.admin.NewPartitions.increaseTo(3)))
          .all()
          .get();
      eventually(Duration.ofSeconds(15), "3 partitions", () -> p.partitionsFor(topic).size() == 3);
      p.send(new ProducerRecord<>(topic, 2, "k", "v")).get();
    }
    equal(2, cluster.read(topic).size(), "records");
  }

  /** The producer goes on with the new topic of that name, whose id is another. */
  private void deletedAndMadeAgain() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = cluster.producer("metadata.max.age.ms", "500")) {
      p.send(new ProducerRecord<>(topic, 0, "k", "old")).get();
      cluster.admin.deleteTopics(List.of(topic)).all().get();
      // A moment in which metadata still tells of the old one belongs to every broker.
      eventually(
          Duration.ofSeconds(10),
          "the topic is gone",
          () -> !cluster.admin.listTopics().names().get().contains(topic));
      cluster.topicNamed(topic, 1);
      eventually(
          Duration.ofSeconds(30),
          "sent again",
          () -> {
            try {
              return p.send(new ProducerRecord<>(topic, 0, "k", "new")).get().offset() >= 0;
            } catch (ExecutionException e) {
              return false;
            }
          });
    }
    check(cluster.read(topic).stream().allMatch(r -> r.value().equals("new")), "only new records");
  }

  private void manyProducers() throws Exception {
    String topic = cluster.topic(1);
    List<Thread> threads = new ArrayList<>();
    List<Throwable> faults = java.util.Collections.synchronizedList(new ArrayList<>());
    for (int n = 0; n < 4; n++) {
      int first = n * 500;
      Thread t =
          new Thread(
              () -> {
                try {
                  cluster.fill(topic, 0, first, first + 500);
                } catch (Throwable e) {
                  faults.add(e);
                }
              });
      threads.add(t);
      t.start();
    }
    for (Thread t : threads) {
      t.join();
    }
    equal(List.of(), faults, "faults");
    List<ConsumerRecord<String, String>> got = cluster.read(topic);
    equal(2000, got.size(), "records");
    equal(new HashSet<>(Cluster.values(0, 2000)), new HashSet<>(Cluster.values(got)), "values");
    for (int i = 0; i < got.size(); i++) {
      equal((long) i, got.get(i).offset(), "offset");
    }
  }

  private void manyPartitions() throws Exception {
    String topic = cluster.topic(50);
    try (Producer<String, String> p = cluster.producer("linger.ms", "20")) {
      for (int i = 0; i < 1000; i++) {
        p.send(new ProducerRecord<>(topic, i % 50, "k", "v" + i));
      }
    }
    List<ConsumerRecord<String, String>> got = cluster.read(topic);
    equal(1000, got.size(), "records");
    equal(50L, got.stream().map(r -> new TopicPartition(topic, r.partition())).distinct().count(), "partitions");
  }

  private void hundredThousand() throws Exception {
    String topic = cluster.topic(1, "segment.bytes", "1048576", "max.message.bytes", "1000000");
    try (Producer<String, String> p = cluster.producer("linger.ms", "5", "compression.type", "lz4")) {
      Cluster.send(p, topic, 0, 0, 100_000);
    }
    equal(Cluster.values(0, 100_000), Cluster.values(cluster.read(topic)), "values");
  }
}
