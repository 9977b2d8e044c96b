package polylog.jms;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import jakarta.jms.InvalidSelectorException;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.util.Arrays;
import java.util.Collection;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.junit.runners.Parameterized;
import org.junit.runners.Parameterized.Parameters;

/** Selectors against one message each, and what is none: Jakarta Messaging 3.1 §3.8. */
@RunWith(Parameterized.class)
public class SelectorTest extends Client {
  /** TRUE, FALSE, or null for what is refused. */
  @Parameters(name = "{0}")
  public static Collection<Object[]> selectors() {
    return Arrays.asList(new Object[][] {
      {"i = 5", true}, {"i <> 5", false}, {"i > 4 AND i < 6", true}, {"i >= 5 AND i <= 5", true}, {"NOT i = 5", false},
      {"i BETWEEN 5 AND 9", true}, {"i NOT BETWEEN 5 AND 9", false}, {"i IN (1, 5)", null}, {"s IN ('a', 'text')", true},
      {"s NOT IN ('a', 'text')", false}, {"s LIKE 'te%'", true}, {"s LIKE 't_xt'", true}, {"s LIKE 'T%'", false},
      {"p LIKE '50!%' ESCAPE '!'", true}, {"p LIKE '5!%' ESCAPE '!'", false}, {"s NOT LIKE 'x%'", true}, {"none IS NULL", true},
      {"i IS NULL", false}, {"i IS NOT NULL", true}, {"none = 5", false}, {"NOT (none = 5)", false}, {"none <> 5", false},
      {"none = 5 OR i = 5", true}, {"i + 1 = 6", true}, {"i * 2 - 1 = 9", true}, {"i / 2 = 2", true}, {"d / 2 = 0.75", true},
      {"-i = -5", true}, {"+i = 5", true}, {"d = 1.5", true}, {"d = 1.5E0", true}, {"d > i", false}, {"l = 7", true}, {"b", true},
      {"NOT b", false}, {"b = TRUE", true}, {"b <> FALSE", true}, {"s = 'text'", true}, {"s = 'it''s'", false}, {"q = 'it''s'", true},
      {"s = 5", false}, {"s > 'a'", null}, {"JMSPriority = 7", true}, {"JMSPriority < 5", false}, {"JMSType = 'type'", true},
      {"JMSCorrelationID = 'c'", true}, {"JMSDeliveryMode = 'PERSISTENT'", true}, {"JMSDeliveryMode = 'NON_PERSISTENT'", false},
      {"JMSMessageID LIKE 'ID:%'", true}, {"JMSTimestamp > 1000000", true}, {"JMSXGroupID = 'g'", true}, {"i = 5 AND (s = 'x' OR b)", true},
      {"i = 0x5", true}, {"i = 05", true}, {"", true}, {"i =", null}, {"(i = 5", null}, {"s LIKE 5", null}, {"i = 5 5", null},
      {"s LIKE 'x' ESCAPE 'ab'", null}, {"1 IN ('a')", null}, {"i ==== 5", null},
    });
  }

  private final String selector;
  private final Boolean matches;

  public SelectorTest(String selector, Boolean matches) {
    this.selector = selector;
    this.matches = matches;
  }

  @Test public void selects() throws JMSException {
    Session s = session(Session.AUTO_ACKNOWLEDGE);
    Queue q = queue(s);
    if (matches == null) {
      assertThrows(InvalidSelectorException.class, () -> s.createConsumer(q, selector));
      return;
    }
    Message m = s.createTextMessage("it");
    m.setIntProperty("i", 5);
    m.setLongProperty("l", 7);
    m.setDoubleProperty("d", 1.5);
    m.setBooleanProperty("b", true);
    m.setStringProperty("s", "text");
    m.setStringProperty("q", "it's");
    m.setStringProperty("p", "50%");
    m.setStringProperty("JMSXGroupID", "g");
    m.setJMSType("type");
    m.setJMSCorrelationID("c");
    MessageProducer p = s.createProducer(q);
    p.setPriority(7);
    p.send(m);
    MessageConsumer k = s.createConsumer(q, selector);
    assertEquals(matches ? "it" : null, text(k.receive(matches ? SOON : NEVER)));
  }
}
