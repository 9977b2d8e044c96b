package polylog.jms;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import jakarta.jms.Connection;
import jakarta.jms.IllegalStateException;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.Test;

/** Acknowledgement modes, recover, transacted sessions: Jakarta Messaging 3.1 §6.2.7 to §6.2.15. */
public class AcknowledgementTest extends Client {
  private static final int INDIVIDUAL = 101; // Qpid JMS's own

  private void acknowledged(int mode) throws JMSException {
    Connection c = connect();
    Session s = c.createSession(mode);
    Queue q = queue(s);
    send(s, q, "a", "b", "c");
    MessageConsumer k = s.createConsumer(q);
    for (int i = 0; i < 3; i++) {
      Message m = k.receive(SOON);
      assertFalse(m.getJMSRedelivered());
      assertEquals(1, count(m));
      if (mode == Session.CLIENT_ACKNOWLEDGE || mode == INDIVIDUAL) {
        m.acknowledge();
      }
    }
    if (mode == Session.SESSION_TRANSACTED) {
      s.commit();
    }
    c.close();
    Session other = session(Session.AUTO_ACKNOWLEDGE);
    assertNull(other.createConsumer(q).receive(NEVER));
  }

  @Test public void auto() throws JMSException { acknowledged(Session.AUTO_ACKNOWLEDGE); }

  @Test public void client() throws JMSException { acknowledged(Session.CLIENT_ACKNOWLEDGE); }

  @Test public void dupsOk() throws JMSException { acknowledged(Session.DUPS_OK_ACKNOWLEDGE); }

  @Test public void individual() throws JMSException { acknowledged(INDIVIDUAL); }

  @Test public void listenerIsAcknowledged() throws Exception {
    Connection c = connect();
    Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    send(s, q, "a", "b", "c");
    BlockingQueue<String> got = new LinkedBlockingQueue<>();
    Session l = c.createSession(Session.AUTO_ACKNOWLEDGE);
    l.createConsumer(q).setMessageListener(m -> {
      try {
        got.add(text(m));
      } catch (JMSException e) {
        got.add(e.toString());
      }
    });
    for (String want : new String[] {"a", "b", "c"}) {
      assertEquals(want, got.poll(SOON, TimeUnit.MILLISECONDS));
    }
    c.close();
    assertNull(session(Session.AUTO_ACKNOWLEDGE).createConsumer(q).receive(NEVER));
  }

  @Test public void listenerThatThrowsHasItAgain() throws Exception {
    Connection c = connect();
    Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    BlockingQueue<String> got = new LinkedBlockingQueue<>();
    Session l = c.createSession(Session.AUTO_ACKNOWLEDGE);
    l.createConsumer(q).setMessageListener(m -> { // the client releases it, which does not count
      try {
        got.add(text(m));
        if (got.size() < 3) {
          throw new RuntimeException("not yet");
        }
      } catch (JMSException e) {
        got.add(e.toString());
      }
    });
    send(s, q, "a");
    for (int i = 0; i < 100 && got.size() < 3; i++) {
      Thread.sleep(100);
    }
    assertEquals("[a, a, a]", got.toString());
  }

