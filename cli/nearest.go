package cli

import (
	"fmt"
	"strings"
)

// nearest returns the candidate that word was most likely meant to be, or "":
// the shortest that it begins, else the one with the fewest slips, of which
// every three letters may have one. Dashes in front do not count.
func nearest(word string, candidates []string) string {
	word = strings.TrimLeft(word, "-")
	best, slips := "", max(1, len(word)/3)+1
	begun := ""
	for _, c := range candidates {
		name := strings.TrimLeft(c, "-")
		if len(word) > 1 && strings.HasPrefix(name, word) && (begun == "" || len(c) < len(begun)) {
			begun = c
		}
		if d := distance(word, name); d < min(slips, len(word), len(name)) {
			best, slips = c, d
		}
	}
	if begun != "" {
		return begun
	}
	return best
}

// hint is "; did you mean NEAREST?" or nothing, to end an error with.
func hint(word string, candidates []string) string {
	if n := nearest(word, candidates); n != "" {
		return fmt.Sprintf("; did you mean %s?", n)
	}
	return ""
}

// distance counts the insertions, deletions, replacements and exchanges of
// neighbours between a and b.
func distance(a, b string) int {
	above, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			d := row[j]
			if a[i] != b[j] {
				d = 1 + min(row[j], row[j+1], next[j])
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, 1+above[j-1])
			}
			next[j+1] = d
		}
		above, row = row, next
	}
	return row[len(b)]
}
