package polylog.interop;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;

/** Transactions: the Java producer, read_committed consumers, and what the admin client sees of them. */
final class TransactionSuite extends Suite {
  private static final Duration patience = Duration.ofSeconds(30);
  private final Cluster cluster;
  private final Admin admin;

  TransactionSuite(Run.Options options, Cluster cluster) {
    super("transactions", options);
    this.cluster = cluster;
    this.admin = cluster.admin;
  }

  @Override
  void plan() {
    test("commit", this::commit);
    test("abort", this::abort);
    test("empty_transaction", this::empty);
    test("open_transaction_is_not_read", this::open);
    test("last_stable_offset", this::lastStable);
    test("aborted_among_committed", this::interleaved);
    test("several_topics_and_partitions", this::severalTopics);
    test("many_transactions_bump_the_epoch", this::many);
    test("send_offsets", this::sendOffsets);
    test("send_offsets_aborted", this::sendOffsetsAborted);
    test("send_offsets_of_an_old_member", this::sendOffsetsFenced);
    test("exactly_once_copy", this::copy);
    test("fenced_by_second_producer", this::fenced);
    test("second_producer_aborts_the_first", this::secondAborts);
    test("fence_producers", this::fenceProducers);
    test("timeout_aborts", this::timeout);
    test("describe_transactions", this::describe);
    test("list_transactions", this::list);
    test("describe_producers_in_transaction", this::describeProducers);
    test("abort_transaction_by_admin", this::abortByAdmin);
    test("force_terminate", this::forceTerminate);
    test("non_transactional_beside", this::beside);
    test("compressed", this::compressed);
    test("not_transactional_without_init", this::withoutInit);
    testFull("long_transaction", Duration.ofSeconds(120), this::longTransaction);
  }

  private Producer<String, String> begun(String id, String... more) {
    Producer<String, String> p = producer(id, more);
    p.initTransactions();
    p.beginTransaction();
    return p;
  }

  private Producer<String, String> producer(String id, String... more) {
    List<String> configs = new ArrayList<>(List.of("transactional.id", id));
    configs.addAll(List.of(more));
    return cluster.producer(configs.toArray(new String[0]));
  }

  private List<String> committed(String topic) throws Exception {
    return Cluster.values(cluster.readCommitted(topic));
  }

  private long end(String topic, IsolationLevel level) throws Exception {
    TopicPartition tp = new TopicPartition(topic, 0);
    return admin.listOffsets(Map.of(tp, OffsetSpec.latest()), new ListOffsetsOptions(level)).all().get().get(tp).offset();
  }

