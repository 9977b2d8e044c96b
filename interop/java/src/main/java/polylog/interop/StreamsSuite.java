package polylog.interop;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Kafka Streams counts the words of a real text, exactly once, while the broker is killed and started
 * again. Nothing is cached, so the counts of a word are 1, 2, 3 and so on: one that is missing, or there
 * twice, is a record lost or counted twice.
 */
final class StreamsSuite extends Suite {
  private static final Path licenses = Paths.get("/usr/share/common-licenses");
  private static final Duration stall = Duration.ofSeconds(120);
  private final String bootstrap;
  private final String command;
  private final Path work;
  private Path data;

  /** Kills the broker that command starts, or uses that at bootstrap if there is no command. */
  StreamsSuite(Run.Options options, String bootstrap, String command, Path work) {
    super("streams", options);
    this.bootstrap = bootstrap;
    this.command = command;
    this.work = work;
  }

  /** Where the broker that was killed has its data, or null. */
  Path data() {
    return data;
  }

  @Override
  void plan() {
    if (command == null) {
      test("word_count_exactly_once", Duration.ofSeconds(180), () -> count(new Cluster(bootstrap), null, 0));
      test("word_count_survives_kill", () -> skip("the broker is not ours to kill"));
      return;
    }
    int kills = isFull() ? 3 : 1;
    testAlone("word_count_survives_kill", Duration.ofSeconds(60 + 120 * kills), () -> countWithKills(kills));
  }

  private void countWithKills(int kills) throws Exception {
    try (BrokerProcess broker = new BrokerProcess(command, Files.createDirectories(work.resolve("streams")))) {
      data = broker.directory;
      count(new Cluster(broker.start()), broker, kills);
      equal(true, broker.stop() >= 0, "stopped");
    }
  }

  /** The text, line by line: one licence, or all that are there. */
  private List<String> text() throws Exception {
    List<Path> files;
    if (!Files.isDirectory(licenses)) {
      files = List.of(Paths.get(System.getProperty("text", "LICENSE")));
    } else if (!isFull()) {
      files = List.of(licenses.resolve("GPL-3"));
    } else {
      try (Stream<Path> all = Files.list(licenses)) {
        files = all.filter(f -> !Files.isSymbolicLink(f)).sorted().toList();
      }
    }
    List<String> lines = new ArrayList<>();
    for (Path f : files) {
      lines.addAll(Files.readAllLines(f));
    }
    check(lines.size() > 100, "a text to count: " + files);
    return lines;
  }

  private static List<String> words(String line) {
    return Arrays.stream(line.toLowerCase(Locale.ROOT).split("\\W+")).filter(w -> !w.isEmpty()).toList();
  }

  private void count(Cluster cluster, BrokerProcess broker, int kills) throws Exception {
    String in = cluster.topic(3);
    String out = cluster.topic(3);
    List<String> text = text();
    Map<String, Long> want = new HashMap<>();
    text.forEach(l -> words(l).forEach(w -> want.merge(w, 1L, Long::sum)));

    AtomicReference<Throwable> fault = new AtomicReference<>();
    KafkaStreams streams = wordCount(cluster, in, out, fault);
    AtomicInteger sent = new AtomicInteger();
    Thread writer = new Thread(() -> write(cluster, in, text, sent, fault), "writer");
    try (cluster;
        Consumer<String, Long> reader =
            new KafkaConsumer<>(
                cluster.config("isolation.level", "read_committed"), new StringDeserializer(), new LongDeserializer())) {
      List<TopicPartition> partitions =
          List.of(new TopicPartition(out, 0), new TopicPartition(out, 1), new TopicPartition(out, 2));
      reader.assign(partitions);
      reader.seekToBeginning(partitions);
      streams.start();
      writer.start();
      Map<String, Long> got = new HashMap<>();
      long total = want.values().stream().mapToLong(Long::longValue).sum();
      long seen = 0;
      int killed = 0;
      long progress = System.nanoTime();
      while (seen < total || writer.isAlive()) {
        for (ConsumerRecord<String, Long> r : reader.poll(Duration.ofMillis(100))) {
          Long expected = got.merge(r.key(), 1L, Long::sum);
          equal(expected, r.value(), "the next count of \"" + r.key() + "\"");
          seen++;
          progress = System.nanoTime();
        }
        if (fault.get() != null) {
          throw new Failure(reason(fault.get()));
        }
        check(
            System.nanoTime() - progress < stall.toNanos(),
            "no progress for " + stall.toSeconds() + " s: " + seen + " of " + total + " counts, " + sent + " of " + text.size() + " lines, " + streams.state());
        if (killed < kills && seen > total * (killed + 1) / (kills + 1)) {
          broker.kill();
          broker.start();
          killed++;
          progress = System.nanoTime();
        }
      }
      equal(kills, killed, "kills");
      // Nothing comes after the last.
      check(reader.poll(Duration.ofSeconds(2)).isEmpty(), "no count too many");
      equal(want, got, "counts");
    } finally {
      writer.interrupt();
      streams.close(Duration.ofSeconds(15));
    }
  }

