package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker when a release is built.
var version = ""

// versionInfo is what `polylog version` tells.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (r *run) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Category: categoryProgram,
		Usage: "print the version of this program",
		Action: r.configured(func(c *cli.Context) error {
			if err := operands(c, 0, 0); err != nil {
				return err
			}
			v := programVersion()
			revision := v.Revision
			if v.Modified {
				revision += " (modified)"
			}
			return printOne(r, v, pair{"polylog", v.Version}, pair{"revision", revision}, pair{"go", v.Go}, pair{"platform", v.Platform})
		}),
	}
}

// programVersion is the linker's version, else what the Go tool stamped.
func programVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = build.Main.Version
	}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
