package polylog.jms;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import jakarta.jms.BytesMessage;
import jakarta.jms.DeliveryMode;
import jakarta.jms.JMSException;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageFormatException;
import jakarta.jms.MessageNotWriteableException;
import jakarta.jms.MessageProducer;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.StreamMessage;
import jakarta.jms.TextMessage;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.Test;

/** Bodies, headers and properties: Jakarta Messaging 3.1 §3. */
public class MessageTest extends Client {
  private Session s;
  private Queue q;
  private MessageProducer p;
  private MessageConsumer k;

  private void open() throws JMSException {
    s = session(Session.AUTO_ACKNOWLEDGE);
    q = queue(s);
    p = s.createProducer(q);
    k = s.createConsumer(q);
  }

  private <T extends Message> T through(Class<T> type, T m) throws JMSException {
    p.send(m);
    Message got = k.receive(SOON);
    assertNotNull(got);
    assertTrue(got.getClass().getName(), type.isInstance(got));
    assertEquals(m.getJMSMessageID(), got.getJMSMessageID());
    return type.cast(got);
  }

  @Test public void text() throws JMSException {
    open();
    for (String text : new String[] {"hello", "", "äöü€😀", "\u0000\u0001", "x".repeat(300), "y".repeat(500_000)}) {
      assertEquals(text, through(TextMessage.class, s.createTextMessage(text)).getText());
    }
  }

  @Test public void textOfNull() throws JMSException {
    open();
    assertNull(through(TextMessage.class, s.createTextMessage(null)).getText());
  }

  @Test public void message() throws JMSException {
    open();
    Message m = through(Message.class, s.createMessage());
    assertFalse(m instanceof TextMessage || m instanceof BytesMessage || m instanceof ObjectMessage);
  }

  @Test public void bytes() throws JMSException {
    open();
    for (int n : new int[] {0, 1, 255, 256, 70_000, 900_000}) {
      byte[] body = new byte[n];
      new Random(n).nextBytes(body);
      BytesMessage m = s.createBytesMessage();
      m.writeBytes(body);
      BytesMessage got = through(BytesMessage.class, m);
      assertEquals(n, got.getBodyLength());
      byte[] back = new byte[n];
      got.readBytes(back);
      assertArrayEquals(body, back);
    }
  }

  @Test public void bytesOfTypes() throws JMSException {
    open();
    BytesMessage m = s.createBytesMessage();
    m.writeBoolean(true);
    m.writeByte((byte) -1);
    m.writeChar('ß');
    m.writeDouble(Math.PI);
    m.writeFloat(1.5f);
    m.writeInt(Integer.MIN_VALUE);
    m.writeLong(Long.MAX_VALUE);
    m.writeShort((short) -300);
    m.writeUTF("utf");
    BytesMessage got = through(BytesMessage.class, m);
    assertTrue(got.readBoolean());
    assertEquals(-1, got.readByte());
    assertEquals('ß', got.readChar());
    assertEquals(Math.PI, got.readDouble(), 0);
    assertEquals(1.5f, got.readFloat(), 0);
    assertEquals(Integer.MIN_VALUE, got.readInt());
    assertEquals(Long.MAX_VALUE, got.readLong());
    assertEquals(-300, got.readShort());
    assertEquals("utf", got.readUTF());
  }

  @Test public void map() throws JMSException {
    open();
    MapMessage m = s.createMapMessage();
    m.setBoolean("boolean", true);
    m.setByte("byte", (byte) -7);
    m.setShort("short", (short) 300);
    m.setInt("int", -70_000);
    m.setLong("long", Long.MIN_VALUE);
    m.setFloat("float", 0.1f);
    m.setDouble("double", 0.1);
    m.setString("string", "text");
    m.setString("null", null);
    m.setChar("char", '€');
    m.setBytes("bytes", new byte[] {1, 2, 3});
    MapMessage got = through(MapMessage.class, m);
    List<String> names = new ArrayList<>();
    for (Object name : Collections.list(got.getMapNames())) {
      names.add((String) name);
    }
    Collections.sort(names);
    assertEquals("[boolean, byte, bytes, char, double, float, int, long, null, short, string]", names.toString());
    assertEquals(true, got.getObject("boolean"));
    assertEquals((byte) -7, got.getObject("byte"));
    assertEquals((short) 300, got.getObject("short"));
    assertEquals(-70_000, got.getObject("int"));
    assertEquals(Long.MIN_VALUE, got.getObject("long"));
    assertEquals(0.1f, got.getObject("float"));
    assertEquals(0.1, got.getObject("double"));
    assertEquals("text", got.getObject("string"));
    assertNull(got.getObject("null"));
    assertTrue(got.itemExists("null"));
    assertEquals('€', got.getChar("char"));
    assertArrayEquals(new byte[] {1, 2, 3}, got.getBytes("bytes"));
  }

