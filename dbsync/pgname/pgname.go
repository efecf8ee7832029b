// Package pgname takes dotted names apart as people write them: schema.table, with double
// quotes around what has a dot in it. What a part may hold without quotes, how many there
// may be and what a missing schema stands for is its callers' to say: a mapping file is
// strict, so that a typing error is not taken for a name, and dbsync.ForTables takes what
// Postgres would look up.
package pgname

import (
	"errors"
	"strings"
)

// A Part is one name of a dotted name.
type Part struct {
	Name   string // without quotes; empty where nothing stands between two dots
	Quoted bool   // it was written in double quotes, "" inside for one of them
}

// Split takes text apart at the dots that are not within double quotes. It returns at least
// one part, as far as text is sound.
func Split(text string) ([]Part, error) {
	var parts []Part
	for rest := text; ; {
		part, after, err := cut(rest)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if after == "" {
			return parts, nil
		}
		if after[0] != '.' {
			return nil, errors.New("after a name in quotes comes a dot or the end")
		}
		rest = after[1:]
	}
}

// cut cuts the first part off text. What is left begins with the dot.
func cut(text string) (part Part, rest string, err error) {
	rest, quoted := strings.CutPrefix(text, `"`)
	if !quoted {
		if i := strings.IndexByte(text, '.'); i >= 0 {
			return Part{Name: text[:i]}, text[i:], nil
		}
		return Part{Name: text}, "", nil
	}
	var b strings.Builder
	for {
		before, after, closed := strings.Cut(rest, `"`)
		if !closed {
			return Part{}, "", errors.New(`a " without its end`)
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, `"`) {
			return Part{Name: b.String(), Quoted: true}, after, nil
		}
		b.WriteByte('"')
		rest = after[1:]
	}
}
