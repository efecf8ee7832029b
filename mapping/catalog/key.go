package catalog

import (
	"slices"
)

// Ties returns what rows are ordered by that are equal in what the mapping orders them by:
// the key, or the text of all columns where nothing tells rows apart.
func (t *Table) Ties(alias string, used map[string]bool) []string {
	key, cast := t.OrderKey(), ""
	if key == nil {
		cast = "::pg_catalog.text"
		for _, c := range t.Columns {
			key = append(key, c.Name)
		}
	}
	var parts []string
	for _, name := range key {
		if !used[name] {
			parts = append(parts, ColumnRef(alias, name)+cast)
		}
	}
	return parts
}

// OrderKey returns columns that tell the rows of the table apart: the primary key, or a unique
// index over columns that are never NULL; none if nothing does.
func (t *Table) OrderKey() []string {
	if len(t.PrimaryKey) > 0 {
		return t.PrimaryKey
	}
	for _, columns := range t.Unique {
		if !slices.ContainsFunc(columns, func(name string) bool { c := t.Column(name); return c == nil || !c.NotNull }) {
			return columns
		}
	}
	return nil
}

// Immediate reports whether no two rows can have the same values in columns, at any moment of a
// transaction. A deferrable key is checked when a statement or the transaction ends, so until
// then several rows may have it; and a unique index may have been dropped.
func (t *Table) Immediate(columns []string) bool {
	within := func(key []string) bool {
		return len(key) > 0 && !slices.ContainsFunc(key, func(name string) bool {
			c := t.Column(name)
			return !slices.Contains(columns, name) || c == nil || !c.NotNull
		})
	}
	if t.WithChildren {
		return false
	}
	return !t.KeyDeferrable && within(t.PrimaryKey) || slices.ContainsFunc(t.Unique, within)
}
