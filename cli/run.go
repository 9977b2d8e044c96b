package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// run is what one call of the program touches of the world, and what its
// flags said. Commands are its methods.
type run struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(name string) (string, bool)
	now            func() time.Time
	files          []string // configuration files that are read if they are there, the first only

	// Whether a person sits at the other end.
	stdinTerminal, stdoutTerminal, stderrTerminal bool

	config configuration
	output format
	quiet  bool

	endless bool // the command has no end of its own: a signal is how it ends
}

// Main runs the program with the process's arguments and streams and returns
// its exit code. SIGINT and SIGTERM end what it does in order; a second one
// ends the process.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from now on a signal does what it does to any process

	// With a handler a write to a closed pipe fails with EPIPE instead of
	// ending the process, so that take gives back what nobody has read.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)

	r := &run{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		env:            os.LookupEnv,
		now:            time.Now,
		files:          []string{"polylog.toml", "/etc/polylog/polylog.toml"},
		stdinTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		stdoutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		stderrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	return r.main(ctx, os.Args)
}

// main runs one command line and returns its exit code.
func (r *run) main(ctx context.Context, args []string) int {
	app := newApp(r)
	arranged, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, arranged)
	}
	if ctx.Err() != nil {
		err = afterSignal(err, r.endless)
	}
	code := exitCode(err)
	if err != nil && code != exitBrokenPipe && err.Error() != "" {
		fmt.Fprintf(r.stderr, "polylog: %s\n", explain(err, r.config))
	}
	return code
}

// ask puts a yes-or-no question to the person at the terminal. Without a
// terminal it is refused unless --yes was given.
func (r *run) ask(yes bool, question string) error {
	if yes {
		return nil
	}
	if !r.canAsk() {
		return usagef("%s Add --yes to do it without being asked", question)
	}
	fmt.Fprintf(r.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(r.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return &exitError{exitFailure, errors.New("nothing was done")}
}

// canAsk says whether a person would see a question and could answer it.
func (r *run) canAsk() bool { return r.stdinTerminal && r.stderrTerminal }

// say tells the person something that is not output; --quiet silences it.
func (r *run) say(format string, args ...any) {
	if !r.quiet {
		fmt.Fprintf(r.stderr, format+"\n", args...)
	}
}
