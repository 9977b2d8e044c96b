package polylog.jms;

import java.util.List;
import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.Request;
import org.junit.runner.Result;
import org.junit.runner.manipulation.Filter;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;
import org.objectweb.jtests.jms.conform.connection.ConnectionTest;
import org.objectweb.jtests.jms.conform.connection.TopicConnectionTest;
import org.objectweb.jtests.jms.conform.message.MessageBodyTest;
import org.objectweb.jtests.jms.conform.message.MessageDefaultTest;
import org.objectweb.jtests.jms.conform.message.MessageTypeTest;
import org.objectweb.jtests.jms.conform.message.headers.MessageHeaderTest;
import org.objectweb.jtests.jms.conform.message.properties.JMSXPropertyTest;
import org.objectweb.jtests.jms.conform.message.properties.MessagePropertyConversionTest;
import org.objectweb.jtests.jms.conform.message.properties.MessagePropertyTest;
import org.objectweb.jtests.jms.conform.queue.QueueBrowserTest;
import org.objectweb.jtests.jms.conform.queue.TemporaryQueueTest;
import org.objectweb.jtests.jms.conform.selector.SelectorSyntaxTest;
import org.objectweb.jtests.jms.conform.selector.SelectorTest;
import org.objectweb.jtests.jms.conform.session.QueueSessionTest;
import org.objectweb.jtests.jms.conform.session.SessionTest;
import org.objectweb.jtests.jms.conform.session.TopicSessionTest;
import org.objectweb.jtests.jms.conform.session.UnifiedSessionTest;
import org.objectweb.jtests.jms.conform.topic.TemporaryTopicTest;

/** Runs Joram's conformance tests, all or those of some names: a line for each that fails, and one with the numbers. */
public final class Joram {
  private static final Class<?>[] ALL = {
    TopicConnectionTest.class, ConnectionTest.class, MessageBodyTest.class, MessageDefaultTest.class, MessageTypeTest.class,
    MessageHeaderTest.class, JMSXPropertyTest.class, MessagePropertyConversionTest.class, MessagePropertyTest.class,
    QueueBrowserTest.class, TemporaryQueueTest.class, SelectorSyntaxTest.class, SelectorTest.class, QueueSessionTest.class,
    SessionTest.class, TopicSessionTest.class, UnifiedSessionTest.class, TemporaryTopicTest.class,
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
    System.out.printf("joram: %d passed, %d failed%n", result.getRunCount() - result.getFailureCount(), result.getFailureCount());
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
