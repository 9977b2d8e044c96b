package polylog.jms;

import java.util.List;
import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.Request;
import org.junit.runner.Result;
import org.junit.runner.manipulation.Filter;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;

/** Runs the programs, all or those of some names: a line for each that fails, and one with the numbers. */
public final class Programs {
  private static final Class<?>[] ALL = {
    AcknowledgementTest.class, SubscriptionTest.class, MessageTest.class, SelectorTest.class, QueueTest.class, RestartTest.class,
  };

  public static void main(String[] args) {
    JUnitCore core = new JUnitCore();
    core.addListener(new RunListener() {
      @Override
      public void testFailure(Failure failure) {
        System.out.println("FAIL " + failure.getDescription() + ": " + failure.getTrimmedTrace());
      }

      @Override
      public void testStarted(Description test) {
        if (Boolean.getBoolean("polylog.verbose")) {
          System.out.println("RUN " + test);
        }
      }
    });
    Result result = args.length == 0 ? core.run(ALL) : core.run(Request.classes(ALL).filterWith(new Named(List.of(args))));
    System.out.printf("qpid: %d passed, %d failed%n", result.getRunCount() - result.getFailureCount(), result.getFailureCount());
    System.exit(result.wasSuccessful() ? 0 : 1);
  }

  private static final class Named extends Filter {
    private final List<String> names;

    Named(List<String> names) {
      this.names = names;
    }

    @Override
    public boolean shouldRun(Description test) {
      return test.isTest() ? names.contains(test.getMethodName()) : test.getChildren().stream().anyMatch(this::shouldRun);
    }

    @Override
    public String describe() {
      return "of the names " + names;
    }
  }
}
