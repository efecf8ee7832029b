package mapping

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/value"
)

// Root is the name by which the statements of a [Selection] know the root table.
const Root = "t"

// A Selection is what a statement selects to make documents of: columns of the root table,
// whose values come in text form, and for each include one column of JSON that Postgres
// makes. However deep includes stand, that is one statement, for as many rows as it has.
type Selection struct {
	Names []string // of the columns of the result; what [Compile] is given
	List  string   // the select list; it names the root table t
	Locks []string // the quoted names of all the tables that it reads

	more  []string   // names of columns of List behind Names
	bound *sizeBound // nil: rows are as large as they are
}

// Statement returns the statement that selects from what stands behind FROM, which names the root
// table t and may end with ORDER BY and LIMIT. Of a row whose document is larger than what the
// index takes it has no large values, and the size in a column of its own: the row's plan makes a
// [*TooLargeError] of it.
func (s *Selection) Statement(from string) string {
	statement := "SELECT " + s.List + " FROM " + from
	if s.bound == nil {
		return statement
	}
	return s.bound.statement(statement, s.Names, s.more)
}

// Unmeasured is Statement without the measuring, which costs Postgres an eighth of what small rows
// cost it: every row has its values, however large they are, and the size is no column of the
// result. It is for who bounds rows otherwise, and needs no more columns.
func (s *Selection) Unmeasured(from string) string { return "SELECT " + s.List + " FROM " + from }

// Measures reports whether Statement does more than Unmeasured.
func (s *Selection) Measures() bool { return s.bound != nil }

// With returns the selection with more columns of t behind the others, and in their order.
func (s *Selection) With(t *catalog.Table, expressions ...string) *Selection {
	with := *s
	with.more = slices.Clip(with.more)
	for _, e := range expressions {
		name := freeName(t, fmt.Sprintf("more_%d", len(with.more)))
		with.List += ", " + e + " AS " + catalog.QuoteIdent(name)
		with.more = append(with.more, name)
	}
	return &with
}

// Select returns what is selected of the root table t to make documents of. Its error
// reports a column that is not there.
func (s *Source) Select(tables catalog.Tables) (*Selection, error) {
	t := tables[s.Table]
	if t == nil {
		return nil, fmt.Errorf("index %s: table %s: %w", s.Name(), s.Table, catalog.ErrNoTable)
	}
	sel := new(Selection)
	var list []string
	for _, name := range s.columns(t) {
		sel.Names = append(sel.Names, name)
		list = append(list, catalog.ColumnRef(Root, name))
	}
	w := selectWriter{tables: tables}
	for i, in := range s.Include {
		name := includeColumn(t, i)
		sel.Names = append(sel.Names, name)
		list = append(list, w.include(in, t, Root)+" AS "+catalog.QuoteIdent(name))
	}
	if w.err != nil {
		return nil, fmt.Errorf("index %s: %w", s.Name(), w.err)
	}
	sel.List = strings.Join(list, ", ")
	if sel.bound = newSizeBound(s, t, sel.Names); sel.bound != nil {
		sel.Names = append(sel.Names, sel.bound.name)
	}
	for _, name := range s.Tables() {
		sel.Locks = append(sel.Locks, tables[name].From())
	}
	return sel, nil
}

// includeColumn returns the name of the column of a result that has the i-th include. No
// column of t is called so.
func includeColumn(t *catalog.Table, i int) string {
	return freeName(t, fmt.Sprintf("include_%d", i))
}

// columns returns the columns of t that documents, ids, routing and conditions need, in the
// order of the table.
func (s *Source) columns(t *catalog.Table) []string {
	needed := s.readColumns(t)
	for _, name := range s.KeyColumns(t) {
		needed[name] = true
	}
	if s.Routing != "" {
		needed[s.Routing] = true
	}
	if s.Only != nil && t.Column(s.Only.Column) != nil {
		needed[s.Only.Column] = true
	}
	if s.Where != "" {
		if e, err := expr.CompileCondition(s.Where, t); err == nil { // Config.Check reports it
			for _, name := range e.Columns {
				needed[name] = true
			}
		}
	}
	var columns []string
	for _, c := range t.Columns {
		if needed[c.Name] {
			columns = append(columns, c.Name)
		}
	}
	return columns
}

// A selectWriter writes the expressions that make objects of related rows.
type selectWriter struct {
	tables catalog.Tables
	n      int // aliases given out
	err    error
}

func (w *selectWriter) fail(format string, args ...any) string {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
	return "NULL"
}

func (w *selectWriter) alias(prefix string) string {
	w.n++
	return fmt.Sprintf("%s%d", prefix, w.n)
}

