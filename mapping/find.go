package mapping

import (
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

// A Lookup asks for the root rows that belong to rows of a related table.
type Lookup struct {
	Path *Path
	// Keys are the values of the path's Columns, text or nil for NULL: one list for each
	// column, all of the same length.
	Keys [][][]byte
}

// Find returns the statement for the keys of the root rows that lookups ask for, each key
// once, in the order of the key, and its parameters. No lookups at all ask for every row.
// after is the key that the answer begins after, nil for the first one. What it costs depends on
// how many rows lookups ask for, whatever limit is.
func (s *Source) Find(tables catalog.Tables, lookups []Lookup, after [][]byte, limit int) (query string, args [][]byte, err error) {
	t := tables[s.Table]
	key := s.KeyColumns(t)
	from, alias, args, err := s.findAll(tables, lookups)
	if err != nil {
		return "", nil, err
	}
	distinct := "DISTINCT "
	if len(lookups) == 0 || len(lookups) == 1 && lookups[0].isOfOneRow() {
		distinct = "" // each row is found once
	}
	names := columnRefs(alias, key)
	page := s.PageColumns(t)
	order := columnRefs(alias, page)
	where := ""
	if after != nil {
		where = " WHERE " + t.After(alias, page, len(args)+1)
		for _, name := range page {
			args = append(args, after[slices.Index(key, name)])
		}
	}
	return fmt.Sprintf("SELECT %s%s FROM %s %s%s ORDER BY %s LIMIT %d",
		distinct, strings.Join(names, ", "), from, alias, where, strings.Join(order, ", "), limit), args, nil
}

// isOfOneRow reports whether the lookup is of one row, and leads to root rows without detours.
func (l *Lookup) isOfOneRow() bool {
	return len(l.Path.Hops) == 1 && len(l.Keys) > 0 && len(l.Keys[0]) == 1
}

// FindSome returns the statement for limit keys of the root rows that lookups ask for, whichever are
// found first, in the order of the key, and its parameters. One that is found by several ways comes
// several times; in return it costs no more than to find so many. No lookups at all ask for every row.
func (s *Source) FindSome(tables catalog.Tables, lookups []Lookup, limit int) (query string, args [][]byte, err error) {
	from, alias, args, err := s.findAll(tables, lookups)
	if err != nil {
		return "", nil, err
	}
	t := tables[s.Table]
	key := s.KeyColumns(t)
	return fmt.Sprintf("SELECT * FROM (SELECT %s FROM %s %s LIMIT %d) s ORDER BY %s",
		strings.Join(columnRefs(alias, key), ", "), from, alias, limit, strings.Join(columnRefs("s", s.PageColumns(t)), ", ")), args, nil
}

// findAll returns what has the key columns of the root rows that lookups ask for, and the
// parameters of that.
func (s *Source) findAll(tables catalog.Tables, lookups []Lookup) (from, alias string, args [][]byte, err error) {
	t := tables[s.Table]
	if len(lookups) == 0 {
		return s.From(t), Root, nil, nil
	}
	var found []string
	for _, l := range lookups {
		part, err := l.find(s, tables, len(args)+1)
		if err != nil {
			return "", "", nil, fmt.Errorf("index %s: %w", s.Name(), err)
		}
		found = append(found, part)
		for _, values := range l.Keys {
			args = append(args, value.TextArray(values))
		}
	}
	return "(" + strings.Join(found, " UNION ALL ") + ")", "f", args, nil
}

func columnRefs(table string, columns []string) []string {
	refs := make([]string, len(columns))
	for i, name := range columns {
		refs[i] = catalog.ColumnRef(table, name)
	}
	return refs
}

// find returns the statement for the keys that one lookup asks for.
func (l *Lookup) find(s *Source, tables catalog.Tables, param int) (string, error) {
	root := tables[s.Table]
	key := s.KeyColumns(root)
	hops := l.Path.Hops
	last := hops[len(hops)-1]
	table := func(i int) (*catalog.Table, string) { // where hop i begins
		if i == 0 {
			return root, Root
		}
		return tables[hops[i-1].Table], fmt.Sprintf("h%d", i)
	}
	far := tables[last.Table]
	near, alias := table(len(hops) - 1)
	if far == nil || near == nil {
		return "", fmt.Errorf("table %s: %w", last.Table, catalog.ErrNoTable)
	}
	var arrays, names, on []string
	for i, p := range last.On {
		a, b := near.Column(p.Near), far.Column(p.Far)
		if a == nil || b == nil {
			return "", fmt.Errorf("tables %s and %s have no columns %s and %s", near.TableName(), far.TableName(), p.Near, p.Far)
		}
		name := fmt.Sprintf("k%d", i)
		names = append(names, name)
		arrays = append(arrays, fmt.Sprintf("pg_catalog.unnest($%d::pg_catalog.text[])", param+i))
		on = append(on, catalog.Equal(catalog.ColumnRef(alias, p.Near), a.Type, "k."+name+"::"+b.Type.Root().Name, b.Type))
	}
	from := fmt.Sprintf("ROWS FROM (%s) AS k(%s) JOIN %s %s ON %s", strings.Join(arrays, ", "), strings.Join(names, ", "), near.From(), alias, strings.Join(on, " AND "))
	for i := len(hops) - 2; i >= 0; i-- {
		w := selectWriter{tables: tables}
		t, here := table(i)
		next, there := table(i + 1)
		if t == nil || next == nil {
			return "", fmt.Errorf("table %s: %w", hops[i].Table, catalog.ErrNoTable)
		}
		condition := w.joined(hops[i].On, t, here, next, there)
		if w.err != nil {
			return "", w.err
		}
		from += fmt.Sprintf(" JOIN %s %s ON %s", t.From(), here, condition)
	}
	if rows := s.RowsOf(root, Root); rows != "" {
		from += " WHERE " + rows
	}
	list := make([]string, len(key))
	for i, name := range key {
		list[i] = catalog.ColumnRef(Root, name)
	}
	return fmt.Sprintf("SELECT %s FROM %s", strings.Join(list, ", "), from), nil
}
