package mapping

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/near"
)

// Bounds of a file once aliases are followed, against one that multiplies itself.
const (
	maxNodes = 1 << 17
	maxDepth = 100
)

// A reader walks the nodes of one file and collects what is wrong with them, so
// that one run reports everything.
type reader struct {
	file     string
	expander expander
	problems Problems

	nodes    int                   // visited by flatten
	expanded map[*yaml.Node]string // scalars with ${…}: their text as the file has it
	broken   map[*yaml.Node]bool   // scalars whose ${…} failed: reported already
	secrets  map[*yaml.Node]bool   // scalars that are never shown
	literals map[*yaml.Node]bool   // scalars that were taken for a number or a boolean
	places   places                // of keys and items

	// schema, if not nil, is what is made of the value that a keyReader is called for: it says then what it
	// would take, and reads nothing. See JSONSchema.
	schema *schema
	shared map[string]*schema // definitions of the schema
}

// problem reports what is wrong at n.
func (r *reader) problem(n *yaml.Node, hint, format string, args ...any) {
	if r.schema != nil {
		return // there is no file
	}
	r.problems = append(r.problems, Problem{File: r.file, Line: n.Line, Text: fmt.Sprintf(format, args...), Hint: hint})
}

// problemAt reports what is wrong at a path that was read before.
func (r *reader) problemAt(path, hint, format string, args ...any) {
	if r.schema != nil {
		return
	}
	r.problems = append(r.problems, Problem{File: r.file, Line: r.places.line(path), Text: fmt.Sprintf(format, args...), Hint: hint})
}

// tree parses text into nodes without aliases and merges, each mapping with keys
// that are scalars and differ. It returns nil if there is nothing to read on with.
func (r *reader) tree(text []byte) *yaml.Node {
	var doc, next yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		r.problems = append(r.problems, Problem{File: r.file, Text: "the file is empty", Hint: "begin with config.example.yaml"})
		return nil
	}
	if err == nil {
		if err = decoder.Decode(&next); err == nil {
			r.problem(&next, "keep one, a file for each instance", "a second document begins here")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		r.syntax(text, err)
		return nil
	}
	root, err := r.flatten(doc.Content[0], "", 0)
	if err != nil {
		r.problem(doc.Content[0], "write out what aliases repeat", "%v", err)
		return nil
	}
	return root
}

// expand fills in the ${…} of all values at and below n, each once: what an alias
// stands for is the same value, and brings no second problem.
func (r *reader) expand(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode {
		for i, c := range n.Content {
			if n.Kind != yaml.MappingNode || i%2 == 1 {
				r.expand(c)
			}
		}
		return
	}
	if _, done := r.expanded[n]; done || r.broken[n] || !strings.Contains(n.Value, "$") {
		return
	}
	value, text, hint := r.expander.expand(n.Value)
	if text != "" {
		r.problem(n, hint, "%s", text)
		r.broken[n] = true
		return
	}
	r.expanded[n] = n.Value
	n.Value, n.Tag = value, "!!str"
}

// flatten copies n with aliases followed and merges (<<) done, and reports keys
// that are no scalars or stand twice. It fails where the file goes out of bounds.
func (r *reader) flatten(n *yaml.Node, path string, depth int) (*yaml.Node, error) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if r.nodes++; r.nodes > maxNodes {
		return nil, fmt.Errorf("more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	if n.Kind == yaml.ScalarNode {
		return n, nil
	}
	flat := *n
	flat.Content = nil
	if n.Kind == yaml.SequenceNode {
		for i, c := range n.Content {
			item, err := r.flatten(c, fmt.Sprintf("%s[%d]", path, i), depth+1)
			if err != nil {
				return nil, err
			}
			flat.Content = append(flat.Content, item)
		}
		return &flat, nil
	}
	var merged []*yaml.Node
	first := make(map[string]int, len(n.Content)/2) // key -> its line
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			r.problem(n.Content[i], "", "%s: a key is a plain text", orFile(path))
			continue
		}
		below := join(path, key.Value)
		value, err := r.flatten(value, below, depth+1)
		if err != nil {
			return nil, err
		}
		if key.Tag == "!!merge" {
			merged = append(merged, value)
			continue
		}
		if line, twice := first[key.Value]; twice {
			r.problem(key, "keep one of them", "%s stands twice, first in line %d", below, line)
			continue
		}
		first[key.Value] = key.Line
		flat.Content = append(flat.Content, key, value)
	}
	for _, m := range merged {
		r.merge(&flat, m, first)
	}
	return &flat, nil
}

