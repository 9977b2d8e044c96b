package polylog.interop;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.BooleanSupplier;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;
import org.apache.kafka.common.errors.WakeupException;

/** The Java consumer, in classic groups with each assignor, and in the groups of KIP-848. */
final class ConsumerSuite extends Suite {
  private static final Duration patience = Duration.ofSeconds(30);
  private final Cluster cluster;

  ConsumerSuite(Run.Options options, Cluster cluster) {
    super("consumer", options);
    this.cluster = cluster;
  }

  /** How a group is run. */
  private record Protocol(String name, String... configs) {
    boolean classic() {
      return !name.equals("consumer");
    }

    String[] and(String... more) {
      List<String> all = new ArrayList<>(List.of(configs));
      all.addAll(List.of(more));
      return all.toArray(new String[0]);
    }
  }

  private static Protocol classic(String name, String assignor) {
    return new Protocol(
        name,
        "group.protocol",
        "classic",
        "partition.assignment.strategy",
        "org.apache.kafka.clients.consumer." + assignor,
        "heartbeat.interval.ms",
        "200",
        "session.timeout.ms",
        "6000");
  }

  private static final List<Protocol> protocols =
      List.of(
          classic("range", "RangeAssignor"),
          classic("cooperative", "CooperativeStickyAssignor"),
          new Protocol("consumer", "group.protocol", "consumer"),
          new Protocol("consumer_range", "group.protocol", "consumer", "group.remote.assignor", "range"));

  @Override
  void plan() {
    for (Protocol p : protocols) {
      test(p.name + "_reads_everything", () -> readsEverything(p));
      test(p.name + "_resumes_at_commit", () -> resumes(p));
      test(p.name + "_members_share_partitions", () -> membersShare(p));
      if (p.name.equals("consumer_range")) {
        continue;
      }
      test(p.name + "_auto_commit", () -> autoCommit(p));
      test(p.name + "_commit_with_metadata", () -> commitWithMetadata(p));
      test(p.name + "_static_member", () -> staticMember(p));
      test(p.name + "_static_member_taken", () -> staticMemberTaken(p));
      test(p.name + "_partitions_added", () -> partitionsAdded(p));
      test(p.name + "_pattern", () -> pattern(p));
      test(p.name + "_topic_made_later", () -> topicMadeLater(p));
      test(p.name + "_rebalance_listener", () -> rebalanceListener(p));
      test(p.name + "_reset_policies", () -> resetPolicies(p));
      test(p.name + "_several_topics", () -> severalTopics(p));
      testFull(p.name + "_member_dies", Duration.ofSeconds(90), () -> memberDies(p));
    }
    test("roundrobin_members_share_partitions", () -> membersShare(classic("roundrobin", "RoundRobinAssignor")));
    test("sticky_members_share_partitions", () -> membersShare(classic("sticky", "StickyAssignor")));
    test("classic_group_becomes_consumer_group", this::upgrade);

    test("no_group_assign_seek", this::seek);
    test("offsets_for_times", this::offsetsForTimes);
    test("offset_out_of_range", this::outOfRange);
    test("unknown_group_has_no_offsets", this::unknownGroup);
    testAlone("idle_poll_is_neither_hung_nor_busy", Duration.ofSeconds(60), this::idle);
    testAlone("max_wait_is_honoured", Duration.ofSeconds(60), this::maxWait);
    test("pause_resume", this::pause);
    test("wakeup", this::wakeup);
    test("lag_is_zero_at_the_end", this::lag);
    test("max_poll_records", this::maxPollRecords);
    test("small_fetches", this::smallFetches);
    test("fetch_sessions_of_many_partitions", this::manyPartitions);
    test("deleted_records_are_skipped", this::deletedRecords);
    test("topic_ids_after_deletion", this::deletion);
  }

  private Consumer<String, String> subscribed(Protocol p, String group, String topic, String... configs) {
    Consumer<String, String> c = cluster.consumer(group, p.and(configs));
    c.subscribe(List.of(topic));
    return c;
  }

