// Command polylog is the broker, its client for shells and its tools. What it
// can do is told by `polylog help` and in docs/cli.md.
package main

import (
	"os"

	"github.com/polylog-mq/polylog/cli"
)

func main() { os.Exit(cli.Main()) }
