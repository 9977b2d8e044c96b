package polylog.interop;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** What came of each case: a line for each as it ends, and a table of the suites at the end. */
final class Report {
  enum Outcome {
    PASS,
    FAIL,
    SKIP,
    /** Failed, and passed when it was run once more. */
    AGAIN
  }

  record Result(String suite, String name, Outcome outcome, String reason, long millis) {
    String id() {
      return suite + "/" + name;
    }

    Result as(Outcome other) {
      return new Result(suite, name, other, reason, millis);
    }
  }

  private final PrintStream out;
  private final List<Result> results = new ArrayList<>();

  Report(PrintStream out) {
    this.out = out;
  }

  synchronized void add(Result r) {
    results.add(r);
    tell(r);
  }

  /** Prints a result that does not count. */
  synchronized void tell(Result r) {
    out.println(r.outcome + " " + r.id() + (r.reason.isEmpty() ? "" : " " + r.reason));
    out.flush();
  }

  /**
   * Prints the table and what differs from the file of expected failures. Its lines are "suite/case
   * reason"; those that begin with # are remarks. Answers whether nothing differed.
   */
  synchronized boolean end(Path expectedFailures) throws IOException {
    Map<String, String> expected = expected(expectedFailures);
    Map<String, int[]> suites = new LinkedHashMap<>();
    List<String> differences = new ArrayList<>();
    for (Result r : results) {
      suites.computeIfAbsent(r.suite, s -> new int[Outcome.values().length + 1])[r.outcome.ordinal()]++;
      suites.get(r.suite)[Outcome.values().length] += (int) r.millis;
      boolean known = expected.containsKey(r.id());
      if (r.outcome == Outcome.FAIL && !known) {
        differences.add("failed, and is not expected to: " + r.id() + " " + r.reason);
      } else if (r.outcome == Outcome.PASS && known) {
        differences.add("passed, and is expected to fail: " + r.id());
      }
    }
    out.printf("%n%-16s %8s %8s %8s %8s %8s%n", "suite", "passed", "failed", "skipped", "again", "seconds");
    int[] sum = new int[Outcome.values().length + 1];
    suites.forEach(
        (suite, n) -> {
          out.printf("%-16s %8d %8d %8d %8d %8.1f%n", suite, n[0], n[1], n[2], n[3], n[4] / 1e3);
          for (int i = 0; i < n.length; i++) {
            sum[i] += n[i];
          }
        });
    out.printf("%-16s %8d %8d %8d %8d %8.1f%n%n", "all", sum[0], sum[1], sum[2], sum[3], sum[4] / 1e3);
    differences.forEach(out::println);
    out.printf(
        "%d passed, %d failed, %d skipped, %d passed only at the second try%n", sum[0], sum[1], sum[2], sum[3]);
    out.flush();
    return differences.isEmpty() && !results.isEmpty();
  }

  /** Writes one line for each case in the order of names, and the sum. */
  synchronized void record(Path file) throws IOException {
    List<String> lines = new ArrayList<>();
    results.stream()
        .map(r -> (r.outcome + " " + r.id() + " " + r.reason).strip())
        .sorted(Comparator.comparing(l -> l.substring(l.indexOf(' '))))
        .forEach(lines::add);
    for (Outcome o : Outcome.values()) {
      lines.add("# " + o + " " + results.stream().filter(r -> r.outcome == o).count());
    }
    Files.write(file, lines);
  }

  /** The slowest cases, for whoever wants the quick form to be quick. */
  synchronized void slowest(int n) {
    results.stream()
        .sorted((a, b) -> Long.compare(b.millis, a.millis))
        .limit(n)
        .forEach(r -> out.printf("%8.1f s %s%n", r.millis / 1e3, r.id()));
  }

  private static Map<String, String> expected(Path file) throws IOException {
    Map<String, String> all = new TreeMap<>();
    if (file == null) {
      return all;
    }
    for (String line : Files.readAllLines(file)) {
      if (line.isBlank() || line.startsWith("#")) {
        continue;
      }
      String[] fields = line.trim().split("\\s+", 2);
      if (fields.length < 2) {
        throw new IOException(file + ": no reason is given for " + fields[0]);
      }
      all.put(fields[0], fields[1]);
    }
    return all;
  }
}
