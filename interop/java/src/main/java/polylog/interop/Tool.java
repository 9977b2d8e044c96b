package polylog.interop;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** A command-line tool of Kafka's in a process of its own, as its scripts in bin/ start it. */
final class Tool implements AutoCloseable {
  /** What it left behind. */
  record Output(int code, String out, String err) {
    /** Everything it said, for messages. */
    String all() {
      return Suite.shorten("exit " + code + ": " + out.strip() + " / " + err.strip());
    }

    Output succeeds() {
      Suite.check(code == 0, all());
      return this;
    }

    Output fails() {
      Suite.check(code != 0, "it succeeded: " + all());
      return this;
    }

    /** Standard output has each of these somewhere. */
    Output says(String... texts) {
      for (String text : texts) {
        Suite.check(out.contains(text), "no \"" + text + "\" in " + all());
      }
      return this;
    }

    /** Standard output or standard error has each of these somewhere. */
    Output mentions(String... texts) {
      for (String text : texts) {
        Suite.check(out.contains(text) || err.contains(text), "no \"" + text + "\" in " + all());
      }
      return this;
    }

    Output saysNot(String... texts) {
      for (String text : texts) {
        Suite.check(!out.contains(text), "\"" + text + "\" in " + all());
      }
      return this;
    }

    /** A line of standard output matches. */
    Output hasLine(String pattern) {
      Suite.check(lines().stream().anyMatch(l -> l.matches(pattern)), "no line " + pattern + " in " + all());
      return this;
    }

    List<String> lines() {
      return out.lines().map(String::strip).filter(l -> !l.isEmpty()).toList();
    }
  }

  private final Process process;
  private final CompletableFuture<String> out;
  private final CompletableFuture<String> err;

  /** Starts the main class of org.apache.kafka.tools, or of the full name, with these arguments. */
  Tool(String main, String... arguments) throws IOException {
    List<String> command =
        new ArrayList<>(
            List.of(
                Paths.get(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                System.getProperty("java.class.path"),
                main.startsWith("kafka.") ? main : "org.apache.kafka.tools." + main));
    command.addAll(List.of(arguments));
    process = new ProcessBuilder(command).start();
    out = reader(process.getInputStream());
    err = reader(process.getErrorStream());
  }

  private static CompletableFuture<String> reader(InputStream in) {
    CompletableFuture<String> all = new CompletableFuture<>();
    Thread t =
        new Thread(
            () -> {
              try (in) {
                all.complete(new String(in.readAllBytes(), StandardCharsets.UTF_8));
              } catch (IOException e) {
                all.complete("(" + e + ")");
              }
            });
    t.setDaemon(true);
    t.start();
    return all;
  }

  /** Gives it input, and the end of it. */
  Tool input(String text) throws IOException {
    try (OutputStream in = process.getOutputStream()) {
      in.write(text.getBytes(StandardCharsets.UTF_8));
    }
    return this;
  }

  /** Waits for its end. */
  Output output() throws Exception {
    process.getOutputStream().close();
    if (!process.waitFor(50, TimeUnit.SECONDS)) {
      close();
      throw new Suite.Failure("it did not end in 50 s: " + new Output(-1, out.get(), err.get()).all());
    }
    return new Output(process.exitValue(), out.get(), err.get());
  }

  /** SIGTERM, for those that end in no other way. */
  Output terminate() throws Exception {
    process.destroy();
    return output();
  }

  @Override
  public void close() {
    process.destroyForcibly();
  }
}
