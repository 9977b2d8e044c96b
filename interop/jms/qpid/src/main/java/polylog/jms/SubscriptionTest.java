package polylog.jms;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;

import jakarta.jms.Connection;
import jakarta.jms.IllegalStateException;
import jakarta.jms.InvalidClientIDException;
import jakarta.jms.InvalidDestinationException;
import jakarta.jms.JMSException;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Session;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.junit.Test;

/** Subscriptions of every kind: Jakarta Messaging 3.1 §8.3. */
public class SubscriptionTest extends Client {
  private Session auto(Connection c) throws JMSException {
    return c.createSession(Session.AUTO_ACKNOWLEDGE);
  }

  @Test public void unsharedHasWhatComesWhileItIsThere() throws JMSException {
    Session s = auto(connect());
    Topic t = topic(s);
    send(s, t, "before");
    MessageConsumer one = s.createConsumer(t);
    MessageConsumer two = s.createConsumer(t);
    send(s, t, "a", "b");
    assertEquals("a b", receive(one, 2));
    assertEquals("a b", receive(two, 2));
    one.close();
    send(s, t, "c");
    assertEquals("c", receive(two, 1));
    assertNull(s.createConsumer(t).receive(NEVER));
  }

  @Test public void noLocal() throws JMSException {
    Connection c = connect(name("id"));
    Session s = auto(c);
    Topic t = topic(s);
    MessageConsumer k = s.createConsumer(t, null, true);
    MessageConsumer all = s.createConsumer(t);
    send(s, t, "mine");
    send(auto(connect()), t, "other");
    assertEquals("mine other", receive(all, 2));
    assertEquals("other", receive(k, 1));
    assertNull(k.receive(NEVER));
  }

  @Test public void durableHasWhatCameMeanwhile() throws JMSException {
    String id = name("id");
    Connection c = connect(id);
    Session s = auto(c);
    Topic t = topic(s);
    MessageConsumer k = s.createDurableSubscriber(t, "sub");
    send(s, t, "a");
    assertEquals("a", receive(k, 1));
    c.close();
    send(auto(connect()), t, "b", "c");
    c = connect(id);
    s = auto(c);
    k = s.createDurableConsumer(t, "sub");
    send(s, t, "d");
    assertEquals("b c d", receive(k, 3));
    k.close();
    s.unsubscribe("sub");
    send(s, t, "e");
    assertNull(s.createDurableSubscriber(t, "sub").receive(NEVER));
  }

  @Test public void durableWithoutClientId() throws JMSException {
    Session s = auto(connect());
    Topic t = topic(s);
    assertThrows(IllegalStateException.class, () -> s.createDurableSubscriber(t, "sub"));
  }

  @Test public void durableOnceAtATime() throws JMSException {
    Session s = auto(connect(name("id")));
    Topic t = topic(s);
    s.createDurableSubscriber(t, "sub");
    assertThrows(JMSException.class, () -> s.createDurableSubscriber(t, "sub"));
  }

  @Test public void durableOfAnotherClientIsAnother() throws JMSException {
    Session one = auto(connect(name("one")));
    Session two = auto(connect(name("two")));
    Topic t = topic(one);
    MessageConsumer k = one.createDurableSubscriber(t, "sub");
    MessageConsumer l = two.createDurableSubscriber(t, "sub");
    send(one, t, "a");
    assertEquals("a", receive(k, 1));
    assertEquals("a", receive(l, 1));
  }

  @Test public void durableWithAnotherSelectorBeginsAnew() throws JMSException {
    Session s = auto(connect(name("id")));
    Topic t = topic(s);
    s.createDurableSubscriber(t, "sub", "x = 1", false).close();
    send(s, t, "missed");
    MessageConsumer k = s.createDurableSubscriber(t, "sub", "x IS NULL", false);
    assertNull(k.receive(NEVER));
    send(s, t, "a");
    assertEquals("a", receive(k, 1));
  }

  @Test public void durableWithAnotherTopicBeginsAnew() throws JMSException {
    Session s = auto(connect(name("id")));
    Topic t = topic(s);
    Topic u = s.createTopic(name("other"));
    s.createDurableSubscriber(t, "sub").close();
    send(s, t, "missed");
    MessageConsumer k = s.createDurableSubscriber(u, "sub");
    send(s, u, "a");
    assertEquals("a", receive(k, 1));
  }

