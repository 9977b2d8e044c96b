package cli

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// walk visits every visible command with its path.
func walk(commands []*cli.Command, path []string, visit func(path []string, c *cli.Command)) {
	for _, c := range commands {
		if c.Hidden {
			continue
		}
		at := append(append([]string{}, path...), c.Name)
		visit(at, c)
		walk(c.Subcommands, at, visit)
	}
}

// The help of the whole tree is as it was last agreed on.
func TestHelp(t *testing.T) {
	var b strings.Builder
	show := func(args ...string) {
		code, out, errs := call(t, nil, "", append(args, "--help")...)
		if code != 0 || errs != "" {
			t.Errorf("%v --help: exit code %d, %s", args, code, errs)
		}
		b.WriteString("$ polylog " + strings.Join(append(args, "--help"), " ") + "\n" + out + "\n")
	}
	show()
	walk(newApp(&run{}).Commands, nil, func(path []string, _ *cli.Command) { show(path...) })
	golden(t, "testdata/help.txt", b.String())
}

// Every flag has a text, and no command shadows a global flag.
func TestFlags(t *testing.T) {
	app := newApp(&run{})
	walk(app.Commands, nil, func(path []string, c *cli.Command) {
		for _, f := range c.Flags {
			if d, ok := f.(cli.DocGenerationFlag); !ok || d.GetUsage() == "" {
				t.Errorf("%s: flag %s says nothing of itself", strings.Join(path, " "), f.Names()[0])
			}
			for _, name := range f.Names() {
				if findFlag(app.Flags, name) != nil {
					t.Errorf("%s: flag %s hides the global one", strings.Join(path, " "), name)
				}
			}
		}
		if c.Action == nil {
			t.Errorf("%s does nothing", strings.Join(path, " "))
		}
	})
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"qeue"}, "did you mean queue?"},
		{[]string{"queue", "tkae", "orders"}, "did you mean take?"},
		{[]string{"queue", "take", "orders", "--cuont", "5"}, "did you mean --count?"},
		{[]string{"queue", "take"}, "usage: polylog queue take NAME"},
		{[]string{"queue", "take", "a", "b"}, `argument "b" is one too many`},
		{[]string{"queue", "take", "a", "--count"}, "--count needs a value"},
		{[]string{"queue", "take", "a", "--count", "x"}, `--count: "x" is no whole number`},
		{[]string{"queue", "take", "a", "-n", "x"}, `-n: "x" is no whole number`},
		{[]string{"queue", "take", "a", "--timeout", "5"}, `--timeout: "5" has no unit; write 5s`},
		{[]string{"queue", "take", "a", "-t=5"}, `-t: "5" has no unit; write 5s`},
		{[]string{"queue", "take", "a", "--timeout", "soon"}, "write 500ms, 30s or 2h"},
		{[]string{"queue", "take", "a", "--timeout", "-5s"}, `"-5s" is negative; write 5s`},
		{[]string{"queue", "take", "a", "--follow=perhaps"}, "neither true nor false"},
		{[]string{"queue", "put", "a", "--delay", "5", "x"}, "write 5s"},
		{[]string{"queue", "put", "a", "--ttl", "1.5", "x"}, "write 1.5s"},
		{[]string{"queue", "put", "a", "--rate", "fast", "x"}, "no number"},
		{[]string{"bench", "--duration", "5"}, "write 5s"},
		{[]string{"bench", "--size", "big"}, "write 1048576, 64MiB or 1.5GiB"},
		{[]string{"serve", "--data", "d", "--heartbeat", "5"}, "write 5s"},
		{[]string{"serve", "--data", "d", "--journal-file-size", "big"}, "write 1048576, 64MiB or 1.5GiB"},
		{[]string{"queue", "put", "a", "--prio", "5", "x"}, "did you mean --priority?"},
		{[]string{"queue", "take", "a", "--colour", "x"}, "no flag --colour (see"},
		{[]string{"queue", "take", "a", "--count", "0"}, "a number from 1"},
		{[]string{"queue", "take", "a", "--count", "1", "--all"}, "one of --count, --all and --follow"},
		{[]string{"queue", "put", "a", "--priority", "10", "x"}, "0 to 9"},
		{[]string{"queue", "put", "a", "--key", "k", "--group", "g", "x"}, "--key or --group"},
		{[]string{"queue", "put", "a", "-p", "n:int=x", "x"}, `"x" is no int`},
		{[]string{"queue", "put", "a", "-p", "n:integer=1", "x"}, `no type "integer"`},
		{[]string{"queue", "put", "a", "-5"}, "goes behind --"},
		{[]string{"queue", "purge", "a"}, "Add --yes"},
		{[]string{"destination", "create", "quee", "a"}, "did you mean queue?"},
		{[]string{"destination", "create", "queue", "a", "--set", "max.delivery=5"}, "did you mean max.deliveries?"},
		{[]string{"destination", "create", "queue", "a", "--set", "max.deliveries=many"}, "max.deliveries=many"},
		{[]string{"destination", "alter", "a"}, "nothing to change"},
		{[]string{"subscribe", "t", "--durable", "d"}, "--client-id"},
		{[]string{"subscribe", "t", "--durable", "d", "--shared", "s"}, "give one of"},
		{[]string{"subscription", "seek", "t", "s", "--to-end", "--offset", "3"}, "Give one of"},
		{[]string{"subscription", "seek", "t", "s", "--time", "yesterday"}, "no time"},
		{[]string{"-o", "yaml", "version"}, "none of table, json, jsonl"},
		{[]string{"--url", "localhost", "stats"}, "polylog://HOST:PORT"},
		{[]string{"serve"}, "--data"},
		{[]string{"completion", "tcsh"}, "bash, zsh and fish"},
	} {
		code, out, errs := call(t, nil, "", c.args...)
		if code != exitUsage || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("%v: exit code %d, %q; want 2 and %q\n%s", c.args, code, errs, c.want, out)
		}
	}
}

