package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// recordFields are what --print names: how each is appended to a line.
var recordFields = map[string]func(w *recordWriter, line []byte, record streamRecord, m *polylog.Message) []byte{
	"value": func(w *recordWriter, line []byte, _ streamRecord, m *polylog.Message) []byte {
		if m.Kind == polylog.BodyBytes && m.Body == nil { // a tombstone
			return append(line, w.nullLiteral...)
		}
		return append(line, plainBody(m)...)
	},
	"key": func(w *recordWriter, line []byte, record streamRecord, _ *polylog.Message) []byte {
		if record.Key == nil {
			return append(line, w.nullLiteral...)
		}
		return append(line, record.Key...)
	},
	"headers": func(_ *recordWriter, line []byte, _ streamRecord, m *polylog.Message) []byte {
		for i, name := range slices.Sorted(maps.Keys(m.Properties)) {
			if i > 0 {
				line = append(line, ',')
			}
			line = append(append(line, name...), '=')
			if value, ok := m.Properties[name].([]byte); ok {
				line = append(line, value...)
			} else {
				line = fmt.Append(line, m.Properties[name])
			}
		}
		return line
	},
	"topic": func(_ *recordWriter, line []byte, record streamRecord, _ *polylog.Message) []byte {
		return append(line, record.Topic...)
	},
	"partition": func(_ *recordWriter, line []byte, record streamRecord, _ *polylog.Message) []byte {
		return strconv.AppendInt(line, int64(record.Partition), 10)
	},
	"offset": func(_ *recordWriter, line []byte, record streamRecord, _ *polylog.Message) []byte {
		return strconv.AppendInt(line, record.Offset, 10)
	},
	"timestamp": func(_ *recordWriter, line []byte, record streamRecord, _ *polylog.Message) []byte {
		return record.Timestamp.UTC().AppendFormat(line, "2006-01-02T15:04:05.000Z")
	},
}

// recordFieldNames are theirs, for help.
const recordFieldNames = "topic, partition, offset, timestamp, headers, key, value"

// recordWriter writes records as they come: the fields that were asked for on
// a line, or all of them as JSON.
type recordWriter struct {
	*messageWriter
	// valueOf is Record.Value.
	valueOf func(streamRecord) (*polylog.Message, error)

	fields      []string
	separator   string
	nullLiteral string
	line        []byte
}

// newRecordWriter reads the flags.
func (r *run) newRecordWriter(c *cli.Context) (*recordWriter, error) {
	w := &recordWriter{
		messageWriter: r.newMessageWriter(c.Bool("json"), c.Bool("null")),
		valueOf:       streamRecord.Value,
		nullLiteral:   c.String("null-literal"),
	}
	for name := range strings.SplitSeq(c.String("print"), ",") {
		name = strings.TrimSpace(name)
		if _, ok := recordFields[name]; !ok {
			return nil, usagef("--print: there is no field %q%s; take of %s", name, hint(name, slices.Sorted(maps.Keys(recordFields))), recordFieldNames)
		}
		w.fields = append(w.fields, name)
	}
	var err error
	w.separator, err = separator(c, "separator")
	return w, err
}

func (w *recordWriter) write(record streamRecord) error {
	m, err := w.valueOf(record)
	if err != nil {
		return fmt.Errorf("offset %d of partition %d of %s: %w", record.Offset, record.Partition, record.Topic, err)
	}
	if w.format != formatTable {
		return w.messageWriter.write(m)
	}
	w.written++
	w.line = w.line[:0]
	for i, name := range w.fields {
		if i > 0 {
			w.line = append(w.line, w.separator...)
		}
		w.line = recordFields[name](w, w.line, record, m)
	}
	w.w.Write(w.line) // the flush tells of errors
	return w.w.WriteByte(w.delimiter)
}
