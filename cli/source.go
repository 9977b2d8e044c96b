package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/urfave/cli/v2"
)

// maxLineBytes bounds a line that becomes a message. The broker's own bound is
// lower unless a destination's max.message.bytes raises it to 256 MiB.
const maxLineBytes = 256 << 20

// bodies yields what put and publish are to send: the arguments, the named
// file, or the lines of standard input. The bytes are the receiver's to keep.
func (r *run) bodies(c *cli.Context, arguments []string) iter.Seq2[[]byte, error] {
	file, lines := c.String("file"), c.Bool("lines")
	switch {
	case len(arguments) > 0 && file != "":
		return failed(usagef("give bodies as arguments or with --file, not both"))
	case len(arguments) > 0:
		return texts(arguments)
	case file == "":
		if r.stdinTerminal {
			r.say("each line is a message; Ctrl-D ends")
		}
		return linesOf("standard input", r.stdin, delimiter(c))
	case file == "-" && lines:
		return linesOf("standard input", r.stdin, delimiter(c))
	case file == "-":
		return whole("standard input", r.stdin)
	}
	return func(yield func([]byte, error) bool) {
		f, err := os.Open(file)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		if lines {
			linesOf(file, f, delimiter(c))(yield)
		} else {
			whole(file, f)(yield)
		}
	}
}

func delimiter(c *cli.Context) byte {
	if c.Bool("null") {
		return 0
	}
	return '\n'
}

func failed(err error) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) { yield(nil, err) }
}

func texts(arguments []string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, a := range arguments {
			if !yield([]byte(a), nil) {
				return
			}
		}
	}
}

// whole yields all of reader as one body.
func whole(name string, reader io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		body, err := io.ReadAll(io.LimitReader(reader, maxLineBytes+1))
		if err == nil && len(body) > maxLineBytes {
			err = fmt.Errorf("%s has more than %d MiB", name, maxLineBytes>>20)
		}
		yield(body, err)
	}
}

// linesOf yields each line without its end; the last needs none.
func linesOf(name string, reader io.Reader, delimiter byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		buffered := bufio.NewReaderSize(reader, 64<<10)
		for number := 1; ; number++ {
			line, err := readLine(buffered, delimiter)
			if err != nil && !errors.Is(err, io.EOF) {
				yield(nil, fmt.Errorf("line %d of %s: %w", number, name, err))
				return
			}
			atEnd := err != nil
			if atEnd && len(line) == 0 {
				return
			}
			line = bytes.TrimSuffix(line, []byte{delimiter})
			if !yield(line, nil) || atEnd {
				return
			}
		}
	}
}

// readLine reads one line, its end included, into memory of its own.
func readLine(r *bufio.Reader, delimiter byte) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice(delimiter)
		line = append(line, part...)
		if len(line) > maxLineBytes {
			return nil, fmt.Errorf("longer than %d MiB", maxLineBytes>>20)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
