package cli

import (
	"bufio"

	"github.com/polylog-mq/polylog"
)

// messageWriter writes messages as they come: bodies, lines of JSON, or the
// elements of one JSON array, which end closes.
type messageWriter struct {
	w         *bufio.Writer
	format    format
	delimiter byte
	written   int
}

func (r *run) newMessageWriter(asJSON, null bool) *messageWriter {
	w := &messageWriter{w: bufio.NewWriterSize(r.stdout, 64<<10), format: r.output, delimiter: '\n'}
	if asJSON && w.format == formatTable {
		w.format = formatLines
	}
	if null {
		w.delimiter = 0
	}
	return w
}

func (w *messageWriter) write(m *polylog.Message) error { return w.writeInfo(m, "") }

// writeInfo writes m, with the state that a browser saw it in.
func (w *messageWriter) writeInfo(m *polylog.Message, state string) error {
	w.written++
	if w.format == formatTable {
		w.w.Write(plainBody(m)) // the flush tells of errors
		return w.w.WriteByte(w.delimiter)
	}
	line, err := marshalMessage(m, state, w.format == formatJSON)
	if err != nil {
		return err
	}
	if w.format == formatJSON {
		if w.written == 1 {
			w.w.WriteString("[\n  ")
		} else {
			w.w.WriteString(",\n  ")
		}
		_, err = w.w.Write(line)
		return err
	}
	w.w.Write(line)
	return w.w.WriteByte('\n')
}

func (w *messageWriter) flush() error { return w.w.Flush() }

// end closes the array, also the empty one.
func (w *messageWriter) end() error {
	if w.format == formatJSON {
		if w.written == 0 {
			w.w.WriteByte('[')
		} else {
			w.w.WriteByte('\n')
		}
		w.w.WriteString("]\n")
	}
	return w.w.Flush()
}
