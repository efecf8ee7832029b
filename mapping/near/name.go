// Package near finds what was probably meant by a name that is not there.
package near

import (
	"slices"
	"strings"

	"tidemark/mapping/catalog"
)

// nearest returns the candidate that word was probably meant to be, or "".
func nearest(word string, candidates []string) string {
	best, least := "", 1+min(2, (len(word)+1)/3)
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least && c != word {
			best, least = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// DidYouMean returns the hint that names the candidate that word was probably meant to be,
// "" where none is near.
func DidYouMean(word string, candidates []string) string {
	if c := nearest(word, candidates); c != "" {
		return "did you mean " + c + "?"
	}
	return ""
}

// Column returns the hint for a column that t does not have: the name that was probably
// meant, or else all names there are.
func Column(t *catalog.Table, missing string) string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	if near := DidYouMean(missing, names); near != "" {
		return near
	}
	return "its columns: " + strings.Join(names, ", ")
}