  @Test public void emptyMap() throws JMSException {
    open();
    assertFalse(through(MapMessage.class, s.createMapMessage()).getMapNames().hasMoreElements());
  }

  @Test public void stream() throws JMSException {
    open();
    StreamMessage m = s.createStreamMessage();
    m.writeBoolean(false);
    m.writeByte((byte) 1);
    m.writeShort((short) 2);
    m.writeInt(3);
    m.writeLong(4);
    m.writeFloat(5.5f);
    m.writeDouble(6.5);
    m.writeString("seven");
    m.writeObject(null);
    m.writeChar('8');
    m.writeBytes(new byte[] {9});
    StreamMessage got = through(StreamMessage.class, m);
    assertFalse(got.readBoolean());
    assertEquals(1, got.readByte());
    assertEquals(2, got.readShort());
    assertEquals(3, got.readInt());
    assertEquals(4, got.readLong());
    assertEquals(5.5f, got.readFloat(), 0);
    assertEquals(6.5, got.readDouble(), 0);
    assertEquals("seven", got.readString());
    assertNull(got.readObject());
    assertEquals('8', got.readChar());
    assertArrayEquals(new byte[] {9}, (byte[]) got.readObject());
  }

  @Test public void object() throws JMSException {
    open();
    ArrayList<String> value = new ArrayList<>(Arrays.asList("a", "b"));
    assertEquals(value, through(ObjectMessage.class, s.createObjectMessage(value)).getObject());
  }

  @Test public void objectOfNull() throws JMSException {
    open();
    assertNull(through(ObjectMessage.class, s.createObjectMessage(null)).getObject());
  }

  @Test public void getBody() throws JMSException {
    open();
    TextMessage m = through(TextMessage.class, s.createTextMessage("x"));
    assertTrue(m.isBodyAssignableTo(String.class));
    assertEquals("x", m.getBody(String.class));
    assertThrows(MessageFormatException.class, () -> m.getBody(byte[].class));
  }

  @Test public void properties() throws JMSException {
    open();
    Message m = s.createMessage();
    m.setBooleanProperty("boolean", true);
    m.setByteProperty("byte", (byte) 1);
    m.setShortProperty("short", (short) 2);
    m.setIntProperty("int", 3);
    m.setLongProperty("long", 4);
    m.setFloatProperty("float", 5.5f);
    m.setDoubleProperty("double", 6.5);
    m.setStringProperty("string", "seven");
    m.setStringProperty("null", null);
    m.setStringProperty("$ä_1", "name");
    Message got = through(Message.class, m);
    assertEquals(true, got.getObjectProperty("boolean"));
    assertEquals((byte) 1, got.getObjectProperty("byte"));
    assertEquals((short) 2, got.getObjectProperty("short"));
    assertEquals(3, got.getObjectProperty("int"));
    assertEquals(4L, got.getObjectProperty("long"));
    assertEquals(5.5f, got.getObjectProperty("float"));
    assertEquals(6.5, got.getObjectProperty("double"));
    assertEquals("seven", got.getObjectProperty("string"));
    assertTrue(got.propertyExists("null"));
    assertNull(got.getObjectProperty("null"));
    assertEquals("name", got.getStringProperty("$ä_1"));
  }

  @Test public void receivedIsReadOnly() throws JMSException {
    open();
    TextMessage m = through(TextMessage.class, s.createTextMessage("x"));
    assertThrows(MessageNotWriteableException.class, () -> m.setText("y"));
    assertThrows(MessageNotWriteableException.class, () -> m.setStringProperty("a", "b"));
    m.clearBody();
    m.clearProperties();
    m.setText("y");
    m.setStringProperty("a", "b");
    TextMessage again = through(TextMessage.class, m);
    assertEquals("y", again.getText());
    assertEquals("b", again.getStringProperty("a"));
  }

  @Test public void headers() throws JMSException {
    open();
    Message m = s.createMessage();
    Topic reply = s.createTopic("answers");
    m.setJMSCorrelationID("correlation");
    m.setJMSType("type");
    m.setJMSReplyTo(reply);
    long before = System.currentTimeMillis();
    p.send(m, DeliveryMode.PERSISTENT, 7, 60_000);
    Message got = k.receive(SOON);
    assertEquals("correlation", got.getJMSCorrelationID());
    assertEquals("type", got.getJMSType());
    assertTrue(got.getJMSReplyTo() instanceof Topic);
    assertEquals("answers", ((Topic) got.getJMSReplyTo()).getTopicName());
    assertEquals(q, got.getJMSDestination());
    assertEquals(7, got.getJMSPriority());
    assertEquals(DeliveryMode.PERSISTENT, got.getJMSDeliveryMode());
    assertEquals(m.getJMSExpiration(), got.getJMSExpiration());
    assertTrue(got.getJMSExpiration() >= before + 60_000);
    assertEquals(m.getJMSTimestamp(), got.getJMSTimestamp());
    assertTrue(got.getJMSMessageID().startsWith("ID:"));
    assertFalse(got.getJMSRedelivered());
  }

