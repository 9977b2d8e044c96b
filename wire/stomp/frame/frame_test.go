package frame

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

var limits = Limits{Headers: 8, HeaderBytes: 256, Body: 64}

// both reads and writes, where canonical says that the bytes are what Append makes.
var frames = []struct {
	name      string
	version   Version
	bytes     string
	want      Frame
	canonical bool
}{
	{"connect, as 1.0 shows it", V10, "CONNECT\nlogin: <username>\npasscode:<passcode>\n\n\x00", Frame{Command: "CONNECT", Headers: []Header{{"login", "<username>"}, {"passcode", "<passcode>"}}}, false},
	{"connect with CR LF", V10, "CONNECT\r\naccept-version:1.2\r\nhost:a\r\n\r\n\x00\r\n", Frame{Command: "CONNECT", Headers: []Header{{"accept-version", "1.2"}, {"host", "a"}}}, false},
	{"send up to NUL", V12, "SEND\ndestination:/queue/a\ncontent-type:text/plain\n\nhello queue a\x00\n", Frame{Command: "SEND", Headers: []Header{{"destination", "/queue/a"}, {"content-type", "text/plain"}}, Body: []byte("hello queue a")}, true},
	{"send with a length", V12, "SEND\ncontent-length:5\n\na\x00b\x00c\x00\n", Frame{Command: "SEND", Headers: []Header{{"content-length", "5"}}, Body: []byte("a\x00b\x00c")}, true},
	{"CR LF", V12, "SEND\r\na:b\r\n\r\nx\x00\n", Frame{Command: "SEND", Headers: []Header{{"a", "b"}}, Body: []byte("x")}, false},
	{"1.1 keeps a CR", V11, "SEND\na:b\r\n\nx\x00\n", Frame{Command: "SEND", Headers: []Header{{"a", "b\r"}}, Body: []byte("x")}, true},
	{"escapes of 1.2", V12, "SEND\n\\c\\n:\\r\\n\\c\\\\n\n\n\x00\n", Frame{Command: "SEND", Headers: []Header{{":\n", "\r\n:\\n"}}}, true},
	{"escapes of 1.1", V11, "SEND\na\\c:\\n\\\\\n\n\x00\n", Frame{Command: "SEND", Headers: []Header{{"a:", "\n\\"}}}, true},
	{"1.0 has none", V10, "SEND\na:\\n:\\c\n\n\x00\n", Frame{Command: "SEND", Headers: []Header{{"a", "\\n:\\c"}}}, true},
	{"CONNECTED has none", V12, "CONNECTED\nsession:a\\b:c\n\n\x00\n", Frame{Command: "CONNECTED", Headers: []Header{{"session", "a\\b:c"}}}, true},
	{"spaces are kept", V12, "SEND\n a : b \n\n\x00\n", Frame{Command: "SEND", Headers: []Header{{" a ", " b "}}}, true},
	{"an empty value", V12, "SEND\na:\n\n\x00\n", Frame{Command: "SEND", Headers: []Header{{"a", ""}}}, true},
	{"heart-beats before", V12, "\n\r\n\nABORT\ntransaction:t\n\n\x00", Frame{Command: "ABORT", Headers: []Header{{"transaction", "t"}}}, false},
	{"repeated", V12, "MESSAGE\nfoo:World\nfoo:Hello\n\n\x00\n", Frame{Command: "MESSAGE", Headers: []Header{{"foo", "World"}, {"foo", "Hello"}}}, true},
}

func TestFrames(t *testing.T) {
	for _, c := range frames {
		t.Run(c.name, func(t *testing.T) {
			for _, in := range []io.Reader{strings.NewReader(c.bytes), iotest.OneByteReader(strings.NewReader(c.bytes))} {
				r := NewReader(in, limits)
				r.SetVersion(c.version)
				f, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				if f.Command != c.want.Command || !reflect.DeepEqual(f.Headers, c.want.Headers) || !bytes.Equal(f.Body, c.want.Body) {
					t.Errorf("got %+v, want %+v", f, c.want)
				}
				if _, err := r.Next(); !errors.Is(err, io.EOF) {
					t.Errorf("after it: %v, want EOF", err)
				}
			}
			if got := string(Append(nil, c.version, &c.want)); c.canonical && got != c.bytes {
				t.Errorf("written %q, want %q", got, c.bytes)
			}
		})
	}
}

