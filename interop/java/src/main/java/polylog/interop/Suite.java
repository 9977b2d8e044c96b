package polylog.interop;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;

/**
 * Cases, each of which runs within a time in a thread of its own. Most of them wait more than they work,
 * and have topics and groups of their own, so several run at once.
 */
abstract class Suite {
  /** A case passes if it returns. */
  interface Case {
    void run() throws Throwable;
  }

  /** Something to wait for. */
  interface Condition {
    boolean holds() throws Exception;
  }

  private static final class Skipped extends RuntimeException {
    private static final long serialVersionUID = 1;

    Skipped(String reason) {
      super(reason);
    }
  }

  private record Planned(String name, Duration limit, Case body) {}

  private final String name;
  private final Report report;
  private final Predicate<String> wanted;
  private final boolean full;
  private final List<Planned> together = new ArrayList<>();
  private final List<Planned> alone = new ArrayList<>();

  Suite(String name, Run.Options options) {
    this.name = name;
    this.report = options.report();
    this.wanted = options.wanted();
    this.full = options.full();
  }

  /** Names the cases. */
  abstract void plan() throws Exception;

  /**
   * Runs that many cases at once, then those that want to be alone, and then once more, alone, each that
   * failed: one that passes now may have been starved of the processor, and counts as AGAIN.
   */
  final void run(int lanes) throws Exception {
    plan();
    List<Planned> failed = Collections.synchronizedList(new ArrayList<>());
    ExecutorService pool = Executors.newFixedThreadPool(lanes);
    together.forEach(c -> pool.execute(() -> first(c, failed)));
    pool.shutdown();
    pool.awaitTermination(1, TimeUnit.HOURS);
    alone.forEach(c -> first(c, failed));
    for (Planned c : failed) {
      Report.Result r = run(c);
      report.add(r.outcome() == Report.Outcome.PASS ? r.as(Report.Outcome.AGAIN) : r);
    }
  }

  private void first(Planned c, List<Planned> failed) {
    Report.Result r = run(c);
    if (r.outcome() == Report.Outcome.FAIL) {
      report.tell(r);
      failed.add(c);
    } else {
      report.add(r);
    }
  }

  final boolean isFull() {
    return full;
  }

  /** A case that may take a minute. */
  final void test(String test, Case c) {
    test(test, Duration.ofSeconds(60), c);
  }

  /** A case that is worth its time only in the full form. */
  final void testFull(String test, Duration limit, Case c) {
    if (full) {
      test(test, limit, c);
    }
  }

  final void test(String test, Duration limit, Case c) {
    if (wanted.test(name + "/" + test)) {
      together.add(new Planned(test, limit, c));
    }
  }

  /** A case that measures time, or changes what others look at. */
  final void testAlone(String test, Duration limit, Case c) {
    if (wanted.test(name + "/" + test)) {
      alone.add(new Planned(test, limit, c));
    }
  }

  /** Runs a case at once, whatever is planned. Answers whether it passed. */
  final boolean now(String test, Duration limit, Case c) {
    Report.Result r = run(new Planned(test, limit, c));
    report.add(r);
    return r.outcome() == Report.Outcome.PASS;
  }

  private Report.Result run(Planned planned) {
    Throwable[] fault = new Throwable[1];
    Thread t =
        new Thread(
            () -> {
              try {
                planned.body.run();
              } catch (Throwable e) {
                fault[0] = e;
              }
            },
            name + "/" + planned.name);
    t.setDaemon(true);
    long start = System.nanoTime();
    t.start();
    Report.Outcome outcome = Report.Outcome.PASS;
    String reason = "";
    try {
      t.join(planned.limit.toMillis());
      if (t.isAlive()) {
        reason = "still running after " + planned.limit.toSeconds() + " s" + at(t.getStackTrace());
        outcome = Report.Outcome.FAIL;
        t.interrupt();
        t.join(5_000);
      } else if (fault[0] instanceof Skipped) {
        reason = fault[0].getMessage();
        outcome = Report.Outcome.SKIP;
      } else if (fault[0] != null) {
        reason = reason(fault[0]);
        outcome = Report.Outcome.FAIL;
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      reason = "interrupted";
      outcome = Report.Outcome.FAIL;
    }
    return new Report.Result(name, planned.name, outcome, reason, (System.nanoTime() - start) / 1_000_000);
  }

  /** One line that says what went wrong and where in this program. */
  static String reason(Throwable e) {
    Throwable cause = e;
    while (cause instanceof ExecutionException && cause.getCause() != null) {
      cause = cause.getCause();
    }
    String what = cause instanceof Failure ? "" : cause.getClass().getSimpleName() + ": ";
    String where = at(e.getStackTrace());
    return (what + cause.getMessage()).replaceAll("\\s+", " ").strip() + where;
  }

  private static String at(StackTraceElement[] stack) {
    for (StackTraceElement s : stack) {
      boolean check = s.getClassName().equals(Suite.class.getName());
      if (s.getClassName().startsWith("polylog.interop.") && !check) {
        return " (" + s.getFileName() + ":" + s.getLineNumber() + ")";
      }
    }
    return "";
  }

  /** What a check found. */
  static final class Failure extends RuntimeException {
    private static final long serialVersionUID = 1;

    Failure(String message) {
      super(message);
    }
  }

  static void skip(String reason) {
    throw new Skipped(reason);
  }

  static void check(boolean holds, String message) {
    if (!holds) {
      throw new Failure(message);
    }
  }

  static void equal(Object want, Object got, String what) {
    if (!Objects.equals(want, got)) {
      throw new Failure(what + ": want " + shorten(want) + ", got " + shorten(got));
    }
  }

  static String shorten(Object o) {
    String s = String.valueOf(o);
    return s.length() <= 400 ? s : s.substring(0, 400) + "… (" + s.length() + " characters)";
  }

  /** Runs c, which must fail with an error of that type, wrapped by a future or not; and returns it. */
  static <T extends Throwable> T fails(Class<T> type, Case c) throws Throwable {
    Throwable got = null;
    try {
      c.run();
    } catch (Throwable e) {
      got = e;
    }
    check(got != null, "no " + type.getSimpleName());
    for (Throwable e = got; e != null; e = e.getCause()) {
      if (type.isInstance(e)) {
        return type.cast(e);
      }
    }
    if (got instanceof Failure) {
      throw got;
    }
    throw new Failure("want " + type.getSimpleName() + ", got " + reason(got));
  }

  /** Asks again and again until it holds. An error counts as not holding, and is told in the end. */
  static void eventually(Duration limit, String what, Condition c) throws InterruptedException {
    long end = System.nanoTime() + limit.toNanos();
    Exception last = null;
    while (true) {
      try {
        if (c.holds()) {
          return;
        }
        last = null;
      } catch (InterruptedException e) {
        throw e;
      } catch (Exception e) {
        last = e;
      }
      if (System.nanoTime() > end) {
        throw new Failure("not in " + limit.toSeconds() + " s: " + what + (last == null ? "" : ": " + reason(last)));
      }
      Thread.sleep(50);
    }
  }
}