// merge adds the entries of m, a mapping or a list of them, whose keys are not in
// have yet.
func (r *reader) merge(into, m *yaml.Node, have map[string]int) {
	switch m.Kind {
	case yaml.SequenceNode:
		for _, c := range m.Content {
			r.merge(into, c, have)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(m.Content); i += 2 {
			if key := m.Content[i]; have[key.Value] == 0 {
				have[key.Value] = key.Line
				into.Content = append(into.Content, key, m.Content[i+1])
			}
		}
	default:
		r.problem(m, "write <<: *anchor", "<< takes a mapping, not %s", kindOf(m))
	}
}

// entries calls do with each key and value of a mapping. Nothing at all is an
// empty mapping: a section whose keys are all commented out.
func (r *reader) entries(n *yaml.Node, path string, do func(key, value *yaml.Node)) {
	if s := r.schema; s != nil {
		s.object()
		s.AdditionalProperties = r.describe(func() { do(someKey, someValue) })
		return
	}
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		if !r.broken[n] {
			r.problem(n, "", "%s: want a mapping (key: value), found %s", orFile(path), kindOf(n))
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		r.places[join(path, n.Content[i].Value)] = n.Content[i].Line
		do(n.Content[i], n.Content[i+1])
	}
}

// A keyReader takes the value of one key; path names it in problems.
type keyReader func(n *yaml.Node, path string)

// object gives each value of the mapping n to its reader, and reports keys that
// are none of keys. It returns the nodes of the keys that are there.
func (r *reader) object(n *yaml.Node, path string, keys map[string]keyReader) map[string]*yaml.Node {
	given := make(map[string]*yaml.Node)
	if r.schema != nil {
		r.describeKeys(path, keys)
		r.schema.AdditionalProperties = false
		return given
	}
	r.entries(n, path, func(key, value *yaml.Node) {
		below := join(path, key.Value)
		switch read, known := keys[key.Value]; {
		case !known:
			names := slices.Sorted(maps.Keys(keys))
			hint := near.DidYouMean(key.Value, names)
			if hint == "" {
				hint = "known here: " + strings.Join(names, ", ")
			}
			r.problem(key, hint, "%s: unknown key", below)
		default:
			given[key.Value] = key
			read(value, below)
		}
	})
	return given
}

// list calls do with each item of a list that is not empty. A single scalar is a
// list of one.
func (r *reader) list(n *yaml.Node, path, want string, do func(item *yaml.Node, path string)) {
	if s := r.schema; s != nil {
		s.list(r.describe(func() { do(someValue, path) }))
		return
	}
	switch {
	case n.Kind == yaml.ScalarNode && !isNull(n):
		do(n, path)
	case n.Kind != yaml.SequenceNode && !isNull(n):
		r.problem(n, "", "%s: want %s, found %s", path, want, kindOf(n))
	case len(n.Content) == 0:
		r.problem(n, "write a value, or leave the key out", "%s is empty", path)
	}
	if n.Kind == yaml.SequenceNode {
		for i, item := range n.Content {
			below := fmt.Sprintf("%s[%d]", path, i)
			r.places[below] = item.Line
			do(item, below)
		}
	}
}

// free reads a mapping that the search server understands, not we: into what
// encoding/json makes the same of.
func (r *reader) free(into *map[string]any) keyReader {
	return func(n *yaml.Node, path string) {
		if s := r.schema; s != nil {
			s.object()
			return
		}
		if n.Kind != yaml.MappingNode {
			r.entries(n, path, nil) // reports, unless there is nothing
			return
		}
		*into, _ = r.value(n, path).(map[string]any)
	}
}

// value returns a node as a map, slice, string, bool, number or nil.
func (r *reader) value(n *yaml.Node, path string) any {
	if r.schema != nil {
		return nil // any
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		r.entries(n, path, func(key, value *yaml.Node) {
			m[key.Value] = r.value(value, join(path, key.Value))
		})
		return m
	case yaml.SequenceNode:
		s := make([]any, len(n.Content))
		for i, c := range n.Content {
			s[i] = r.value(c, fmt.Sprintf("%s[%d]", path, i))
		}
		return s
	}
	var v any
	switch n.Tag {
	case "!!null":
		return nil
	case "!!str", "!!timestamp": // a date stays as it is written
		return n.Value
	case "!!bool", "!!int", "!!float":
		if err := n.Decode(&v); err == nil {
			if f, ok := v.(float64); !ok || !math.IsNaN(f) && !math.IsInf(f, 0) {
				return v
			}
		}
	}
	r.problem(n, "", "%s: JSON has no value like this (%s)", path, kindOf(n))
	return nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// kindOf names what a node holds, without its value.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	}
	return "a value with a tag"
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}
