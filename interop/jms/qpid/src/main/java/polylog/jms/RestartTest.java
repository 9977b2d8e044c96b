package polylog.jms;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;

import jakarta.jms.Connection;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.Topic;
import jakarta.jms.TransactionRolledBackException;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.qpid.jms.JmsConnectionFactory;
import org.junit.After;
import org.junit.Assume;
import org.junit.Before;
import org.junit.Test;

/** A broker that is killed, or stops, in the middle of a program whose client connects again by itself. */
public class RestartTest extends Client {
  private Path data;
  private Process broker;
  private int port;

  @Before public void start() throws IOException {
    Assume.assumeTrue("needs the program: -Dpolylog.binary", System.getProperty("polylog.binary") != null);
    data = Files.createTempDirectory("polylog-jms-");
    run("127.0.0.1:0");
  }

  private void run(String listen) throws IOException {
    broker = new ProcessBuilder(System.getProperty("polylog.binary"), "serve", "--data", data.resolve("data").toString(),
        "--native-listen", "127.0.0.1:0", "--kafka-listen", "", "--amqp-listen", listen, "--stomp-listen", "", "--http-listen", "", "--log-level", "error")
        .redirectError(ProcessBuilder.Redirect.INHERIT).start();
    BufferedReader out = broker.inputReader();
    String ready = out.readLine();
    for (String word : ready.split(" ")) {
      if (word.startsWith("amqp=")) {
        port = Integer.parseInt(word.substring(word.lastIndexOf(':') + 1));
      }
    }
  }

  private void restart(boolean kill) throws Exception {
    if (kill) {
      broker.destroyForcibly();
    } else {
      broker.destroy();
    }
    broker.waitFor();
    run("127.0.0.1:" + port);
  }

  @After public void stop() throws Exception {
    if (broker == null) {
      return;
    }
    broker.destroyForcibly();
    broker.waitFor();
    try (var files = Files.walk(data)) {
      files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
    }
  }

  private Connection failover() throws JMSException {
    Connection c = new JmsConnectionFactory(
        "failover:(amqp://127.0.0.1:" + port + ")?failover.reconnectDelay=20&failover.maxReconnectDelay=100").createConnection();
    c.setClientID(name("id"));
    c.start();
    return c;
  }

  private void sendsSurvive(boolean kill) throws Exception {
    try (Connection c = failover()) {
      Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
      Queue q = s.createQueue("q");
      MessageProducer p = s.createProducer(q);
      List<String> sent = new ArrayList<>();
      for (int i = 0; i < 300; i++) {
        if (i == 100 || i == 200) {
          restart(kill);
        }
        p.send(s.createTextMessage(Integer.toString(i))); // returns once it is on disk, over the restart as well
        sent.add(Integer.toString(i));
      }
      MessageConsumer k = s.createConsumer(q);
      List<String> got = new ArrayList<>();
      Message m;
      while ((m = k.receive(got.size() < sent.size() ? SOON : NEVER)) != null) {
        if (got.isEmpty() || !got.get(got.size() - 1).equals(text(m))) { // what was under way may be there twice
          got.add(text(m));
        }
      }
      assertEquals(sent, got);
    }
  }

  @Test public void sendsSurviveKills() throws Exception { sendsSurvive(true); }

  @Test public void sendsSurviveStops() throws Exception { sendsSurvive(false); }

  @Test public void consumersGoOn() throws Exception {
    try (Connection c = failover()) {
      Session s = c.createSession(Session.CLIENT_ACKNOWLEDGE);
      Queue q = s.createQueue("q");
      MessageProducer p = s.createProducer(q);
      for (int i = 0; i < 100; i++) {
        p.send(s.createTextMessage(Integer.toString(i)));
      }
      MessageConsumer k = s.createConsumer(q);
      Map<String, Integer> got = new HashMap<>();
      for (int i = 0; got.size() < 100; i++) {
        assertTrue("deliveries", i < 500);
        Message m = k.receive(SOON);
        got.merge(text(m), 1, Integer::sum);
        m.acknowledge();
        if (i == 30 || i == 60) {
          restart(i == 30);
        }
      }
      assertEquals(100, got.size());
    }
  }

  @Test public void durableSubscriptionsGoOn() throws Exception {
    try (Connection c = failover()) {
      Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
      Topic t = s.createTopic("t");
      MessageConsumer k = s.createDurableSubscriber(t, "sub");
      send(s, t, "a");
      assertEquals("a", receive(k, 1));
      restart(false); // the client does not wait for its acknowledgements
      send(s, t, "b");
      assertEquals("b", receive(k, 1));
      k.close();
      restart(false);
      send(s, t, "c");
      assertEquals("c", receive(s.createDurableSubscriber(t, "sub"), 1));
    }
  }

  @Test public void sharedDurableSubscriptionsGoOn() throws Exception {
    try (Connection c = failover()) {
      Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
      Topic t = s.createTopic("t");
      MessageConsumer k = s.createSharedDurableConsumer(t, "sub");
      restart(true);
      send(s, t, "a");
      assertEquals("a", receive(k, 1));
    }
  }

  @Test public void aTransactionIsRolledBack() throws Exception {
    try (Connection c = failover()) {
      Session s = c.createSession(Session.SESSION_TRANSACTED);
      Queue q = s.createQueue("q");
      send(s, q, "lost");
      restart(true);
      try {
        s.commit();
        assertFalse("committed by another broker than it began with", true);
      } catch (TransactionRolledBackException e) {
        // The specification's word for it.
      }
      send(s, q, "kept");
      s.commit();
      assertEquals("kept", receive(s.createConsumer(q), 1));
      s.commit();
    }
  }

  @Test public void whatIsScheduledStays() throws Exception {
    try (Connection c = failover()) {
      Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
      Queue q = s.createQueue("q");
      MessageProducer p = s.createProducer(q);
      p.setDeliveryDelay(1500);
      p.send(s.createTextMessage("later"));
      restart(true);
      MessageConsumer k = s.createConsumer(q);
      assertEquals(null, text(k.receive(100)));
      assertEquals("later", receive(k, 1));
    }
  }
}