  @Test public void nonPersistent() throws JMSException {
    open();
    p.setDeliveryMode(DeliveryMode.NON_PERSISTENT);
    assertEquals(DeliveryMode.NON_PERSISTENT, through(Message.class, s.createMessage()).getJMSDeliveryMode());
  }

  @Test public void priorities() throws JMSException {
    open();
    for (int i = 0; i <= 9; i++) {
      p.setPriority(i);
      assertEquals(i, through(Message.class, s.createMessage()).getJMSPriority());
    }
  }

  @Test public void correlationAsBytes() throws JMSException {
    open();
    Message m = s.createMessage();
    m.setJMSCorrelationIDAsBytes(new byte[] {0, 1, (byte) 0xff});
    assertArrayEquals(new byte[] {0, 1, (byte) 0xff}, through(Message.class, m).getJMSCorrelationIDAsBytes());
  }

  @Test public void correlationOfEveryForm() throws JMSException {
    open();
    for (String id : new String[] {
      "ID:AMQP_UUID:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "ID:AMQP_ULONG:18446744073709551615", "ID:AMQP_BINARY:00FF",
      "ID:AMQP_STRING:ID:AMQP_ULONG:5", "application's own", "ID:something",
    }) {
      Message m = s.createMessage();
      m.setJMSCorrelationID(id);
      assertEquals(id, through(Message.class, m).getJMSCorrelationID());
    }
  }

  @Test public void replyToOfEveryKind() throws JMSException {
    open();
    for (var d : new jakarta.jms.Destination[] {s.createQueue("q"), s.createTopic("t"), s.createTemporaryQueue(), s.createTemporaryTopic()}) {
      Message m = s.createMessage();
      m.setJMSReplyTo(d);
      assertEquals(d, through(Message.class, m).getJMSReplyTo());
    }
  }

  @Test public void groupProperties() throws JMSException {
    open();
    Message m = s.createMessage();
    m.setStringProperty("JMSXGroupID", "g");
    m.setIntProperty("JMSXGroupSeq", 5);
    Message got = through(Message.class, m);
    assertEquals("g", got.getStringProperty("JMSXGroupID"));
    assertEquals(5, got.getIntProperty("JMSXGroupSeq"));
  }

  @Test public void userId() throws JMSException {
    var f = factory("jms.populateJMSXUserID=true");
    try (var c = f.createConnection("ann", "secret")) {
      s = c.createSession(Session.AUTO_ACKNOWLEDGE);
      q = queue(s);
      c.start();
      send(s, q, "x");
      assertEquals("ann", s.createConsumer(q).receive(SOON).getStringProperty("JMSXUserID"));
    }
  }

  @Test public void withoutIdAndTimestamp() throws JMSException {
    open();
    p.setDisableMessageID(true);
    p.setDisableMessageTimestamp(true);
    p.send(s.createMessage());
    Message got = k.receive(SOON);
    assertNull(got.getJMSMessageID());
    assertEquals(0, got.getJMSTimestamp());
  }

  @Test public void vendorsProperties() throws JMSException {
    open();
    Message m = s.createTextMessage("x");
    m.setStringProperty("JMS_AMQP_REPLY_TO_GROUP_ID", "rg");
    assertEquals("rg", through(Message.class, m).getStringProperty("JMS_AMQP_REPLY_TO_GROUP_ID"));
  }

  @Test public void propertyNamesOfOthers() throws JMSException {
    s = connect("", "jms.validatePropertyNames=false").createSession(Session.AUTO_ACKNOWLEDGE);
    q = queue(s);
    p = s.createProducer(q);
    k = s.createConsumer(q);
    Message m = s.createMessage();
    m.setStringProperty("with-hyphen and space", "x");
    assertEquals("x", through(Message.class, m).getStringProperty("with-hyphen and space"));
  }

  @Test public void tooLarge() throws JMSException {
    open();
    BytesMessage m = s.createBytesMessage();
    m.writeBytes(new byte[3 << 20]);
    assertThrows(JMSException.class, () -> p.send(m));
    send(session(Session.AUTO_ACKNOWLEDGE), q, "still there");
    assertEquals("still there", receive(k, 1));
  }

  @Test public void bodyThatWasReceivedIsSentOn() throws JMSException {
    open();
    BytesMessage m = s.createBytesMessage();
    m.writeBytes("body".getBytes());
    BytesMessage got = through(BytesMessage.class, m);
    BytesMessage again = through(BytesMessage.class, got);
    byte[] back = new byte[4];
    again.readBytes(back);
    assertEquals("body", new String(back));
  }
}
