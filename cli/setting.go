package cli

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// The sections of the configuration: the top of the file, and [serve].
const (
	sectionGlobal = ""
	sectionServe  = "serve"
)

// kind is what a setting's text must be.
type kind uint8

const (
	kindText kind = iota
	kindURL
	kindAddress   // host:port, or nothing
	kindListeners // host:port=host:port and so on, or nothing
	kindSwitch
	kindNumber
	kindSize
	kindDuration
	kindChoice
	kindMemory // a size, "auto" or "none"
)

// setting is one entry of the configuration: a flag, a variable of the
// environment and a key of the file, all with the same meaning.
type setting struct {
	name     string
	alias    string // the flag's short form
	section  string
	kind     kind
	fallback string // its default, as text
	choices  []string
	doc      string
}

// settings is the whole configuration, in the order in which it is printed.
var settings = []*setting{
	{name: "url", kind: kindURL, fallback: "polylog://127.0.0.1:7400", doc: "the broker to talk to"},
	{name: "output", alias: "o", kind: kindChoice, fallback: "table", choices: []string{"table", "json", "jsonl"}, doc: "how lists are printed: for people, as one JSON value, or as a line of JSON for each entry"},
	{name: "quiet", alias: "q", kind: kindSwitch, fallback: "false", doc: "say nothing beside the output and errors"},
	{name: "log-level", kind: kindChoice, fallback: "info", choices: []string{"debug", "info", "warn", "error"}, doc: "the least that is logged, on standard error; commands that are no broker log warnings unless told otherwise"},
	{name: "log-format", kind: kindChoice, fallback: "text", choices: []string{"text", "json"}, doc: "how the log is written"},

	{name: "tls-ca", kind: kindText, doc: "PEM file of the authorities that a polylogs:// broker's certificate is trusted by, in place of the system's"},
	{name: "tls-certificate", kind: kindText, doc: "PEM file of the certificate by which this client, or with serve the broker, says who it is"},
	{name: "tls-key", kind: kindText, doc: "PEM file of its key"},

	{name: "data", section: sectionServe, kind: kindText, doc: "the data directory, made if it is not there; one broker at a time"},
	{name: "native-listen", section: sectionServe, kind: kindAddress, fallback: "127.0.0.1:7400", doc: "where the native protocol is spoken; empty closes this door, port 0 takes any free one"},
	{name: "kafka-listen", section: sectionServe, kind: kindListeners, fallback: "127.0.0.1:9092", doc: "where Kafka's protocol is spoken: addresses with commas between them, each with =HOST:PORT behind it if clients are to be told another (advertised.listeners); empty closes this door, port 0 takes any free one"},
	{name: "amqp-listen", section: sectionServe, kind: kindAddress, fallback: "127.0.0.1:5672", doc: "where AMQP 1.0 is spoken, for Java's JMS clients and others; empty closes this door, port 0 takes any free one"},
	{name: "stomp-listen", section: sectionServe, kind: kindAddress, fallback: "127.0.0.1:61613", doc: "where STOMP is spoken; empty closes this door, port 0 takes any free one"},
	{name: "memcache-listen", section: sectionServe, kind: kindAddress, doc: "where memcached's protocol is spoken, in which set puts and get takes: 127.0.0.1:22201, as MemcacheQ has it; empty, the default, keeps this door closed"},
	{name: "http-listen", section: sectionServe, kind: kindAddress, fallback: "127.0.0.1:7480", doc: "where HTTP is spoken, with STOMP over WebSocket at /ws and metrics; empty closes this door, port 0 takes any free one"},
	{name: "broker-id", section: sectionServe, kind: kindNumber, fallback: "1", doc: "what Kafka's clients know this broker by (broker.id)"},
	{name: "auth", section: sectionServe, kind: kindSwitch, fallback: "false", doc: "ask everybody who they are, and let the rules say what they may do; the first start makes a user admin and says its password"},
	{name: "super-users", section: sectionServe, kind: kindText, fallback: "admin", doc: "users that may do everything, whatever the rules say, with commas between them"},
	{name: "tls-client-ca", section: sectionServe, kind: kindText, doc: "PEM file of the authorities of clients' certificates, whose common name is then a user's; empty: none is asked for"},
	{name: "insecure", section: sectionServe, kind: kindSwitch, fallback: "false", doc: "listen beyond this machine although nobody is asked who they are and nothing is encrypted"},
	{name: "debug-listen", section: sectionServe, kind: kindAddress, doc: "where Go's profiles are served over HTTP, for this machine only; empty: nowhere"},
	{name: "auto-create", section: sectionServe, kind: kindSwitch, fallback: "true", doc: "make destinations when they are first used"},
	{name: "durability", section: sectionServe, kind: kindChoice, fallback: "disk", choices: []string{"disk", "memory"}, doc: "of destinations that say nothing themselves: confirmed once synced, or once written and lost with the broker"},
	{name: "journal-file-size", section: sectionServe, kind: kindSize, fallback: "64MiB", doc: "size of one of the journal's files, which are reserved ahead and used again"},
	{name: "max-connections", section: sectionServe, kind: kindNumber, fallback: "10000", doc: "connections open at once; 0 is no limit"},
	{name: "max-connections-per-address", section: sectionServe, kind: kindNumber, fallback: "4096", doc: "connections open at once from one address; 0 is no limit"},
	{name: "max-destinations", section: sectionServe, kind: kindNumber, fallback: "100000", doc: "destinations, temporary ones included"},
	{name: "producer-id-expiration", section: sectionServe, kind: kindDuration, fallback: "24h", doc: "how long a log remembers a producer that has fallen silent, to know what it sends twice (producer.id.expiration.ms)"},
	{name: "heartbeat", section: sectionServe, kind: kindDuration, fallback: "10s", doc: "the broker is silent no longer than this; a peer that is silent for twice what it announced is taken for dead"},
	{name: "drain-timeout", section: sectionServe, kind: kindDuration, fallback: "10s", doc: "how long clients have to finish when the broker stops"},
	{name: "memory-limit", section: sectionServe, kind: kindMemory, fallback: "auto", doc: "what the garbage collector is told to stay below: a size, none, or auto for three quarters of the machine's or container's memory unless GOMEMLIMIT is set"},
}

