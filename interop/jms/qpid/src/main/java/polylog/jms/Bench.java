package polylog.jms;

import jakarta.jms.CompletionListener;
import jakarta.jms.Connection;
import jakarta.jms.DeliveryMode;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.util.Arrays;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.apache.qpid.jms.JmsConnectionFactory;

/**
 * Measures a broker by way of Qpid JMS: Bench WHAT URI QUEUE MESSAGES BYTES, with persistent messages. Prints a line for
 * each figure, its name and value. WHAT is plain (messages/s sent with completions, and received), transacted (by 100), or
 * latency (of sends at 2,000/s, in ms, until they are confirmed).
 */
public final class Bench {
  private static final int WINDOW = 1000;
  private static final int BATCH = 100;
  private static final int RATE = 2000;

  private final Connection connection;
  private final String queue;
  private final byte[] body;

  private Bench(String uri, String queue, int bytes) throws JMSException {
    this.connection = new JmsConnectionFactory(uri).createConnection();
    this.queue = queue;
    this.body = new byte[bytes];
    connection.start();
  }

  public static void main(String[] args) throws Exception {
    Bench b = new Bench(args[1], args[2], Integer.parseInt(args[4]));
    int n = Integer.parseInt(args[3]);
    switch (args[0]) {
      case "plain" -> {
        b.send(n / 4, false); // until what matters is compiled
        b.receive(n / 4, false);
        print("send/s", b.send(n, false));
        print("receive/s", b.receive(n, false));
      }
      case "transacted" -> {
        b.send(n / 4, true);
        b.receive(n / 4, true);
        print("send/s", b.send(n, true));
        print("receive/s", b.receive(n, true));
      }
      case "latency" -> {
        b.paced(RATE * 2);
        long[] all = b.paced(n);
        Arrays.sort(all);
        print("p50 ms", all[all.length / 2] / 1e6);
        print("p99 ms", all[all.length * 99 / 100] / 1e6);
      }
      default -> throw new IllegalArgumentException(args[0]);
    }
    b.connection.close();
  }

  private static void print(String name, double value) {
    System.out.println(name + "\t" + value);
  }

  private Message message(Session s) throws JMSException {
    var m = s.createBytesMessage();
    m.writeBytes(body);
    return m;
  }

  /** Completions gives its places back, and remembers what failed. */
  private static final class Completions implements CompletionListener {
    final Semaphore places = new Semaphore(WINDOW);
    final AtomicReference<Exception> failed = new AtomicReference<>();

    @Override
    public void onCompletion(Message m) {
      places.release();
    }

    @Override
    public void onException(Message m, Exception e) {
      failed.compareAndSet(null, e);
      places.release();
    }

    void await() throws Exception {
      places.acquire(WINDOW);
      places.release(WINDOW);
      if (failed.get() != null) {
        throw failed.get();
      }
    }
  }

  private double send(int n, boolean transacted) throws Exception {
    try (Session s = connection.createSession(transacted ? Session.SESSION_TRANSACTED : Session.AUTO_ACKNOWLEDGE)) {
      Queue q = s.createQueue(queue);
      MessageProducer p = s.createProducer(q);
      p.setDeliveryMode(DeliveryMode.PERSISTENT);
      Completions done = new Completions();
      long began = System.nanoTime();
      for (int i = 1; i <= n; i++) {
        if (transacted) {
          p.send(message(s));
          if (i % BATCH == 0 || i == n) {
            s.commit();
          }
        } else {
          done.places.acquire();
          p.send(message(s), done);
        }
      }
      done.await();
      return n / ((System.nanoTime() - began) / 1e9);
    }
  }

  private double receive(int n, boolean transacted) throws Exception {
    try (Session s = connection.createSession(transacted ? Session.SESSION_TRANSACTED : Session.AUTO_ACKNOWLEDGE)) {
      MessageConsumer k = s.createConsumer(s.createQueue(queue));
      long began = System.nanoTime();
      for (int i = 1; i <= n; i++) {
        if (k.receive(30_000) == null) {
          throw new IllegalStateException("message " + i + " of " + n + " did not come");
        }
        if (transacted && (i % BATCH == 0 || i == n)) {
          s.commit();
        }
      }
      return n / ((System.nanoTime() - began) / 1e9);
    }
  }

  /** Sends at a rate, and returns how long each send took until it was confirmed, in ns, counted from when it was due. */
  private long[] paced(int n) throws Exception {
    try (Session s = connection.createSession(Session.AUTO_ACKNOWLEDGE)) {
      MessageProducer p = s.createProducer(s.createQueue(queue));
      p.setDeliveryMode(DeliveryMode.PERSISTENT);
      long[] took = new long[n];
      Completions done = new Completions();
      long began = System.nanoTime();
      for (int i = 0; i < n; i++) {
        long due = began + i * 1_000_000_000L / RATE;
        for (long left; (left = due - System.nanoTime()) > 0; ) {
          LockSupport.parkNanos(left);
        }
        int at = i;
        done.places.acquire();
        p.send(message(s), new CompletionListener() {
          @Override
          public void onCompletion(Message m) {
            took[at] = System.nanoTime() - due;
            done.onCompletion(m);
          }

          @Override
          public void onException(Message m, Exception e) {
            done.onException(m, e);
          }
        });
      }
      done.await();
      return took;
    }
  }
}
