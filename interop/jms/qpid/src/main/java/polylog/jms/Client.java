package polylog.jms;

import jakarta.jms.Connection;
import jakarta.jms.Destination;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.qpid.jms.JmsConnectionFactory;
import org.junit.After;
import org.junit.Rule;
import org.junit.rules.TestName;
import org.junit.rules.Timeout;

/** What the programs share: connections that are closed, and names that nobody else has. */
abstract class Client {
  private static final String run = Long.toString(System.currentTimeMillis(), 36);
  private static final AtomicInteger made = new AtomicInteger();
  /** How long something is waited for that must come, and something that must not, in ms. */
  static final long SOON = 10_000;
  static final long NEVER = 150;

  @Rule public final TestName test = new TestName();
  @Rule public final Timeout timeout = Timeout.seconds(60);
  private final List<Connection> connections = new ArrayList<>();
  private final String name = run + "-" + made.incrementAndGet();

  static String uri() {
    return System.getProperty("polylog.uri");
  }

  JmsConnectionFactory factory(String options) {
    String uri = uri();
    return new JmsConnectionFactory(options.isEmpty() ? uri : uri + (uri.contains("?") ? "&" : "?") + options);
  }

  /** A connection that delivers, with a client id unless that is empty. */
  Connection connect(String id) throws JMSException {
    return connect(id, "");
  }

  Connection connect(String id, String options) throws JMSException {
    Connection c = factory(options).createConnection();
    connections.add(c);
    if (!id.isEmpty()) {
      c.setClientID(id);
    }
    c.start();
    return c;
  }

  Connection connect() throws JMSException {
    return connect("");
  }

  Session session(int mode) throws JMSException {
    return connect().createSession(mode);
  }

  @After
  public void closeAll() {
    for (Connection c : connections) {
      try {
        c.close();
      } catch (JMSException e) {
        // It may be what the test is about.
      }
    }
  }

  /** A name of this test's own. */
  String name(String base) {
    return "jms." + base + "." + name;
  }

  Queue queue(Session s) throws JMSException {
    return s.createQueue(name("queue"));
  }

  Topic topic(Session s) throws JMSException {
    return s.createTopic(name("topic"));
  }

  static void send(Session s, Destination to, String... texts) throws JMSException {
    MessageProducer p = s.createProducer(to);
    for (String text : texts) {
      p.send(s.createTextMessage(text));
    }
    p.close();
  }

  static String text(Message m) throws JMSException {
    return m == null ? null : ((TextMessage) m).getText();
  }

  /** The texts of n messages, a space between them; null for one that does not come. */
  static String receive(MessageConsumer c, int n) throws JMSException {
    StringBuilder all = new StringBuilder();
    for (int i = 0; i < n; i++) {
      all.append(i > 0 ? " " : "").append(text(c.receive(SOON)));
    }
    return all.toString();
  }

  static int count(Message m) throws JMSException {
    return m.getIntProperty("JMSXDeliveryCount");
  }
}
