package cli

import (
	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/spill"
)

// topicCommand is `polylog topic`.
func (r *run) topicCommand() *cli.Command {
	return &cli.Command{
		Name: "topic", Category: categoryMessages,
		Usage: "publish messages (see also subscribe)",
		Subcommands: []*cli.Command{{
			Name: "publish", Usage: "send messages to a topic", ArgsUsage: "NAME [BODY ...]",
			Description: sendHelp,
			Flags:       sendFlags(),
			Action: r.configured(func(c *cli.Context) error {
				options, err := putOptions(c)
				if err != nil {
					return err
				}
				if c.IsSet("spill") {
					return r.sendSpilling(c, spill.Topic(c.Args().First()), bodyAlone, options)
				}
				return r.send(c, bodyAlone, options, func(s *polylog.Session, name string) sendFunc { return s.Topic(name).PublishAsync })
			}),
		}},
	}
}