  /** Sends the text in four seconds or so, a line at a time. */
  private void write(Cluster cluster, String topic, List<String> text, AtomicInteger sent, AtomicReference<Throwable> fault) {
    try (Producer<String, String> p = cluster.producer("linger.ms", "5", "delivery.timeout.ms", "120000")) {
      for (String line : text) {
        p.send(
            new ProducerRecord<>(topic, line),
            (m, e) -> {
              if (e == null) {
                sent.incrementAndGet();
              } else {
                fault.compareAndSet(null, e);
              }
            });
        if (sent.get() % 20 == 0) {
          Thread.sleep(5);
        }
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    } catch (Throwable e) {
      fault.compareAndSet(null, e);
    }
  }

  private KafkaStreams wordCount(Cluster cluster, String in, String out, AtomicReference<Throwable> fault) throws Exception {
    StreamsBuilder b = new StreamsBuilder();
    b.<String, String>stream(in)
        .flatMapValues(StreamsSuite::words)
        .groupBy((key, word) -> word)
        .count(Materialized.as("counts"))
        .toStream()
        .to(out, Produced.with(Serdes.String(), Serdes.Long()));
    Properties p = new Properties();
    p.setProperty(StreamsConfig.APPLICATION_ID_CONFIG, cluster.name("words"));
    p.setProperty(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, cluster.bootstrap);
    p.setProperty(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    p.setProperty(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class.getName());
    p.setProperty(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class.getName());
    p.setProperty(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, "0");
    p.setProperty(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "100");
    p.setProperty(StreamsConfig.NUM_STREAM_THREADS_CONFIG, "2");
    p.setProperty(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
    p.setProperty(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory(work, "state").toString());
    p.setProperty(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    p.setProperty(StreamsConfig.consumerPrefix("session.timeout.ms"), "10000");
    // A thread that is stuck with the broker that died would hold up a rebalance for five minutes otherwise.
    p.setProperty(StreamsConfig.consumerPrefix("max.poll.interval.ms"), "30000");
    p.setProperty(StreamsConfig.producerPrefix("max.block.ms"), "20000");
    p.setProperty(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), "500");
    // A batch of a transaction that timed out meanwhile is tried again for two minutes otherwise.
    p.setProperty(StreamsConfig.producerPrefix("delivery.timeout.ms"), "20000");
    p.setProperty(StreamsConfig.producerPrefix("request.timeout.ms"), "10000");
    KafkaStreams streams = new KafkaStreams(b.build(), p);
    AtomicInteger replaced = new AtomicInteger();
    streams.setUncaughtExceptionHandler(
        e -> {
          // A broker that is gone may cost a thread; one after the other is something else.
          if (replaced.incrementAndGet() > 20) {
            fault.compareAndSet(null, e);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
          }
          return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
    return streams;
  }
}
