package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The fates of a mutant. One that hangs, or takes more memory than it may, is
// caught as well as one that fails a test.
const (
	killed   = "killed"
	hung     = "hung"
	survived = "survived"
	invalid  = "invalid" // does not compile: another takes its place
)

// suite is a package whose tests are to catch the mutants of another.
type suite struct {
	pattern string
	dir     string
	flags   []string
	clean   time.Duration // what they take as the source is
}

// limit is when a run counts as one that hangs.
func (s *suite) limit() time.Duration { return 3*s.clean + 10*time.Second }

// tester runs tests.
type tester struct {
	root     string
	short    bool
	seed     uint64
	memoryKB int
}

// rapid is a library for tests of properties. It would write what fails into
// the source tree, look for a shorter example, and try others each time.
const rapid = "pgregory.net/rapid"

// suites are the packages whose tests look at p: its own, and those of also
// that use it.
func (t *tester) suites(p *pkg, also []string) ([]*suite, error) {
	var suites []*suite
	for _, pattern := range append([]string{p.pattern}, also...) {
		all, err := list(t.root, "-test", "-deps", pattern)
		if err != nil {
			return nil, err
		}
		s := &suite{pattern: pattern}
		uses := false
		if t.short {
			s.flags = append(s.flags, "-test.short")
		}
		for _, l := range all {
			uses = uses || l.ImportPath == p.path
			if !l.DepOnly && s.dir == "" {
				s.dir = l.Dir
			}
			if l.ImportPath == rapid {
				s.flags = append(s.flags, "-rapid.nofailfile", "-rapid.shrinktime=0s", "-rapid.seed="+strconv.FormatUint(t.seed, 10))
			}
		}
		if uses {
			suites = append(suites, s)
		}
	}
	return suites, nil
}

// compile builds the tests, and says what the compiler says.
func (t *tester) compile(ctx context.Context, s *suite, binary, overlay string) error {
	args := []string{"test", "-c", "-vet=off", "-p", "1", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	command := exec.CommandContext(ctx, "go", append(args, s.pattern)...)
	command.Dir = t.root
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// run runs the tests, and returns their fate and who failed. Temporary files
// go into dir.
func (t *tester) run(ctx context.Context, s *suite, binary, dir string, limit time.Duration) (fate, by string, err error) {
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, limit+10*time.Second)
	defer cancel()
	args := slices.Concat([]string{"-c", `ulimit -v "$0" && exec "$@"`, strconv.Itoa(t.memoryKB), binary, "-test.failfast", "-test.timeout=" + limit.String()}, s.flags)
	command := exec.CommandContext(ctx, "sh", args...)
	command.Dir = s.dir
	command.Env = append(os.Environ(), "TMPDIR="+dir)
	// With what it has started.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case whole.Err() != nil:
		return "", "", whole.Err()
	case err == nil:
		return survived, "", nil
	case ctx.Err() != nil || bytes.Contains(out, []byte("panic: test timed out after")):
		return hung, s.pattern, nil
	case errors.As(err, &exit):
		return killed, s.pattern + " " + failed(out), nil
	}
	return "", "", err
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^panic: (.{0,60})|^fatal error: (.{0,60})`)

// failed is the first that went wrong.
func failed(out []byte) string {
	m := failure.FindSubmatch(out)
	if m == nil {
		return "exit"
	}
	return string(bytes.Join(m[1:], nil))
}

// measure runs the tests of the source as it is, if that was not done before.
func (t *tester) measure(ctx context.Context, s *suite) error {
	if s.clean > 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "test")
	if err := t.compile(ctx, s, binary, ""); err != nil {
		return fmt.Errorf("%s: %w", s.pattern, err)
	}
	started := time.Now()
	fate, by, err := t.run(ctx, s, binary, dir, 10*time.Minute)
	if err == nil && fate != survived {
		err = fmt.Errorf("%s fails as it is: %s", s.pattern, by)
	}
	s.clean = time.Since(started)
	return err
}

// mutant is a point of a file of a package.
type mutant struct {
	pkg    *pkg
	file   *file
	point  point
	suites []*suite
}

// try makes the change, elsewhere, and runs the tests until one fails.
func (t *tester) try(ctx context.Context, m mutant) (fate, by string, err error) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(dir)
	changed, overlay, binary := filepath.Join(dir, m.file.name), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "test")
	if err := os.WriteFile(changed, m.point.applied(m.file.source), 0o644); err != nil {
		return "", "", err
	}
	paths, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(m.pkg.dir, m.file.name): changed}})
	if err != nil {
		return "", "", err
	}
	if err := os.WriteFile(overlay, paths, 0o644); err != nil {
		return "", "", err
	}
	for _, s := range m.suites {
		if err := t.compile(ctx, s, binary, overlay); err != nil {
			if ctx.Err() != nil {
				return "", "", ctx.Err()
			}
			return invalid, strings.ReplaceAll(err.Error(), "\n", "; "), nil
		}
		if fate, by, err = t.run(ctx, s, binary, dir, s.limit()); err != nil || fate != survived {
			return fate, by, err
		}
	}
	return survived, "", nil
}
