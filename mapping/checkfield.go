package mapping

import (
	"cmp"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/value"
)

// maxName is the longest name of a field inside of include, in bytes: there it is the name
// of a column in a statement.
const maxName = 63

// entries calls do with every entry of fields, those in groups too.
func entries(fields []Field, do func(f *Field)) {
	for i := range fields {
		if f := &fields[i]; f.Group != nil {
			entries(f.Group, do)
		} else {
			do(f)
		}
	}
}

// entry reports what keeps a field from being made of rows of t.
func (k *checker) entry(f *Field, t *catalog.Table) {
	switch {
	case f.Expr != "":
		if f.Column != "" {
			k.column(t, f.path, f.path, f.Column)
		}
		if _, err := expr.Compile(f.Expr, t); err != nil {
			k.expression(f.path, f.path+".expr", err)
		}
	case f.Column != "":
		c := k.column(t, f.path, f.path, f.Column)
		if c == nil {
			return
		}
		if _, err := value.FormFor(c.Type, f.As); err != nil {
			k.problem(f.path, "", "%s.as: %v", f.path, err)
		}
	}
}

// includedEntry is entry for a field of an object that Postgres makes.
func (k *checker) includedEntry(f *Field, t *catalog.Table) {
	if f.Expr == "" {
		k.entry(f, t)
		return
	}
	k.problem(f.path, "a generated column in the table, or the expression in the root row", "%s.expr: inside of include Postgres makes the objects, so there are no expressions", f.path)
}

// longNames reports names that are too long inside of include, those of groups too.
func (k *checker) longNames(fields []Field) {
	for i := range fields {
		f := &fields[i]
		if len(f.Name) > maxName && !f.Omit {
			k.longName(f.path, f.Name)
		}
		k.longNames(f.Group)
	}
}

func (k *checker) longName(path, name string) {
	k.problem(path, "a shorter name", "%s: a name inside of include has at most %d bytes, this one has %d", path, maxName, len(name))
}

// fields reports entries of which no field can be made, by entry, and objects that no index
// takes. path is that of the source or the include whose shape it is.
func (k *checker) fields(s *Shape, t *catalog.Table, path string, entry func(*Field, *catalog.Table)) {
	before := len(k.problems)
	entries(s.Fields, func(f *Field) { entry(f, t) })
	fields := s.DocumentFields(t)
	if len(fields) == 0 && len(s.Include) == 0 && len(k.problems) == before {
		k.problem(path+".fields", "list one, such as id: true", "%s.fields: no field is left", path)
	}
	var flat []Field // with their paths in the document as names
	eachField(fields, "", func(name string, f *Field) {
		g := *f
		g.Name, g.path = name, cmp.Or(f.path, path+".table")
		flat = append(flat, g)
	})
	for _, f := range flat {
		name := f.Name
		if strings.Contains(name, ".") && f.Column != name {
			name = name[strings.LastIndexByte(name, '.')+1:] // in a group
		}
		if err := checkFieldName(Field{Name: name, Column: name}); err != nil {
			k.problem(f.path, otherName(f.Column), "%s: column %s cannot be a field of this name: %v", path, f.Column, err)
		}
	}
	// Sorted by their parts, whatever lies inside a field follows it directly.
	slices.SortFunc(flat, func(a, b Field) int {
		return slices.CompareFunc(strings.Split(a.Name, "."), strings.Split(b.Name, "."), cmp.Compare[string])
	})
	for i := 1; i < len(flat); i++ {
		outer, inner := flat[i-1], flat[i]
		if inner.Name != outer.Name && !strings.HasPrefix(inner.Name, outer.Name+".") {
			continue
		}
		later := inner
		if k.places.line(outer.path) > k.places.line(inner.path) {
			later = outer
		}
		k.problem(later.path, otherName(inner.Column), "%s: field %s lies inside field %s", path, inner.Name, outer.Name)
		flat[i] = outer // the next one may lie inside it, too
	}
}
