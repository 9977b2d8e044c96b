package frame

import (
	"strconv"
	"strings"
)

// Append appends a frame as version v writes it. It adds no content-length; a body that
// may have a NUL needs one.
func Append(b []byte, v Version, f *Frame) []byte {
	b = append(append(b, f.Command...), '\n')
	for i := range f.Headers {
		b = AppendHeader(b, v, f.Command, f.Headers[i].Name, f.Headers[i].Value)
	}
	b = append(append(b, '\n'), f.Body...)
	return append(b, 0, '\n')
}

// AppendHeader appends one header of a frame of command, with its end of line.
func AppendHeader(b []byte, v Version, command, name, value string) []byte {
	plain := v == V10 || connecting(command)
	b = appendEscaped(b, v, plain, true, name)
	b = append(b, ':')
	b = appendEscaped(b, v, plain, false, value)
	return append(b, '\n')
}

// AppendLength appends the header content-length.
func AppendLength(b []byte, n int) []byte {
	b = append(b, "content-length:"...)
	return append(strconv.AppendInt(b, int64(n), 10), '\n')
}

// appendEscaped appends a name or a value. Where nothing can be escaped, what would end
// it becomes a space. A NUL, which no version can escape, does everywhere.
func appendEscaped(b []byte, v Version, plain, name bool, s string) []byte {
	if !strings.ContainsAny(s, "\r\n:\\\x00") {
		return append(b, s...)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c == 0, plain && (c == '\n' || c == '\r' || c == ':' && name):
			b = append(b, ' ')
		case plain:
			b = append(b, c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == ':':
			b = append(b, '\\', 'c')
		case c == '\\':
			b = append(b, '\\', '\\')
		case c == '\r' && v == V12:
			b = append(b, '\\', 'r')
		default:
			b = append(b, c)
		}
	}
	return b
}
