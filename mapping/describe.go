package mapping

import (
	"fmt"

	"tidemark/mapping/catalog"
)

// A Line says of one field of documents what it is made of.
type Line struct {
	Path   string // of names: category.name
	Column string // "name of public.categories", an expression, a constant
	Type   string // of the column, as SQL writes it; empty where there is none
}

// Describe says what documents of the source are made of, field by field.
func (s *Source) Describe(tables catalog.Tables) []Line {
	return describeShape(&s.Shape, tables[s.Table], tables, "", "")
}

// describeShape describes objects of rows of t. of names the table where it is not the
// root.
func describeShape(s *Shape, t *catalog.Table, tables catalog.Tables, prefix, of string) []Line {
	var lines []Line
	if t == nil {
		return nil
	}
	eachField(s.DocumentFields(t), prefix, func(path string, f *Field) {
		line := Line{Path: path, Column: catalog.QuoteIfNeeded(f.Column) + of}
		switch {
		case f.Expr != "":
			line.Column = f.Expr
		case f.Constant != nil:
			line.Column = "constant"
		default:
			line.Type = t.Column(f.Column).Type.Name
		}
		lines = append(lines, line)
	})
	for _, in := range s.Include {
		path := join(prefix, in.Name)
		t := tables[in.Table]
		if t == nil {
			continue
		}
		of := " of " + in.Table.String()
		switch {
		case in.Aggregate != "" && in.Column == "":
			lines = append(lines, Line{path, fmt.Sprintf("%s%s", in.Aggregate, of), "bigint"})
		case in.Aggregate != "":
			lines = append(lines, Line{path, fmt.Sprintf("%s(%s)%s", in.Aggregate, catalog.QuoteIfNeeded(in.Column), of), in.Aggregate.of(t.Column(in.Column).Type).Name})
		case in.Value != "":
			typ := t.Column(in.Value).Type.Name
			if !in.lone(tables) {
				path += "[]"
			}
			lines = append(lines, Line{path, catalog.QuoteIfNeeded(in.Value) + of, typ})
		default:
			if !in.single() {
				path += "[]"
			}
			lines = append(lines, describeShape(&in.Shape, t, tables, path, of)...)
		}
	}
	return lines
}