  private void readsEverything(Protocol protocol) throws Exception {
    String topic = cluster.topic(3);
    for (int p = 0; p < 3; p++) {
      cluster.fill(topic, p, p * 100, p * 100 + 100);
    }
    try (Consumer<String, String> c = subscribed(protocol, cluster.name("group"), topic)) {
      List<ConsumerRecord<String, String>> got = Cluster.poll(c, 300);
      for (int p = 0; p < 3; p++) {
        int partition = p;
        equal(
            Cluster.values(p * 100, p * 100 + 100),
            Cluster.values(got.stream().filter(r -> r.partition() == partition).toList()),
            "values of partition " + p);
      }
    }
  }

  private void resumes(Protocol protocol) throws Exception {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    TopicPartition tp = new TopicPartition(topic, 0);
    cluster.fill(topic, 100);
    try (Consumer<String, String> c = subscribed(protocol, group, topic, "max.poll.records", "40")) {
      equal(40, Cluster.poll(c, 40).size(), "first records");
      c.commitSync();
      equal(40L, c.committed(Set.of(tp)).get(tp).offset(), "committed");
      Cluster.poll(c, 40);
    }
    try (Consumer<String, String> c = subscribed(protocol, group, topic)) {
      equal(Cluster.values(40, 100), Cluster.values(Cluster.poll(c, 60)), "values after the commit");
      c.commitSync(Map.of(tp, new OffsetAndMetadata(100)));
      equal(100L, c.committed(Set.of(tp)).get(tp).offset(), "committed");
    }
    try (Consumer<String, String> c = subscribed(protocol, group, topic)) {
      equal(List.of(), Cluster.poll(c, 1, Duration.ofSeconds(2)), "records after all");
    }
  }

  /** Two members have all partitions between them, and the one that stays has them all again. */
  private void membersShare(Protocol protocol) throws Exception {
    String topic = cluster.topic(4);
    String group = cluster.name("group");
    Set<TopicPartition> all = new HashSet<>();
    for (int p = 0; p < 4; p++) {
      all.add(new TopicPartition(topic, p));
    }
    try (Consumer<String, String> a = subscribed(protocol, group, topic)) {
      until(() -> a.assignment().equals(all), "the first member has everything", a);
      try (Consumer<String, String> b = subscribed(protocol, group, topic)) {
        until(
            () -> a.assignment().size() == 2 && b.assignment().size() == 2 && union(a, b).equals(all),
            "two partitions for each",
            a,
            b);
        for (int p = 0; p < 4; p++) {
          cluster.fill(topic, p, p * 10, p * 10 + 10);
        }
        List<String> got = new ArrayList<>();
        until(
            () -> {
              a.poll(Duration.ofMillis(20)).forEach(r -> got.add(r.value()));
              b.poll(Duration.ofMillis(20)).forEach(r -> got.add(r.value()));
              return got.size() >= 40;
            },
            "40 records");
        equal(new HashSet<>(Cluster.values(0, 40)), new HashSet<>(got), "values");
        equal(40, got.size(), "records, each read once");
        a.commitSync();
        b.commitSync();
      }
      until(() -> a.assignment().equals(all), "the first member has everything again", a);
    }
  }

  private static Set<TopicPartition> union(Consumer<?, ?> a, Consumer<?, ?> b) {
    Set<TopicPartition> all = new HashSet<>(a.assignment());
    all.addAll(b.assignment());
    return all;
  }

  /** Polls the consumers in turn until it holds. */
  @SafeVarargs
  private static void until(BooleanSupplier holds, String what, Consumer<String, String>... consumers) {
    long end = System.nanoTime() + patience.toNanos();
    while (!holds.getAsBoolean()) {
      check(System.nanoTime() < end, "not in " + patience.toSeconds() + " s: " + what);
      for (Consumer<String, String> c : consumers) {
        c.poll(Duration.ofMillis(50));
      }
    }
  }

  private void autoCommit(Protocol protocol) throws Exception {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    cluster.fill(topic, 50);
    try (Consumer<String, String> c = subscribed(protocol, group, topic, "enable.auto.commit", "true")) {
      equal(50, Cluster.poll(c, 50).size(), "records");
    }
    TopicPartition tp = new TopicPartition(topic, 0);
    var offsets = cluster.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
    equal(50L, offsets.get(tp).offset(), "offset that close committed");
  }

