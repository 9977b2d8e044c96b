package cli

import (
	"fmt"
	"strings"
	"testing"
)

func TestRecordComposer(t *testing.T) {
	for _, c := range []struct {
		composer recordComposer
		line     string
		want     string // headers, key, value; or the error
	}{
		{recordComposer{}, "a:b", `map[] <nil> "a:b"`},
		{recordComposer{key: []byte("k")}, "v", `map[] "k" "v"`},
		{recordComposer{keySeparator: []byte(":")}, "a:b:c", `map[] "a" "b:c"`},
		{recordComposer{keySeparator: []byte("::")}, "::", `map[] "" ""`},
		{recordComposer{keySeparator: []byte(":")}, "a", `record 1 has no key separator ":"`},
		{recordComposer{headersSeparator: []byte("\t"), keySeparator: []byte("\t")}, "x=1,y=\tk\tv", `map[all:2 x:1 y:] "k" "v"`},
		{recordComposer{headersSeparator: []byte("\t")}, "\tv", `map[all:2] <nil> "v"`},
		{recordComposer{headersSeparator: []byte("\t")}, "all=3\tv", `map[all:3] <nil> "v"`},
		{recordComposer{headersSeparator: []byte("\t")}, "x=\xff\tv", `map[all:2 x:[255]] <nil> "v"`},
		{recordComposer{headersSeparator: []byte("\t")}, "v", `record 1 has no headers separator "\t"`},
		{recordComposer{headersSeparator: []byte("\t")}, "x\tv", `record 1: header "x": write NAME=VALUE`},
		{recordComposer{headersSeparator: []byte("\t")}, "=1\tv", `record 1: header "=1": write NAME=VALUE`},
	} {
		if c.composer.headersSeparator != nil {
			c.composer.headers = map[string]any{"all": "2"}
		}
		m, err := c.composer.compose([]byte(c.line))
		got := fmt.Sprint(err)
		if err == nil {
			key := "<nil>"
			if m.Key != nil {
				key = fmt.Sprintf("%q", m.Key)
			}
			got = fmt.Sprintf("%v %s %q", m.Properties, key, m.Body)
		}
		if got != c.want {
			t.Errorf("%q: %s, want %s", c.line, got, c.want)
		}
		if n := len(c.composer.headers); c.composer.headersSeparator != nil && n != 1 {
			t.Errorf("%q: the headers of a line became those of all", c.line)
		}
	}
}

func TestStreamUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"write", "usage: polylog stream write NAME"},
		{"write t --key k --key-separator : v", "--key or --key-separator"},
		{"write t --key-separator= v", "write a text"},
		{`write t --key-separator \q v`, "write a text"},
		{"write t --header x v", "write NAME=VALUE"},
		{"write t --partition -1 v", "a number from 0"},
		{"write t --repeat 0 v", "a number from 1"},
		{"read", "usage: polylog stream read"},
		{"read t --count 0", "a number from 1"},
		{"read t --timeout 0s", "--no-wait"},
		{"read t --partition x", "no whole number"},
		{"read t --partition 0 --group g", "--group or --partition"},
		{"read t --no-wait --group g", "--timeout TIME ends it"},
		{"read t --group=", "needs the group's name"},
		{"read t --from begining", "did you mean beginning?"},
		{"read t --print vlaue", "did you mean value?"},
		{"read t --separator=", "write a text"},
	} {
		args := append([]string{"stream"}, strings.Fields(c.args)...)
		code, _, errs := call(t, map[string]string{"POLYLOG_URL": "polylog://127.0.0.1:1"}, "", args...)
		if code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, %s", c.args, code, errs)
		}
	}
}
