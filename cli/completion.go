package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

var shells = []string{"bash", "zsh", "fish"}

// completionCommand is `polylog completion`.
func (r *run) completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Category: categoryProgram,
		Usage:     "print a completion script for a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: "   bash:  source <(polylog completion bash)\n" +
			"   zsh:   polylog completion zsh > \"${fpath[1]}/_polylog\"\n" +
			"   fish:  polylog completion fish > ~/.config/fish/completions/polylog.fish\n\n" +
			"Names of destinations and groups are asked of the broker that --url names.",
		Action: func(c *cli.Context) error {
			if err := operands(c, 1, 1); err != nil {
				return err
			}
			script, ok := completionScripts[c.Args().First()]
			if !ok {
				return usagef("no completion for %q; there is one for bash, zsh and fish", c.Args().First())
			}
			_, err := fmt.Fprint(r.stdout, script)
			return err
		},
	}
}

// The scripts know nothing: they hand the line to polylog __complete, and fall
// back to file names where it has no answer.
var completionScripts = map[string]string{
	"bash": `# bash completion for polylog
_polylog() {
	local line=${COMP_LINE:0:COMP_POINT} words=() candidate
	read -ra words <<<"$line"
	if [[ $line == *[[:space:]] || ${#words[@]} -eq 0 ]]; then words+=(""); fi
	# bash takes : and = for ends of words, and wants only what is behind them.
	local last=${words[-1]}
	local tail=${last##*[:=]}
	local skip=$((${#last} - ${#tail}))
	COMPREPLY=()
	while IFS=$'\t' read -r candidate _; do
		COMPREPLY+=("${candidate:skip}")
	done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -o bashdefault -o default -F _polylog polylog
`,
	"zsh": `#compdef polylog
_polylog() {
	local -a candidates
	local line
	while IFS= read -r line; do
		line=${line//:/\\:}
		candidates+=("${line/$'\t'/:}")
	done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
	if (( ${#candidates} )); then
		_describe polylog candidates
	else
		_files
	fi
}
if [ "$funcstack[1]" = "_polylog" ]; then
	_polylog "$@"
else
	compdef _polylog polylog
fi
`,
	"fish": `# fish completion for polylog
function __polylog_complete
	set -l words (commandline -opc)
	set -l current (commandline -ct)
	set -l command $words[1]
	set -e words[1]
	$command __complete $words "$current" 2>/dev/null
end
complete -c polylog -a '(__polylog_complete)'
`,
}
