package polylog.interop;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import java.util.regex.Pattern;

/** Runs the suites against one broker, prints what passed, and compares it with what is expected. */
public final class Run {
  private static final String usage =
      """
      usage: run [option...] [quick|full] [suite...]

        --bootstrap HOST:PORT    a broker that runs already
        --data DIRECTORY         its data directory, for the dump suite; it is only read
        --broker-command COMMAND a broker to start, and to kill: {port} is the port of its Kafka listener
                                 on 127.0.0.1, {dir} its data directory; it prints a line "ready ... HOST:PORT"
        --expected FILE          the failures that are expected: lines of suite/case and a reason
        --only PATTERN           only the cases whose suite/case matches
        --lanes N                run N cases at once where they do not disturb each other; 6 if not given
        --keep                   keep the brokers' data, which is kept in any case if something differs
        --record FILE            write the results, sorted, to a file
        --slowest N              list the N slowest cases, too

      Suites: producer consumer share admin transactions tools streams dump; all of them, if none is named.
      """;

  /** What every suite is told. */
  record Options(Report report, Predicate<String> wanted, boolean full) {}

  private static final List<String> suites =
      List.of("producer", "consumer", "share", "admin", "transactions", "tools", "streams", "dump");

  public static void main(String[] arguments) throws Exception {
    String bootstrap = null;
    Path data = null;
    String command = null;
    Path expected = null;
    Predicate<String> wanted = s -> true;
    boolean full = false;
    int lanes = 6;
    int slowest = 0;
    Path record = null;
    boolean keep = false;
    List<String> chosen = new ArrayList<>();
    for (int i = 0; i < arguments.length; i++) {
      switch (arguments[i]) {
        case "--bootstrap" -> bootstrap = arguments[++i];
        case "--data" -> data = Paths.get(arguments[++i]);
        case "--broker-command" -> command = arguments[++i];
        case "--expected" -> expected = Paths.get(arguments[++i]);
        case "--only" -> wanted = Pattern.compile(arguments[++i]).asPredicate();
        case "--lanes" -> lanes = Integer.parseInt(arguments[++i]);
        case "--record" -> record = Paths.get(arguments[++i]);
        case "--slowest" -> slowest = Integer.parseInt(arguments[++i]);
        case "--keep" -> keep = true;
        case "quick" -> full = false;
        case "full" -> full = true;
        default -> {
          if (!suites.contains(arguments[i])) {
            System.err.println("what is " + arguments[i] + "?\n\n" + usage);
            System.exit(2);
          }
          chosen.add(arguments[i]);
        }
      }
    }
    if (bootstrap == null && command == null) {
      System.err.println("neither --bootstrap nor --broker-command is given\n\n" + usage);
      System.exit(2);
    }

    Report report = new Report(System.out);
    Options options = new Options(report, wanted, full);
    List<String> todo = suites.stream().filter(s -> chosen.isEmpty() || chosen.contains(s)).toList();
    Path work = Files.createTempDirectory("polylog-java-");
    BrokerProcess started = null;
    if (bootstrap == null && !todo.equals(List.of("streams"))) {
      started = new BrokerProcess(command, Files.createDirectories(work.resolve("broker")));
      bootstrap = started.start();
      data = started.directory;
    }
    DumpSuite dump = new DumpSuite(options);
    if (bootstrap != null) {
      try (Cluster cluster = new Cluster(bootstrap)) {
        for (String suite : todo) {
          switch (suite) {
            case "producer" -> new ProducerSuite(options, cluster).run(lanes);
            case "consumer" -> new ConsumerSuite(options, cluster).run(lanes);
            case "share" -> new ShareSuite(options, cluster).run(lanes);
            case "admin" -> new AdminSuite(options, cluster).run(lanes);
            case "transactions" -> new TransactionSuite(options, cluster).run(lanes);
            case "tools" -> new ToolSuite(options, cluster, work).run(Math.min(lanes, 2));
            case "dump" -> dump.prepare(cluster);
            default -> {}
          }
        }
      }
    }
    // The dump tool wants files that nobody writes, and the next broker wants the memory.
    if (started != null) {
      started.stop();
    }
    Path killed = null;
    if (todo.contains("streams")) {
      StreamsSuite streams = new StreamsSuite(options, bootstrap, command, work);
      streams.run(1);
      killed = streams.data();
    }
    if (todo.contains("dump")) {
      dump.read(data, killed);
      dump.run(1);
    }
    report.slowest(slowest);
    if (record != null) {
      report.record(record);
    }
    boolean good = report.end(expected);
    if (good && !keep) {
      Broker.remove(work);
    } else {
      System.out.println("the brokers' data and what they said: " + work);
    }
    System.exit(good ? 0 : 1);
  }

  private Run() {}
}