// include returns the expression for what is included in a row of the table outer, which the
// statement knows by an alias.
func (w *selectWriter) include(in *Include, outer *catalog.Table, outerAlias string) string {
	t := w.tables[in.Table]
	if t == nil {
		return w.fail("include %s: table %s: %w", in.Name, in.Table, catalog.ErrNoTable)
	}
	rows := w.alias("r")
	from := t.From()
	if in.Where != "" {
		// In a place of its own, so that a name in it is one of this table.
		from = fmt.Sprintf("(SELECT * FROM %s WHERE (%s\n))", from, in.Where)
	}
	from += " " + rows
	near, nearAlias := outer, outerAlias
	far, farAlias := t, rows
	var link *catalog.Table
	linkAlias := ""
	if in.Through != nil {
		if link = w.tables[in.Through.Table]; link == nil {
			return w.fail("include %s: table %s: %w", in.Name, in.Through.Table, catalog.ErrNoTable)
		}
		linkAlias = w.alias("l")
		from += fmt.Sprintf(" JOIN %s %s ON %s", link.From(), linkAlias, w.joined(in.Through.To, link, linkAlias, t, rows))
		far, farAlias = link, linkAlias
	}
	from += " WHERE " + w.joined(in.On, near, nearAlias, far, farAlias)
	order := ""
	if by := w.order(in, t, rows, link, linkAlias); by != "" {
		order = " ORDER BY " + by
	}
	limit := ""
	if in.Limit > 0 {
		limit = fmt.Sprintf(" LIMIT %d", in.Limit)
	}

	switch {
	case in.Aggregate != "":
		return w.aggregate(in, t, rows, from)
	case in.Value != "":
		value := "pg_catalog.to_json(" + w.value(t, &Field{Name: in.Value, Column: in.Value}, rows) + ")"
		if in.lone(w.tables) {
			return fmt.Sprintf("(SELECT %s FROM %s LIMIT 1)", value, from)
		}
		return fmt.Sprintf("pg_catalog.array_to_json(ARRAY(SELECT %s FROM %s%s%s))", value, from, order, limit)
	case in.single():
		if in.lone(w.tables) {
			order = "" // there is one at most
		}
		return w.object(&in.Shape, t, rows, from+order+" LIMIT 1")
	}
	return "pg_catalog.array_to_json(ARRAY" + w.object(&in.Shape, t, rows, from+order+limit) + ")"
}

// joined returns the condition that belongs to pairs of columns.
func (w *selectWriter) joined(pairs []Pair, near *catalog.Table, nearAlias string, far *catalog.Table, farAlias string) string {
	var parts []string
	for _, p := range pairs {
		a, b := near.Column(p.Near), far.Column(p.Far)
		if a == nil || b == nil {
			return w.fail("tables %s and %s have no columns %s and %s", near.TableName(), far.TableName(), p.Near, p.Far)
		}
		parts = append(parts, catalog.Equal(catalog.ColumnRef(farAlias, p.Far), b.Type, catalog.ColumnRef(nearAlias, p.Near), a.Type))
	}
	return strings.Join(parts, " AND ")
}

// order returns what rows are ordered by: order_by, and after that always the key, so that
// the same rows give the same document.
func (w *selectWriter) order(in *Include, t *catalog.Table, alias string, link *catalog.Table, linkAlias string) string {
	var parts []string
	used := make(map[string]bool)
	for _, o := range in.OrderBy {
		ref := catalog.ColumnRef(alias, o.Column)
		switch {
		case t.Column(o.Column) != nil:
			used[o.Column] = true
		case link != nil && link.Column(o.Column) != nil:
			ref = catalog.ColumnRef(linkAlias, o.Column)
		default:
			return w.fail("include %s: table %s has no column %s to order by", in.Name, in.Table, o.Column)
		}
		if o.Descending {
			ref += " DESC"
		}
		if o.NullsFirst {
			ref += " NULLS FIRST"
		} else {
			ref += " NULLS LAST"
		}
		parts = append(parts, ref)
	}
	parts = append(parts, t.Ties(alias, used)...)
	if link != nil {
		// The same row may be linked several times, in an order that shows in no column of it.
		parts = append(parts, link.Ties(linkAlias, nil)...)
	}
	return strings.Join(parts, ", ")
}

// lone reports whether the include can have one row at most: what links it is unique.
func (in *Include) lone(tables catalog.Tables) bool {
	t := tables[in.Table]
	if t == nil || in.Through != nil {
		return false
	}
	linked := make(map[string]bool)
	for _, p := range in.On {
		linked[p.Far] = true
	}
	covered := func(key []string) bool {
		return len(key) > 0 && !slices.ContainsFunc(key, func(name string) bool { return !linked[name] })
	}
	return covered(t.PrimaryKey) || slices.ContainsFunc(t.Unique, covered)
}

// object gives the subselect of objects made of the rows of from. Its rows go by alias.*: a
// name alone would be a column if there is one.
func (w *selectWriter) object(s *Shape, t *catalog.Table, alias, from string) string {
	o := w.alias("o")
	return fmt.Sprintf("(SELECT pg_catalog.row_to_json(%s.*) FROM (SELECT %s FROM %s) %s)", o, w.list(s.DocumentFields(t), s, t, alias), from, o)
}

// list returns the select list of an object.
func (w *selectWriter) list(fields []Field, s *Shape, t *catalog.Table, alias string) string {
	var list []string
	for i := range fields {
		list = append(list, w.value(t, &fields[i], alias)+" AS "+catalog.QuoteIdent(fields[i].Name))
	}
	if s != nil {
		for _, in := range s.Include {
			list = append(list, w.include(in, t, alias)+" AS "+catalog.QuoteIdent(in.Name))
		}
	}
	return strings.Join(list, ", ")
}

// value returns the expression for a field of an object.
func (w *selectWriter) value(t *catalog.Table, f *Field, alias string) string {
	switch {
	case f.Group != nil:
		g := w.alias("g")
		return fmt.Sprintf("(SELECT pg_catalog.row_to_json(%s.*) FROM (SELECT %s) %s)", g, w.list(f.Group, nil, t, alias), g)
	case f.Constant != nil:
		text, err := json.Marshal(f.Constant.Value)
		if err != nil {
			return w.fail("field %s: %w", f.Name, err)
		}
		return quoteLiteral(string(text)) + "::pg_catalog.json"
	case f.Expr != "":
		return w.fail("field %s: an expression cannot be inside of include", f.Name)
	}
	c := t.Column(f.Column)
	if c == nil {
		return w.fail("table %s has no column %s", t.TableName(), f.Column)
	}
	form, err := value.FormFor(c.Type, f.As)
	if err != nil {
		return w.fail("field %s: %w", f.Name, err)
	}
	return form.SQL(catalog.ColumnRef(alias, f.Column), c.Type)
}

// quoteLiteral quotes a text for a statement.
func quoteLiteral(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
