package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// report prints a table for each workload: the median of each figure, and
// behind it how it stands to polylog's.
func report(w io.Writer, results map[string]map[string][]figures, peers, works []string) {
	for _, work := range works {
		rows := results[work]
		if len(rows) == 0 {
			continue
		}
		columns := map[string]bool{}
		for _, runs := range rows {
			for _, f := range runs {
				for c := range f {
					columns[c] = true
				}
			}
		}
		names := slices.Sorted(maps.Keys(columns))
		fmt.Fprintf(w, "\n%s\n", work)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(t, "\t%s\t\n", strings.Join(names, "\t"))
		base := medians(rows["polylog"])
		for _, p := range peers {
			if len(rows[p]) == 0 {
				continue
			}
			m := medians(rows[p])
			fmt.Fprintf(t, "%s\t", p)
			for _, c := range names {
				cell := format(m[c])
				if b := base[c]; b > 0 && p != "polylog" && m[c] > 0 {
					cell += fmt.Sprintf(" (%.2fx)", b/m[c])
				}
				fmt.Fprintf(t, "%s\t", cell)
			}
			fmt.Fprintln(t)
		}
		t.Flush()
	}
	fmt.Fprintln(w, "\nIn brackets: polylog's figure divided by this one, medians of the rounds.")
}

// format keeps two digits of what is small.
func format(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.2g", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func medians(runs []figures) figures {
	all := map[string][]float64{}
	for _, f := range runs {
		for c, v := range f {
			all[c] = append(all[c], v)
		}
	}
	m := figures{}
	for c, v := range all {
		m[c] = median(v)
	}
	return m
}
