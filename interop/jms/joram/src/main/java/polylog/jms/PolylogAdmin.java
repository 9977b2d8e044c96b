package polylog.jms;

import java.util.Hashtable;
import java.util.concurrent.atomic.AtomicInteger;
import javax.naming.Context;
import javax.naming.InitialContext;
import javax.naming.NamingException;
import org.objectweb.jtests.jms.admin.Admin;

/** Gives each test destinations of its own, which the broker makes when they are used. */
public final class PolylogAdmin implements Admin {
  private static final AtomicInteger made = new AtomicInteger();
  private static final String run = Long.toString(System.currentTimeMillis(), 36);
  private final Hashtable<String, String> names = new Hashtable<>();

  public PolylogAdmin() {
    names.put(Context.INITIAL_CONTEXT_FACTORY, "org.apache.qpid.jms.jndi.JmsInitialContextFactory");
  }

  @Override
  public String getName() {
    return "polylog";
  }

  @Override
  public Context createContext() throws NamingException {
    return new InitialContext(names);
  }

  @Override
  public void createQueue(String name) {
    names.put("queue." + name, name + "-" + run + "-" + made.incrementAndGet());
  }

  @Override
  public void createTopic(String name) {
    names.put("topic." + name, name + "-" + run + "-" + made.incrementAndGet());
  }

  @Override
  public void createConnectionFactory(String name) {
    names.put("connectionfactory." + name, System.getProperty("polylog.uri"));
  }

  @Override
  public void createQueueConnectionFactory(String name) {
    createConnectionFactory(name);
  }

  @Override
  public void createTopicConnectionFactory(String name) {
    createConnectionFactory(name);
  }

  @Override
  public void deleteQueue(String name) {
    names.remove("queue." + name);
  }

  @Override
  public void deleteTopic(String name) {
    names.remove("topic." + name);
  }

  @Override
  public void deleteConnectionFactory(String name) {
    names.remove("connectionfactory." + name);
  }

  @Override
  public void deleteQueueConnectionFactory(String name) {
    deleteConnectionFactory(name);
  }

  @Override
  public void deleteTopicConnectionFactory(String name) {
    deleteConnectionFactory(name);
  }

  @Override
  public void startServer() {}

  @Override
  public void stopServer() {}

  @Override
  public void start() {}

  @Override
  public void stop() {}
}