  @Test public void durableNoLocal() throws JMSException {
    Session s = auto(connect(name("id")));
    Topic t = topic(s);
    MessageConsumer k = s.createDurableSubscriber(t, "sub", null, true);
    send(s, t, "mine");
    send(auto(connect()), t, "other");
    assertEquals("other", receive(k, 1));
    assertNull(k.receive(NEVER));
  }

  @Test public void durableKeepsWhatIsNotAcknowledged() throws JMSException {
    String id = name("id");
    Connection c = connect(id);
    Session s = c.createSession(Session.CLIENT_ACKNOWLEDGE);
    Topic t = topic(s);
    MessageConsumer k = s.createDurableSubscriber(t, "sub");
    send(s, t, "a", "b");
    assertEquals("a b", receive(k, 2));
    c.close();
    assertEquals("a b", receive(auto(connect(id)).createDurableSubscriber(t, "sub"), 2));
  }

  @Test public void durableOfAnyName() throws JMSException {
    Session s = auto(connect(name("id")));
    Topic t = topic(s);
    MessageConsumer k = s.createDurableSubscriber(t, "a/b c:d.*>");
    send(s, t, "x");
    assertEquals("x", receive(k, 1));
    k.close();
    s.unsubscribe("a/b c:d.*>");
    assertThrows(InvalidDestinationException.class, () -> s.unsubscribe("a/b c:d.*>"));
  }

  @Test public void unsubscribeWhileInUse() throws JMSException {
    Session s = auto(connect(name("id")));
    MessageConsumer k = s.createDurableSubscriber(topic(s), "sub");
    assertThrows(JMSException.class, () -> s.unsubscribe("sub"));
    k.close();
    s.unsubscribe("sub");
  }

  @Test public void unsubscribeFromNothing() throws JMSException {
    Session s = auto(connect(name("id")));
    assertThrows(InvalidDestinationException.class, () -> s.unsubscribe("none"));
  }

  /** n texts that two consumers have received, sorted. */
  private String both(MessageConsumer one, MessageConsumer two, int n) throws JMSException {
    List<String> all = new ArrayList<>();
    long until = System.currentTimeMillis() + SOON;
    while (all.size() < n && System.currentTimeMillis() < until) {
      for (MessageConsumer k : new MessageConsumer[] {one, two}) {
        String text = text(k.receive(50));
        if (text != null) {
          all.add(text);
        }
      }
    }
    Collections.sort(all);
    return String.join(" ", all);
  }

  @Test public void sharedShares() throws JMSException {
    Session s = auto(connect());
    Topic t = topic(s);
    MessageConsumer one = s.createSharedConsumer(t, "sub");
    MessageConsumer two = auto(connect()).createSharedConsumer(t, "sub");
    MessageConsumer other = s.createSharedConsumer(t, "other");
    send(s, t, "a", "b", "c", "d");
    assertEquals("a b c d", both(one, two, 4));
    assertEquals("a b c d", receive(other, 4));
  }

  @Test public void sharedIsGoneWithItsLastConsumer() throws JMSException {
    Session s = auto(connect());
    Topic t = topic(s);
    MessageConsumer one = s.createSharedConsumer(t, "sub");
    MessageConsumer two = s.createSharedConsumer(t, "sub");
    one.close();
    send(s, t, "a");
    assertEquals("a", receive(two, 1));
    two.close();
    send(s, t, "b");
    assertNull(s.createSharedConsumer(t, "sub").receive(NEVER));
  }

  @Test public void sharedByClientId() throws JMSException {
    Session one = auto(connect(name("one")));
    Session two = auto(connect(name("two")));
    Topic t = topic(one);
    MessageConsumer k = one.createSharedConsumer(t, "sub");
    MessageConsumer l = two.createSharedConsumer(t, "sub");
    send(one, t, "a");
    assertEquals("a", receive(k, 1));
    assertEquals("a", receive(l, 1));
  }

