package polylog.interop;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.ExecutionException;
import java.util.function.Predicate;

/** Cases that run one after the other, each in a thread of its own and within a time. */
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

  private final String name;
  private final Report report;
  private final Predicate<String> wanted;
  private final boolean full;

  Suite(String name, Run.Options options) {
    this.name = name;
    this.report = options.report();
    this.wanted = options.wanted();
    this.full = options.full();
  }

  /** Runs every case. */
  abstract void run() throws Exception;

  final boolean isFull() {
    return full;
  }

  /** Runs a case that may take a minute. */
  final void test(String test, Case c) {
    test(test, Duration.ofSeconds(60), c);
  }

  /** Runs a case that is worth its time only in the full form. */
  final void testFull(String test, Duration limit, Case c) {
    if (full) {
      test(test, limit, c);
    }
  }

  final void test(String test, Duration limit, Case c) {
    if (!wanted.test(name + "/" + test)) {
      return;
    }
    Throwable[] fault = new Throwable[1];
    Thread t =
        new Thread(
            () -> {
              try {
                c.run();
              } catch (Throwable e) {
                fault[0] = e;
              }
            },
            name + "/" + test);
    t.setDaemon(true);
    long start = System.nanoTime();
    t.start();
    Report.Outcome outcome = Report.Outcome.PASS;
    String reason = "";
    try {
      t.join(limit.toMillis());
      if (t.isAlive()) {
        reason = "still running after " + limit.toSeconds() + " s" + at(t.getStackTrace());
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
      return;
    }
    report.add(new Report.Result(name, test, outcome, reason, (System.nanoTime() - start) / 1_000_000));
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
