package polylog_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/polylog-mq/polylog"

// The import diagram of ARCHITECTURE.md is true: every import between
// packages of this module is drawn there, and every package stands there.
func TestImportDiagram(t *testing.T) {
	drawn := diagram(t)
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && name != "." {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		from := filepath.ToSlash(filepath.Dir(name))
		if from == "." {
			from = "polylog"
		}
		seen[from] = true
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if to = strings.TrimPrefix(to, "/"); to == "" {
				to = "polylog"
			}
			if !permitted(drawn[from], to) {
				t.Errorf("%s imports %s, which ARCHITECTURE.md does not draw", name, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p := range seen {
		if _, ok := drawn[p]; !ok {
			t.Errorf("ARCHITECTURE.md does not draw %s", p)
		}
	}
	for p := range drawn {
		if !seen[p] {
			t.Errorf("ARCHITECTURE.md draws %s, which is not there", p)
		}
	}
}

// diagram reads the lines "package ► package, package" of the block that
// begins with ```imports.
func diagram(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(text), "```imports\n")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no block of imports")
	}
	block, _, _ = strings.Cut(block, "```")
	drawn := map[string][]string{}
	for line := range strings.Lines(block) {
		from, to, _ := strings.Cut(strings.TrimSpace(line), "►")
		if from = strings.TrimSpace(from); from == "" {
			continue
		}
		drawn[from] = []string{}
		for _, p := range strings.Split(to, ",") {
			if p = strings.TrimSpace(p); p != "" {
				drawn[from] = append(drawn[from], p)
			}
		}
	}
	return drawn
}

// permitted reports whether one of the patterns names the package; * stands
// for everything.
func permitted(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, name); ok || p == "*" {
			return true
		}
	}
	return false
}
