package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog/broker"
)

// adoptCommand is `polylog adopt`.
func (r *run) adoptCommand() *cli.Command {
	return &cli.Command{
		Name: "adopt", Category: categoryBroker,
		Usage: "take over the topics of a Kafka broker that has been stopped", ArgsUsage: "KAFKA-LOG-DIR",
		Description: "Copies topics with their ids, offsets, records, leader epochs, producers and configs,\n" +
			"what groups have committed and the state of transactions; KAFKA-LOG-DIR, one entry of\n" +
			"Kafka's log.dirs, is not changed. Neither broker may run. After an interruption the same\n" +
			"command goes on with what is missing. ACLs, SCRAM users, quotas, the state of share groups\n" +
			"and what is in remote storage do not come along.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "the data directory of polylog, made if it is not there: `DIR`", EnvVars: []string{"POLYLOG_DATA"}},
			&cli.StringSliceFlag{Name: "topic", Usage: "only this `TOPIC`, and neither offsets nor transactions; any number of times"},
		},
		Action: r.configured(r.adopt),
	}
}

func (r *run) adopt(c *cli.Context) (err error) {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	data := c.String("data")
	if data == "" {
		return usagef("where is the data to be? Give --data DIR, or POLYLOG_DATA")
	}
	shown := r.startProgress("copied").of(humanBytes)
	last := int64(0)
	b, list, err := broker.Adopt(c.Context, broker.Options{Dir: data, Logger: r.logger()}, broker.AdoptOptions{
		From: c.Args().First(), Topics: c.StringSlice("topic"),
		Progress: func(p broker.AdoptProgress) {
			shown.add(p.Bytes - last)
			last = p.Bytes
		},
	})
	shown.stop()
	if errors.Is(err, broker.ErrKafkaRuns) {
		return fmt.Errorf("%w; stop it first, with kafka-server-stop", err)
	}
	if err != nil {
		return err
	}
	if err := b.Close(); err != nil {
		return err
	}
	if len(list) == 0 {
		r.say("nothing to adopt: all of it is here")
	}
	err = printList(r, list,
		column("TOPIC", func(a broker.Adopted) string { return a.Topic }),
		figures("PARTITIONS", func(a broker.Adopted) string { return fmt.Sprint(a.Partitions) }),
		figures("OFFSETS", func(a broker.Adopted) string { return humanCount(a.Records) }),
		figures("BYTES", func(a broker.Adopted) string { return humanBytes(a.Bytes) }))
	for _, a := range list {
		if len(a.Ignored) > 0 {
			r.say("%s: these configs mean nothing here: %s", a.Topic, strings.Join(a.Ignored, ", "))
		}
	}
	return err
}