  @Test public void sharedWithAnotherSelectorWhileInUse() throws JMSException {
    Session s = auto(connect());
    Topic t = topic(s);
    s.createSharedConsumer(t, "sub", "x = 1");
    assertThrows(JMSException.class, () -> s.createSharedConsumer(t, "sub", "x = 2"));
  }

  @Test public void sharedDurableHasWhatCameMeanwhile() throws JMSException {
    Connection c = connect();
    Session s = auto(c);
    Topic t = topic(s);
    String sub = name("sub"); // without a client id it is everybody's
    MessageConsumer one = s.createSharedDurableConsumer(t, sub);
    MessageConsumer two = s.createSharedDurableConsumer(t, sub);
    send(s, t, "a", "b");
    assertEquals("a b", both(one, two, 2));
    c.close();
    Session other = auto(connect());
    send(other, t, "c");
    assertEquals("c", receive(other.createSharedDurableConsumer(t, sub), 1));
  }

  @Test public void sharedDurableIsUnsubscribed() throws JMSException {
    Session s = auto(connect());
    Topic t = topic(s);
    String sub = name("sub");
    MessageConsumer k = s.createSharedDurableConsumer(t, sub);
    assertThrows(JMSException.class, () -> s.unsubscribe(sub));
    k.close();
    send(s, t, "a");
    s.unsubscribe(sub);
    assertNull(s.createSharedDurableConsumer(t, sub).receive(NEVER));
  }

  @Test public void sharedDurableOfAClient() throws JMSException {
    Session s = auto(connect(name("id")));
    Topic t = topic(s);
    MessageConsumer one = s.createSharedDurableConsumer(t, "sub");
    MessageConsumer two = s.createSharedDurableConsumer(t, "sub");
    send(s, t, "a", "b", "c");
    assertEquals("a b c", both(one, two, 3));
    one.close();
    two.close();
    s.unsubscribe("sub");
  }

  @Test public void sharedAndUnsharedOfOneName() throws JMSException {
    Session s = auto(connect(name("id")));
    Topic t = topic(s);
    s.createDurableSubscriber(t, "sub");
    assertThrows(JMSException.class, () -> s.createSharedDurableConsumer(t, "sub"));
  }

  @Test public void durableAndTransacted() throws JMSException {
    Connection c = connect(name("id"));
    Session s = c.createSession(Session.SESSION_TRANSACTED);
    Topic t = topic(s);
    MessageConsumer k = s.createDurableSubscriber(t, "sub");
    send(auto(c), t, "a", "b");
    assertEquals("a b", receive(k, 2));
    s.rollback();
    assertEquals("a b", receive(k, 2));
    s.commit();
    assertNull(k.receive(NEVER));
  }

  @Test public void durableWithSelector() throws JMSException {
    Session s = auto(connect(name("id")));
    Topic t = topic(s);
    MessageConsumer k = s.createDurableSubscriber(t, "sub", "color = 'red'", false);
    var p = s.createProducer(t);
    for (String color : new String[] {"red", "blue", "red"}) {
      var m = s.createTextMessage(color);
      m.setStringProperty("color", color);
      p.send(m);
    }
    assertEquals("red red", receive(k, 2));
    assertNull(k.receive(NEVER));
  }

  @Test public void clientIdIsOneConnections() throws JMSException {
    String id = name("id");
    Connection c = connect(id);
    assertThrows(InvalidClientIDException.class, () -> connect(id));
    c.close();
    assertNotNull(connect(id));
  }

  @Test public void clientIdComesFirst() throws JMSException {
    Connection c = connect();
    c.createSession(Session.AUTO_ACKNOWLEDGE);
    assertThrows(IllegalStateException.class, () -> c.setClientID("late"));
  }

  @Test public void patternOfTopics() throws JMSException {
    Session s = auto(connect());
    String base = name("p");
    Topic a = s.createTopic(base + ".a");
    send(s, a, "before");
    MessageConsumer k = s.createConsumer(s.createTopic(base + ".*"));
    send(s, a, "a");
    send(s, s.createTopic(base + ".b"), "b");
    String got = receive(k, 2);
    assertEquals(got.startsWith("a") ? "a b" : "b a", got);
  }
}
