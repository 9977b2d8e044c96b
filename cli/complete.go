package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// completeName is the command that the completion scripts call.
const completeName = "__complete"

// completionTimeout bounds what a tabulator may cost when no broker answers.
const completionTimeout = time.Second

// completeCommand is what the completion scripts call: the words of the line
// as typed so far, the last of which may be empty and is to be completed. It
// prints a candidate on each line, with its description behind a tabulator.
func (r *run) completeCommand() *cli.Command {
	return &cli.Command{
		Name: completeName, Hidden: true, SkipFlagParsing: true,
		Action: r.configured(func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) == 0 {
				words = []string{""}
			}
			for _, candidate := range r.complete(c, words) {
				if _, err := fmt.Fprintln(r.stdout, candidate); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// complete returns the candidates for the last of words.
func (r *run) complete(c *cli.Context, words []string) []string {
	line, last := words[:len(words)-1], words[len(words)-1]
	commands, local, global := c.App.Commands, []cli.Flag{}, c.App.Flags
	var names, operands []string
	given := map[string]string{} // global flags on the line
	for i := 0; i < len(line); i++ {
		word := line[i]
		if strings.HasPrefix(word, "-") && len(word) > 1 {
			name, text, assigned := strings.Cut(strings.TrimLeft(word, "-"), "=")
			f := findFlag(append(append([]cli.Flag{}, local...), global...), name)
			if _, isBool := f.(*cli.BoolFlag); f == nil || isBool {
				continue
			}
			if !assigned {
				if i++; i == len(line) { // last is this flag's value
					return r.completeValue(c.Context, strings.Join(names, " "), f, last, given)
				}
				text = line[i]
			}
			given[f.Names()[0]] = text
			continue
		}
		if next := findCommand(commands, word); next != nil && len(operands) == 0 {
			names = append(names, next.Name)
			commands, local = next.Subcommands, next.Flags
			continue
		}
		operands = append(operands, word)
	}
	if strings.HasPrefix(last, "-") {
		return completeFlags(last, local, global)
	}
	if len(commands) > 0 && len(operands) == 0 {
		return completeCommands(last, commands)
	}
	return r.completeOperand(c.Context, strings.Join(names, " "), len(operands), last, given)
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func completeCommands(prefix string, commands []*cli.Command) []string {
	var out []string
	for _, c := range commands {
		if !c.Hidden && strings.HasPrefix(c.Name, prefix) {
			out = append(out, c.Name+"\t"+c.Usage)
		}
	}
	return out
}

func completeFlags(prefix string, lists ...[]cli.Flag) []string {
	var out []string
	for _, flags := range lists {
		for _, f := range flags {
			name := "--" + f.Names()[0]
			if d, ok := f.(cli.DocGenerationFlag); ok && strings.HasPrefix(name, prefix) {
				out = append(out, name+"\t"+d.GetUsage())
			}
		}
	}
	return out
}

// completeValue completes a flag's value where the choices are known; a value
// that names a file is left to the shell.
func (r *run) completeValue(ctx context.Context, command string, f cli.Flag, prefix string, given map[string]string) []string {
	name := f.Names()[0]
	for _, s := range settings {
		if s.name == name {
			return withPrefix(prefix, s.choices)
		}
	}
	switch name {
	case "to", "reply-to":
		return r.completeDestinations(ctx, prefix, "", given)
	case "topic":
		return r.completeDestinations(ctx, prefix, "", given)
	case "group":
		if command == "stream read" { // elsewhere it is a message's
			return r.completeGroups(ctx, prefix, given)
		}
	case "from":
		return withPrefix(prefix, []string{"beginning", "end"})
	case "print":
		return completeFields(prefix)
	case "type":
		if command == "group list" {
			return withPrefix(prefix, []string{"classic", "consumer", "share"})
		}
	case "ack":
		return withPrefix(prefix, ackModeNames)
	}
	return nil
}

// completeOperand completes the n-th operand of a command.
func (r *run) completeOperand(ctx context.Context, command string, n int, prefix string, given map[string]string) []string {
	if command == "completion" && n == 0 {
		return withPrefix(prefix, shells)
	}
	if command == "destination create" && n == 0 {
		return withPrefix(prefix, []string{"queue", "topic", "log"})
	}
	if strings.HasPrefix(command, "group ") && (n == 0 || command == "group delete") {
		return r.completeGroups(ctx, prefix, given)
	}
	kind, ok := operandKinds[command]
	if !ok || n > 0 && command != "destination delete" {
		return nil
	}
	return r.completeDestinations(ctx, prefix, kind, given)
}

// operandKinds says of which kind the destination is that a command takes
// first; "" is any.
var operandKinds = map[string]string{
	"queue put": "queue", "queue take": "queue", "queue browse": "queue",
	"queue move": "queue", "queue purge": "queue", "queue redrive": "queue",
	"topic publish": "topic", "subscribe": "topic",
	"subscription list": "topic", "subscription delete": "topic", "subscription seek": "topic",
	"stream read": "", "stream write": "",
	"destination describe": "", "destination alter": "", "destination delete": "",
}

// completeDestinations asks the broker. A log takes every view, so it is
// offered always; without a broker nothing is.
func (r *run) completeDestinations(ctx context.Context, prefix, kind string, given map[string]string) []string {
	list := candidates(ctx, r, given, func(ctx context.Context, a polylog.Admin) ([]polylog.DestinationInfo, error) {
		return a.Destinations(ctx, prefix, false)
	})
	var out []string
	for _, d := range list {
		if kind == "" || d.Kind == kind || d.Kind == "log" {
			out = append(out, d.Name+"\t"+d.Kind)
		}
	}
	return out
}

func (r *run) completeGroups(ctx context.Context, prefix string, given map[string]string) []string {
	list := candidates(ctx, r, given, func(ctx context.Context, a polylog.Admin) ([]polylog.GroupInfo, error) { return a.Groups(ctx) })
	var out []string
	for _, g := range list {
		if strings.HasPrefix(g.Name, prefix) {
			out = append(out, g.Name+"\t"+g.Type+", "+g.State)
		}
	}
	return out
}

// candidates asks the broker that the line names; none come without one.
func candidates[T any](ctx context.Context, r *run, given map[string]string, ask func(context.Context, polylog.Admin) ([]T, error)) []T {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	address, ok := given["url"]
	if !ok {
		address = r.config.text("url")
	}
	c, err := polylog.Connect(ctx, address, polylog.WithReconnect(polylog.ReconnectPolicy{Disabled: true}))
	if err != nil {
		return nil
	}
	defer c.Close() // what matters has been waited for by then
	list, err := ask(ctx, c.Admin())
	if err != nil {
		return nil
	}
	return list
}

// completeFields completes the last of a list of fields.
func completeFields(prefix string) []string {
	done, last := "", prefix
	if i := strings.LastIndexByte(prefix, ','); i >= 0 {
		done, last = prefix[:i+1], prefix[i+1:]
	}
	var out []string
	for _, name := range withPrefix(last, strings.Split(recordFieldNames, ", ")) {
		out = append(out, done+name)
	}
	return out
}

func withPrefix(prefix string, words []string) []string {
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			out = append(out, w)
		}
	}
	return out
}
