package polylog.interop;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.storage.internals.checkpoint.PartitionMetadataFile;

/** Kafka's dump tool reads the files of a broker that has stopped, and finds no fault. */
final class DumpSuite extends Suite {
  private static final Pattern fault =
      Pattern.compile(
          "(?i)isvalid: false|mismatch|out of order|non-consecutive|invalid bytes|not found|is followed by|corrupt|exception|ignoring unknown|error|unknown");
  private static final long chunkBytes = 8 << 20;

  private final String data = "dump-data-" + Long.toString(System.currentTimeMillis(), 36);
  private final String transactional = data.replace("data", "txn");
  private final String group = data.replace("data", "group");
  private boolean prepared;
  private Path directory;
  private Path killed;

  DumpSuite(Run.Options options) {
    super("dump", options);
  }

  /** Says where the broker's data is, and that of a broker that was killed; each may be null. */
  void read(Path directory, Path killed) {
    this.directory = directory;
    this.killed = killed;
  }

  @Override
  void plan() throws Exception {
    if (directory == null) {
      test("segments", () -> skip("nobody said where the data directory is"));
      return;
    }
    plan("", directory);
    if (prepared) {
      test("records_as_sent", this::records);
      test("control_records", this::controlRecords);
      test("producer_snapshot", this::producerSnapshot);
      test("transaction_index", this::transactionIndex);
      test("consumer_offsets", this::consumerOffsets);
      test("transaction_state", this::transactionState);
      test("partition_metadata", this::partitionMetadata);
    }
    if (killed != null) {
      plan("killed_", killed);
    }
  }

  private void plan(String prefix, Path in) {
    Duration limit = Duration.ofSeconds(180);
    test(prefix + "segments", limit, () -> clean(files(in, ".log", false), 100, "--print-data-log", "--deep-iteration"));
    test(prefix + "offsets_decoder", limit, () -> clean(files(in, ".log", "__consumer_offsets"), 1, "--offsets-decoder"));
    test(
        prefix + "transaction_log_decoder",
        limit,
        () -> clean(files(in, ".log", "__transaction_state"), 1, "--transaction-log-decoder"));
    test(prefix + "index_sanity", limit, () -> indexSanity(in));
    test(
        prefix + "index_verify",
        limit,
        () -> {
          clean(files(in, ".index", true), 0, "--verify-index-only");
          clean(files(in, ".timeindex", true), 0, "--verify-index-only");
        });
    test(prefix + "producer_snapshots", limit, () -> clean(files(in, ".snapshot", true), 1));
    test(prefix + "transaction_indexes", limit, () -> clean(files(in, ".txnindex", true), 0));
  }

  /** Writes what the cases look for. */
  void prepare(Cluster cluster) {
    prepared = now("prepare", Duration.ofSeconds(120), () -> write(cluster));
  }

