package mapping

import (
	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/value"
)

// DocumentFields returns the fields that the objects of rows of t have, but for what is
// included of other tables: those of columns in the order of t, and then constants,
// expressions and groups in the order of the file. A group has the fields of its own in
// its Group, given in the same way.
//
//   - A column that an entry reads under another name, or inside a group, is not also taken
//     under its own, unless an entry says so (price_cents: true).
//   - An entry takes the name from the column that is called like it.
//   - A column of a type that nobody searches by as it is, tsvector, is only taken where an
//     entry says so.
//   - Entries whose column is not in t, or whose expression does not fit it, are left out;
//     [Config.Check] reports them.
func (s *Shape) DocumentFields(t *catalog.Table) []Field {
	named := make(map[string]bool, len(s.Fields)) // names that an entry or an include decides about
	read := make(map[string]bool, len(s.Fields))  // columns that an entry reads
	entries := make(map[string][]Field)           // those at the top, by column
	var rest []Field
	for _, f := range s.Fields {
		named[f.Name] = true
		switch {
		case f.Omit:
		case f.Column != "":
			read[f.Column] = true
			if f, ok := f.within(t); ok {
				entries[f.Column] = append(entries[f.Column], f)
			}
		default:
			for _, column := range f.columns() {
				read[column] = true
			}
			if f, ok := f.within(t); ok {
				rest = append(rest, f)
			}
		}
	}
	for _, in := range s.Include {
		named[in.Name] = true
	}
	var fields []Field
	for _, c := range t.Columns {
		switch {
		case len(entries[c.Name]) > 0:
			fields = append(fields, entries[c.Name]...)
		case !s.Listed && !named[c.Name] && !read[c.Name] && !value.NobodySearches(c.Type):
			fields = append(fields, Field{Name: c.Name, Column: c.Name})
		}
	}
	return append(fields, rest...)
}

// columns returns the columns that a field without one of its own reads in its group.
func (f *Field) columns() []string {
	var columns []string
	for i := range f.Group {
		if g := &f.Group[i]; g.Column != "" && !g.Omit {
			columns = append(columns, g.Column)
		} else {
			columns = append(columns, g.columns()...)
		}
	}
	return columns
}

// within returns the field with those parts of its group whose columns t has.
func (f Field) within(t *catalog.Table) (Field, bool) {
	if f.Expr != "" {
		_, err := expr.Compile(f.Expr, t)
		return f, err == nil
	}
	if f.Group == nil {
		return f, true
	}
	group := make([]Field, 0, len(f.Group))
	for _, g := range f.Group {
		if g.Omit || g.Column != "" && t.Column(g.Column) == nil {
			continue
		}
		if g, ok := g.within(t); ok {
			group = append(group, g)
		}
	}
	f.Group = group
	return f, len(group) > 0
}

// eachField calls do with every field that has a value of its own, those in groups too,
// with the path of its names.
func eachField(fields []Field, prefix string, do func(path string, f *Field)) {
	for i := range fields {
		f := &fields[i]
		if f.Group != nil {
			eachField(f.Group, join(prefix, f.Name), do)
		} else {
			do(join(prefix, f.Name), f)
		}
	}
}

// readColumns returns the columns of t that objects of the shape are made of, but for what
// is included of other tables.
func (s *Shape) readColumns(t *catalog.Table) map[string]bool {
	needed := make(map[string]bool)
	eachField(s.DocumentFields(t), "", func(_ string, f *Field) {
		if f.Column != "" {
			needed[f.Column] = true
		}
		if f.Expr != "" {
			if e, err := expr.Compile(f.Expr, t); err == nil { // Config.Check reports it
				for _, column := range e.Columns {
					needed[column] = true
				}
			}
		}
	})
	return needed
}
