package polylog.jms;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import jakarta.jms.CompletionListener;
import jakarta.jms.Connection;
import jakarta.jms.DeliveryMode;
import jakarta.jms.InvalidDestinationException;
import jakarta.jms.JMSConsumer;
import jakarta.jms.JMSContext;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.QueueBrowser;
import jakarta.jms.QueueRequestor;
import jakarta.jms.QueueSession;
import jakarta.jms.Session;
import jakarta.jms.TemporaryQueue;
import jakarta.jms.TemporaryTopic;
import jakarta.jms.TextMessage;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.Test;

/** Queues, browsers, temporary destinations, delays, expiry, priorities, groups, completions. */
public class QueueTest extends Client {
  private Session auto() throws JMSException {
    return session(Session.AUTO_ACKNOWLEDGE);
  }

  @Test public void inOrder() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    for (int i = 0; i < 5000; i++) {
      p.send(s.createTextMessage(Integer.toString(i)));
    }
    MessageConsumer k = s.createConsumer(q);
    for (int i = 0; i < 5000; i++) {
      assertEquals(Integer.toString(i), text(k.receive(SOON)));
    }
  }

  @Test public void receiveNoWait() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    MessageConsumer k = s.createConsumer(q);
    assertNull(k.receiveNoWait());
    send(s, q, "a");
    assertEquals("a", text(k.receiveNoWait()));
    assertNull(k.receiveNoWait());
  }

  @Test public void receiveNoWaitWithoutPrefetch() throws JMSException {
    Session s = connect("", "jms.prefetchPolicy.all=0").createSession(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    MessageConsumer k = s.createConsumer(q);
    for (int i = 0; i < 20; i++) {
      assertNull(k.receiveNoWait());
      send(s, q, "a" + i);
      assertEquals("a" + i, text(k.receiveNoWait()));
      assertNull(k.receive(5));
    }
  }

  @Test public void timedReceive() throws JMSException {
    Session s = auto();
    MessageConsumer k = s.createConsumer(queue(s));
    long began = System.currentTimeMillis();
    assertNull(k.receive(200));
    assertTrue(System.currentTimeMillis() - began >= 190);
  }

  @Test public void competingConsumers() throws JMSException {
    Session s = connect("", "jms.prefetchPolicy.all=1").createSession(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    MessageConsumer one = s.createConsumer(q);
    MessageConsumer two = s.createConsumer(q);
    send(s, q, "a", "b", "c", "d");
    List<String> all = new ArrayList<>();
    for (int i = 0; i < 40 && all.size() < 4; i++) {
      for (MessageConsumer k : new MessageConsumer[] {one, two}) {
        String text = text(k.receive(50));
        if (text != null) {
          all.add(text);
        }
      }
    }
    Collections.sort(all);
    assertEquals("[a, b, c, d]", all.toString());
  }

  @Test public void stopAndStart() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    MessageConsumer k = s.createConsumer(q);
    c.stop();
    send(auto(), q, "a");
    assertNull(k.receive(NEVER));
    c.start();
    assertEquals("a", text(k.receive(SOON)));
  }

  @Test public void selectorsLeaveOthers() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    for (int i = 0; i < 10; i++) {
      Message m = s.createTextMessage(Integer.toString(i));
      m.setIntProperty("odd", i % 2);
      p.send(m);
    }
    MessageConsumer odd = s.createConsumer(q, "odd = 1");
    assertEquals("1 3 5 7 9", receive(odd, 5));
    assertNull(odd.receive(NEVER));
    odd.close();
    assertEquals("0 2 4 6 8", receive(s.createConsumer(q), 5));
  }

  private String browse(Session s, Queue q, String selector) throws JMSException {
    QueueBrowser b = s.createBrowser(q, selector);
    StringBuilder all = new StringBuilder();
    for (Object m : Collections.list(b.getEnumeration())) {
      all.append(text((Message) m)).append(' ');
    }
    b.close();
    return all.toString().trim();
  }

  @Test public void browse() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    assertEquals("", browse(s, q, null));
    send(s, q, "a", "b", "c");
    assertEquals("a b c", browse(s, q, null));
    assertEquals("a b c", browse(s, q, null));
    assertEquals("a b c", receive(s.createConsumer(q), 3));
    assertEquals("", browse(s, q, null));
  }

  @Test public void browseMany() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    for (int i = 0; i < 2500; i++) {
      p.send(s.createTextMessage(Integer.toString(i)));
    }
    String[] all = browse(s, q, null).split(" ");
    assertEquals(2500, all.length);
    for (int i = 0; i < all.length; i++) {
      assertEquals(Integer.toString(i), all[i]);
    }
  }

  @Test public void browseWithoutPrefetch() throws JMSException {
    Session s = connect("", "jms.prefetchPolicy.all=0").createSession(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    send(s, q, "a", "b", "c");
    assertEquals("a b c", browse(s, q, null));
  }

  @Test public void browseWithSelector() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    for (int i = 0; i < 4; i++) {
      Message m = s.createTextMessage(Integer.toString(i));
      m.setIntProperty("odd", i % 2);
      p.send(m);
    }
    assertEquals("1 3", browse(s, q, "odd = 1"));
  }

  @Test public void temporaryQueue() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
    TemporaryQueue t = s.createTemporaryQueue();
    Session other = auto();
    send(other, t, "a");
    MessageConsumer k = s.createConsumer(t);
    assertEquals("a", receive(k, 1));
    assertThrows("another's connection may not consume", JMSException.class, () -> other.createConsumer(t));
    assertThrows("it has a consumer", JMSException.class, t::delete);
    k.close();
    t.delete();
    assertThrows(JMSException.class, () -> send(other, t, "b"));
  }

  @Test public void temporaryDiesWithItsConnection() throws JMSException {
    Connection c = connect();
    TemporaryQueue t = c.createSession(Session.AUTO_ACKNOWLEDGE).createTemporaryQueue();
    Session s = auto();
    send(s, t, "a");
    c.close();
    assertThrows(InvalidDestinationException.class, () -> s.createProducer(t));
  }

  @Test public void temporaryTopic() throws JMSException {
    Session s = auto();
    TemporaryTopic t = s.createTemporaryTopic();
    MessageConsumer one = s.createConsumer(t);
    MessageConsumer two = s.createConsumer(t);
    send(auto(), t, "a");
    assertEquals("a", receive(one, 1));
    assertEquals("a", receive(two, 1));
    one.close();
    two.close();
    t.delete();
  }

  @Test public void temporariesAreNotEachOther() throws JMSException {
    Session s = auto();
    assertNotEquals(s.createTemporaryQueue().getQueueName(), s.createTemporaryQueue().getQueueName());
  }

  @Test public void requestAndReply() throws Exception {
    Connection c = connect();
    Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    MessageProducer answers = s.createProducer(null);
    s.createConsumer(q).setMessageListener(m -> {
      try {
        Message a = s.createTextMessage("re: " + text(m));
        a.setJMSCorrelationID(m.getJMSMessageID());
        answers.send(m.getJMSReplyTo(), a);
      } catch (JMSException e) {
        throw new RuntimeException(e);
      }
    });
    try (var qc = factory("").createQueueConnection()) {
      qc.start();
      QueueSession qs = qc.createQueueSession(false, Session.AUTO_ACKNOWLEDGE);
      QueueRequestor r = new QueueRequestor(qs, q);
      for (int i = 0; i < 5; i++) {
        assertEquals("re: " + i, ((TextMessage) r.request(qs.createTextMessage(Integer.toString(i)))).getText());
      }
    }
  }

  @Test public void anonymousProducer() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    var t = topic(s);
    MessageConsumer k = s.createConsumer(t);
    MessageProducer p = s.createProducer(null);
    p.send(q, s.createTextMessage("q"));
    p.send(t, s.createTextMessage("t"));
    assertEquals("q", receive(s.createConsumer(q), 1));
    Message m = k.receive(SOON);
    assertEquals("t", text(m));
    assertEquals(t, m.getJMSDestination());
    assertThrows(UnsupportedOperationException.class, () -> p.send(s.createMessage()));
  }

  @Test public void anonymousAndTransacted() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue one = s.createQueue(name("one"));
    Queue two = s.createQueue(name("two"));
    MessageProducer p = s.createProducer(null);
    p.send(one, s.createTextMessage("1"));
    p.send(two, s.createTextMessage("2"));
    Session other = c.createSession(Session.AUTO_ACKNOWLEDGE);
    assertNull(other.createConsumer(one).receive(NEVER));
    s.commit();
    assertEquals("2", receive(other.createConsumer(two), 1));
  }

  @Test public void delay() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    p.setDeliveryDelay(700);
    long sent = System.currentTimeMillis();
    p.send(s.createTextMessage("later"));
    p.setDeliveryDelay(0);
    p.send(s.createTextMessage("now"));
    MessageConsumer k = s.createConsumer(q);
    assertEquals("now", text(k.receive(SOON)));
    assertNull(k.receive(200));
    Message m = k.receive(SOON);
    assertEquals("later", text(m));
    assertTrue("too early", System.currentTimeMillis() - sent >= 690);
    assertTrue(m.getJMSDeliveryTime() >= sent + 600);
  }

  @Test public void expiry() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    p.setTimeToLive(100);
    p.send(s.createTextMessage("short"));
    p.setTimeToLive(0);
    p.send(s.createTextMessage("long"));
    assertNull(s.createConsumer(q, "x = 1").receive(300));
    assertEquals("long", receive(s.createConsumer(q), 1));
  }

  @Test public void groupsStayTogether() throws JMSException {
    Session s = connect("", "jms.prefetchPolicy.all=10").createSession(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    MessageConsumer one = s.createConsumer(q);
    MessageConsumer two = s.createConsumer(q);
    MessageProducer p = s.createProducer(q);
    for (int i = 0; i < 40; i++) {
      Message m = s.createTextMessage(Integer.toString(i));
      m.setStringProperty("JMSXGroupID", "g" + i % 4);
      p.send(m);
    }
    var owner = new java.util.HashMap<String, MessageConsumer>();
    var last = new java.util.HashMap<String, Integer>();
    int got = 0;
    for (int i = 0; i < 200 && got < 40; i++) {
      for (MessageConsumer k : new MessageConsumer[] {one, two}) {
        Message m = k.receive(20);
        if (m == null) {
          continue;
        }
        got++;
        String g = m.getStringProperty("JMSXGroupID");
        assertEquals("group " + g, k, owner.computeIfAbsent(g, x -> k));
        int n = Integer.parseInt(text(m));
        assertTrue("in order", last.getOrDefault(g, -1) < n);
        last.put(g, n);
      }
    }
    assertEquals(40, got);
  }

  @Test public void completions() throws Exception {
    Session s = auto();
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    BlockingQueue<String> done = new LinkedBlockingQueue<>();
    CompletionListener l = new CompletionListener() {
      @Override public void onCompletion(Message m) {
        try {
          done.add(text(m));
        } catch (JMSException e) {
          done.add(e.toString());
        }
      }

      @Override public void onException(Message m, Exception e) {
        done.add(e.toString());
      }
    };
    for (int i = 0; i < 500; i++) {
      p.send(s.createTextMessage(Integer.toString(i)), l);
    }
    for (int i = 0; i < 500; i++) {
      assertEquals(Integer.toString(i), done.poll(SOON, TimeUnit.MILLISECONDS));
    }
  }

  @Test public void completionOfWhatIsRefused() throws Exception {
    Session s = auto();
    MessageProducer p = s.createProducer(queue(s));
    CountDownLatch failed = new CountDownLatch(1);
    var m = s.createBytesMessage();
    m.writeBytes(new byte[3 << 20]);
    p.send(m, new CompletionListener() {
      @Override public void onCompletion(Message m) {}

      @Override public void onException(Message m, Exception e) {
        failed.countDown();
      }
    });
    assertTrue(failed.await(SOON, TimeUnit.MILLISECONDS));
  }

  @Test public void context() {
    String name = name("queue");
    try (JMSContext c = factory("").createContext(JMSContext.AUTO_ACKNOWLEDGE)) {
      Queue q = c.createQueue(name);
      c.createProducer().setProperty("x", 5).setPriority(8).send(q, "body");
      JMSConsumer k = c.createConsumer(q, "x = 5");
      assertEquals("body", k.receiveBody(String.class, SOON));
      assertNull(k.receiveNoWait());
    }
  }

  @Test public void contextTransacted() {
    String name = name("queue");
    try (JMSContext c = factory("").createContext(JMSContext.SESSION_TRANSACTED)) {
      Queue q = c.createQueue(name);
      c.createProducer().send(q, "a");
      c.rollback();
      c.createProducer().send(q, "b");
      c.commit();
      assertEquals("b", c.createConsumer(q).receiveBody(String.class, SOON));
      c.commit();
    }
  }

  @Test public void sessionsOfOneConnection() throws Exception {
    Connection c = connect();
    Queue q = queue(c.createSession(Session.AUTO_ACKNOWLEDGE));
    List<Thread> threads = new ArrayList<>();
    BlockingQueue<String> failures = new LinkedBlockingQueue<>();
    for (int t = 0; t < 8; t++) {
      String who = "t" + t;
      Thread thread = new Thread(() -> {
        try {
          Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
          Queue mine = s.createQueue(q.getQueueName() + who);
          MessageProducer p = s.createProducer(mine);
          MessageConsumer k = s.createConsumer(mine);
          for (int i = 0; i < 100; i++) {
            p.send(s.createTextMessage(who + i));
            if (!(who + i).equals(text(k.receive(SOON)))) {
              failures.add(who + i);
            }
          }
        } catch (JMSException e) {
          failures.add(e.toString());
        }
      });
      threads.add(thread);
      thread.start();
    }
    for (Thread t : threads) {
      t.join();
    }
    assertEquals("[]", failures.toString());
  }

  @Test public void slowConsumerHoldsUpNobody() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
    Queue slow = s.createQueue(name("slow"));
    Queue fast = s.createQueue(name("fast"));
    s.createConsumer(slow);
    MessageConsumer k = s.createConsumer(fast);
    MessageProducer p = s.createProducer(slow);
    p.setDeliveryMode(DeliveryMode.NON_PERSISTENT);
    for (int i = 0; i < 3000; i++) {
      p.send(s.createTextMessage("x".repeat(2000)));
    }
    send(s, fast, "a");
    assertEquals("a", receive(k, 1));
  }

  @Test public void destinationsAreWhatTheyAre() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    send(s, q, "a");
    assertThrows(JMSException.class, () -> s.createConsumer(s.createTopic(q.getQueueName())));
  }

  @Test public void prefixes() throws JMSException {
    Session s = auto();
    send(s, s.createQueue("queue://" + name("queue")), "a");
    assertEquals("a", receive(s.createConsumer(queue(s)), 1));
  }

  @Test public void compositeDestination() throws JMSException {
    Session s = auto();
    String one = name("one");
    String two = name("two");
    send(s, s.createQueue(one + "," + two), "a");
    assertEquals("a", receive(s.createConsumer(s.createQueue(one)), 1));
    assertEquals("a", receive(s.createConsumer(s.createQueue(two)), 1));
  }

  @Test public void priorityFirst() throws JMSException {
    Session s = auto();
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    for (int priority : new int[] {0, 9, 4, 7, 2}) {
      p.setPriority(priority);
      p.send(s.createTextMessage(Integer.toString(priority)));
    }
    String got = receive(s.createConsumer(q), 5);
    assertNotNull(got);
    assertFalse(got.contains("null"));
  }

  @Test public void exceptionListenerIsToldOfTheEnd() throws Exception {
    Connection c = connect();
    CountDownLatch told = new CountDownLatch(1);
    c.setExceptionListener(e -> told.countDown());
    c.close();
    assertEquals("a close of one's own is no failure", 1, told.getCount());
  }
}