func TestNearest(t *testing.T) {
	flags := []string{"--url", "--count", "-n", "--reject", "--priority", "--property", "-p", "--no-ack", "--timeout"}
	for word, want := range map[string]string{
		"--prio": "--priority", "--p": "-p", "--pro": "--property", "--tiemout": "--timeout", "--conut": "--count",
		"--selector": "", "--x": "", "--uri": "--url", "--no": "--no-ack", "--rejected": "--reject", "-5": "", "--": "",
	} {
		if got := nearest(word, flags); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

func TestArrange(t *testing.T) {
	app := newApp(&run{})
	for _, c := range []struct{ in, want string }{
		{"queue take a --count 5 --url polylog://h:1", "--url=polylog://h:1 queue take --count=5 -- a"},
		{"-o json queue take --follow a", "-o=json queue take --follow -- a"},
		{"queue put a x --key=k y", "queue put --key=k -- a x y"},
		{"queue put a -- --key k", "queue put -- a --key k"},
		{"queue put queue take", "queue put -- queue take"},
		{"queue put a -", "queue put -- a -"},
		{"subscription seek t s --time -1h", "subscription seek --time=-1h -- t s"},
		{"serve --native-listen= --data d", "serve --native-listen= --data=d"},
		{"queue --help", "queue --help"},
	} {
		got, err := arrange(app, strings.Fields("polylog "+c.in))
		if err != nil || strings.Join(got[1:], " ") != c.want {
			t.Errorf("%s: %q, %v; want %s", c.in, got, err, c.want)
		}
	}
}

func TestNoBroker(t *testing.T) {
	code, _, errs := call(t, nil, "", "--url", "polylog://127.0.0.1:1", "stats")
	if code != exitUnavailable || !strings.Contains(errs, "polylog serve --data") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

func TestComplete(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"que", "queue"},
		{"queue t", "take"},
		{"queue take orders --cou", "--count"},
		{"queue take orders --ur", "--url"},
		{"-o j", "json jsonl"},
		{"completion f", "fish"},
		{"destination create q", "queue"},
		{"bench --ack c", "client"},
		{"--url polylog://127.0.0.1:1 queue take ", ""},
	} {
		code, out, errs := call(t, nil, "", append([]string{"__complete"}, strings.Split(c.line, " ")...)...)
		var got []string
		for line := range strings.Lines(out) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		if code != 0 || errs != "" || strings.Join(got, " ") != c.want {
			t.Errorf("%s: exit code %d, %q %s; want %q", c.line, code, got, errs, c.want)
		}
	}
}

// On a terminal a question is asked, and only yes is yes.
func TestAsk(t *testing.T) {
	for answer, want := range map[string]int{"y\n": exitOK, "YES\n": exitOK, "n\n": exitFailure, "\n": exitFailure, "": exitFailure} {
		var errs strings.Builder
		r := &run{stdin: strings.NewReader(answer), stderr: &errs, stdinTerminal: true, stderrTerminal: true}
		if err := r.ask(false, "Delete it?"); exitCode(err) != want || !strings.Contains(errs.String(), "Delete it? [y/N]") {
			t.Errorf("%q: %v, %q", answer, err, errs.String())
		}
	}
	if err := (&run{}).ask(true, "Delete it?"); err != nil {
		t.Error(err)
	}
}