  private void commitWithMetadata(Protocol protocol) throws Exception {
    String topic = cluster.topic(2);
    String group = cluster.name("group");
    TopicPartition zero = new TopicPartition(topic, 0);
    TopicPartition one = new TopicPartition(topic, 1);
    try (Consumer<String, String> c = subscribed(protocol, group, topic)) {
      until(() -> c.assignment().size() == 2, "assignment", c);
      c.commitSync(Map.of(zero, new OffsetAndMetadata(0, "what I was doing")));
      equal("what I was doing", c.committed(Set.of(zero)).get(zero).metadata(), "metadata");
      equal(null, c.committed(Set.of(one)).get(one), "offset of a partition without one");
      boolean[] done = new boolean[1];
      Exception[] fault = new Exception[1];
      c.commitAsync(
          Map.of(one, new OffsetAndMetadata(0)),
          (offsets, e) -> {
            done[0] = true;
            fault[0] = e;
          });
      until(() -> done[0], "callback of commitAsync", c);
      equal(null, fault[0], "fault of commitAsync");
    }
  }

  /** A static member that comes back has the partitions that it had, and nobody rebalances. */
  private void staticMember(Protocol protocol) throws Exception {
    String topic = cluster.topic(4);
    String group = cluster.name("group");
    int[] revoked = new int[1];
    try (Consumer<String, String> a = cluster.consumer(group, protocol.and("group.instance.id", "a"))) {
      a.subscribe(
          List.of(topic),
          new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
              revoked[0] += partitions.size();
            }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {}
          });
      Consumer<String, String> first = subscribed(protocol, group, topic, "group.instance.id", "b");
      until(() -> a.assignment().size() == 2 && first.assignment().size() == 2, "two for each", a, first);
      Set<TopicPartition> had = new HashSet<>(first.assignment());
      // A static member does not leave when it closes.
      Thread close = new Thread(() -> first.close(org.apache.kafka.clients.consumer.CloseOptions.timeout(Duration.ofSeconds(5))));
      close.start();
      until(() -> !close.isAlive(), "closed", a);
      int before = revoked[0];
      try (Consumer<String, String> second = subscribed(protocol, group, topic, "group.instance.id", "b")) {
        until(() -> second.assignment().equals(had), "what it had: " + had, a, second);
        equal(before, revoked[0], "partitions revoked from the other");
      }
    }
  }

  /** Of two members with one instance id, the older is fenced (classic), or the newer refused (KIP-848). */
  private void staticMemberTaken(Protocol protocol) throws Throwable {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    try (Consumer<String, String> a = subscribed(protocol, group, topic, "group.instance.id", "x");
        Consumer<String, String> b = subscribed(protocol, group, topic, "group.instance.id", "x")) {
      until(() -> a.assignment().size() == 1, "assignment", a);
      if (protocol.classic()) {
        until(() -> b.assignment().size() == 1, "assignment of the second", b);
        fails(FencedInstanceIdException.class, () -> until(() -> false, "nothing", a));
      } else {
        fails(UnreleasedInstanceIdException.class, () -> until(() -> false, "nothing", b));
        a.poll(Duration.ofMillis(100));
        equal(1, a.assignment().size(), "assignment of the first");
      }
    }
  }

  private void partitionsAdded(Protocol protocol) throws Exception {
    String topic = cluster.topic(1);
    try (Consumer<String, String> c =
        subscribed(protocol, cluster.name("group"), topic, "metadata.max.age.ms", "500")) {
      until(() -> c.assignment().size() == 1, "one partition", c);
      cluster.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
      until(() -> c.assignment().size() == 3, "three partitions", c);
      cluster.fill(topic, 2, 0, 5);
      equal(5, Cluster.poll(c, 5).size(), "records of the new partition");
    }
  }

  private void pattern(Protocol protocol) throws Exception {
    String prefix = cluster.name("pattern");
    cluster.topicNamed(prefix + ".one", 1);
    cluster.topicNamed("not." + prefix, 1);
    try (Consumer<String, String> c =
        cluster.consumer(cluster.name("group"), protocol.and("metadata.max.age.ms", "500"))) {
      if (protocol.classic()) {
        c.subscribe(Pattern.compile(Pattern.quote(prefix) + "\\..*"));
      } else {
        c.subscribe(new SubscriptionPattern(prefix + "\\..*"));
      }
      until(() -> c.assignment().equals(Set.of(new TopicPartition(prefix + ".one", 0))), "one topic", c);
      cluster.topicNamed(prefix + ".two", 1);
      until(() -> c.assignment().size() == 2, "two topics", c);
    }
  }

  private void topicMadeLater(Protocol protocol) throws Exception {
    String topic = cluster.name("later");
    try (Consumer<String, String> c =
        subscribed(
            protocol,
            cluster.name("group"),
            topic,
            "metadata.max.age.ms",
            "500",
            "allow.auto.create.topics",
            "false")) {
      c.poll(Duration.ofMillis(500));
      check(!cluster.admin.listTopics().names().get().contains(topic), "subscribing does not make the topic");
      cluster.topicNamed(topic, 1);
      cluster.fill(topic, 3);
      equal(3, Cluster.poll(c, 3, patience).size(), "records");
    }
  }

  private void rebalanceListener(Protocol protocol) throws Exception {
    String topic = cluster.topic(2);
    List<String> calls = new ArrayList<>();
    ConsumerRebalanceListener listener =
        new ConsumerRebalanceListener() {
          @Override
          public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            calls.add("revoked " + partitions.size());
          }

          @Override
          public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            calls.add("assigned " + partitions.size());
          }
        };
    Consumer<String, String> c = cluster.consumer(cluster.name("group"), protocol.configs);
    try (c) {
      c.subscribe(List.of(topic), listener);
      until(() -> c.assignment().size() == 2, "assignment", c);
    }
    calls.remove("assigned 0");
    equal(List.of("assigned 2", "revoked 2"), calls, "calls");
  }

  private void resetPolicies(Protocol protocol) throws Throwable {
    String topic = cluster.topic(1);
    cluster.fill(topic, 10);
    TopicPartition tp = new TopicPartition(topic, 0);
    try (Consumer<String, String> c =
        subscribed(protocol, cluster.name("group"), topic, "auto.offset.reset", "latest")) {
      until(() -> c.assignment().size() == 1, "assignment", c);
      until(() -> c.position(tp) == 10, "position at the end", c);
      cluster.fill(topic, 0, 10, 12);
      equal(Cluster.values(10, 12), Cluster.values(Cluster.poll(c, 2)), "values since then");
    }
    try (Consumer<String, String> c =
        subscribed(protocol, cluster.name("group"), topic, "auto.offset.reset", "none")) {
      fails(NoOffsetForPartitionException.class, () -> until(() -> false, "nothing", c));
    }
    try (Consumer<String, String> c =
        subscribed(protocol, cluster.name("group"), topic, "auto.offset.reset", "by_duration:PT1H")) {
      equal(12, Cluster.poll(c, 12).size(), "records of the last hour");
    }
  }

  private void severalTopics(Protocol protocol) throws Exception {
    String one = cluster.topic(2);
    String two = cluster.topic(3);
    try (Consumer<String, String> c = cluster.consumer(cluster.name("group"), protocol.configs)) {
      c.subscribe(List.of(one, two));
      until(() -> c.assignment().size() == 5, "five partitions", c);
      c.subscribe(List.of(two));
      until(() -> c.assignment().size() == 3, "three partitions", c);
      c.unsubscribe();
      equal(Set.of(), c.assignment(), "assignment after unsubscribe");
    }
  }

  /** A member that stops without a word loses its partitions when its session times out. */
  private void memberDies(Protocol protocol) throws Exception {
    String topic = cluster.topic(2);
    String group = cluster.name("group");
    Consumer<String, String> dead = subscribed(protocol, group, topic, "max.poll.interval.ms", "6500");
    try (Consumer<String, String> alive = subscribed(protocol, group, topic)) {
      until(() -> alive.assignment().size() == 1 && dead.assignment().size() == 1, "one for each", alive, dead);
      long end = System.nanoTime() + Duration.ofSeconds(60).toNanos();
      while (alive.assignment().size() < 2) {
        check(System.nanoTime() < end, "the partitions of a member that does not poll are still its own");
        alive.poll(Duration.ofMillis(100));
      }
    } finally {
      dead.close(org.apache.kafka.clients.consumer.CloseOptions.timeout(Duration.ofSeconds(1)));
    }
  }

  /** KIP-848: members of both protocols in one group while it is moved over, one after the other. */
  private void upgrade() throws Exception {
    String topic = cluster.topic(4);
    String group = cluster.name("group");
    cluster.fill(topic, 10);
    Consumer<String, String> a = subscribed(protocols.get(1), group, topic);
    try {
      equal(10, Cluster.poll(a, 10).size(), "records of the classic member");
      a.commitSync();
      try (Consumer<String, String> b = subscribed(protocols.get(2), group, topic)) {
        until(() -> a.assignment().size() == 2 && b.assignment().size() == 2, "two for each", a, b);
        a.close();
        until(() -> b.assignment().size() == 4, "all for the new", b);
        cluster.fill(topic, 0, 10, 15);
        equal(Cluster.values(10, 15), Cluster.values(Cluster.poll(b, 5)), "values after the move");
      }
    } finally {
      a.close();
    }
  }

  private void seek() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    cluster.fill(topic, 100);
    try (Consumer<String, String> c = cluster.consumer(null)) {
      c.assign(List.of(tp));
      c.seek(tp, 42);
      equal("v42", Cluster.poll(c, 1).get(0).value(), "value at 42");
      c.seekToBeginning(List.of(tp));
      equal(0L, c.position(tp), "position at the beginning");
      equal("v0", Cluster.poll(c, 1).get(0).value(), "first value");
      c.seekToEnd(List.of(tp));
      equal(100L, c.position(tp), "position at the end");
      equal(Map.of(tp, 0L), c.beginningOffsets(List.of(tp)), "beginning offsets");
      equal(Map.of(tp, 100L), c.endOffsets(List.of(tp)), "end offsets");
      for (long offset = 99; offset >= 0; offset -= 7) {
        c.seek(tp, offset);
        equal(offset, Cluster.poll(c, 1).get(0).offset(), "offset after seek");
      }
    }
  }

  private void offsetsForTimes() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    long start = System.currentTimeMillis() - 1_000_000;
    try (Producer<String, String> p = cluster.producer()) {
      for (int i = 0; i < 100; i++) {
        p.send(new ProducerRecord<>(topic, 0, start + i * 1000L, "k", "v" + i));
        if (i % 10 == 9) {
          p.flush(); // so that there are several batches
        }
      }
    }
    try (Consumer<String, String> c = cluster.consumer(null)) {
      for (int i : new int[] {0, 1, 9, 10, 55, 99}) {
        OffsetAndTimestamp at = c.offsetsForTimes(Map.of(tp, start + i * 1000L)).get(tp);
        equal((long) i, at.offset(), "offset at its very time");
        equal(start + i * 1000L, at.timestamp(), "timestamp at its very time");
        OffsetAndTimestamp before = c.offsetsForTimes(Map.of(tp, start + i * 1000L - 500)).get(tp);
        equal((long) i, before.offset(), "offset half a second after the one before");
        equal(start + i * 1000L, before.timestamp(), "its real timestamp");
      }
      equal(null, c.offsetsForTimes(Map.of(tp, start + 1_000_000L)).get(tp), "after the last");
    }
  }

  private void outOfRange() throws Throwable {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    cluster.fill(topic, 10);
    try (Consumer<String, String> c = cluster.consumer(null, "auto.offset.reset", "none")) {
      c.assign(List.of(tp));
      c.seek(tp, 1000);
      fails(OffsetOutOfRangeException.class, () -> until(() -> false, "nothing", c));
    }
    try (Consumer<String, String> c = cluster.consumer(null, "auto.offset.reset", "earliest")) {
      c.assign(List.of(tp));
      c.seek(tp, 1000);
      equal(Cluster.values(0, 10), Cluster.values(Cluster.poll(c, 10)), "values after the reset");
    }
  }

  private void unknownGroup() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    for (String protocol : List.of("classic", "consumer")) {
      try (Consumer<String, String> c = cluster.consumer(cluster.name("group"), "group.protocol", protocol)) {
        c.assign(List.of(tp));
        equal(null, c.committed(Set.of(tp)).get(tp), "offset of an unknown group");
        c.commitSync(Map.of(tp, new OffsetAndMetadata(5)));
        equal(5L, c.committed(Set.of(tp)).get(tp).offset(), "offset of a group without members");
      }
    }
  }

  private static double metric(Consumer<?, ?> c, String name) {
    return c.metrics().entrySet().stream()
        .filter(e -> e.getKey().name().equals(name) && e.getKey().group().equals("consumer-fetch-manager-metrics"))
        .filter(e -> !e.getKey().tags().containsKey("topic"))
        .mapToDouble(e -> ((Number) e.getValue().metricValue()).doubleValue())
        .findFirst()
        .orElseThrow();
  }

  private void idle() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    cluster.fill(topic, 1);
    try (Consumer<String, String> c = cluster.consumer(null, "fetch.max.wait.ms", "250")) {
      c.assign(List.of(tp));
      equal(1, Cluster.poll(c, 1).size(), "records");
      double before = metric(c, "fetch-total");
      equal(List.of(), Cluster.poll(c, 1, Duration.ofSeconds(3)), "records at the end");
      double fetches = metric(c, "fetch-total") - before;
      check(fetches >= 6 && fetches <= 14, "fetches of 250 ms in 3 s: " + fetches);
    }
  }

  /** With fetch.min.bytes out of reach a record is delivered after fetch.max.wait.ms, not before. */
  private void maxWait() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    try (Consumer<String, String> c =
        cluster.consumer(null, "fetch.min.bytes", "1000000", "fetch.max.wait.ms", "1500")) {
      c.assign(List.of(tp));
      c.seekToBeginning(List.of(tp));
      c.poll(Duration.ofMillis(300));
      long start = System.nanoTime();
      cluster.fill(topic, 1);
      equal(1, Cluster.poll(c, 1).size(), "records");
      double seconds = (System.nanoTime() - start) / 1e9;
      check(seconds > 0.3 && seconds < 4, "delivered after " + seconds + " s");
    }
    try (Consumer<String, String> c = cluster.consumer(null, "fetch.max.wait.ms", "10000")) {
      c.assign(List.of(tp));
      c.seekToEnd(List.of(tp));
      c.position(tp);
      c.poll(Duration.ofMillis(300));
      long start = System.nanoTime();
      cluster.fill(topic, 1);
      equal(1, Cluster.poll(c, 1).size(), "records");
      double seconds = (System.nanoTime() - start) / 1e9;
      check(seconds < 2, "delivered at once when there is enough, not after " + seconds + " s");
    }
  }

  private void pause() throws Exception {
    String topic = cluster.topic(2);
    TopicPartition zero = new TopicPartition(topic, 0);
    TopicPartition one = new TopicPartition(topic, 1);
    cluster.fill(topic, 0, 0, 5);
    cluster.fill(topic, 1, 5, 10);
    try (Consumer<String, String> c = cluster.consumer(null)) {
      c.assign(List.of(zero, one));
      c.pause(List.of(zero));
      equal(Cluster.values(5, 10), Cluster.values(Cluster.poll(c, 6, Duration.ofSeconds(2))), "values of the other");
      c.resume(List.of(zero));
      equal(Cluster.values(0, 5), Cluster.values(Cluster.poll(c, 5)), "values after resume");
    }
  }

  private void wakeup() throws Throwable {
    String topic = cluster.topic(1);
    try (Consumer<String, String> c = cluster.consumer(null)) {
      c.assign(List.of(new TopicPartition(topic, 0)));
      c.poll(Duration.ofMillis(200));
      Thread t =
          new Thread(
              () -> {
                try {
                  Thread.sleep(300);
                } catch (InterruptedException e) {
                  return;
                }
                c.wakeup();
              });
      t.start();
      fails(WakeupException.class, () -> c.poll(Duration.ofSeconds(20)));
      t.join();
    }
  }

  private void lag() throws Exception {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    TopicPartition tp = new TopicPartition(topic, 0);
    cluster.fill(topic, 10);
    try (Consumer<String, String> c = cluster.consumer(group)) {
      c.assign(List.of(tp));
      equal(10, Cluster.poll(c, 10).size(), "records");
      until(() -> c.currentLag(tp).orElse(-1) == 0, "lag 0", c);
    }
  }

  private void maxPollRecords() throws Exception {
    String topic = cluster.topic(1);
    cluster.fill(topic, 100);
    try (Consumer<String, String> c = cluster.consumer(null, "max.poll.records", "7")) {
      c.assign(List.of(new TopicPartition(topic, 0)));
      List<String> got = new ArrayList<>();
      until(
          () -> {
            int n = 0;
            for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(100))) {
              got.add(r.value());
              n++;
            }
            check(n <= 7, n + " records in one poll");
            return got.size() == 100;
          },
          "100 records");
      equal(Cluster.values(0, 100), got, "values");
    }
  }

  /** Limits that are smaller than a batch give one batch at a time, and never nothing for ever. */
  private void smallFetches() throws Exception {
    String topic = cluster.topic(3);
    for (int p = 0; p < 3; p++) {
      for (int i = 0; i < 5; i++) {
        cluster.fill(topic, p, i * 20, i * 20 + 20);
      }
    }
    List<ConsumerRecord<String, String>> got =
        cluster.read(topic, "max.partition.fetch.bytes", "1", "fetch.max.bytes", "1");
    for (int p = 0; p < 3; p++) {
      int partition = p;
      equal(
          Cluster.values(0, 100),
          Cluster.values(got.stream().filter(r -> r.partition() == partition).toList()),
          "values of partition " + p);
    }
  }

  private void manyPartitions() throws Exception {
    String topic = cluster.topic(100);
    try (Producer<String, String> p = cluster.producer("linger.ms", "50")) {
      for (int i = 0; i < 1000; i++) {
        p.send(new ProducerRecord<>(topic, i % 100, "k", "v" + i));
      }
    }
    try (Consumer<String, String> c = cluster.consumer(cluster.name("group"))) {
      c.subscribe(List.of(topic));
      Set<String> got = new TreeSet<>();
      until(
          () -> {
            c.poll(Duration.ofMillis(100)).forEach(r -> got.add(r.value()));
            return got.size() == 1000;
          },
          "1000 records");
      // The session is incremental now: one partition has news.
      cluster.fill(topic, 77, 0, 1);
      equal(77, Cluster.poll(c, 1).get(0).partition(), "partition with news");
    }
  }

  private void deletedRecords() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    cluster.fill(topic, 100);
    cluster.admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(60))).all().get();
    try (Consumer<String, String> c = cluster.consumer(null)) {
      c.assign(List.of(tp));
      c.seek(tp, 10);
      equal(Cluster.values(60, 100), Cluster.values(Cluster.poll(c, 40)), "values that are left");
      equal(Map.of(tp, 60L), c.beginningOffsets(List.of(tp)), "beginning offset");
    }
  }

  /** A consumer does not go on at the old offset of a topic that has another id now. */
  private void deletion() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    cluster.fill(topic, 5);
    try (Consumer<String, String> c = cluster.consumer(null, "metadata.max.age.ms", "500")) {
      c.assign(List.of(tp));
      equal(5, Cluster.poll(c, 5).size(), "records");
      cluster.admin.deleteTopics(List.of(topic)).all().get();
      eventually(
          Duration.ofSeconds(10),
          "the topic is gone",
          () -> !cluster.admin.listTopics().names().get().contains(topic));
      cluster.topicNamed(topic, 1);
      cluster.fill(topic, 0, 100, 103);
      equal(Cluster.values(100, 103), Cluster.values(Cluster.poll(c, 3, patience)), "values of the new topic");
    }
  }
}