  @Test public void clientAcknowledgesAllBefore() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.CLIENT_ACKNOWLEDGE);
    Queue q = queue(s);
    send(s, q, "a", "b", "c");
    MessageConsumer k = s.createConsumer(q);
    k.receive(SOON);
    k.receive(SOON).acknowledge();
    k.receive(SOON);
    c.close();
    assertEquals("c null", receiveAll(q));
  }

  private String receiveAll(Queue q) throws JMSException {
    Session s = session(Session.AUTO_ACKNOWLEDGE);
    MessageConsumer k = s.createConsumer(q);
    StringBuilder all = new StringBuilder();
    Message m;
    while ((m = k.receive(all.length() == 0 ? SOON : NEVER)) != null) {
      all.append(text(m)).append(' ');
    }
    return all + "null";
  }

  @Test public void clientAcknowledgesThroughEveryConsumer() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.CLIENT_ACKNOWLEDGE);
    Queue one = s.createQueue(name("one"));
    Queue two = s.createQueue(name("two"));
    send(s, one, "a");
    send(s, two, "b");
    s.createConsumer(one).receive(SOON);
    s.createConsumer(two).receive(SOON).acknowledge();
    c.close();
    Session other = session(Session.AUTO_ACKNOWLEDGE);
    assertNull(other.createConsumer(one).receive(NEVER));
    assertNull(other.createConsumer(two).receive(NEVER));
  }

  @Test public void individualLeavesOthers() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(INDIVIDUAL);
    Queue q = queue(s);
    send(s, q, "a", "b", "c");
    MessageConsumer k = s.createConsumer(q);
    k.receive(SOON);
    k.receive(SOON).acknowledge();
    k.receive(SOON);
    c.close();
    assertEquals("a c null", receiveAll(q));
  }

  @Test public void recoverDeliversAgainInOrder() throws JMSException {
    Session s = session(Session.CLIENT_ACKNOWLEDGE);
    Queue q = queue(s);
    send(s, q, "a", "b", "c");
    MessageConsumer k = s.createConsumer(q);
    assertEquals("a b", receive(k, 2));
    s.recover();
    for (String want : new String[] {"a", "b"}) {
      Message m = k.receive(SOON);
      assertEquals(want, text(m));
      assertTrue(m.getJMSRedelivered());
      assertEquals(2, count(m));
    }
    Message m = k.receive(SOON);
    assertEquals("c", text(m));
    assertFalse(m.getJMSRedelivered());
    m.acknowledge();
    s.recover();
    assertNull(k.receive(NEVER));
  }

  @Test public void recoverOfTransacted() throws JMSException {
    Session s = session(Session.SESSION_TRANSACTED);
    assertThrows(IllegalStateException.class, s::recover);
  }

  @Test public void whatIsNotAcknowledgedComesBack() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.CLIENT_ACKNOWLEDGE);
    Queue q = queue(s);
    send(s, q, "a", "b", "c");
    MessageConsumer k = s.createConsumer(q);
    assertEquals("a b", receive(k, 2));
    s.close();
    assertEquals("a b c null", receiveAll(q));
  }

  @Test public void prefetchedGoesToOthersWhenClosed() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    send(s, q, "a", "b", "c");
    MessageConsumer k = s.createConsumer(q);
    assertEquals("a", receive(k, 1));
    k.close();
    MessageConsumer other = s.createConsumer(q);
    for (String want : new String[] {"b", "c"}) {
      Message m = other.receive(SOON);
      assertEquals(want, text(m));
      assertFalse("nobody has seen " + want, m.getJMSRedelivered());
    }
  }

  @Test public void consumersMayCloseManyTimes() throws JMSException {
    Session s = session(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    send(s, q, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o");
    for (char want = 'a'; want <= 'o'; want++) { // each has all others prefetched; none is a dead letter for that
      MessageConsumer k = s.createConsumer(q);
      assertEquals(String.valueOf(want), text(k.receive(SOON)));
      k.close();
    }
  }

  @Test public void commit() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue in = s.createQueue(name("in"));
    Queue out = s.createQueue(name("out"));
    send(c.createSession(Session.AUTO_ACKNOWLEDGE), in, "a", "b");
    MessageConsumer k = s.createConsumer(in);
    assertEquals("a b", receive(k, 2));
    send(s, out, "1", "2");
    MessageConsumer o = c.createSession(Session.AUTO_ACKNOWLEDGE).createConsumer(out);
    assertNull("sent before the commit", o.receive(NEVER));
    s.commit();
    assertEquals("1 2", receive(o, 2));
    c.close();
    assertNull(session(Session.AUTO_ACKNOWLEDGE).createConsumer(in).receive(NEVER));
  }

  @Test public void rollback() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue in = s.createQueue(name("in"));
    Queue out = s.createQueue(name("out"));
    send(c.createSession(Session.AUTO_ACKNOWLEDGE), in, "a", "b", "c");
    MessageConsumer k = s.createConsumer(in);
    assertEquals("a b", receive(k, 2));
    send(s, out, "1");
    s.rollback();
    for (String want : new String[] {"a", "b", "c"}) {
      Message m = k.receive(SOON);
      assertEquals(want, text(m));
      assertEquals(!want.equals("c"), m.getJMSRedelivered());
      assertEquals(want.equals("c") ? 1 : 2, count(m));
    }
    s.commit();
    assertNull(c.createSession(Session.AUTO_ACKNOWLEDGE).createConsumer(out).receive(NEVER));
  }

  @Test public void manyRollbacksCount() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(s);
    send(c.createSession(Session.AUTO_ACKNOWLEDGE), q, "a");
    MessageConsumer k = s.createConsumer(q);
    for (int i = 1; i <= 3; i++) {
      Message m = k.receive(SOON);
      assertEquals(i, count(m));
      s.rollback();
    }
    assertNotNull(k.receive(SOON));
    s.commit();
  }

  @Test public void tooManyDeliveriesAreADeadLetter() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(s);
    send(c.createSession(Session.AUTO_ACKNOWLEDGE), q, "a");
    MessageConsumer k = s.createConsumer(q);
    int deliveries = 0;
    while (k.receive(deliveries == 0 ? SOON : 1000) != null) {
      deliveries++;
      assertTrue("delivered for ever", deliveries < 50);
      s.rollback();
    }
    Message dead = s.createConsumer(s.createQueue("DLQ." + q.getQueueName())).receive(SOON);
    assertEquals("a", text(dead));
    assertEquals(q.getQueueName(), dead.getStringProperty("JMS_POLYLOG_DLQ_ORIGIN"));
    assertEquals(deliveries, dead.getLongProperty("JMS_POLYLOG_DLQ_COUNT"));
    s.commit();
  }

  @Test public void closingASessionIsARollback() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(s);
    Queue out = s.createQueue(name("out"));
    send(c.createSession(Session.AUTO_ACKNOWLEDGE), q, "a");
    assertEquals("a", receive(s.createConsumer(q), 1));
    send(s, out, "1");
    s.close();
    Session other = c.createSession(Session.AUTO_ACKNOWLEDGE);
    assertEquals("a", receive(other.createConsumer(q), 1));
    assertNull(other.createConsumer(out).receive(NEVER));
  }

  @Test public void closingAConnectionIsARollback() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(s);
    Queue out = s.createQueue(name("out"));
    send(session(Session.AUTO_ACKNOWLEDGE), q, "a");
    assertEquals("a", receive(s.createConsumer(q), 1));
    send(s, out, "1");
    c.close();
    Session other = session(Session.AUTO_ACKNOWLEDGE);
    assertEquals("a", receive(other.createConsumer(q), 1));
    assertNull(other.createConsumer(out).receive(NEVER));
  }

  @Test public void aConsumerThatClosedIsOfTheTransaction() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(s);
    send(c.createSession(Session.AUTO_ACKNOWLEDGE), q, "a", "b");
    MessageConsumer k = s.createConsumer(q);
    assertEquals("a", receive(k, 1));
    k.close();
    s.commit();
    assertEquals("b", receive(s.createConsumer(q), 1));
    s.commit();
  }

  @Test public void aConsumerThatClosedIsRolledBack() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(s);
    send(c.createSession(Session.AUTO_ACKNOWLEDGE), q, "a", "b");
    MessageConsumer k = s.createConsumer(q);
    assertEquals("a", receive(k, 1));
    k.close();
    s.rollback();
    assertEquals("a b", receive(s.createConsumer(q), 2));
    s.commit();
  }

  @Test public void manyInOneTransaction() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    for (int i = 0; i < 3000; i++) {
      p.send(s.createTextMessage(Integer.toString(i)));
    }
    s.commit();
    MessageConsumer k = s.createConsumer(q);
    for (int i = 0; i < 3000; i++) {
      assertEquals(Integer.toString(i), text(k.receive(SOON)));
    }
    s.commit();
    assertNull(k.receive(NEVER));
  }

  @Test public void transactionsFollowEachOther() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    MessageConsumer k = c.createSession(Session.AUTO_ACKNOWLEDGE).createConsumer(q);
    for (int i = 0; i < 50; i++) {
      p.send(s.createTextMessage(Integer.toString(i)));
      if (i % 2 == 0) {
        s.commit();
        assertEquals(Integer.toString(i), text(k.receive(SOON)));
      } else {
        s.rollback();
      }
    }
    assertNull(k.receive(NEVER));
  }

  @Test public void twoTransactionsAtOnce() throws JMSException {
    Connection c = connect();
    Session one = c.createSession(Session.SESSION_TRANSACTED);
    Session two = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(one);
    send(one, q, "one");
    send(two, q, "two");
    two.commit();
    one.rollback();
    assertEquals("two null", receiveAll(q));
  }

  @Test public void tooLargeATransactionIsRolledBack() throws JMSException {
    Connection c = connect();
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Queue q = queue(s);
    MessageProducer p = s.createProducer(q);
    byte[] large = new byte[512 << 10];
    boolean refused = false;
    try {
      for (int i = 0; i < 200 && !refused; i++) {
        var m = s.createBytesMessage();
        m.writeBytes(large);
        p.send(m);
      }
    } catch (JMSException e) {
      refused = true;
    }
    try {
      s.commit();
      assertFalse("100 MB in one transaction, one of which was refused", refused);
    } catch (JMSException e) { // rolled back, or in doubt to a client that has noticed by itself
      refused = true;
    }
    assertTrue(refused);
    assertNull(c.createSession(Session.AUTO_ACKNOWLEDGE).createConsumer(q).receive(NEVER));
  }
}
