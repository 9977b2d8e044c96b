package polylog.interop;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The broker under test, and clients of it. Names that it makes are used once. */
final class Cluster implements AutoCloseable {
  final String bootstrap;
  final Admin admin;
  private static final String run = Long.toString(System.currentTimeMillis() / 100, 36);
  private final AtomicInteger names = new AtomicInteger();

  Cluster(String bootstrap) {
    this.bootstrap = bootstrap;
    this.admin = Admin.create(config("request.timeout.ms", "10000", "default.api.timeout.ms", "20000"));
  }

  @Override
  public void close() {
    admin.close(Duration.ofSeconds(5));
  }

  Map<String, Object> config(String... pairs) {
    Map<String, Object> all = new HashMap<>();
    all.put("bootstrap.servers", bootstrap);
    for (int i = 0; i < pairs.length; i += 2) {
      all.put(pairs[i], pairs[i + 1]);
    }
    return all;
  }

  String name(String prefix) {
    return prefix + "-" + run + "-" + names.incrementAndGet();
  }

  /** Makes a topic of that many partitions with these configs, and waits until it can be used. */
  String topic(int partitions, String... configs) throws Exception {
    return topicNamed(name("topic"), partitions, configs);
  }

  String topicNamed(String name, int partitions, String... configs) throws Exception {
    NewTopic t = new NewTopic(name, Optional.of(partitions), Optional.empty());
    Map<String, String> all = new HashMap<>();
    for (int i = 0; i < configs.length; i += 2) {
      all.put(configs[i], configs[i + 1]);
    }
    admin.createTopics(List.of(t.configs(all))).all().get();
    Suite.eventually(
        Duration.ofSeconds(10),
        "topic " + name + " has leaders",
        () -> {
          var d = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
          return d.partitions().size() == partitions && d.partitions().stream().allMatch(p -> p.leader() != null);
        });
    return name;
  }

  Producer<String, String> producer(String... configs) {
    return new KafkaProducer<>(config(configs), new StringSerializer(), new StringSerializer());
  }

  /** A consumer that begins with the first record and commits only when told to, unless configs say otherwise. */
  Consumer<String, String> consumer(String group, String... configs) {
    Map<String, Object> all = config("auto.offset.reset", "earliest", "enable.auto.commit", "false");
    if (group != null) {
      all.put("group.id", group);
    }
    for (int i = 0; i < configs.length; i += 2) {
      all.put(configs[i], configs[i + 1]);
    }
    return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
  }

  /** A share consumer that acknowledges explicitly. */
  KafkaShareConsumer<String, String> share(String group, String... configs) {
    Map<String, Object> all = config("group.id", group, "share.acknowledgement.mode", "explicit");
    for (int i = 0; i < configs.length; i += 2) {
      all.put(configs[i], configs[i + 1]);
    }
    return new KafkaShareConsumer<>(all, new StringDeserializer(), new StringDeserializer());
  }

  /** Sends "v0" and so on with keys "k0" and so on to partition 0, and returns their timestamps. */
  List<RecordMetadata> fill(String topic, int n) throws Exception {
    return fill(topic, 0, 0, n);
  }

  List<RecordMetadata> fill(String topic, int partition, int from, int to) throws Exception {
    try (Producer<String, String> p = producer("linger.ms", "5")) {
      return send(p, topic, partition, from, to);
    }
  }

  static List<RecordMetadata> send(Producer<String, String> p, String topic, int partition, int from, int to)
      throws Exception {
    List<Future<RecordMetadata>> sent = new ArrayList<>();
    for (int i = from; i < to; i++) {
      sent.add(p.send(new ProducerRecord<>(topic, partition, "k" + i, "v" + i)));
    }
    p.flush();
    List<RecordMetadata> all = new ArrayList<>();
    for (Future<RecordMetadata> f : sent) {
      all.add(f.get());
    }
    return all;
  }

  /** "v0", "v1" and so on. */
  static List<String> values(int from, int to) {
    return IntStream.range(from, to).mapToObj(i -> "v" + i).toList();
  }

  static List<String> values(Collection<ConsumerRecord<String, String>> records) {
    return records.stream().map(ConsumerRecord::value).toList();
  }

  /** Polls until there are n records, or time is up; never fewer polls than it takes to see one too many. */
  static List<ConsumerRecord<String, String>> poll(Consumer<String, String> c, int n, Duration limit) {
    List<ConsumerRecord<String, String>> all = new ArrayList<>();
    long end = System.nanoTime() + limit.toNanos();
    while (all.size() < n && System.nanoTime() < end) {
      c.poll(Duration.ofMillis(100)).forEach(all::add);
    }
    return all;
  }

  static List<ConsumerRecord<String, String>> poll(Consumer<String, String> c, int n) {
    return poll(c, n, Duration.ofSeconds(20));
  }

  /** Reads all partitions of a topic from the start to the end that they have now. */
  List<ConsumerRecord<String, String>> read(String topic, String... configs) throws Exception {
    List<ConsumerRecord<String, String>> all = new ArrayList<>();
    try (Consumer<String, String> c = consumer(null, configs)) {
      List<TopicPartition> partitions =
          c.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
      c.assign(partitions);
      c.seekToBeginning(partitions);
      Map<TopicPartition, Long> ends = c.endOffsets(partitions);
      long limit = System.nanoTime() + Duration.ofSeconds(20).toNanos();
      while (partitions.stream().anyMatch(p -> c.position(p) < ends.get(p))) {
        if (System.nanoTime() > limit) {
          throw new Suite.Failure("read " + all.size() + " records of " + topic + " in 20 s, and not to the end " + ends);
        }
        c.poll(Duration.ofMillis(100)).forEach(all::add);
      }
    }
    return all;
  }

  /**
   * Reads what is committed. The end of a transaction is promised before its markers are written, so this
   * waits until no transaction is open.
   */
  List<ConsumerRecord<String, String>> readCommitted(String topic, String... configs) throws Exception {
    try (Consumer<String, String> all = consumer(null);
        Consumer<String, String> committed = consumer(null, "isolation.level", "read_committed")) {
      List<TopicPartition> partitions =
          all.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
      Suite.eventually(
          Duration.ofSeconds(20),
          "the last stable offsets of " + topic + " are the ends",
          () -> committed.endOffsets(partitions).equals(all.endOffsets(partitions)));
    }
    List<String> with = new ArrayList<>(List.of("isolation.level", "read_committed"));
    with.addAll(List.of(configs));
    return read(topic, with.toArray(new String[0]));
  }

  /** Sets configs of a resource, as incrementalAlterConfigs does. */
  void alter(ConfigResource.Type type, String name, String... configs) throws Exception {
    List<AlterConfigOp> ops = new ArrayList<>();
    for (int i = 0; i < configs.length; i += 2) {
      ops.add(new AlterConfigOp(new ConfigEntry(configs[i], configs[i + 1]), AlterConfigOp.OpType.SET));
    }
    admin.incrementalAlterConfigs(Map.of(new ConfigResource(type, name), ops)).all().get();
  }

  static byte[] bytes(String s) {
    return s.getBytes(StandardCharsets.UTF_8);
  }
}
