package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/broker/auth"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native/server"
)

// serveCommand is `polylog serve`.
func (r *run) serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Category: categoryBroker,
		Usage: "run the broker",
		Description: "Prints a line that begins with ready once it serves. SIGTERM and SIGINT let clients\n" +
			"finish and then end it; a second one ends it at once, and nothing that was\n" +
			"confirmed is lost. If the disk fails it ends with exit code 1.",
		Flags:  flagsOf(sectionServe),
		Action: r.configured(r.serve),
	}
}

func (r *run) serve(c *cli.Context) error {
	if err := operands(c, 0, 0); err != nil {
		return err
	}
	data := r.config.text("serve.data")
	if data == "" {
		return usagef("where is the data to be? Give --data DIR, or POLYLOG_DATA, or data in the configuration's [serve]")
	}
	return r.serveIn(c.Context, data, func(s *embed.Server, recovered time.Duration) error {
		_, err := fmt.Fprintln(r.stdout, readyLine(s, data, recovered))
		return err
	})
}

// readyLine is what scripts wait for.
func readyLine(s *embed.Server, data string, recovered time.Duration) string {
	doors := ""
	if address := s.Addr(); address != nil {
		doors = "native=" + address.String() + " "
	}
	if addresses := s.KafkaAddrs(); len(addresses) > 0 {
		texts := make([]string, len(addresses))
		for i, a := range addresses {
			texts[i] = a.String()
		}
		doors += "kafka=" + strings.Join(texts, ",") + " "
	}
	for _, door := range []struct {
		name    string
		address net.Addr
	}{{"amqp", s.AMQPAddr()}, {"stomp", s.STOMPAddr()}, {"memcache", s.MemcacheAddr()}, {"http", s.HTTPAddr()}} {
		if door.address != nil {
			doors += door.name + "=" + door.address.String() + " "
		}
	}
	return fmt.Sprintf("ready %sdata=%s recovered=%dms", doors, data, recovered.Milliseconds())
}

// serveIn runs a broker on data, calls ready once it serves, and drains it
// when ctx ends. It returns early when the store fails: nothing can be
// confirmed any more, and a restart recovers what was.
func (r *run) serveIn(ctx context.Context, data string, ready func(*embed.Server, time.Duration) error) error {
	r.endless = true
	log := r.logger()
	if limit := limitMemory(r.config.text("serve.memory-limit"), r.env); limit > 0 {
		log.Debug("memory limit", "bytes", limit)
	}
	if address := r.config.text("serve.debug-listen"); address != "" {
		at, stop, err := startDebug(address)
		if err != nil {
			return fmt.Errorf("debug listener: %w", err)
		}
		defer stop()
		log.Info("serving profiles", "address", at.String())
	}
	started := time.Now()
	options := r.serverOptions(data, log)
	var err error
	if options.TLS, err = r.serverTLS(); err != nil {
		return err
	}
	s, err := embed.Start(options)
	if err != nil {
		return err
	}
	if r.config.on("serve.auth") {
		if err := r.bootstrap(s); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	if err := ready(s, time.Since(started)); err != nil {
		return errors.Join(err, s.Close())
	}
	select {
	case <-ctx.Done():
		log.Info("draining", "timeout", r.config.duration("serve.drain-timeout"))
		started := time.Now()
		err := s.Close()
		log.Info("stopped", "after", time.Since(started).Round(time.Millisecond))
		return err
	case <-s.Failed():
		err := s.Broker().Err()
		_ = s.Close() // it can only say the same again
		return fmt.Errorf("the store has failed, so nothing can be confirmed any more; look after the disk and start again: %w", err)
	}
}

// bootstrap makes the first user, and says its password, this once.
func (r *run) bootstrap(s *embed.Server) error {
	password, err := s.Broker().Authority().Bootstrap()
	if err == nil && password != "" {
		_, err = fmt.Fprintf(r.stderr, "There was no user yet. This is the first, which is not shown again:\n\n   user %s, password %s\n\n", auth.Administrator, password)
	}
	return err
}

// serverTLS is what the listeners' connections are wrapped in; nil: nothing.
func (r *run) serverTLS() (*tls.Config, error) {
	files := wire.TLSFiles{
		Certificate: r.config.text("tls-certificate"), Key: r.config.text("tls-key"), ClientCA: r.config.text("serve.tls-client-ca"),
	}
	switch {
	case files.Certificate == "" && files.Key == "" && files.ClientCA == "":
		return nil, nil
	case files.Certificate == "" || files.Key == "":
		return nil, usagef("TLS needs both --tls-certificate and --tls-key")
	}
	return files.Load()
}

// serverOptions are what the settings say.
func (r *run) serverOptions(data string, log *slog.Logger) embed.Options {
	c := r.config
	return embed.Options{
		Dir:      data,
		Listen:   wire.Config{Address: c.text("serve.native-listen"), Insecure: c.on("serve.insecure")},
		Kafka:    kafkaListeners(c.text("serve.kafka-listen"), c.on("serve.insecure")),
		AMQP:     wire.Config{Address: c.text("serve.amqp-listen"), Insecure: c.on("serve.insecure")},
		STOMP:    wire.Config{Address: c.text("serve.stomp-listen"), Insecure: c.on("serve.insecure")},
		Memcache: wire.Config{Address: c.text("serve.memcache-listen"), Insecure: c.on("serve.insecure")},
		HTTP:     wire.Config{Address: c.text("serve.http-listen"), Insecure: c.on("serve.insecure")},
		BrokerID: int32(c.number("serve.broker-id")),
		Limits:   wire.Limits{Connections: limit(c.number("serve.max-connections")), PerAddress: limit(c.number("serve.max-connections-per-address"))},
		Native:   server.Options{Heartbeat: c.duration("serve.heartbeat")},
		Broker: broker.Options{
			Log: commitlog.Options{
				JournalFileBytes: c.size("serve.journal-file-size"), ProducerExpiration: c.duration("serve.producer-id-expiration"),
			},
			Defaults:        map[string]string{"durability": c.text("serve.durability")},
			NoAutoCreate:    !c.on("serve.auto-create"),
			MaxDestinations: c.number("serve.max-destinations"),
			Authorization:   c.on("serve.auth"),
			SuperUsers:      strings.FieldsFunc(c.text("serve.super-users"), func(r rune) bool { return r == ',' || r == ' ' }),
		},
		CloseTimeout: c.duration("serve.drain-timeout"),
		Version:      programVersion().Version,
		Logger:       log,
	}
}

// kafkaListeners are those that the setting, which has been checked, names.
func kafkaListeners(text string, insecure bool) []embed.KafkaListener {
	list, _ := parseListeners(text)
	listeners := make([]embed.KafkaListener, len(list))
	for i, a := range list {
		port, _ := strconv.ParseUint(a.port, 10, 16)
		listeners[i] = embed.KafkaListener{
			Config: wire.Config{Address: a.listen, Insecure: insecure}, AdvertisedHost: a.host, AdvertisedPort: int32(port),
		}
	}
	return listeners
}

// limit is none where wire says -1 and the setting 0.
func limit(n int) int {
	if n == 0 {
		return -1
	}
	return n
}
