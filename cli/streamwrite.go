package cli

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

func (r *run) streamWriteCommand() *cli.Command {
	return &cli.Command{
		Name: "write", Usage: "append records to a log, a topic or a queue", ArgsUsage: "NAME [VALUE ...]",
		Description: "Values are the arguments behind NAME, or --file, or else each line of standard\n" +
			"input. With the two separators each has more in it than the value:\n\n" +
			"   [NAME=VALUE,NAME=VALUE HEADERS-SEPARATOR] [KEY KEY-SEPARATOR] VALUE\n\n" +
			"which is what `stream read --print headers,key,value` prints. A destination that is\n" +
			"not there becomes a topic. Exit code 0 means that every record is confirmed. After a\n" +
			"failure the number that was confirmed is told; they are the first ones.",
		Flags: slices.Concat(bodyFlags(), []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "the `KEY` of all records: it picks the partition, and compaction goes by it"},
			&cli.StringFlag{Name: "key-separator", Usage: "the `TEXT` between key and value; \\t is a tabulator"},
			&cli.StringSliceFlag{Name: "header", Usage: "a header of all records as `NAME=VALUE`, any number of times"},
			&cli.StringFlag{Name: "headers-separator", Usage: "the `TEXT` behind the headers"},
			&cli.IntFlag{Name: "partition", Usage: "append to the partition with this `NUMBER`", DefaultText: "by the key"},
		}, rateFlags()),
		Action: r.configured(r.streamWrite),
	}
}

func (r *run) streamWrite(c *cli.Context) error {
	if err := operands(c, 1, -1); err != nil {
		return err
	}
	composer, err := newRecordComposer(c)
	if err != nil {
		return err
	}
	var options []polylog.PutOption
	if c.IsSet("partition") {
		partition, err := partitionNumber(c.Int("partition"))
		if err != nil {
			return err
		}
		options = append(options, polylog.WithPartition(partition))
	}
	return r.send(c, composer.compose, options, func(s *polylog.Session, name string) sendFunc {
		// A log takes either view. Only a queue that is there refuses the topic's.
		if info, err := s.Connection().Admin().Describe(c.Context, name); err == nil && info.Kind == "queue" {
			return s.Queue(name).PutAsync
		}
		return s.Topic(name).PublishAsync
	})
}

// partitionNumber refuses what is no partition's.
func partitionNumber(n int) (int32, error) {
	if n < 0 || n > math.MaxInt32 {
		return 0, usagef("--partition %d: write a number from 0", n)
	}
	return int32(n), nil
}

// recordComposer makes records of lines.
type recordComposer struct {
	key     []byte // of all records; nil: none
	headers map[string]any

	keySeparator, headersSeparator []byte // nil: there is none in a line

	composed int
}

func newRecordComposer(c *cli.Context) (*recordComposer, error) {
	if c.IsSet("key") && c.IsSet("key-separator") {
		return nil, usagef("give --key or --key-separator, not both: the one is for all records, the other for a key in each")
	}
	p := &recordComposer{headers: map[string]any{}}
	if c.IsSet("key") {
		p.key = []byte(c.String("key"))
	}
	for name, into := range map[string]*[]byte{"key-separator": &p.keySeparator, "headers-separator": &p.headersSeparator} {
		if !c.IsSet(name) {
			continue
		}
		text, err := separator(c, name)
		if err != nil {
			return nil, err
		}
		*into = []byte(text)
	}
	for _, text := range c.StringSlice("header") {
		if err := addHeader(p.headers, text); err != nil {
			return nil, usagef("--header %w", err)
		}
	}
	return p, nil
}

// compose reads one line. What is not asked for is part of the value.
func (p *recordComposer) compose(line []byte) (*polylog.Message, error) {
	p.composed++
	headers, key, value := p.headers, p.key, line
	if p.headersSeparator != nil {
		text, rest, ok := bytes.Cut(value, p.headersSeparator)
		if !ok {
			return nil, fmt.Errorf("record %d has no headers separator %q", p.composed, p.headersSeparator)
		}
		value = rest
		headers = maps.Clone(headers)
		for one := range strings.SplitSeq(string(text), ",") {
			if text := strings.TrimSpace(one); text == "" {
				continue
			}
			if err := addHeader(headers, one); err != nil {
				return nil, fmt.Errorf("record %d: header %w", p.composed, err)
			}
		}
	}
	if p.keySeparator != nil {
		var ok bool
		if key, value, ok = bytes.Cut(value, p.keySeparator); !ok {
			return nil, fmt.Errorf("record %d has no key separator %q", p.composed, p.keySeparator)
		}
	}
	m := polylog.NewBytes(value)
	m.Key, m.Properties = key, headers
	return m, nil
}

// addHeader reads NAME=VALUE. Bytes that are not UTF-8 stay bytes.
func addHeader(headers map[string]any, text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q: write NAME=VALUE", text)
	}
	if headers[name] = value; !utf8.ValidString(value) {
		headers[name] = []byte(value)
	}
	return nil
}
