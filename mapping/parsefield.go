package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/catalog"
)

// fields reads what differs from all columns under their own names, or a list of the only
// ones.
func (r *reader) fields(n *yaml.Node, path string, s *Shape) {
	if r.either(func() { r.columns(n, path, s) }, func() { r.fieldsByName(n, path, s) }) {
		return
	}
	if n.Kind == yaml.SequenceNode {
		r.columns(n, path, s)
		return
	}
	r.fieldsByName(n, path, s)
}

// columns reads a list of columns, the only ones.
func (r *reader) columns(n *yaml.Node, path string, s *Shape) {
	s.Listed = true
	list := path
	r.list(n, path, "a list of columns", func(item *yaml.Node, path string) {
		var column string
		if r.checked(&column, catalog.CheckIdent, "")(item, path); column != "" {
			below := join(list, column)
			if !r.places.has(below) { // else it stands twice
				r.places[below] = item.Line
			}
			r.add(item, path, &s.Fields, Field{Name: column, Column: column, path: below})
		}
	})
	r.onlyList()
}

// fieldsByName reads what differs, field by field.
func (r *reader) fieldsByName(n *yaml.Node, path string, s *Shape) {
	r.entries(n, path, func(key, value *yaml.Node) {
		below := join(path, key.Value)
		var yes bool
		isBool := value.Kind == yaml.ScalarNode && value.Tag == "!!bool" && value.Decode(&yes) == nil
		switch {
		case key.Value != "*":
			r.field(key, value, below, &s.Fields)
		case isBool:
			s.Listed = !yes
		default:
			r.problem(value, "", "%s: want false (only the columns listed here) or true (all of them), found %s", below, kindOf(value))
		}
	})
	r.property("*", &schema{Type: "boolean"})
}

// field reads one entry of fields: false, true, or a mapping that says what the field is
// made of, with parameters of the index field.
func (r *reader) field(key, n *yaml.Node, path string, into *[]Field) {
	f := Field{Name: key.Value, Column: key.Value, path: path}
	if r.define("field", func() {
		r.either(func() { r.schema.Type = "boolean" }, func() { r.fieldKeys(n, path, &f, nil) })
	}) {
		return
	}
	var yes bool
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!bool" && n.Decode(&yes) == nil:
		f.Omit = !yes
	case n.Kind == yaml.MappingNode:
		f.Params = make(map[string]any)
		made := make(map[string]*yaml.Node) // what the field is made of
		r.fieldKeys(n, path, &f, made)
		if len(f.Params) == 0 {
			f.Params = nil
		}
		column := made["column"]
		delete(made, "column")
		if f.Expr != "" || f.Constant != nil || f.Group != nil || made["schema"] != nil {
			if column != nil && f.Expr == "" || len(made) > 1 || f.As != "" {
				r.problem(key, "keep one of column (with as, or expr), expr, constant, schema and fields", "%s: this field is made of several things", path)
			}
			if column == nil || f.Expr == "" { // with expr, it is the column that this field stands for
				f.Column = ""
			}
			if node := made["schema"]; node != nil && !f.Schema && !r.broken[n] {
				r.problem(node, "schema: true, or leave it out", "%s.schema: want true", path)
			}
		}
	case !r.broken[n]:
		r.problem(n, "", "%s: want true, false or {type: …, column: …}, found %s", path, kindOf(n))
		return
	}
	r.add(key, path, into, f)
}

// fieldKeys reads the keys of a field. What the field is made of comes into made; what is not ours is a
// parameter of the index field.
func (r *reader) fieldKeys(n *yaml.Node, path string, f *Field, made map[string]*yaml.Node) {
	keys := map[string]keyReader{
		"column":   r.checked(&f.Column, catalog.CheckIdent, ""),
		"as":       r.text(&f.As),
		"expr":     r.text(&f.Expr),
		"schema":   r.boolean(&f.Schema),
		"constant": func(n *yaml.Node, path string) { f.Constant = &Constant{r.value(n, path)} },
		"fields": func(n *yaml.Node, path string) {
			// A group, or subfields, as the server takes them.
			if !r.either(func() { r.group(n, path, f) }, func() { r.nonEmpty() }) {
				r.group(n, path, f)
			}
		},
		"type": func(n *yaml.Node, path string) {
			var name string
			if r.text(&name)(n, path); name != "" {
				f.Params["type"] = name
			}
		},
	}
	if r.schema != nil {
		f.Column = "" // no default
		r.describeKeys(path, keys)
		r.schema.Type = "object"
		return
	}
	r.entries(n, path, func(key, value *yaml.Node) {
		below := join(path, key.Value)
		read := keys[key.Value]
		if read == nil || key.Value == "fields" && isMultiField(value) {
			f.Params[key.Value] = r.value(value, below)
			return
		}
		if key.Value != "as" && key.Value != "type" {
			made[key.Value] = key
		}
		read(value, below)
	})
}

// isMultiField returns the subfields that an index field has, as the server takes them, from
// the fields of a group: each of them has a type and no column.
func isMultiField(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return false
	}
	for i := 1; i < len(n.Content); i += 2 {
		keys := make(map[string]bool)
		for j := 0; n.Content[i].Kind == yaml.MappingNode && j < len(n.Content[i].Content); j += 2 {
			keys[n.Content[i].Content[j].Value] = true
		}
		if !keys["type"] || keys["column"] || keys["expr"] || keys["constant"] || keys["schema"] || keys["as"] {
			return false
		}
	}
	return true
}

// group reads the fields of an object that is made of columns of the same row.
func (r *reader) group(n *yaml.Node, path string, f *Field) {
	f.Group = []Field{}
	byName := func() {
		r.entries(n, path, func(key, value *yaml.Node) { r.field(key, value, join(path, key.Value), &f.Group) })
		r.nonEmpty()
	}
	if r.either(func() { r.columns(n, path, new(Shape)) }, byName) {
		return
	}
	if n.Kind == yaml.SequenceNode {
		var s Shape
		r.fields(n, path, &s)
		f.Group = s.Fields
	} else {
		byName()
	}
	if len(n.Content) == 0 && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "fields: {street: true, city: true}", "%s is empty", path)
	}
}

// add adds a field to the others, unless its name cannot be.
func (r *reader) add(at *yaml.Node, path string, into *[]Field, f Field) {
	if err := checkFieldName(f); err != nil {
		r.problem(at, otherName(f.Column), "%s: %v", path, err)
		return
	}
	if slices.ContainsFunc(*into, func(g Field) bool { return g.Name == f.Name }) {
		r.problem(at, "keep one of them", "%s: field %s stands twice", path, f.Name)
		return
	}
	*into = append(*into, f)
}

// otherName is the hint of a field whose name cannot be.
func otherName(column string) string {
	if column == "" {
		return "another name"
	}
	return fmt.Sprintf("fields: {other_name: {column: %q}}", column)
}

// metadataFields are refused inside documents by the search servers.
var metadataFields = []string{"_id", "_index", "_source", "_routing", "_field_names", "_ignored", "_nested_path", "_seq_no", "_version"}

// checkFieldName holds the name of a field against what the search servers take.
// A dot would make an object of it. That is left to columns that are called so.
func checkFieldName(f Field) error {
	switch {
	case f.Omit:
		return nil
	case strings.Contains(f.Name, ".") && f.Column != f.Name:
		return errors.New("a field name holds no dot")
	case slices.Contains(strings.Split(f.Name, "."), ""):
		return errors.New("the search server takes no name with an empty part")
	case slices.Contains(metadataFields, f.Name):
		return errors.New("the search server keeps this name for itself")
	}
	return nil
}
