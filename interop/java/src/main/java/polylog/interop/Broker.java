package polylog.interop;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Properties;
import java.util.stream.Stream;
import kafka.server.KafkaConfig;
import kafka.server.KafkaRaftServer;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.metadata.storage.Formatter;
import org.apache.kafka.server.common.MetadataVersion;

/**
 * A real Kafka broker of one node, controller included, on loopback ports. It prints
 *
 * <pre>ready HOST:PORT dir=DIRECTORY</pre>
 *
 * once it serves, and ends with its process: SIGTERM stops it in order.
 */
public final class Broker {
  private static final String usage =
      """
      usage: broker [option...]

        --dir DIRECTORY    keep everything here, and begin with what is there already;
                           else a temporary directory, which is removed at the end
        --port PORT        the clients' port on 127.0.0.1; else a free one
        --set NAME=VALUE   a broker property, as in server.properties; may be repeated
        --keep             do not remove the temporary directory
        --until-eof        stop when standard input ends, too

      The heap is what KAFKA_HEAP_OPTS says, or -Xmx512m.
      """;

  public static void main(String[] arguments) throws Exception {
    Path directory = null;
    int port = 0;
    boolean keep = false;
    boolean untilEof = false;
    Properties given = new Properties();
    for (int i = 0; i < arguments.length; i++) {
      switch (arguments[i]) {
        case "--dir" -> directory = Paths.get(arguments[++i]).toAbsolutePath();
        case "--port" -> port = Integer.parseInt(arguments[++i]);
        case "--set" -> {
          String[] pair = arguments[++i].split("=", 2);
          if (pair.length != 2) {
            fail("--set needs NAME=VALUE: " + arguments[i]);
          }
          given.setProperty(pair[0], pair[1]);
        }
        case "--keep" -> keep = true;
        case "--until-eof" -> untilEof = true;
        default -> fail("unknown option: " + arguments[i] + "\n\n" + usage);
      }
    }

    boolean temporary = directory == null;
    if (temporary) {
      directory = Files.createTempDirectory("kafka-");
    } else {
      Files.createDirectories(directory);
    }
    Properties properties = properties(directory, port);
    properties.putAll(given);
    format(properties);

    KafkaRaftServer server = new KafkaRaftServer(KafkaConfig.fromProps(properties), Time.SYSTEM);
    Path remove = temporary && !keep ? directory : null;
    Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(server, remove), "stop"));
    server.startup();
    System.out.println("ready 127.0.0.1:" + port(properties) + " dir=" + directory);
    System.out.flush();

    if (untilEof) {
      InputStream in = System.in;
      while (in.read() >= 0) {
        // only its end is of interest
      }
      System.exit(0);
    }
    server.awaitShutdown();
  }

  private static Properties properties(Path directory, int port) throws IOException {
    List<Integer> free = freePorts(2);
    int clients = port != 0 ? port : free.get(0);
    int controller = free.get(1);
    Properties p = new Properties();
    p.setProperty("process.roles", "broker,controller");
    p.setProperty("node.id", "1");
    p.setProperty("listeners", "PLAINTEXT://127.0.0.1:" + clients + ",CONTROLLER://127.0.0.1:" + controller);
    p.setProperty("advertised.listeners", "PLAINTEXT://127.0.0.1:" + clients);
    p.setProperty("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT");
    p.setProperty("controller.listener.names", "CONTROLLER");
    p.setProperty("controller.quorum.voters", "1@127.0.0.1:" + controller);
    p.setProperty("log.dirs", directory.resolve("data").toString());
    // One node has one replica of everything.
    for (String topic : List.of("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")) {
      p.setProperty(topic + ".replication.factor", "1");
    }
    p.setProperty("transaction.state.log.min.isr", "1");
    p.setProperty("share.coordinator.state.topic.min.isr", "1");
    // So that tests do not wait three seconds for members that nobody started.
    p.setProperty("group.initial.rebalance.delay.ms", "0");
    // So that half a gigabyte of heap is enough; 128 MB otherwise.
    p.setProperty("log.cleaner.dedupe.buffer.size", "33554432");
    return p;
  }

  /** Ports that are free now, all different. */
  static List<Integer> freePorts(int n) throws IOException {
    List<ServerSocket> held = new ArrayList<>();
    try {
      List<Integer> ports = new ArrayList<>();
      for (int i = 0; i < n; i++) {
        ServerSocket s = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        held.add(s);
        ports.add(s.getLocalPort());
      }
      return ports;
    } finally {
      for (ServerSocket s : held) {
        s.close();
      }
    }
  }

  private static int port(Properties properties) {
    String first = properties.getProperty("listeners").split(",")[0];
    return Integer.parseInt(first.substring(first.lastIndexOf(':') + 1));
  }

  /** What kafka-storage format does. A directory that is formatted already stays as it is. */
  private static void format(Properties properties) throws Exception {
    String[] directories = properties.getProperty("log.dirs").split(",");
    String metadata = properties.getProperty("metadata.log.dir", directories[0]);
    if (Files.exists(Paths.get(metadata, "meta.properties"))) {
      return;
    }
    Formatter formatter =
        new Formatter()
            .setPrintStream(System.err)
            .setNodeId(Integer.parseInt(properties.getProperty("node.id")))
            .setClusterId(Uuid.randomUuid().toString())
            .setReleaseVersion(MetadataVersion.latestProduction())
            .setControllerListenerName("CONTROLLER");
    formatter.setMetadataLogDirectory(metadata);
    for (String d : directories) {
      formatter.addDirectory(d);
    }
    formatter.run();
  }

  private static void stop(KafkaRaftServer server, Path remove) {
    server.shutdown();
    server.awaitShutdown();
    if (remove == null) {
      return;
    }
    try {
      remove(remove);
    } catch (IOException e) {
      System.err.println("remove " + remove + ": " + e);
    }
  }

  /** Removes a directory and what is in it. */
  static void remove(Path directory) throws IOException {
    try (Stream<Path> all = Files.walk(directory)) {
      for (Path p : all.sorted(Comparator.reverseOrder()).toList()) {
        Files.deleteIfExists(p);
      }
    }
  }

  private static void fail(String message) {
    System.err.println(message);
    System.exit(2);
  }

  private Broker() {}
}
