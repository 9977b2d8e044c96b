// Kfake serves franz-go's fake Kafka broker on one address, in memory, until it
// is interrupted. It is a second opinion for the suites of this directory: what
// fails against polylog and passes here is looked at first.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

func main() {
	listen := flag.String("kafka-listen", "127.0.0.1:0", "where the Kafka protocol is spoken")
	flag.Parse()
	if err := run(*listen); err != nil {
		fmt.Fprintln(os.Stderr, "kfake:", err)
		os.Exit(1)
	}
}

func run(listen string) error {
	_, number, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	c, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.Ports(port),
		kfake.AllowAutoTopicCreation(),
		kfake.DefaultNumPartitions(1), // as Kafka and polylog
		kfake.BrokerConfigs(map[string]string{"auto.create.topics.enable": "true"}),
	)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Printf("ready kafka=%s\n", c.ListenAddrs()[0])
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	return nil
}
