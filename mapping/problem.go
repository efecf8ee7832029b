package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing in a mapping file that keeps Tidemark from starting.
// It never shows a secret; of a value with ${…}, [Parse] shows what the file has.
type Problem struct {
	File string
	Line int    // from 1; 0: the file as a whole
	Text string // what is wrong, and where: search.bulk.bytes: …
	Hint string // what to write instead, or the SQL to run; several lines are possible; empty: the text says it
}

// String returns "FILE:LINE: TEXT" and, on lines of their own, the hint.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": " + p.Text)
	for i, line := range strings.Split(p.Hint, "\n") {
		switch {
		case p.Hint == "":
		case i == 0:
			b.WriteString("\n    hint: " + line)
		default:
			b.WriteString("\n          " + line)
		}
	}
	return b.String()
}

// Problems are all that was found in one go, in the order of the lines.
type Problems []Problem

// Error returns one problem after another, each on lines of its own.
func (ps Problems) Error() string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.String()
	}
	return strings.Join(texts, "\n")
}

// Sort brings the problems into the order of the file. Those of one line keep
// the order in which they were found.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
}
