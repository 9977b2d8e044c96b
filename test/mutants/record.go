package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"strings"
)

// record is what became of a mutant, one line of the file of results.
type record struct {
	ID      string  `json:"id"`
	File    string  `json:"file"`
	Line    int     `json:"line"`
	Kind    string  `json:"kind"`
	Diff    string  `json:"diff"`
	Fate    string  `json:"fate"`
	By      string  `json:"by,omitempty"`
	Seconds float64 `json:"seconds"`
}

// id tells a mutant from all others, also from that at the same place of a file
// that has changed.
func (m mutant) id() string {
	h := fnv.New64a()
	h.Write(m.file.source)
	return fmt.Sprintf("%s:%d-%d:%s:%016x", m.file.shown, m.point.from, m.point.to, strings.ReplaceAll(m.point.text, "\n", ""), h.Sum64())
}

func (m mutant) line() int { return 1 + strings.Count(string(m.file.source[:m.point.from]), "\n") }

// results are the records of a file, which may be none.
type results struct {
	out  *os.File
	byID map[string]record
}

// openResults reads a file of results, and appends to it; the last line about a
// mutant holds. A line that was cut short by a kill is passed over.
func openResults(path string) (*results, error) {
	r := &results{byID: map[string]record{}}
	if path == "" {
		return r, nil
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
		var one record
		if json.Unmarshal(lines.Bytes(), &one) == nil && one.ID != "" {
			r.byID[one.ID] = one
		}
	}
	if r.out, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	if n := len(text); n > 0 && text[n-1] != '\n' {
		_, err = r.out.WriteString("\n")
	}
	return r, err
}

func (r *results) add(one record) error {
	r.byID[one.ID] = one
	if r.out == nil {
		return nil
	}
	line, err := json.Marshal(one)
	if err != nil {
		return err
	}
	_, err = r.out.Write(append(line, '\n'))
	return err
}