func TestFirstHeaderWins(t *testing.T) {
	f := Frame{Headers: []Header{{"foo", "World"}, {"foo", "Hello"}}}
	if got := f.Get("foo"); got != "World" {
		t.Errorf("got %q, want the first", got)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		v     Version
		bytes string
		want  error
	}{
		{"headers", V12, "SEND\n" + strings.Repeat("a:b\n", 9) + "\n\x00", ErrTooLarge},
		{"a long header", V12, "SEND\na:" + strings.Repeat("b", 300), ErrTooLarge},
		{"a long command", V12, strings.Repeat("b", 300), ErrTooLarge},
		{"a long body", V12, "SEND\n\n" + strings.Repeat("b", 65) + "\x00", ErrTooLarge},
		{"an announced body", V12, "SEND\ncontent-length:65\n\n", ErrTooLarge},
		{"a huge length", V12, "SEND\ncontent-length:99999999999999999999\n\n", ErrMalformed},
		{"a negative length", V12, "SEND\ncontent-length:-1\n\n", ErrMalformed},
		{"a wrong length", V12, "SEND\ncontent-length:1\n\nab\x00", ErrMalformed},
		{"no colon", V12, "SEND\nabc\n\n\x00", ErrMalformed},
		{"an undefined escape", V12, "SEND\na:\\t\n\n\x00", ErrMalformed},
		{"an escape at the end", V12, "SEND\na:\\\n\n\x00", ErrMalformed},
		{"1.2's escape in 1.1", V11, "SEND\na:\\r\n\n\x00", ErrMalformed},
		{"a NUL in a header", V12, "SEND\na:\x00\n\n\x00", ErrMalformed},
		{"a NUL in a command", V12, "SEND\x00\na:b\n\n\x00", ErrMalformed},
		{"cut in a header", V12, "SEND\na", io.ErrUnexpectedEOF},
		{"cut in a body", V12, "SEND\n\nabc", io.ErrUnexpectedEOF},
		{"cut in a counted body", V12, "SEND\ncontent-length:4\n\nabc", io.ErrUnexpectedEOF},
		{"cut before the NUL", V12, "SEND\ncontent-length:3\n\nabc", io.ErrUnexpectedEOF},
	} {
		r := NewReader(strings.NewReader(c.bytes), limits)
		r.SetVersion(c.v)
		if _, err := r.Next(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestLargestIsTaken(t *testing.T) {
	body := strings.Repeat("b", limits.Body)
	for _, s := range []string{"SEND\n\n" + body + "\x00", "SEND\ncontent-length:64\n\n" + body + "\x00"} {
		if f, err := NewReader(strings.NewReader(s), limits).Next(); err != nil || string(f.Body) != body {
			t.Errorf("%.30q: %v", s, err)
		}
	}
}

// FuzzRead asserts that what is read is within the limits, and is read again as it was
// when it is written.
func FuzzRead(f *testing.F) {
	for _, c := range frames {
		f.Add(byte(c.version), []byte(c.bytes))
	}
	f.Fuzz(func(t *testing.T, v byte, in []byte) {
		version := Version(v % 3)
		r := NewReader(bytes.NewReader(in), limits)
		r.SetVersion(version)
		for {
			got, err := r.Next()
			if err != nil {
				return
			}
			if len(got.Headers) > limits.Headers || len(got.Body) > limits.Body {
				t.Fatalf("beyond the limits: %+v", got)
			}
			if version != V12 || connecting(got.Command) || strings.HasSuffix(got.Command, "\r") {
				continue // what has a CR or a colon cannot always be written
			}
			again := NewReader(bytes.NewReader(Append(nil, version, got)), Limits{Headers: 8, HeaderBytes: 1024, Body: 64})
			again.SetVersion(version)
			back, err := again.Next()
			if err != nil || back.Command != got.Command || !reflect.DeepEqual(back.Headers, got.Headers) || !bytes.Equal(back.Body, got.Body) {
				t.Fatalf("%+v came back as %+v, %v", got, back, err)
			}
		}
	})
}
