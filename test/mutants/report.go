package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// report is what became of the mutants.
type report struct {
	points  map[string]int // of each file, how many there could be
	records []record       // of those that compile
	stopped bool           // before there were as many as were wanted
}

func (r *report) add(one record) {
	if one.Fate != invalid {
		r.records = append(r.records, one)
	}
}

func (r *report) count(fate string) (n int) {
	for _, one := range r.records {
		if one.Fate == fate {
			n++
		}
	}
	return n
}

// share is how much was caught; 0 of nothing.
func (r *report) share() float64 {
	if len(r.records) == 0 {
		return 0
	}
	return 1 - float64(r.count(survived))/float64(len(r.records))
}

// print writes a table by file, and what survived.
func (r *report) print(to io.Writer) {
	files := map[string]*report{}
	for _, one := range r.records {
		if files[one.File] == nil {
			files[one.File] = &report{}
		}
		files[one.File].add(one)
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, points int, of *report) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%.1f%%\t\n", name, points, len(of.records),
			of.count(killed), of.count(hung), of.count(survived), 100*of.share())
	}
	fmt.Fprintln(w, "file\tpoints\tmutants\tkilled\thung\tsurvived\tcaught\t")
	points := 0
	for _, name := range slices.Sorted(maps.Keys(r.points)) {
		points += r.points[name]
		if of := files[name]; of != nil {
			row(name, r.points[name], of)
		}
	}
	row("all", points, r)
	w.Flush()
	slices.SortFunc(r.records, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.ID, b.ID))
	})
	for _, one := range r.records {
		if one.Fate == survived {
			fmt.Fprintf(to, "%s:%d: %s: %s\n", one.File, one.Line, one.Kind, one.Diff)
		}
	}
}
