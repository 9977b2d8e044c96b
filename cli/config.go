package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// configCommand is `polylog config`.
func (r *run) configCommand() *cli.Command {
	return &cli.Command{
		Name: "config", Category: categoryProgram,
		Usage: "show the configuration",
		Subcommands: []*cli.Command{{
			Name:  "print",
			Usage: "show every setting's value and where it came from",
			Description: "A flag goes before the environment, the environment before the file, the file\n" +
				"before the default. Flags of `polylog serve` may be given here to try them.",
			Flags:  append([]cli.Flag{&cli.BoolFlag{Name: "default", Usage: "print a commented file of the defaults instead", DisableDefaultText: true}}, flagsOf(sectionServe)...),
			Action: r.configured(r.configPrint),
		}},
	}
}

// settingInfo is how a setting is printed.
type settingInfo struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func (r *run) configPrint(c *cli.Context) error {
	if err := operands(c, 0, 0); err != nil {
		return err
	}
	if c.Bool("default") {
		_, err := fmt.Fprint(r.stdout, defaultFile())
		return err
	}
	var infos []settingInfo
	for _, s := range settings {
		infos = append(infos, settingInfo{s.key(), r.config.shown(s), r.config[s.key()].source})
	}
	return printList(r, infos,
		column("KEY", func(i settingInfo) string { return i.Key }),
		column("VALUE", func(i settingInfo) string { return i.Value }),
		column("SOURCE", func(i settingInfo) string { return i.Source }))
}

// defaultFile is a configuration file in which every default is commented out.
func defaultFile() string {
	var b strings.Builder
	b.WriteString("# Configuration of polylog. Flags and POLYLOG_* variables go before this file.\n")
	section := sectionGlobal
	for _, s := range settings {
		if s.section != section {
			section = s.section
			fmt.Fprintf(&b, "\n[%s]\n", section)
		}
		doc := s.doc
		if s.kind == kindChoice {
			doc += " (" + strings.Join(s.choices, ", ") + ")"
		}
		fmt.Fprintf(&b, "\n# %s\n#%s = %s\n", doc, s.name, s.literal())
	}
	return b.String()
}

// literal is the default as TOML.
func (s *setting) literal() string {
	if s.kind == kindSwitch || s.kind == kindNumber {
		return s.fallback
	}
	return strconv.Quote(s.fallback)
}