// key is the setting's name in the file.
func (s *setting) key() string {
	if s.section == sectionGlobal {
		return s.name
	}
	return s.section + "." + s.name
}

// variable is the setting's name in the environment.
func (s *setting) variable() string {
	return "POLYLOG_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// check says what is wrong with text, if anything.
func (s *setting) check(text string) error {
	switch s.kind {
	case kindURL:
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return fmt.Errorf("%q is no address of a broker; write polylog://HOST:PORT", text)
		}
	case kindAddress:
		if text == "" {
			return nil
		}
		if _, _, err := net.SplitHostPort(text); err != nil {
			return fmt.Errorf("%q is no address to listen on; write HOST:PORT", text)
		}
	case kindListeners:
		_, err := parseListeners(text)
		return err
	case kindSwitch:
		if _, err := strconv.ParseBool(text); err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
	case kindNumber:
		if n, err := strconv.ParseInt(text, 10, 64); err != nil || n < 0 {
			return fmt.Errorf("%q is no number", text)
		}
	case kindMemory:
		if text == "auto" || text == "none" {
			return nil
		}
		_, err := parseSize(text)
		return err
	case kindSize:
		_, err := parseSize(text)
		return err
	case kindDuration:
		_, err := parseDuration(text)
		return err
	case kindChoice:
		for _, c := range s.choices {
			if text == c {
				return nil
			}
		}
		return fmt.Errorf("%q is none of %s", text, strings.Join(s.choices, ", "))
	}
	return nil
}

// advertised is one listener: where it listens, and where clients are told that
// it does, "" for the same.
type advertised struct{ listen, host, port string }

func parseListeners(text string) (list []advertised, err error) {
	if text == "" {
		return nil, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		var a advertised
		listen, as, told := strings.Cut(strings.TrimSpace(one), "=")
		if _, _, err := net.SplitHostPort(listen); err != nil {
			return nil, fmt.Errorf("%q is no address to listen on; write HOST:PORT, or HOST:PORT=HOST:PORT if clients are to be told another", one)
		}
		if a.listen = listen; told {
			a.host, a.port, err = net.SplitHostPort(as)
			if _, bad := strconv.ParseUint(a.port, 10, 16); err != nil || bad != nil || a.host == "" {
				return nil, fmt.Errorf("%q is no address for clients; write HOST:PORT", as)
			}
		}
		list = append(list, a)
	}
	return list, nil
}

// flag builds the setting's flag. The default is told, not set: what was set
// must be known from what was not.
func (s *setting) flag() cli.Flag {
	usage := s.doc
	if s.kind == kindChoice {
		usage = strings.Join(s.choices, "|") + ": " + usage
	}
	var aliases []string
	if s.alias != "" {
		aliases = []string{s.alias}
	}
	if s.kind == kindSwitch {
		if s.fallback == "true" {
			usage += " (default true; --" + s.name + "=false turns it off)"
		}
		return &cli.BoolFlag{Name: s.name, Aliases: aliases, Usage: usage + " [$" + s.variable() + "]", DisableDefaultText: true}
	}
	if s.fallback != "" {
		usage += " (default " + s.fallback + ")"
	}
	return &cli.StringFlag{Name: s.name, Aliases: aliases, Usage: usage + " [$" + s.variable() + "]"}
}

// flagsOf builds the flags of one section.
func flagsOf(section string) []cli.Flag {
	var flags []cli.Flag
	for _, s := range settings {
		if s.section == section {
			flags = append(flags, s.flag())
		}
	}
	return flags
}

func configFileFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "read this TOML file instead of ./polylog.toml or /etc/polylog/polylog.toml [$POLYLOG_CONFIG]"}
}
