package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// format is how a command prints what it found.
type format string

const (
	formatTable format = "table" // for people: units, thousands apart
	formatJSON  format = "json"  // one value, indented
	formatLines format = "jsonl" // a line for each entry
)

// tableColumn is one column of a table of T.
type tableColumn[T any] struct {
	title string
	right bool
	cell  func(T) string
}

// column is one of words, on the left.
func column[T any](title string, cell func(T) string) tableColumn[T] {
	return tableColumn[T]{title, false, cell}
}

// figures is a column of numbers, on the right.
func figures[T any](title string, cell func(T) string) tableColumn[T] {
	return tableColumn[T]{title, true, cell}
}

// printList prints a list in the chosen format. JSON has the entries' fields,
// with plain numbers, whatever the table shows.
func printList[T any](r *run, items []T, columns ...tableColumn[T]) error {
	switch r.output {
	case formatJSON:
		if items == nil {
			items = []T{} // an empty list is [], not null
		}
		return printJSON(r.stdout, items)
	case formatLines:
		encoder := json.NewEncoder(r.stdout)
		encoder.SetEscapeHTML(false)
		for _, item := range items {
			if err := encoder.Encode(item); err != nil {
				return err
			}
		}
		return nil
	}
	t := r.newTable()
	header, configs := table.Row{}, []table.ColumnConfig{}
	for i, c := range columns {
		header = append(header, c.title)
		if c.right {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	for _, item := range items {
		row := table.Row{}
		for _, c := range columns {
			row = append(row, c.cell(item))
		}
		t.AppendRow(row)
	}
	return r.render(t)
}

// pair is one line of a table of two columns.
type pair struct{ name, value string }

// printOne prints one thing: v as JSON, or the pairs.
func printOne(r *run, v any, pairs ...pair) error {
	switch r.output {
	case formatJSON:
		return printJSON(r.stdout, v)
	case formatLines:
		return printLine(r.stdout, v)
	}
	t := r.newTable()
	for _, p := range pairs {
		t.AppendRow(table.Row{p.name, p.value})
	}
	return r.render(t)
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func printLine(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// newTable is a table without lines, as cut and awk like it.
func (r *run) newTable() table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format = table.FormatOptions{} // as it is
	if r.colours() {
		style.Color.Header = text.Colors{text.Bold}
		text.EnableColors()
	}
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	return t
}

func (r *run) render(t table.Writer) error {
	out := t.Render()
	if out == "" {
		return nil
	}
	_, err := fmt.Fprintln(r.stdout, out)
	return err
}

// colours reports whether the output may be coloured: https://no-color.org
func (r *run) colours() bool {
	if term, ok := r.env("TERM"); !ok || term == "dumb" {
		return false
	}
	if no, _ := r.env("NO_COLOR"); no != "" {
		return false
	}
	return r.stdoutTerminal
}
