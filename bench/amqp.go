package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// `bench amqp` measures AMQP 1.0 with Qpid JMS as the client: polylog against
// Artemis and RabbitMQ, each with the settings with which it syncs before it
// confirms.

// amqpPeers are measured one after the other in each round.
var amqpPeers = []amqpPeer{
	{name: "polylog", start: func(s *amqpSettings, dir string) (*server, error) {
		return child(dir, nil, s.binary, "serve", "--data", "{dir}/data", "--native-listen", "", "--kafka-listen", "", "--stomp-listen", "", "--http-listen", "", "--amqp-listen", "{addr}")
	}},
	{name: "artemis", start: startArtemis},
	{name: "rabbitmq-quorum", start: startRabbit, queue: "/amq/queue/bench", user: "guest", untransacted: true},
}

type amqpPeer struct {
	name         string
	start        func(s *amqpSettings, dir string) (*server, error)
	queue        string // as the client names it; empty: bench
	user         string // and password
	untransacted bool   // it has no transactions over AMQP 1.0
}

type amqpSettings struct {
	settings
	java    []string // runs the client
	artemis string   // its distribution, unpacked
}

var amqpWorkloads = []struct {
	name     string
	what     string
	messages int
}{
	{"plain 1KiB", "plain", 100_000},
	{"transacted by 100", "transacted", 50_000},
	{"latency 2000/s", "latency", 20_000},
}

func amqpMain(args []string) error {
	var s amqpSettings
	var client, peers string
	flags := flag.NewFlagSet("bench amqp", flag.ExitOnError)
	flags.StringVar(&s.binary, "polylog", "../bin/polylog", "the program to measure")
	flags.StringVar(&client, "client", "../interop/jms/qpid", "the module of the client, compiled")
	flags.StringVar(&s.artemis, "artemis", "", "Artemis, unpacked; without it, it is left out")
	flags.StringVar(&peers, "peers", "polylog,artemis,rabbitmq-quorum", "whom to measure")
	flags.IntVar(&s.rounds, "rounds", 5, "interleaved rounds; the median is printed")
	flags.Float64Var(&s.scale, "scale", 1, "multiplies the number of messages")
	flags.IntVar(&s.bodyBytes, "size", 1024, "bytes in a message")
	_ = flags.Parse(args)
	jars, err := os.ReadFile(filepath.Join(client, "target", "classpath"))
	if err != nil {
		return fmt.Errorf("%w; interop/jms/run compiles the client", err)
	}
	s.java = []string{
		"java", "-Xmx1g", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
		"-cp", filepath.Join(client, "target", "classes") + ":" + strings.TrimSpace(string(jars)), "polylog.jms.Bench",
	}
	if s.dir, err = os.MkdirTemp("", "bench-amqp-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	machine, err := measureMachine(s.dir)
	if err != nil {
		return err
	}
	fmt.Printf("machine: %s\n\n", machine)
	results := map[string]map[string][]figures{}
	var works, names []string
	for round := range s.rounds {
		for _, w := range amqpWorkloads {
			if round == 0 {
				works = append(works, w.name)
				results[w.name] = map[string][]figures{}
			}
			for _, p := range amqpPeers {
				if !strings.Contains(","+peers+",", ","+p.name+",") || p.untransacted && w.what == "transacted" || p.name == "artemis" && s.artemis == "" {
					continue
				}
				if round == 0 && len(works) == 1 {
					names = append(names, p.name)
				}
				fmt.Fprintf(os.Stderr, "round %d/%d %-18s %s\n", round+1, s.rounds, w.name, p.name)
				f, err := s.measureAMQP(p, w.what, int(float64(w.messages)*s.scale))
				if err != nil {
					fmt.Fprintf(os.Stderr, "  %s %s: %v\n", w.name, p.name, err)
					continue
				}
				results[w.name][p.name] = append(results[w.name][p.name], f)
			}
		}
	}
	report(os.Stdout, results, names, works)
	return nil
}

func (s *amqpSettings) measureAMQP(p amqpPeer, what string, messages int) (figures, error) {
	dir, err := os.MkdirTemp(s.dir, p.name)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	srv, err := p.start(s, dir)
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	queue := p.queue
	if queue == "" {
		queue = "bench"
	}
	uri := "amqp://" + srv.addr
	if p.user != "" {
		uri += "?jms.username=" + p.user + "&jms.password=" + p.user
	}
	before := srv.cpuSeconds()
	cmd := exec.Command(s.java[0], append(s.java[1:len(s.java):len(s.java)], what, uri, queue, strconv.Itoa(messages), strconv.Itoa(s.bodyBytes))...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%.2000s", err, errs.String())
	}
	f := figures{}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "\t")
		if f[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, err
		}
	}
	if len(f) == 0 {
		return nil, errors.New("the client said nothing")
	}
	f["cpu s/M"] = (srv.cpuSeconds() - before) / float64(messages) * 1e6 // with its warming up
	f["RSS MB"] = float64(srv.peakBytes()) / 1e6
	return f, nil
}

// startArtemis makes an instance as the distribution does, with one acceptor.
func startArtemis(s *amqpSettings, dir string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	instance := filepath.Join(dir, "artemis")
	create := exec.Command(filepath.Join(s.artemis, "bin", "artemis"), "create", instance, "--user", "a", "--password", "a", "--allow-anonymous",
		"--no-web", "--no-autotune", "--no-stomp-acceptor", "--no-mqtt-acceptor", "--no-hornetq-acceptor", "--no-amqp-acceptor", "--default-port", strconv.Itoa(port), "--host", "127.0.0.1", "--http-host", "127.0.0.1", "--silent", "--force")
	if out, err := create.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("create an instance of Artemis: %w\n%s", err, out)
	}
	config := filepath.Join(instance, "etc", "broker.xml")
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	// Its one acceptor takes AMQP, too, at the port that child chooses.
	script := `sed -i "s#127.0.0.1:` + strconv.Itoa(port) + `#$1#g" "$2"; exec "$3/bin/artemis" run`
	if !bytes.Contains(text, []byte("127.0.0.1:"+strconv.Itoa(port))) {
		return nil, errors.New("Artemis's configuration has no acceptor that is known")
	}
	return child(dir, []string{"JAVA_ARGS=-Xms1g -Xmx1g"}, "bash", "-c", script, "artemis", "{addr}", config, instance)
}

// startRabbit is rabbitPeer's broker with AMQP 1.0, and a quorum queue.
func startRabbit(_ *amqpSettings, dir string) (*server, error) {
	s, err := rabbitPeer{plugins: "rabbitmq_amqp1_0"}.start(dir)
	if err != nil {
		return nil, err
	}
	c, err := amqp.Dial("amqp://" + s.addr)
	if err == nil {
		defer c.Close()
		err = rabbitClient{c}.declare("bench")
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}
