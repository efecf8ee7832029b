package verify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A deviation is where a stored document is not what it should be.
type deviation struct {
	path      string // of the first value that differs: tags[2]; "" for the document as a whole
	want, got string // JSON; "" for a field that is not there
	more      int    // values that differ besides
}

// compareDocuments returns how a stored document differs from what it should be, nil if it
// does not. Numbers are compared digit by digit, objects whatever the order of their
// fields. A field that is null and one that is not there are the same: a document gets the field
// of a new column only when its row changes. Of a document that is stored partly, fields may be
// missing: the server has left them out, and has written the others anew, so numbers are compared
// by their value then, as doubles.
func compareDocuments(want, got []byte, form storedForm) (*deviation, error) {
	if bytes.Equal(want, got) {
		return nil, nil
	}
	w, err := decodeDocument(want)
	if err != nil {
		return nil, fmt.Errorf("document of a row: %w", err)
	}
	g, err := decodeDocument(got)
	if err != nil {
		return nil, fmt.Errorf("stored document: %w", err)
	}
	c := comparison{partial: form == storedPartly}
	c.compare("", w, g)
	return c.found, nil
}

func decodeDocument(text []byte) (value any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&value)
	return value, err
}

type comparison struct {
	partial bool
	found   *deviation
}

func (c *comparison) differ(path string, want, got any) {
	if c.found != nil {
		c.found.more++
		return
	}
	c.found = &deviation{path: path, want: valueText(want), got: valueText(got)}
}

// missing stands for a field that is not there, where that is to be told.
type missing struct{}

func (c *comparison) compare(path string, want, got any) {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			c.differ(path, want, got)
			return
		}
		names := maps.Clone(w)
		maps.Copy(names, g)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			below := name
			if path != "" {
				below = path + "." + name
			}
			wanted, isWanted := w[name]
			value, there := g[name]
			switch {
			case wanted == nil && value == nil, !there && c.partial:
			case !isWanted:
				c.differ(below, missing{}, value)
			case !there:
				c.differ(below, wanted, missing{})
			default:
				c.compare(below, wanted, value)
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			c.differ(path, want, got)
			return
		}
		for i := range w {
			c.compare(fmt.Sprintf("%s[%d]", path, i), w[i], g[i])
		}
	default:
		switch got.(type) {
		case map[string]any, []any: // which cannot be compared by ==
			c.differ(path, want, got)
		default:
			if want != got && !(c.partial && sameDouble(want, got)) {
				c.differ(path, want, got)
			}
		}
	}
}

// sameDouble reports whether two values are numbers that are the same double.
func sameDouble(a, b any) bool {
	x, isNumber := a.(json.Number)
	y, areNumbers := b.(json.Number)
	if !isNumber || !areNumbers {
		return false
	}
	v, err := x.Float64()
	w, other := y.Float64()
	return err == nil && other == nil && v == w
}

// maxShown bounds the text of a value in a difference, in bytes.
const maxShown = 200

func valueText(value any) string {
	if _, ok := value.(missing); ok {
		return ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error() // it has been decoded, so it can be encoded
	}
	if len(text) <= maxShown {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:maxShown]), "") + fmt.Sprintf("… (%d bytes)", len(text))
}