  private void commit() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      Cluster.send(p, topic, 0, 0, 10);
      p.commitTransaction();
      p.beginTransaction();
      Cluster.send(p, topic, 0, 10, 20);
      p.commitTransaction();
    }
    equal(Cluster.values(0, 20), committed(topic), "values");
    equal(22L, end(topic, IsolationLevel.READ_UNCOMMITTED), "end: each marker has an offset");
    equal(22L, end(topic, IsolationLevel.READ_COMMITTED), "last stable offset");
  }

  private void abort() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      Cluster.send(p, topic, 0, 0, 10);
      p.abortTransaction();
      equal(List.of(), committed(topic), "nothing was committed");
      p.beginTransaction();
      Cluster.send(p, topic, 0, 10, 12);
      p.commitTransaction();
    }
    equal(Cluster.values(10, 12), committed(topic), "values");
    equal(12, cluster.read(topic).size(), "read_uncommitted sees everything");
  }

  private void empty() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      p.commitTransaction();
      p.beginTransaction();
      p.abortTransaction();
      p.beginTransaction();
      Cluster.send(p, topic, 0, 0, 1);
      p.commitTransaction();
    }
    equal(List.of("v0"), committed(topic), "values");
  }

  private void open() throws Exception {
    String topic = cluster.topic(1);
    cluster.fill(topic, 5);
    try (Producer<String, String> p = begun(cluster.name("txn"));
        Consumer<String, String> c = cluster.consumer(null, "isolation.level", "read_committed")) {
      Cluster.send(p, topic, 0, 5, 10);
      cluster.fill(topic, 0, 10, 15);
      c.assign(List.of(new TopicPartition(topic, 0)));
      equal(Cluster.values(0, 5), Cluster.values(Cluster.poll(c, 6, Duration.ofSeconds(2))), "values before the transaction");
      p.commitTransaction();
      equal(Cluster.values(5, 15), Cluster.values(Cluster.poll(c, 10)), "values after the commit");
    }
  }

  private void lastStable() throws Exception {
    String topic = cluster.topic(1);
    cluster.fill(topic, 3);
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      Cluster.send(p, topic, 0, 3, 6);
      equal(3L, end(topic, IsolationLevel.READ_COMMITTED), "last stable offset while it is open");
      equal(6L, end(topic, IsolationLevel.READ_UNCOMMITTED), "end while it is open");
      p.abortTransaction();
    }
    eventually(patience, "last stable offset after the abort", () -> end(topic, IsolationLevel.READ_COMMITTED) == 7);
  }

  /** Three producers take turns in one partition; the second of them aborts each time. */
  private void interleaved() throws Exception {
    String topic = cluster.topic(1);
    Set<String> want = new TreeSet<>();
    List<Producer<String, String>> producers = new ArrayList<>();
    try {
      for (int i = 0; i < 3; i++) {
        Producer<String, String> p = producer(cluster.name("txn"));
        p.initTransactions();
        producers.add(p);
      }
      for (int round = 0; round < 10; round++) {
        for (Producer<String, String> p : producers) {
          p.beginTransaction();
        }
        for (int n = 0; n < 4; n++) {
          for (int i = 0; i < 3; i++) {
            String value = round + "." + n + "." + i;
            producers.get(i).send(new ProducerRecord<>(topic, 0, "k", value)).get();
            if (i != 1) {
              want.add(value);
            }
          }
        }
        for (int i = 0; i < 3; i++) {
          int which = (i + round) % 3;
          if (which == 1) {
            producers.get(which).abortTransaction();
          } else {
            producers.get(which).commitTransaction();
          }
        }
      }
    } finally {
      producers.forEach(Producer::close);
    }
    List<String> got = committed(topic);
    equal(want.size(), got.size(), "records");
    equal(want, new TreeSet<>(got), "values");
    // Small fetches have the aborted transactions of what they hold, and no more.
    equal(
        got,
        Cluster.values(
            cluster.readCommitted(topic, "max.partition.fetch.bytes", "100")),
        "values in small fetches");
  }

  private void severalTopics() throws Exception {
    String one = cluster.topic(3);
    String two = cluster.topic(2);
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 30; i++) {
          p.send(new ProducerRecord<>(one, i % 3, "k", round + "." + i));
          p.send(new ProducerRecord<>(two, i % 2, "k", round + "." + i));
        }
        if (round == 0) {
          p.abortTransaction();
          p.beginTransaction();
        } else {
          p.commitTransaction();
        }
      }
    }
    for (String topic : List.of(one, two)) {
      List<String> got = committed(topic);
      equal(30, got.size(), "records");
      check(got.stream().allMatch(v -> v.startsWith("1.")), "those of the committed transaction");
    }
  }

  private ProducerState state(String topic) throws Exception {
    TopicPartition tp = new TopicPartition(topic, 0);
    List<ProducerState> all = admin.describeProducers(List.of(tp)).partitionResult(tp).get().activeProducers();
    equal(1, all.size(), "producers");
    return all.get(0);
  }

  /** KIP-890: with transaction.version 2 every transaction has an epoch of its own. */
  private void many() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = producer(cluster.name("txn"))) {
      p.initTransactions();
      int first = -1;
      for (int i = 0; i < 20; i++) {
        p.beginTransaction();
        Cluster.send(p, topic, 0, i, i + 1);
        int epoch = state(topic).producerEpoch();
        first = i == 0 ? epoch : first;
        equal(first + i, epoch, "epoch of transaction " + i);
        p.commitTransaction();
      }
    }
    equal(Cluster.values(0, 20), committed(topic), "values");
  }

  private Long offset(String group, String topic) throws Exception {
    OffsetAndMetadata o =
        admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(new TopicPartition(topic, 0));
    return o == null ? null : o.offset();
  }

  private void sendOffsets() throws Exception {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      p.sendOffsetsToTransaction(
          Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(17)), new ConsumerGroupMetadata(group));
      Long before = offset(group, topic);
      check(before == null, "nothing is committed before the transaction is: " + before);
      p.commitTransaction();
      eventually(patience, "offset 17", () -> Long.valueOf(17).equals(offset(group, topic)));
    }
  }

  private void sendOffsetsAborted() throws Exception {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    TopicPartition tp = new TopicPartition(topic, 0);
    admin.alterConsumerGroupOffsets(group, Map.of(tp, new OffsetAndMetadata(5))).all().get();
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      p.sendOffsetsToTransaction(Map.of(tp, new OffsetAndMetadata(17)), new ConsumerGroupMetadata(group));
      p.abortTransaction();
      equal(5L, offset(group, topic), "offset as before");
      p.beginTransaction();
      p.sendOffsetsToTransaction(Map.of(tp, new OffsetAndMetadata(18)), new ConsumerGroupMetadata(group));
      p.commitTransaction();
      eventually(patience, "offset 18", () -> Long.valueOf(18).equals(offset(group, topic)));
    }
  }

  /** KIP-447: who is no longer a member cannot commit by a transaction either. */
  private void sendOffsetsFenced() throws Throwable {
    String topic = cluster.topic(1);
    String group = cluster.name("group");
    TopicPartition tp = new TopicPartition(topic, 0);
    ConsumerGroupMetadata old;
    try (Consumer<String, String> c = cluster.consumer(group)) {
      c.subscribe(List.of(topic));
      eventually(
          patience,
          "assignment",
          () -> {
            c.poll(Duration.ofMillis(100));
            return !c.assignment().isEmpty();
          });
      old = c.groupMetadata();
      try (Producer<String, String> p = begun(cluster.name("txn"))) {
        p.sendOffsetsToTransaction(Map.of(tp, new OffsetAndMetadata(1)), old);
        p.commitTransaction();
      }
    }
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      fails(
          KafkaException.class,
          () -> {
            p.sendOffsetsToTransaction(Map.of(tp, new OffsetAndMetadata(2)), old);
            p.commitTransaction();
          });
      p.abortTransaction();
    }
    equal(1L, offset(group, topic), "offset");
  }

  /** Consume, transform, produce, with an abort now and then: each value comes out once. */
  private void copy() throws Exception {
    String from = cluster.topic(2);
    String to = cluster.topic(1);
    String group = cluster.name("group");
    cluster.fill(from, 0, 0, 100);
    cluster.fill(from, 1, 100, 200);
    for (String protocol : List.of("classic", "consumer")) {
      try (Producer<String, String> p = producer(cluster.name("txn"));
          Consumer<String, String> c =
              cluster.consumer(
                  group, "max.poll.records", "15", "isolation.level", "read_committed", "group.protocol", protocol)) {
        p.initTransactions();
        c.subscribe(List.of(from));
        int half = protocol.equals("classic") ? 100 : 200;
        int[] round = new int[1];
        eventually(
            patience,
            half + " values",
            () -> {
              var records = c.poll(Duration.ofMillis(200));
              if (!records.isEmpty()) {
                p.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> r : records) {
                  p.send(new ProducerRecord<>(to, 0, r.key(), r.value()));
                  offsets.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
                }
                p.sendOffsetsToTransaction(offsets, c.groupMetadata());
                if (round[0]++ % 3 == 1) {
                  p.abortTransaction();
                  c.committed(c.assignment()).forEach((tp, o) -> c.seek(tp, o == null ? 0 : o.offset()));
                } else {
                  p.commitTransaction();
                }
              }
              return committed(to).size() >= half;
            });
      }
    }
    List<String> got = committed(to);
    equal(new TreeSet<>(Cluster.values(0, 200)), new TreeSet<>(got), "values");
    equal(200, got.size(), "each once");
  }

  private static boolean isFenced(Throwable e) {
    for (Throwable c = e; c != null; c = c.getCause()) {
      if (c instanceof ProducerFencedException || c instanceof InvalidProducerEpochException) {
        return true;
      }
    }
    return false;
  }

  private void fenced() throws Throwable {
    String topic = cluster.topic(1);
    String id = cluster.name("txn");
    try (Producer<String, String> old = begun(id)) {
      Cluster.send(old, topic, 0, 0, 1);
      try (Producer<String, String> next = begun(id)) {
        Cluster.send(next, topic, 0, 1, 2);
        Exception e =
            fails(
                Exception.class,
                () -> {
                  Cluster.send(old, topic, 0, 2, 3);
                  old.commitTransaction();
                });
        check(isFenced(e), "fenced, not " + e);
        check(isFenced(fails(Exception.class, old::commitTransaction)), "fenced for good");
        next.commitTransaction();
      }
    }
    equal(List.of("v1"), committed(topic), "values");
  }

  /** initTransactions of the second aborts what the first left open, without waiting for its timeout. */
  private void secondAborts() throws Exception {
    String topic = cluster.topic(1);
    String id = cluster.name("txn");
    Producer<String, String> dead = begun(id);
    try {
      Cluster.send(dead, topic, 0, 0, 3);
      long start = System.nanoTime();
      try (Producer<String, String> next = producer(id)) {
        next.initTransactions();
        double seconds = (System.nanoTime() - start) / 1e9;
        check(seconds < 10, "in " + seconds + " s");
        eventually(patience, "last stable offset moves on", () -> end(topic, IsolationLevel.READ_COMMITTED) == 4);
      }
    } finally {
      dead.close(Duration.ZERO);
    }
    equal(List.of(), committed(topic), "values");
  }

  private void fenceProducers() throws Throwable {
    String topic = cluster.topic(1);
    String id = cluster.name("txn");
    try (Producer<String, String> p = begun(id)) {
      Cluster.send(p, topic, 0, 0, 1);
      admin.fenceProducers(List.of(id)).all().get();
      Exception e = fails(Exception.class, p::commitTransaction);
      check(isFenced(e), "fenced, not " + e);
    }
    eventually(patience, "aborted", () -> end(topic, IsolationLevel.READ_COMMITTED) == 2);
    equal(List.of(), committed(topic), "values");
  }

  private void timeout() throws Throwable {
    String topic = cluster.topic(1);
    String id = cluster.name("txn");
    try (Producer<String, String> p = begun(id, "transaction.timeout.ms", "1500")) {
      Cluster.send(p, topic, 0, 0, 3);
      eventually(patience, "aborted by its timeout", () -> end(topic, IsolationLevel.READ_COMMITTED) == 4);
      Exception e = fails(Exception.class, p::commitTransaction);
      check(isFenced(e) || e instanceof KafkaException, "refused, not " + e);
    }
    equal(List.of(), committed(topic), "values");
  }

  private TransactionDescription description(String id) throws Exception {
    return admin.describeTransactions(List.of(id)).description(id).get();
  }

  private void describe() throws Throwable {
    String topic = cluster.topic(2);
    String id = cluster.name("txn");
    try (Producer<String, String> p = producer(id, "transaction.timeout.ms", "45000")) {
      p.initTransactions();
      equal(TransactionState.EMPTY, description(id).state(), "state before");
      p.beginTransaction();
      Cluster.send(p, topic, 0, 0, 1);
      Cluster.send(p, topic, 1, 0, 1);
      TransactionDescription d = description(id);
      equal(TransactionState.ONGOING, d.state(), "state");
      equal(Set.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1)), d.topicPartitions(), "partitions");
      equal(45000L, d.transactionTimeoutMs(), "timeout");
      check(d.transactionStartTimeMs().orElse(0) > System.currentTimeMillis() - 60_000, "start time");
      check(d.producerId() >= 0 && d.producerEpoch() >= 0, "producer: " + d);
      p.commitTransaction();
      eventually(patience, "complete", () -> description(id).state() == TransactionState.COMPLETE_COMMIT);
      p.beginTransaction();
      Cluster.send(p, topic, 0, 1, 2);
      p.abortTransaction();
      eventually(patience, "complete", () -> description(id).state() == TransactionState.COMPLETE_ABORT);
    }
    fails(TransactionalIdNotFoundException.class, () -> description(cluster.name("unknown")));
  }

  private boolean listed(String id, ListTransactionsOptions options) throws Exception {
    return admin.listTransactions(options).all().get().stream().anyMatch(t -> t.transactionalId().equals(id));
  }

  private void list() throws Exception {
    String topic = cluster.topic(1);
    String id = cluster.name("txn");
    try (Producer<String, String> p = begun(id)) {
      Cluster.send(p, topic, 0, 0, 1);
      long producer = description(id).producerId();
      check(listed(id, new ListTransactionsOptions()), "listed");
      check(listed(id, new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING))), "as ongoing");
      check(!listed(id, new ListTransactionsOptions().filterStates(Set.of(TransactionState.COMPLETE_ABORT))), "not as aborted");
      check(listed(id, new ListTransactionsOptions().filterProducerIds(Set.of(producer))), "of its producer id");
      check(!listed(id, new ListTransactionsOptions().filterProducerIds(Set.of(producer + 100_000))), "of no other");
      check(!listed(id, new ListTransactionsOptions().filterOnDuration(3_600_000)), "not as old");
      check(listed(id, new ListTransactionsOptions().filterOnTransactionalIdPattern(id.substring(0, 3) + ".*")), "by pattern");
      check(!listed(id, new ListTransactionsOptions().filterOnTransactionalIdPattern("other.*")), "not by another");
      p.commitTransaction();
    }
  }

  private void describeProducers() throws Exception {
    String topic = cluster.topic(1);
    cluster.admin.describeTopics(List.of(topic)).allTopicNames().get();
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      Cluster.send(p, topic, 0, 0, 4);
      ProducerState s = state(topic);
      equal(0L, s.currentTransactionStartOffset().orElse(-1), "start of its transaction");
      equal(3, s.lastSequence(), "last sequence");
      p.commitTransaction();
      eventually(patience, "no transaction", () -> state(topic).currentTransactionStartOffset().isEmpty());
      check(state(topic).coordinatorEpoch().orElse(-1) >= 0, "coordinator epoch of the marker");
    }
  }

  /** What one does about a transaction that hangs, with the data of describeProducers. */
  private void abortByAdmin() throws Exception {
    String topic = cluster.topic(1);
    TopicPartition tp = new TopicPartition(topic, 0);
    Producer<String, String> p = begun(cluster.name("txn"));
    try {
      Cluster.send(p, topic, 0, 0, 2);
      ProducerState s = state(topic);
      admin
          .abortTransaction(
              new AbortTransactionSpec(
                  tp, s.producerId(), (short) s.producerEpoch(), s.coordinatorEpoch().orElse(0)))
          .all()
          .get();
      eventually(patience, "last stable offset moves on", () -> end(topic, IsolationLevel.READ_COMMITTED) == 3);
    } finally {
      p.close(Duration.ZERO);
    }
    equal(List.of(), committed(topic), "values");
  }

  private void forceTerminate() throws Exception {
    String topic = cluster.topic(1);
    String id = cluster.name("txn");
    Producer<String, String> p = begun(id);
    try {
      Cluster.send(p, topic, 0, 0, 2);
      admin.forceTerminateTransaction(id).result().get();
      eventually(patience, "aborted", () -> end(topic, IsolationLevel.READ_COMMITTED) == 3);
    } finally {
      p.close(Duration.ZERO);
    }
    equal(List.of(), committed(topic), "values");
  }

  private void beside() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = begun(cluster.name("txn"))) {
      Cluster.send(p, topic, 0, 0, 2);
      cluster.fill(topic, 0, 2, 4);
      Cluster.send(p, topic, 0, 4, 6);
      p.abortTransaction();
    }
    equal(Cluster.values(2, 4), committed(topic), "values");
  }

  private void compressed() throws Exception {
    String topic = cluster.topic(1);
    try (Producer<String, String> p = begun(cluster.name("txn"), "compression.type", "lz4", "linger.ms", "50")) {
      for (int i = 0; i < 100; i++) {
        p.send(new ProducerRecord<>(topic, 0, "k", "v" + i));
      }
      p.commitTransaction();
    }
    equal(Cluster.values(0, 100), committed(topic), "values");
  }

  private void withoutInit() throws Throwable {
    try (Producer<String, String> p = producer(cluster.name("txn"))) {
      fails(IllegalStateException.class, p::beginTransaction);
    }
  }

  private void longTransaction() throws Exception {
    String topic = cluster.topic(4);
    try (Producer<String, String> p = begun(cluster.name("txn"), "linger.ms", "5")) {
      for (int i = 0; i < 50_000; i++) {
        p.send(new ProducerRecord<>(topic, i % 4, "k" + i, "v" + i));
      }
      p.commitTransaction();
    }
    List<String> got = committed(topic);
    equal(50_000, got.size(), "records");
    equal(new TreeSet<>(Cluster.values(0, 50_000)), new TreeSet<>(got), "values");
  }
}
