package mapping

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/near"
)

// Check holds the mapping against the catalog. tables has an entry for each of
// [Config.Tables]; nil says that [catalog.LoadTable] found none. More entries are welcome:
// a table that is missing may have been meant to be one of them.
func (c *Config) Check(tables catalog.Tables) Problems {
	if with := c.WithChildren(); len(with) > 0 {
		tables = maps.Clone(tables)
		tables.Follow(with)
	}
	k := checker{file: c.File, places: c.places, tables: tables, needs: make(map[catalog.TableName]*need)}
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			k.demand(s)
		}
	}
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			k.source(s)
		}
	}
	k.related(c)
	k.refusedWrites(c)
	k.children(c)
	k.problems.Sort()
	k.problems = slices.CompactFunc(k.problems, func(a, b Problem) bool { return a == b })
	return k.problems
}

// A checker collects what is wrong with the indices of one file.
type checker struct {
	file     string
	places   places
	tables   catalog.Tables
	problems Problems
	needs    map[catalog.TableName]*need // what all sources demand of replica identities
}

// problem reports what is wrong at a path of the file.
func (k *checker) problem(path, hint, format string, args ...any) {
	k.problems = append(k.problems, Problem{File: k.file, Line: k.places.line(path), Text: fmt.Sprintf(format, args...), Hint: hint})
}

func (k *checker) source(s *Source) {
	if t := k.table(s.Table, s.path); t != nil {
		routed, keyed := k.form(s, t)
		if keyed {
			k.identity(s, t, routed)
		}
	}
}

// form reports what is wrong with how documents of rows of the table t look, and where they are. It
// returns whether old rows must carry the routing column besides the key, and whether the key is one.
func (k *checker) form(s *Source, t *catalog.Table) (routed, keyed bool) {
	routed, keyed = k.routing(s, t), k.key(s, t)
	k.valueColumn(s, t)
	if s.Where != "" {
		if _, err := expr.CompileCondition(s.Where, t); err != nil {
			k.expression(s.Key("where"), s.Key("where"), err)
		}
	}
	k.fields(&s.Shape, t, s.path, k.entry)
	for _, in := range s.Include {
		k.include(in, t)
	}
	return routed, keyed
}

// Unfit says why no documents of the index can be made of the tables, and what to do; "" if they
// can. The mapping fitted them when [Config.Check] was called, and a table was altered since.
// What replica identities lack is not said: it matters when a row changes that nothing is told of.
func (ix *Index) Unfit(tables catalog.Tables) string {
	k := checker{tables: tables}
	for _, s := range ix.Sources {
		if t := k.table(s.Table, s.path); t != nil {
			k.form(s, t)
		}
	}
	if len(k.problems) == 0 {
		return ""
	}
	first := k.problems[0]
	if first.Hint == "" {
		return first.Text
	}
	return first.Text + "; hint: " + first.Hint
}

// expression reports at path what is wrong with the expression of key.
func (k *checker) expression(path, key string, err error) {
	text, hint := err.Error(), ""
	if wrong, ok := errors.AsType[*expr.Error](err); ok {
		text, hint = wrong.Text, wrong.Hint
	}
	k.problem(path, hint, "%s: %s", key, text)
}

// table returns the table called name, or reports that there is none. It reports what keeps
// the log, or our role, from seeing all of its rows, too. path is that of what has the key table.
func (k *checker) table(name catalog.TableName, path string) *catalog.Table {
	t := k.tables[name]
	if t == nil {
		k.problem(path+".table", k.nearTable(name), "%s.table: no table %s in the database (a view or a foreign table has no log of its changes)", path, name)
		return nil
	}
	if t.Root != (catalog.TableName{}) {
		k.problem(path+".table", "table: "+t.Root.String(), "%s.table: table %s is a partition of %s, under whose name its changes are published", path, t.TableName(), t.Root)
	}
	k.heirs(t, path)
	if t.Unlogged {
		k.problem(path+".table", fmt.Sprintf("ALTER TABLE %s SET LOGGED;", t.SQL()), "%s.table: table %s is unlogged or temporary: the log does not carry it", path, t.TableName())
	}
	if t.RowSecurity {
		k.problem(path+".table", fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", catalog.QuoteIdent(t.User)), "%s.table: row-level security hides rows of table %s from role %s", path, t.TableName(), t.User)
	}
	return t
}

// include reports what is wrong with an include in rows of the table outer.
func (k *checker) include(in *Include, outer *catalog.Table) {
	t := k.table(in.Table, in.path)
	near, far, farPath := outer, t, in.path+".on"
	var link *catalog.Table
	if in.Through != nil {
		if link = k.table(in.Through.Table, in.path+".through"); link == nil {
			return
		}
		far, farPath = link, in.path+".through.on"
	}
	if t == nil {
		return
	}
	if link != nil {
		toPath := in.path + ".through.to"
		for _, p := range in.Through.To {
			k.column(link, toPath, toPath, p.Near)
			k.far(t, toPath, p.Far)
		}
	}
	for _, p := range in.On {
		k.column(near, farPath, farPath, p.Near)
		k.far(far, farPath, p.Far)
	}
	for _, o := range in.OrderBy {
		if link == nil || link.Column(o.Column) == nil {
			k.column(t, in.path+".order_by", in.path+".order_by", o.Column)
		}
	}
	if in.Value != "" {
		k.column(t, in.path+".value", in.path+".value", in.Value)
		return
	}
	if in.Aggregate != "" {
		if in.Column != "" {
			k.column(t, in.path+".column", in.path+".column", in.Column)
		}
		return
	}
	if in.single() && !in.lone(k.tables) && len(in.OrderBy) == 0 {
		k.problem(in.path, "many: object, many: nested, or order_by to take the first one",
			"%s: several rows of table %s can belong to one of table %s", in.path, t.TableName(), outer.TableName())
	}
	if in.single() && in.lone(k.tables) && len(in.OrderBy) > 0 {
		k.problem(in.path+".order_by", "leave it out", "%s.order_by: one row of table %s at most belongs to one of table %s", in.path, t.TableName(), outer.TableName())
	}
	k.longNames(in.Fields)
	k.fields(&in.Shape, t, in.path, k.includedEntry)
	for _, below := range in.Include {
		if len(below.Name) > maxName {
			k.longName(below.path, below.Name)
		}
		k.include(below, t)
	}
}

// far reports what keeps rows before one of t from being found by the column called name, which
// stands at path.
func (k *checker) far(t *catalog.Table, path, name string) {
	if c := k.column(t, path, path, name); c != nil && c.Generated {
		k.problem(path, "link by another column", "%s: column %s of table %s is generated: the log does not carry it", path, name, t.TableName())
	}
}

// nearTable returns the table that was probably meant, as it is to be written.
func (k *checker) nearTable(missing catalog.TableName) string {
	var candidates []string
	for name, t := range k.tables {
		if t != nil {
			candidates = append(candidates, name.String())
		}
	}
	return near.DidYouMean(missing.String(), candidates)
}

// column returns the column called name, or reports at path that there is none; key is what
// the problem begins with.
func (k *checker) column(t *catalog.Table, path, key, name string) *catalog.Column {
	c := t.Column(name)
	if c == nil {
		k.problem(path, near.Column(t, name), "%s: table %s has no column %s", key, t.TableName(), name)
	}
	return c
}
