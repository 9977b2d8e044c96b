// Package cli is polylog's command line: it wires the broker, its doors and
// the client into the commands that people and scripts call.
//
// Its few types: run carries what a command touches of the world (streams,
// environment, signals, clock), so that tests inject it; setting is one entry
// of the configuration, which flags, environment, file and default fill in that
// order; table prints a list as a table, as JSON or as lines of JSON; exitError
// names an exit code. Each noun has a file, which builds its commands.
//
// Arguments pass so: arrange puts flags before operands, because people write
// `queue take NAME --count 5`; urfave/cli finds the command; configure works
// out the settings; the command's function does the work and returns an error,
// which exitCode turns into what scripts see.
package cli
