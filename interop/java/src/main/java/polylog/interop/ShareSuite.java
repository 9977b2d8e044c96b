package polylog.interop;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ShareGroupDescription;
import org.apache.kafka.clients.admin.SharePartitionOffsetInfo;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.consumer.ShareConsumer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupNotEmptyException;

/** The Java share consumer (KIP-932), and what the admin client does with share groups. */
final class ShareSuite extends Suite {
  private static final Duration patience = Duration.ofSeconds(30);
  private final Cluster cluster;

  ShareSuite(Run.Options options, Cluster cluster) {
    super("share", options);
    this.cluster = cluster;
  }

  @Override
  void plan() {
    test("accept", this::accept);
    test("implicit_acknowledgement", this::implicit);
    test("release_is_delivered_again", this::release);
    test("reject_is_not_delivered_again", this::reject);
    test("mixed_acknowledgements", this::mixed);
    test("renew", this::renew);
    testFull("renew_outlives_the_lock", Duration.ofSeconds(120), this::renewOutlivesLock);
    testFull("lock_expires", Duration.ofSeconds(120), this::lockExpires);
    test("delivery_limit", this::deliveryLimit);
    test("close_releases", this::closeReleases);
    test("members_compete", this::compete);
    test("commit_async_and_callback", this::callback);
    test("several_partitions", this::severalPartitions);
    test("compressed_batches", this::compressed);
    test("read_committed", this::readCommitted);
    test("starts_at_latest", this::latest);
    test("describe_and_list", this::describe);
    test("list_alter_delete_offsets", this::offsets);
    test("delete_group", this::delete);
    test("survives_rebalance", this::rebalance);
  }

  private String group() throws Exception {
    String group = cluster.name("share");
    cluster.alter(ConfigResource.Type.GROUP, group, "share.auto.offset.reset", "earliest");
    return group;
  }

  private KafkaShareConsumer<String, String> subscribed(String group, String topic, String... configs) {
    KafkaShareConsumer<String, String> c = cluster.share(group, configs);
    c.subscribe(List.of(topic));
    return c;
  }

