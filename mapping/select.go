package mapping

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

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
	for _, name := range s.Tables() {
		sel.Locks = append(sel.Locks, tables[name].From())
	}
	return sel, nil
}

// includeColumn returns the name of the column of a result that has the i-th include. No
// column of t is called so.
func includeColumn(t *catalog.Table, i int) string {
	name := fmt.Sprintf("include_%d", i)
	for t.Column(name) != nil {
		name += "_"
	}
	return name
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
		text, err := json.Marshal(plain(f.Constant.Value))
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

// aggregate returns the expression for what several rows come to.
func (w *selectWriter) aggregate(in *Include, t *catalog.Table, rows, from string) string {
	if in.Column == "" {
		return fmt.Sprintf("(SELECT pg_catalog.to_json(pg_catalog.count(*)) FROM %s)", from)
	}
	c := t.Column(in.Column)
	if c == nil {
		return w.fail("include %s: table %s has no column %s", in.Name, in.Table, in.Column)
	}
	result := in.Aggregate.of(c.Type)
	v := w.alias("v")
	schema := "pg_catalog"
	if root := c.Type.Root(); root.Kind == catalog.KindBase && root.OID >= catalog.FirstUserOID && in.Aggregate != AggregateCount {
		schema = catalog.SchemaOf(root.Name) // of an extension, which has its own
	}
	return fmt.Sprintf("(SELECT pg_catalog.to_json(%s) FROM (SELECT %s.%s(%s) AS v FROM %s) %s)",
		value.FormOf(result).SQL(v+".v", result), schema, in.Aggregate, catalog.ColumnRef(rows, in.Column), from, v)
}

// of returns the type of what values of a type come to.
func (a Aggregate) of(t *catalog.Type) *catalog.Type {
	t = t.Root()
	long, numeric, double := catalog.NewBase(pgtype.Int8OID, "bigint"), catalog.NewBase(pgtype.NumericOID, "numeric"), catalog.NewBase(pgtype.Float8OID, "double precision")
	switch a {
	case AggregateCount:
		return long
	case AggregateSum:
		switch t.OID {
		case pgtype.Int2OID, pgtype.Int4OID:
			return long
		case pgtype.Int8OID, pgtype.NumericOID:
			return numeric
		}
	case AggregateAvg:
		switch t.OID {
		case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.NumericOID:
			return numeric
		case pgtype.Float4OID, pgtype.Float8OID:
			return double
		}
	}
	if t.OID == pgtype.NumericOID {
		return numeric // without a modifier
	}
	return t
}

// quoteLiteral quotes a text for a statement.
func quoteLiteral(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// A Lookup asks for the root rows that belong to rows of a related table.
type Lookup struct {
	Path *Path
	// Keys are the values of the path's Columns, text or nil for NULL: one list for each
	// column, all of the same length.
	Keys [][][]byte
}

// Find returns the statement for the keys of the root rows that lookups ask for, each key
// once, in the order of the key, and its parameters. No lookups at all ask for every row.
// after is the key that the answer begins after, nil for the first one.
func (s *Source) Find(tables catalog.Tables, lookups []Lookup, after [][]byte, limit int) (query string, args [][]byte, err error) {
	t := tables[s.Table]
	key := s.KeyColumns(t)
	var found []string
	for _, l := range lookups {
		part, err := l.find(t, key, tables, len(args)+1)
		if err != nil {
			return "", nil, fmt.Errorf("index %s: %w", s.Name(), err)
		}
		found = append(found, part)
		for _, values := range l.Keys {
			args = append(args, value.TextArray(values))
		}
	}
	from, alias, distinct := t.From(), Root, ""
	if len(found) > 0 {
		from, alias, distinct = "("+strings.Join(found, " UNION ALL ")+")", "f", "DISTINCT "
	}
	names := make([]string, len(key))
	for i, name := range key {
		names[i] = catalog.ColumnRef(alias, name)
	}
	page := s.PageColumns(t)
	order := make([]string, len(page))
	for i, name := range page {
		order[i] = catalog.ColumnRef(alias, name)
	}
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

// find returns the statement for the keys that one lookup asks for.
func (l *Lookup) find(root *catalog.Table, key []string, tables catalog.Tables, param int) (string, error) {
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
		on = append(on, catalog.Equal(catalog.ColumnRef(alias, p.Near), a.Type, "k."+name+"::"+b.Type.Name, b.Type))
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
	list := make([]string, len(key))
	for i, name := range key {
		list[i] = catalog.ColumnRef(Root, name)
	}
	return fmt.Sprintf("SELECT %s FROM %s", strings.Join(list, ", "), from), nil
}
