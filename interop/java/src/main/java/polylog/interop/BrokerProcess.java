package polylog.interop;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A broker that is started by a command, and can be killed and started again on the same port and
 * directory; what it says on standard error goes to a file beside that. The command says {port} and {dir} where these belong, is split at spaces, and prints a
 * line that begins with ready and names where Kafka is spoken: the first HOST:PORT, or kafka=HOST:PORT,....
 */
final class BrokerProcess implements AutoCloseable {
  final int port;
  /** The data directory. */
  final Path directory;
  private final Path log;
  private final List<String> command;
  private volatile Process process;
  private String bootstrap;

  BrokerProcess(String command, Path directory) throws IOException {
    this.port = Broker.freePorts(1).get(0);
    this.directory = directory.resolve("data");
    this.log = directory.resolve("stderr");
    this.command =
        List.of(command.trim().split("\\s+")).stream()
            .map(w -> w.replace("{port}", "" + port).replace("{dir}", this.directory.toString()))
            .toList();
    Runtime.getRuntime().addShutdownHook(new Thread(this::kill));
  }

  /** Starts it, and returns where it listens once it is ready. */
  String start() throws Exception {
    process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.appendTo(log.toFile())).start();
    BufferedReader out = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
    CompletableFuture<String> ready = new CompletableFuture<>();
    Thread reader =
        new Thread(
            () -> {
              try {
                for (String line; (line = out.readLine()) != null; ) {
                  if (line.startsWith("ready ")) {
                    ready.complete(line);
                  }
                }
                ready.completeExceptionally(new IOException("it ended; see " + log));
              } catch (IOException e) {
                ready.completeExceptionally(e);
              }
            },
            "broker output");
    reader.setDaemon(true);
    reader.start();
    try {
      bootstrap = address(ready.get(180, TimeUnit.SECONDS));
    } catch (TimeoutException e) {
      kill();
      throw new IOException("not ready in 180 s: " + String.join(" ", command), e);
    }
    return bootstrap;
  }

  static String address(String ready) throws IOException {
    String first = null;
    for (String word : ready.split("\\s+")) {
      if (word.startsWith("kafka=")) {
        return word.substring("kafka=".length()).split(",")[0];
      }
      if (first == null && word.matches("[^=]+:\\d+")) {
        first = word;
      }
    }
    if (first == null) {
      throw new IOException("no Kafka address in: " + ready);
    }
    return first;
  }

  /** kill -9. */
  void kill() {
    if (process != null) {
      process.destroyForcibly();
      await(10);
    }
  }

  /** SIGTERM, and kill -9 if that does not help in half a minute. Answers its exit code. */
  int stop() {
    if (process == null) {
      return 0;
    }
    process.destroy();
    if (!await(30)) {
      kill();
    }
    return process.exitValue();
  }

  private boolean await(int seconds) {
    try {
      return process.waitFor(seconds, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      return false;
    }
  }

  @Override
  public void close() {
    stop();
  }
}
