package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"tidemark/mapping/catalog"
)

// A document's _id is made of the text of its key columns:
//
//   - one column: its text; with a `~` before it if it is empty or begins with `~`
//   - several: joined by `|`, in each `~` written as `~~` and `|` as `~|`
//   - NULL: `~N`
//   - what would be longer than 512 bytes, which is all that a search server
//     takes, or is not UTF-8: `~sha256-` and the hex digits of its SHA-256
//
// Different keys give different ids: after a `~` that was not in the key stands
// one of `~`, `|`, N, s or nothing, and each of these says what it is. Only the
// hash could make two keys meet, and does not.

// maxID is the longest _id in bytes.
const maxID = 512

// A template puts the columns into a text, "product-{id}-{lang}". In each value `~` is
// written as `~~`, and the character that follows the column in the template with a `~`
// before it, so the same holds there. What would be too long is `~sha256-` and the hash,
// after what stands before the first column.

// maxPrefix is the longest text before the first column of a template, in bytes.
const maxPrefix = 128

// KeyColumns returns the columns that make the _id: those of id, or the primary key.
func (s *Source) KeyColumns(t *catalog.Table) []string {
	if len(s.ID) > 0 {
		return s.ID
	}
	return t.PrimaryKey
}

// PageColumns returns the columns that make the _id in the order of the unique index over
// them, so that rows are read page by page along it.
func (s *Source) PageColumns(t *catalog.Table) []string {
	key := s.KeyColumns(t)
	for _, columns := range append([][]string{t.PrimaryKey}, t.Unique...) {
		if sameColumns(columns, key) {
			return columns
		}
	}
	return key
}

// IDText says what the _id is made of, for people.
func (s *Source) IDText(t *catalog.Table) string {
	key := s.KeyColumns(t)
	if s.Literals == nil {
		return strings.Join(key, ", ")
	}
	var b strings.Builder
	for i, name := range key {
		b.WriteString(s.Literals[i] + "{" + name + "}")
	}
	return b.String() + s.Literals[len(key)]
}

// parseTemplate reads "product-{id}": the texts around the columns, and the columns.
func parseTemplate(text string) (literals, columns []string, err error) {
	rest := text
	for {
		literal, after, more := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return nil, nil, errors.New("want each column in braces: product-{id}")
		}
		if len(columns) > 0 && (strings.HasPrefix(literal, "~") || strings.HasPrefix(literal, "N")) { // templateID has its own use for them after a ~
			return nil, nil, errors.New("what stands after a column begins with neither ~ nor N")
		}
		literals = append(literals, literal)
		if !more {
			break
		}
		if len(columns) > 0 && literal == "" {
			return nil, nil, errors.New("something has to stand between two columns")
		}
		column, next, closed := strings.Cut(after, "}")
		if !closed {
			return nil, nil, errors.New("want each column in braces: product-{id}")
		}
		if err := catalog.CheckIdent(column); err != nil {
			return nil, nil, fmt.Errorf("%q: %w", column, err)
		}
		if slices.Contains(columns, column) {
			return nil, nil, fmt.Errorf("%s stands twice", column)
		}
		columns = append(columns, column)
		rest = next
	}
	switch {
	case len(columns) == 0:
		return nil, nil, errors.New("want a column in braces: product-{id}")
	case len(literals[0]) > maxPrefix:
		return nil, nil, fmt.Errorf("want at most %d bytes before the first column", maxPrefix)
	case strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text):
		return nil, nil, errors.New("want letters, digits and signs")
	}
	return literals, columns, nil
}

// templateID returns the _id of a key by a template. A nil value is NULL.
func templateID(dst []byte, literals []string, values ...[]byte) []byte {
	start := len(dst)
	dst = append(dst, literals[0]...)
	for i, value := range values {
		next := literals[i+1]
		if value == nil {
			dst = append(dst, "~N"...)
		}
		for _, c := range value {
			if c == '~' || next != "" && c == next[0] {
				dst = append(dst, '~')
			}
			dst = append(dst, c)
		}
		dst = append(dst, next...)
	}
	if id := dst[start:]; len(id) > maxID || !utf8.Valid(id) {
		dst = appendHash(dst[:start+len(literals[0])], id)
	} else if len(id) == 0 { // which no search server takes
		dst = append(dst, '~')
	}
	return dst
}

// appendHash appends the hash that stands for an id.
func appendHash(dst, id []byte) []byte {
	sum := sha256.Sum256(id) // before dst, which may be a part of id
	return hex.AppendEncode(append(dst, "~sha256-"...), sum[:])
}

// joinID returns the _id of a key. A nil value is NULL.
func joinID(dst []byte, values ...[]byte) []byte {
	start := len(dst)
	for i, value := range values {
		if i > 0 {
			dst = append(dst, '|')
		}
		switch {
		case value == nil:
			dst = append(dst, "~N"...)
		case len(values) == 1:
			if len(value) == 0 || value[0] == '~' {
				dst = append(dst, '~')
			}
			dst = append(dst, value...)
		default:
			dst = appendIDPart(dst, value)
		}
	}
	if id := dst[start:]; len(id) > maxID || !utf8.Valid(id) {
		dst = appendHash(dst[:start], id)
	}
	return dst
}

func appendIDPart(dst, value []byte) []byte {
	for _, c := range value {
		if c == '~' || c == '|' {
			dst = append(dst, '~')
		}
		dst = append(dst, c)
	}
	return dst
}
