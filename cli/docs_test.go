package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog/destination"
)

// generatedMark stands in a document above what this test writes.
const generatedMark = "<!-- What follows is written by: go test ./cli -run TestDocuments -rewrite -->\n"

// The documents say what the program does: everything below the mark is made
// of the command tree and the tables of settings.
func TestDocuments(t *testing.T) {
	for path, generate := range map[string]func() string{
		"../docs/cli.md":           commandReference,
		"../docs/configuration.md": settingReference,
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		written, _, ok := strings.Cut(string(text), generatedMark)
		if !ok {
			t.Errorf("%s has no line %s", path, generatedMark)
			continue
		}
		golden(t, path, written+generatedMark+generate())
	}
}

func commandReference() string {
	var b strings.Builder
	app := newApp(&run{})
	b.WriteString("\n## Exit codes\n\n| code | |\n|---|---|\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", e.code, e.meaning)
	}
	b.WriteString("\n## Global flags\n\n")
	flagTable(&b, app.Flags)
	walk(app.Commands, nil, func(path []string, c *cli.Command) {
		name := "polylog " + strings.Join(path, " ")
		if len(path) == 1 {
			fmt.Fprintf(&b, "\n## %s\n\n%s.\n", name, sentence(c.Usage))
		} else {
			fmt.Fprintf(&b, "\n### %s\n\n%s.\n", name, sentence(c.Usage))
		}
		if len(c.Subcommands) > 0 {
			return
		}
		usage := name
		if len(c.Flags) > 0 {
			usage += " [flags]"
		}
		fmt.Fprintf(&b, "\n    %s\n", strings.TrimSpace(usage+" "+c.ArgsUsage))
		description, _, settings := strings.Cut(c.Description, "Settings:\n")
		if strings.TrimSpace(description) != "" {
			fmt.Fprintf(&b, "\n%s\n", indented(description))
		}
		if settings {
			b.WriteString("\nThe settings are in [configuration.md](configuration.md#destinations).\n")
		}
		if len(c.Flags) > 0 {
			b.WriteByte('\n')
			flagTable(&b, c.Flags)
		}
	})
	return b.String()
}

// indented keeps the lines of a description that are shown as code: those
// that stand in by three blanks.
func indented(description string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimRight(description, "\n")) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "   ") {
			line = " " + line
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func flagTable(b *strings.Builder, flags []cli.Flag) {
	b.WriteString("| flag | |\n|---|---|\n")
	for _, f := range flags {
		if f.Names()[0] == "help" {
			continue
		}
		names := "`" + strings.Join(flagNames([]cli.Flag{f}), "`, `") + "`"
		usage, text := f.(cli.DocGenerationFlag).GetUsage(), ""
		if d, ok := f.(cli.DocGenerationFlag); ok && d.TakesValue() {
			text = d.GetDefaultText()
		}
		if text != "" && text != `""` && !strings.Contains(usage, "(default ") {
			usage += " (default " + strings.Trim(text, `"`) + ")"
		}
		fmt.Fprintf(b, "| %s | %s |\n", names, strings.ReplaceAll(usage, "|", `\|`))
	}
}

func settingReference() string {
	var b strings.Builder
	b.WriteString("\n## The program\n\n| in the file | flag | in the environment | default | |\n|---|---|---|---|---|\n")
	for _, s := range settings {
		key := s.name
		if s.section != sectionGlobal {
			key = "[" + s.section + "] " + key
		}
		doc := s.doc
		if len(s.choices) > 0 {
			doc = "`" + strings.Join(s.choices, "`, `") + "`: " + doc
		}
		fmt.Fprintf(&b, "| `%s` | `--%s` | `%s` | %s | %s |\n", key, s.name, s.variable(), code(s.fallback), doc)
	}
	b.WriteString("\n## Destinations\n\nSet with `polylog destination create` and `alter`, as `--set NAME=VALUE`.\n\n| setting | default | |\n|---|---|---|\n")
	for _, s := range destination.SettingNames() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Name, code(s.Default), s.Doc)
	}
	b.WriteString("\n## A file of all defaults\n\n`polylog config print --default` prints this:\n\n```toml\n" + defaultFile() + "```\n")
	return b.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