  private void write(Cluster cluster) throws Exception {
    cluster.topicNamed(data, 1, "segment.bytes", "1048576", "max.message.bytes", "1000000");
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      try (Producer<String, String> p = cluster.producer("compression.type", codec, "linger.ms", "5")) {
        for (int i = 0; i < 1000; i++) {
          ProducerRecord<String, String> r = new ProducerRecord<>(data, 0, "k" + i, codec + i + "x".repeat(1000));
          r.headers().add("codec", Cluster.bytes(codec));
          p.send(r);
        }
      }
    }
    cluster.topicNamed(transactional, 1);
    try (Producer<String, String> p = cluster.producer("transactional.id", transactional)) {
      p.initTransactions();
      for (int i = 0; i < 6; i++) {
        p.beginTransaction();
        Cluster.send(p, transactional, 0, i * 10, i * 10 + 10);
        if (i % 2 == 0) {
          p.commitTransaction();
        } else {
          p.abortTransaction();
        }
      }
    }
    for (String protocol : List.of("classic", "consumer")) {
      try (Consumer<String, String> c = cluster.consumer(group + "." + protocol, "group.protocol", protocol)) {
        c.subscribe(List.of(data));
        eventually(
            Duration.ofSeconds(20),
            "assignment",
            () -> {
              c.poll(Duration.ofMillis(100));
              return !c.assignment().isEmpty();
            });
        c.commitSync(Map.of(new TopicPartition(data, 0), new OffsetAndMetadata(17)));
      }
    }
  }

  private static boolean isPartition(Path directory) {
    String name = directory.getFileName().toString();
    return name.matches(".*-\\d+") && !name.startsWith("__cluster_metadata");
  }

  private static List<Path> files(Path in, String suffix, Predicate<String> wanted) throws Exception {
    try (Stream<Path> all = Files.walk(in)) {
      return all.filter(f -> f.getFileName().toString().matches("\\d{20}" + Pattern.quote(suffix)))
          .filter(f -> isPartition(f.getParent()) && wanted.test(f.getParent().getFileName().toString()))
          .sorted()
          .toList();
    }
  }

  private static List<Path> files(Path in, String suffix, boolean internal) throws Exception {
    return files(in, suffix, name -> internal || !name.startsWith("__"));
  }

  private static List<Path> files(Path in, String suffix, String topic) throws Exception {
    return files(in, suffix, name -> name.matches(Pattern.quote(topic) + "-\\d+"));
  }

  /** Runs the tool over files, a few megabytes at a time, and returns everything it says. */
  private static List<String> dump(List<Path> files, String... options) throws Exception {
    List<String> said = new ArrayList<>();
    for (int i = 0; i < files.size(); ) {
      List<String> chunk = new ArrayList<>();
      for (long bytes = 0; i < files.size() && bytes < chunkBytes && chunk.size() < 500; i++) {
        bytes += Files.size(files.get(i));
        chunk.add(files.get(i).toString());
      }
      List<String> arguments = new ArrayList<>(List.of(options));
      arguments.addAll(List.of("--files", String.join(",", chunk)));
      try (Tool t = new Tool("DumpLogSegments", arguments.toArray(new String[0]))) {
        Tool.Output o = t.output().succeeds();
        said.addAll(o.lines());
        said.addAll(o.err().lines().map(String::strip).filter(l -> !l.isEmpty()).toList());
      }
    }
    return said;
  }

  /** Dumps files with something in them; what is said must be that much at least, and without fault. */
  private static void clean(List<Path> files, int lines, String... options) throws Exception {
    List<Path> filled = new ArrayList<>();
    for (Path f : files) {
      if (Files.size(f) > 0) {
        filled.add(f);
      }
    }
    // The tool begins every segment at -1, and says so of each that does not begin at 0.
    List<String> said = dump(filled, options);
    said.removeIf(l -> l.matches("-1 is followed by \\d+") || l.startsWith("Non-consecutive offsets in "));
    int dumped = 0;
    for (String line : said) {
      if (line.startsWith("Dumping ")) {
        continue;
      }
      dumped++;
      // What users wrote may say anything; of their records only the frame is of interest.
      String frame = line.startsWith("|") && line.contains("headerKeys:") ? line.substring(0, line.indexOf("headerKeys:")) : line;
      check(!fault.matcher(frame).find(), line);
    }
    check(dumped >= lines, "only " + dumped + " lines about " + filled.size() + " files");
  }

  private static void indexSanity(Path in) throws Exception {
    List<Path> all = new ArrayList<>(files(in, ".index", true));
    all.addAll(files(in, ".timeindex", true));
    check(!all.isEmpty(), "there are indexes");
    List<String> said = dump(all, "--index-sanity-check");
    for (Path f : all) {
      check(
          said.contains(f + " passed sanity check.") || said.contains(f + " is empty."),
          "nothing good about " + f + ": " + said.stream().filter(l -> l.contains(f.toString()) || fault.matcher(l).find()).toList());
    }
  }

  private void records() throws Exception {
    List<Path> segments = files(directory, ".log", data);
    check(segments.size() >= 2, "several segments: " + segments);
    List<String> said = dump(segments, "--print-data-log");
    List<String> records = said.stream().filter(l -> l.startsWith("| offset:")).toList();
    equal(5000, records.size(), "records");
    int i = 0;
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      check(
          said.stream().anyMatch(l -> l.startsWith("baseOffset:") && l.contains("compresscodec: " + codec + " ")),
          "batches compressed with " + codec);
      for (int n = 0; n < 1000; n++, i++) {
        String want = "headerKeys: [codec] key: k" + n + " payload: " + codec + n + "x";
        check(records.get(i).startsWith("| offset: " + i + " ") && records.get(i).contains(want), "record " + i + ": " + shorten(records.get(i)));
      }
    }
  }

  private void controlRecords() throws Exception {
    List<String> said = dump(files(directory, ".log", transactional), "--print-data-log");
    for (String end : List.of("COMMIT", "ABORT")) {
      equal(3L, said.stream().filter(l -> l.contains("endTxnMarker: " + end + " ")).count(), "markers: " + end);
    }
    equal(
        60L,
        said.stream().filter(l -> l.startsWith("| offset:") && l.contains("payload: v")).count(),
        "records");
  }

  private void producerSnapshot() throws Exception {
    List<Path> snapshots = files(directory, ".snapshot", data);
    check(!snapshots.isEmpty(), "segments that were closed leave a snapshot");
    List<String> said = dump(snapshots.subList(snapshots.size() - 1, snapshots.size()));
    check(
        said.stream().anyMatch(l -> l.matches("producerId: \\d+ producerEpoch: 0 .*lastSequence: \\d+ lastOffset: \\d+ .*")),
        "a producer: " + said);
  }

  private void transactionIndex() throws Exception {
    List<String> said = dump(files(directory, ".txnindex", transactional));
    equal(
        3L,
        said.stream().filter(l -> l.matches("version: 0 producerId: \\d+ firstOffset: \\d+ lastOffset: \\d+ lastStableOffset: \\d+")).count(),
        "aborted transactions: " + said);
  }

  private void consumerOffsets() throws Exception {
    List<String> said = dump(files(directory, ".log", "__consumer_offsets"), "--offsets-decoder");
    for (String protocol : List.of("classic", "consumer")) {
      String g = "\"group\":\"" + group + "." + protocol + "\"";
      check(
          said.stream().anyMatch(l -> l.contains(g + ",\"topic\":\"" + data + "\"") && l.contains("\"offset\":17")),
          "offset 17 of the " + protocol + " group");
    }
    check(
        said.stream().anyMatch(l -> l.contains("\"type\":\"2\"") && l.contains(group + ".classic") && l.contains("range")),
        "metadata of the classic group");
    check(
        said.stream().anyMatch(l -> l.contains("\"type\":\"3\"") && l.contains("\"groupId\":\"" + group + ".consumer\"")),
        "metadata of the KIP-848 group");
  }

  private void transactionState() throws Exception {
    List<String> said = dump(files(directory, ".log", "__transaction_state"), "--transaction-log-decoder");
    for (int status : new int[] {0, 1, 4, 5}) {
      check(
          said.stream()
              .anyMatch(
                  l -> l.contains("\"transactionalId\":\"" + transactional + "\"") && l.contains("\"transactionStatus\":" + status)),
          "state " + status);
    }
  }

  private void partitionMetadata() throws Exception {
    Path dir = files(directory, ".log", data).get(0).getParent();
    PartitionMetadataFile f = new PartitionMetadataFile(dir.resolve("partition.metadata").toFile(), null);
    check(!f.read().topicId().equals(Uuid.ZERO_UUID), "a topic id");
    List<String> epochs = Files.readAllLines(dir.resolve("leader-epoch-checkpoint"));
    equal("0", epochs.get(0), "version of the leader epoch checkpoint");
    equal(Integer.parseInt(epochs.get(1)), epochs.size() - 2, "its number of lines");
  }
}
