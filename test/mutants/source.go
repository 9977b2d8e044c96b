package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// target is a package and which of its files are mutated: all of them if none
// is named.
type target struct {
	pattern string
	files   []string
}

// parseTarget reads ./package or ./package:file.go,file.go.
func parseTarget(text string) target {
	pattern, files, named := strings.Cut(text, ":")
	t := target{pattern: pattern}
	if named {
		t.files = strings.Split(files, ",")
	}
	return t
}

// pkg is a package that is mutated.
type pkg struct {
	path    string // as it is imported
	pattern string
	dir     string
	fset    *token.FileSet
	files   map[string]*file
	types   types.Importer
}

// file is one of its sources.
type file struct {
	name    string // without the directory
	shown   string // from the module's root
	source  []byte
	syntax  *ast.File
	mutated bool
	points  []point
}

// listed is what the go command tells of a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	DepOnly                 bool
}

func list(root string, args ...string) ([]listed, error) {
	command := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Export,GoFiles,DepOnly"}, args...)...)
	command.Dir = root
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
}

// load reads a package, checks its types, and finds its points.
func load(root string, t target) (*pkg, error) {
	all, err := list(root, "-export", "-deps", t.pattern)
	if err != nil {
		return nil, err
	}
	p := &pkg{pattern: t.pattern, fset: token.NewFileSet(), files: map[string]*file{}}
	exports := map[string]string{}
	var sources []string
	for _, l := range all {
		exports[l.ImportPath] = l.Export
		if !l.DepOnly {
			if p.path != "" {
				return nil, fmt.Errorf("%s is more than one package", t.pattern)
			}
			p.path, p.dir, sources = l.ImportPath, l.Dir, l.GoFiles
		}
	}
	p.types = importer.ForCompiler(p.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	for _, name := range sources {
		if err := p.read(root, name); err != nil {
			return nil, err
		}
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	if err := p.check(nil, info); err != nil {
		return nil, err
	}
	for _, name := range t.files {
		if p.files[name] == nil {
			return nil, fmt.Errorf("%s has no file %s", t.pattern, name)
		}
	}
	for _, f := range p.files {
		if f.mutated = len(t.files) == 0 || slices.Contains(t.files, f.name); f.mutated && !ast.IsGenerated(f.syntax) {
			f.points = find(p.fset, info, f.syntax, f.source)
		}
	}
	return p, nil
}

func (p *pkg) read(root, name string) error {
	path := filepath.Join(p.dir, name)
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	shown, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	syntax, err := parser.ParseFile(p.fset, path, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	p.files[name] = &file{name: name, shown: filepath.ToSlash(shown), source: source, syntax: syntax}
	return nil
}

// check checks the types of the package, with the files of instead in place of
// its own.
func (p *pkg) check(instead map[string]*ast.File, info *types.Info) error {
	var syntax []*ast.File
	for name, f := range p.files {
		if other := instead[name]; other != nil {
			syntax = append(syntax, other)
		} else {
			syntax = append(syntax, f.syntax)
		}
	}
	_, err := (&types.Config{Importer: p.types}).Check(p.path, p.fset, syntax, info)
	return err
}

// compiles says whether the package does with a change made.
func (p *pkg) compiles(f *file, changed []byte) bool {
	syntax, err := parser.ParseFile(p.fset, filepath.Join(p.dir, f.name), changed, parser.SkipObjectResolution)
	return err == nil && p.check(map[string]*ast.File{f.name: syntax}, nil) == nil
}
