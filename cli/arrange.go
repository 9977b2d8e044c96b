package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange returns args with every flag in front of the operands of its command,
// and global flags in front of the command, because the flag package stops at
// the first operand and people write `queue take NAME --count 5 --url ...`.
// Behind -- nothing is a flag.
func arrange(app *cli.App, args []string) ([]string, error) {
	a := arranger{commands: app.Commands, global: app.Flags, path: "polylog"}
	rest := args[1:]
	if len(rest) > 0 && rest[0] == completeName {
		return args, nil // what follows is somebody else's line
	}
	for len(rest) > 0 {
		word := rest[0]
		switch {
		case word == "--":
			a.operands = append(a.operands, rest[1:]...)
			return a.result(args[0]), nil
		case len(word) > 1 && word[0] == '-':
			used, err := a.flag(rest)
			if err != nil {
				return nil, err
			}
			rest = rest[used:]
		default:
			a.word(word)
			rest = rest[1:]
		}
	}
	return a.result(args[0]), nil
}

// arranger is how far arrange has come.
type arranger struct {
	commands []*cli.Command // those that the next word may name
	local    []cli.Flag     // those of the command so far
	global   []cli.Flag
	path     string

	globals, names, locals, operands []string
}

// word takes one that is no flag: a command's name, or an operand.
func (a *arranger) word(word string) {
	if len(a.operands) == 0 {
		for _, c := range a.commands {
			if c.HasName(word) {
				a.commands, a.local = c.Subcommands, c.Flags
				a.path += " " + c.Name
				a.names = append(a.names, word)
				return
			}
		}
	}
	a.operands = append(a.operands, word)
}

// flag takes the flag at the head of words, and says how many words it has.
func (a *arranger) flag(words []string) (used int, err error) {
	name, value, assigned := strings.Cut(strings.TrimLeft(words[0], "-"), "=")
	if name == "help" || name == "h" {
		a.locals = append(a.locals, "--help")
		return 1, nil
	}
	into := &a.locals
	f := findFlag(a.local, name)
	if f == nil {
		into, f = &a.globals, findFlag(a.global, name)
	}
	if f == nil {
		return 0, usagef("%s has no flag %s%s (see %s --help; an argument that begins with - goes behind --)",
			a.path, words[0], hint("--"+name, flagNames(a.local, a.global)), a.path)
	}
	if _, isBool := f.(*cli.BoolFlag); isBool {
		*into = append(*into, words[0])
		return 1, checkValue(f, name, value, assigned)
	}
	if assigned {
		*into = append(*into, words[0])
		return 1, checkValue(f, name, value, true)
	}
	if len(words) < 2 {
		return 0, usagef("flag %s needs a value (see %s --help)", words[0], a.path)
	}
	*into = append(*into, words[0]+"="+words[1])
	return 2, checkValue(f, name, words[1], true)
}

// checkValue says what to write instead of a value that the flag package would
// only call a parse error. Texts are checked by whoever reads them.
func checkValue(f cli.Flag, name, value string, given bool) error {
	if !given {
		return nil
	}
	var err error
	switch f.(type) {
	case *cli.BoolFlag:
		if _, bad := strconv.ParseBool(value); bad != nil {
			err = fmt.Errorf("%q is neither true nor false", value)
		}
	case *cli.DurationFlag:
		_, err = parseDuration(value)
	case *cli.IntFlag, *cli.Int64Flag, *cli.IntSliceFlag:
		if _, bad := strconv.ParseInt(value, 0, 64); bad != nil {
			err = fmt.Errorf("%q is no whole number; write one such as 5", value)
		}
	case *cli.Float64Flag:
		if _, bad := strconv.ParseFloat(value, 64); bad != nil {
			err = fmt.Errorf("%q is no number; write one such as 100 or 0.5", value)
		}
	}
	if err == nil {
		return nil
	}
	if len(name) > 1 {
		name = "-" + name
	}
	return usagef("-%s: %w", name, err)
}

func (a *arranger) result(program string) []string {
	out := append([]string{program}, a.globals...)
	out = append(out, a.names...)
	out = append(out, a.locals...)
	if len(a.operands) == 0 {
		return out
	}
	return append(append(out, "--"), a.operands...)
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				return f
			}
		}
	}
	return nil
}

// flagNames lists the visible flags' names as they are typed.
func flagNames(lists ...[]cli.Flag) []string {
	var names []string
	for _, flags := range lists {
		for _, f := range flags {
			if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
				continue
			}
			for _, n := range f.Names() {
				if len(n) > 1 {
					n = "-" + n
				}
				names = append(names, "-"+n)
			}
		}
	}
	return names
}