  /** Polls until there are n records. Each is acknowledged so, because the next poll wants that. */
  private static List<ConsumerRecord<String, String>> take(ShareConsumer<String, String> c, int n, AcknowledgeType type)
      throws InterruptedException {
    List<ConsumerRecord<String, String>> all = new ArrayList<>();
    eventually(
        patience,
        n + " records",
        () -> {
          for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(200))) {
            all.add(r);
            c.acknowledge(r, type);
          }
          return all.size() >= n;
        });
    return all;
  }

  private static void commit(ShareConsumer<String, String> c) {
    Map<TopicIdPartition, Optional<KafkaException>> all = c.commitSync(Duration.ofSeconds(10));
    all.forEach((tp, e) -> check(e.isEmpty(), "commit of " + tp + ": " + e));
  }

  /** Nothing is delivered for two seconds. */
  private static void nothing(ShareConsumer<String, String> c) {
    long end = System.nanoTime() + Duration.ofSeconds(2).toNanos();
    while (System.nanoTime() < end) {
      for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(200))) {
        throw new Failure("delivered: " + r.value() + ", for the " + r.deliveryCount() + ". time");
      }
    }
  }

  private static void once(List<ConsumerRecord<String, String>> got, int n) {
    equal(new HashSet<>(Cluster.values(0, n)), new HashSet<>(Cluster.values(got)), "values");
    equal(n, got.size(), "records, each once");
  }

  private void accept() throws Exception {
    String topic = cluster.topic(1);
    String group = group();
    cluster.fill(topic, 100);
    try (var c = subscribed(group, topic)) {
      List<ConsumerRecord<String, String>> got = take(c, 100, AcknowledgeType.ACCEPT);
      equal(Cluster.values(0, 100), Cluster.values(got), "values");
      check(got.stream().allMatch(r -> r.deliveryCount().orElse((short) 0) == 1), "delivered for the first time");
      commit(c);
      nothing(c);
    }
    try (var c = subscribed(group, topic)) {
      nothing(c);
    }
  }

  private void implicit() throws Exception {
    String topic = cluster.topic(1);
    String group = group();
    cluster.fill(topic, 20);
    try (var c = subscribed(group, topic, "share.acknowledgement.mode", "implicit")) {
      Set<String> got = new HashSet<>();
      eventually(
          patience,
          "20 records",
          () -> {
            c.poll(Duration.ofMillis(200)).forEach(r -> got.add(r.value()));
            return got.size() == 20;
          });
      commit(c);
    }
    try (var c = subscribed(group, topic)) {
      nothing(c);
    }
  }

  private void release() throws Exception {
    String topic = cluster.topic(1);
    cluster.fill(topic, 5);
    try (var c = subscribed(group(), topic)) {
      once(take(c, 5, AcknowledgeType.RELEASE), 5);
      commit(c);
      List<ConsumerRecord<String, String>> again = take(c, 5, AcknowledgeType.ACCEPT);
      once(again, 5);
      check(again.stream().allMatch(r -> r.deliveryCount().orElse((short) 0) == 2), "delivered for the second time");
      commit(c);
      nothing(c);
    }
  }

  private void reject() throws Exception {
    String topic = cluster.topic(1);
    String group = group();
    cluster.fill(topic, 5);
    try (var c = subscribed(group, topic)) {
      once(take(c, 5, AcknowledgeType.REJECT), 5);
      commit(c);
      nothing(c);
    }
    try (var c = subscribed(group, topic)) {
      nothing(c);
    }
  }

  /** Of twelve records a third is accepted, a third released, a third rejected. */
  private void mixed() throws Exception {
    String topic = cluster.topic(1);
    cluster.fill(topic, 12);
    AcknowledgeType[] types = {AcknowledgeType.ACCEPT, AcknowledgeType.RELEASE, AcknowledgeType.REJECT};
    try (var c = subscribed(group(), topic)) {
      AtomicInteger n = new AtomicInteger();
      eventually(
          patience,
          "12 records",
          () -> {
            for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(200))) {
              c.acknowledge(r, types[(int) r.offset() % 3]);
              n.incrementAndGet();
            }
            return n.get() == 12;
          });
      commit(c);
      List<ConsumerRecord<String, String>> again = take(c, 4, AcknowledgeType.ACCEPT);
      equal(List.of(1L, 4L, 7L, 10L), again.stream().map(ConsumerRecord::offset).toList(), "released offsets");
      commit(c);
      nothing(c);
    }
  }

  private void renew() throws Exception {
    String topic = cluster.topic(1);
    cluster.fill(topic, 3);
    try (var c = subscribed(group(), topic)) {
      once(take(c, 3, AcknowledgeType.RENEW), 3);
      commit(c);
      check(c.acquisitionLockTimeoutMs().orElse(0) > 0, "the lock's timeout is told");
      // Records that were renewed are given out again by the client, to be settled.
      List<ConsumerRecord<String, String>> again = take(c, 3, AcknowledgeType.ACCEPT);
      once(again, 3);
      check(again.stream().allMatch(r -> r.deliveryCount().orElse((short) 0) == 1), "still the first delivery");
      commit(c);
      nothing(c);
    }
  }

  /** KIP-932: a lock lasts at least 15 seconds by default. */
  private String groupWithShortLock() throws Exception {
    String group = group();
    cluster.alter(ConfigResource.Type.GROUP, group, "share.record.lock.duration.ms", "15000");
    return group;
  }

  private void renewOutlivesLock() throws Exception {
    String topic = cluster.topic(1);
    String group = groupWithShortLock();
    cluster.fill(topic, 3);
    try (var a = subscribed(group, topic);
        var b = subscribed(group, topic)) {
      List<ConsumerRecord<String, String>> held = new ArrayList<>();
      eventually(
          patience,
          "3 records",
          () -> {
            a.poll(Duration.ofMillis(200)).forEach(held::add);
            return held.size() == 3;
          });
      equal(Optional.of(15000), a.acquisitionLockTimeoutMs(), "timeout of the lock");
      long end = System.nanoTime() + Duration.ofSeconds(25).toNanos();
      while (System.nanoTime() < end) {
        held.forEach(r -> a.acknowledge(r, AcknowledgeType.RENEW));
        commit(a);
        long next = System.nanoTime() + Duration.ofSeconds(5).toNanos();
        while (System.nanoTime() < next) {
          check(b.poll(Duration.ofMillis(200)).isEmpty(), "nothing for the other while it is renewed");
        }
        held.clear();
        eventually(
            patience,
            "the renewed records",
            () -> {
              a.poll(Duration.ofMillis(200)).forEach(held::add);
              return held.size() == 3;
            });
      }
      held.forEach(r -> a.acknowledge(r, AcknowledgeType.ACCEPT));
      commit(a);
      nothing(b);
    }
  }

  private void lockExpires() throws Exception {
    String topic = cluster.topic(1);
    String group = groupWithShortLock();
    cluster.fill(topic, 3);
    try (var a = subscribed(group, topic);
        var b = subscribed(group, topic)) {
      List<ConsumerRecord<String, String>> held = new ArrayList<>();
      eventually(
          patience,
          "3 records",
          () -> {
            a.poll(Duration.ofMillis(200)).forEach(held::add);
            return held.size() == 3;
          });
      List<ConsumerRecord<String, String>> again = take(b, 3, AcknowledgeType.ACCEPT);
      once(again, 3);
      check(again.stream().allMatch(r -> r.deliveryCount().orElse((short) 0) == 2), "the second delivery");
      held.forEach(r -> a.acknowledge(r, AcknowledgeType.ACCEPT));
      boolean refused = a.commitSync(Duration.ofSeconds(10)).values().stream().anyMatch(Optional::isPresent);
      check(refused, "who comes too late is told so");
      commit(b);
    }
  }

  private void deliveryLimit() throws Exception {
    String topic = cluster.topic(1);
    cluster.fill(topic, 2);
    try (var c = subscribed(group(), topic)) {
      for (short i = 1; i <= 5; i++) {
        short count = i;
        List<ConsumerRecord<String, String>> got = take(c, 2, AcknowledgeType.RELEASE);
        once(got, 2);
        check(got.stream().allMatch(r -> r.deliveryCount().orElse((short) 0) == count), "delivery " + count);
        commit(c);
      }
      nothing(c);
      cluster.fill(topic, 0, 2, 3);
      equal(List.of("v2"), Cluster.values(take(c, 1, AcknowledgeType.ACCEPT)), "the next record");
    }
  }

  private void closeReleases() throws Exception {
    String topic = cluster.topic(1);
    String group = group();
    cluster.fill(topic, 5);
    try (var c = subscribed(group, topic)) {
      eventually(patience, "records", () -> !c.poll(Duration.ofMillis(200)).isEmpty());
    }
    try (var c = subscribed(group, topic)) {
      once(take(c, 5, AcknowledgeType.ACCEPT), 5);
    }
  }

  /** Two members of a group get every record between them, and none of them twice. */
  private void compete() throws Exception {
    String topic = cluster.topic(1);
    String group = group();
    Map<String, Integer> counts = new HashMap<>();
    int[] each = new int[2];
    try (var a = subscribed(group, topic, "max.poll.records", "10");
        var b = subscribed(group, topic, "max.poll.records", "10");
        Producer<String, String> p = cluster.producer()) {
      AtomicInteger sent = new AtomicInteger();
      eventually(
          patience,
          "500 records",
          () -> {
            if (sent.get() < 500) {
              Cluster.send(p, topic, 0, sent.get(), sent.addAndGet(20));
            }
            int member = 0;
            for (var c : List.of(a, b)) {
              for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(20))) {
                counts.merge(r.value(), 1, Integer::sum);
                each[member]++;
                c.acknowledge(r, AcknowledgeType.ACCEPT);
              }
              member++;
            }
            return counts.size() == 500;
          });
      commit(a);
      commit(b);
    }
    check(counts.values().stream().allMatch(n -> n == 1), "each record once");
    check(each[0] > 0 && each[1] > 0, "both members have some: " + each[0] + " and " + each[1]);
  }

  private void callback() throws Exception {
    String topic = cluster.topic(1);
    cluster.fill(topic, 10);
    try (var c = subscribed(group(), topic)) {
      Set<Long> acknowledged = new HashSet<>();
      List<Exception> faults = new ArrayList<>();
      c.setAcknowledgementCommitCallback(
          (offsets, e) -> {
            offsets.values().forEach(acknowledged::addAll);
            if (e != null) {
              faults.add(e);
            }
          });
      take(c, 10, AcknowledgeType.ACCEPT);
      c.commitAsync();
      eventually(
          patience,
          "10 offsets in the callback",
          () -> {
            c.poll(Duration.ofMillis(100));
            return acknowledged.size() == 10;
          });
      equal(List.of(), faults, "faults");
    }
  }

  private void severalPartitions() throws Exception {
    String topic = cluster.topic(5);
    for (int p = 0; p < 5; p++) {
      cluster.fill(topic, p, p * 20, p * 20 + 20);
    }
    try (var c = subscribed(group(), topic)) {
      once(take(c, 100, AcknowledgeType.ACCEPT), 100);
      commit(c);
      nothing(c);
    }
  }

  private void compressed() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = cluster.producer("compression.type", "zstd", "linger.ms", "50")) {
      Cluster.send(p, topic, 0, 0, 200);
    }
    try (var c = subscribed(group(), topic)) {
      once(take(c, 200, AcknowledgeType.ACCEPT), 200);
    }
  }

  private void readCommitted() throws Exception {
    String topic = cluster.topic(1);
    String group = group();
    cluster.alter(ConfigResource.Type.GROUP, group, "share.isolation.level", "read_committed");
    try (Producer<String, String> p = cluster.producer("transactional.id", cluster.name("txn"))) {
      p.initTransactions();
      for (int i = 0; i < 6; i++) {
        p.beginTransaction();
        p.send(new ProducerRecord<>(topic, 0, "k", (i % 2 == 0 ? "committed" : "aborted") + i));
        p.flush();
        if (i % 2 == 0) {
          p.commitTransaction();
        } else {
          p.abortTransaction();
        }
      }
    }
    try (var c = subscribed(group, topic)) {
      equal(
          List.of("committed0", "committed2", "committed4"),
          Cluster.values(take(c, 3, AcknowledgeType.ACCEPT)),
          "values");
      commit(c);
      nothing(c);
    }
  }

  /** A group begins with what comes after its first member was given the partition. */
  private void latest() throws Exception {
    String topic = cluster.topic(1);
    cluster.fill(topic, 5);
    AtomicInteger sent = new AtomicInteger(5);
    List<String> got = new ArrayList<>();
    try (var c = subscribed(cluster.name("share"), topic);
        Producer<String, String> p = cluster.producer()) {
      eventually(
          patience,
          "3 records",
          () -> {
            Cluster.send(p, topic, 0, sent.get(), sent.incrementAndGet());
            for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(200))) {
              got.add(r.value());
              c.acknowledge(r);
            }
            return got.size() >= 3;
          });
    }
    int first = Integer.parseInt(got.get(0).substring(1));
    check(first >= 5, "nothing from before: " + got);
    equal(Cluster.values(first, first + got.size()), got, "values since then");
  }

  private void describe() throws Exception {
    String topic = cluster.topic(2);
    String group = group();
    try (var c = subscribed(group, topic, "client.id", "the-member")) {
      cluster.fill(topic, 1);
      take(c, 1, AcknowledgeType.ACCEPT);
      commit(c);
      eventually(
          patience,
          "stable with both partitions",
          () -> {
            c.poll(Duration.ofMillis(100));
            ShareGroupDescription d = cluster.admin.describeShareGroups(List.of(group)).all().get().get(group);
            return d.groupState() == GroupState.STABLE
                && d.members().size() == 1
                && d.members().iterator().next().clientId().equals("the-member")
                && d.members().iterator().next().assignment().topicPartitions().size() == 2;
          });
      check(
          cluster.admin.listGroups().all().get().stream()
              .anyMatch(g -> g.groupId().equals(group) && g.type().map(Object::toString).orElse("").equals("Share")),
          "listed as a share group");
    }
    eventually(
        patience,
        "empty",
        () ->
            cluster.admin.describeShareGroups(List.of(group)).all().get().get(group).groupState() == GroupState.EMPTY);
  }

  private Long startOffset(String group, TopicPartition tp) throws Exception {
    SharePartitionOffsetInfo info = offsetInfo(group, tp);
    return info == null ? null : info.startOffset();
  }

  private SharePartitionOffsetInfo offsetInfo(String group, TopicPartition tp) throws Exception {
    return cluster
        .admin
        .listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec()))
        .partitionsToOffsetInfo(group)
        .get()
        .get(tp);
  }

  private void offsets() throws Throwable {
    String topic = cluster.topic(1);
    String group = group();
    TopicPartition tp = new TopicPartition(topic, 0);
    cluster.fill(topic, 20);
    try (var c = subscribed(group, topic)) {
      take(c, 20, AcknowledgeType.ACCEPT);
      commit(c);
      // The start offset may be told late, the lag may not (KIP-1226).
      eventually(patience, "lag 0", () -> offsetInfo(group, tp).lag().orElse(-1L) == 0);
      fails(
          GroupNotEmptyException.class,
          () -> cluster.admin.alterShareGroupOffsets(group, Map.of(tp, 5L)).all().get());
    }
    eventually(
        patience,
        "offsets are altered when nobody is there",
        () -> {
          cluster.admin.alterShareGroupOffsets(group, Map.of(tp, 5L)).all().get();
          return true;
        });
    eventually(patience, "start offset 5", () -> Long.valueOf(5).equals(startOffset(group, tp)));
    try (var c = subscribed(group, topic)) {
      equal(Cluster.values(5, 20), Cluster.values(take(c, 15, AcknowledgeType.ACCEPT)), "values from there");
      commit(c);
    }
    eventually(
        patience,
        "offsets are deleted",
        () -> {
          cluster.admin.deleteShareGroupOffsets(group, Set.of(topic)).all().get();
          return true;
        });
    check(startOffset(group, tp) == null, "no offset is left");
  }

  private void delete() throws Exception {
    String topic = cluster.topic(1);
    String group = group();
    cluster.fill(topic, 1);
    try (var c = subscribed(group, topic)) {
      take(c, 1, AcknowledgeType.ACCEPT);
      commit(c);
    }
    eventually(
        patience,
        "deleted",
        () -> {
          cluster.admin.deleteShareGroups(List.of(group)).all().get();
          return true;
        });
    check(
        cluster.admin.listGroups().all().get().stream().noneMatch(g -> g.groupId().equals(group)),
        "no longer listed");
  }

  /** Members come and go; every record is accepted once. */
  private void rebalance() throws Exception {
    String topic = cluster.topic(3);
    String group = group();
    Set<String> got = new HashSet<>();
    List<String> twice = new ArrayList<>();
    try (var stays = subscribed(group, topic)) {
      for (int round = 0; round < 3; round++) {
        for (int p = 0; p < 3; p++) {
          cluster.fill(topic, p, round * 30 + p * 10, round * 30 + p * 10 + 10);
        }
        int want = (round + 1) * 30;
        try (var goes = subscribed(group, topic)) {
          eventually(
              patience,
              want + " records",
              () -> {
                for (var c : List.of(goes, stays)) {
                  for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(50))) {
                    if (!got.add(r.value())) {
                      twice.add(r.value());
                    }
                    c.acknowledge(r);
                  }
                  commit(c);
                }
                return got.size() == want;
              });
        }
      }
    }
    equal(List.of(), twice, "records delivered twice");
  }
}
