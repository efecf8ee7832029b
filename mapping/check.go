package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Check holds the mapping against the catalog. tables has an entry for each
// [Index.Table]; nil says that [LoadTable] found none. More entries are welcome:
// a table that is missing may have been meant to be one of them.
func (c *Config) Check(tables map[TableName]*Table) Problems {
	k := checker{file: c.File, tables: tables}
	for _, ix := range c.Indices {
		k.index(ix)
	}
	k.problems.Sort()
	return k.problems
}

// A checker collects what is wrong with the indices of one file.
type checker struct {
	file     string
	tables   map[TableName]*Table
	problems Problems
}

func (k *checker) problem(line int, mend, format string, args ...any) {
	k.problems = append(k.problems, Problem{File: k.file, Line: line, Text: fmt.Sprintf(format, args...), Mend: mend})
}

func (k *checker) index(ix *Index) {
	path := "indices." + ix.Name
	t := k.tables[ix.Table]
	if t == nil {
		k.problem(ix.lines.table, k.nearTable(ix.Table), "%s.table: no table %s in the database (a view or a foreign table has no log of its changes)", path, ix.Table)
		return
	}
	if t.Root != (TableName{}) {
		k.problem(ix.lines.table, "table: "+t.Root.String(), "%s.table: table %s is a partition of %s, under whose name its changes are published", path, t.TableName(), t.Root)
	}
	if t.Unlogged {
		k.problem(ix.lines.table, fmt.Sprintf("ALTER TABLE %s SET LOGGED;", sqlName(t)), "%s.table: table %s is unlogged or temporary: the log does not carry it", path, t.TableName())
	}
	if t.RowSecurity {
		k.problem(ix.lines.table, fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", QuoteIdent(t.User)), "%s.table: row-level security hides rows of table %s from role %s", path, t.TableName(), t.User)
	}
	routed := k.routing(ix, t, path)
	if k.key(ix, t, path) {
		k.identity(ix, t, path, routed)
	}
	k.fields(ix, t, path)
}

// nearTable gives the table that was probably meant, as it is to be written.
func (k *checker) nearTable(missing TableName) string {
	var candidates []string
	for name, t := range k.tables {
		if t != nil {
			candidates = append(candidates, name.String())
		}
	}
	return didYouMean(missing.String(), candidates)
}

// column gives the column called name, or reports that there is none.
func (k *checker) column(t *Table, line int, path, name string) *Column {
	c := t.Column(name)
	if c == nil {
		names := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			names[i] = c.Name
		}
		mend := didYouMean(name, names)
		if mend == "" {
			mend = "its columns: " + strings.Join(names, ", ")
		}
		k.problem(line, mend, "%s: table %s has no column %s", path, t.TableName(), name)
	}
	return c
}

// key reports whether the id columns name one row each, so that rows and
// documents are the same in number.
func (k *checker) key(ix *Index, t *Table, path string) bool {
	if len(ix.ID) == 0 {
		if len(t.PrimaryKey) == 0 {
			k.problem(ix.lines.table, noKeyMend(t), "%s: table %s has no primary key, and id is not given", path, t.TableName())
		}
		return len(t.PrimaryKey) > 0
	}
	ok := true
	for i, name := range ix.ID {
		line := ix.lines.index
		if i < len(ix.lines.id) {
			line = ix.lines.id[i]
		}
		switch c := k.column(t, line, path+".id", name); {
		case c == nil:
			ok = false
		case c.Generated:
			k.problem(line, "name other columns", "%s.id: column %s is generated: the log does not carry it", path, name)
			ok = false
		case !c.NotNull:
			k.problem(line, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL;", sqlName(t), QuoteIdent(name)), "%s.id: column %s can be NULL", path, name)
		}
	}
	unique := sameColumns(t.PrimaryKey, ix.ID)
	for _, columns := range t.Unique {
		unique = unique || sameColumns(columns, ix.ID)
	}
	if ok && !unique {
		concurrently := " CONCURRENTLY"
		if t.Partitioned {
			concurrently = "" // Postgres cannot
		}
		k.problem(ix.idLine(), fmt.Sprintf("CREATE UNIQUE INDEX%s ON %s (%s);", concurrently, sqlName(t), listOf(ix.ID, QuoteIdent)),
			"%s.id: table %s has no unique index on exactly %s", path, t.TableName(), strings.Join(ix.ID, ", "))
	}
	return ok
}

// noKeyMend says how a table without a primary key gets one, or does without.
func noKeyMend(t *Table) string {
	mend := fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (…);", sqlName(t))
	for _, columns := range t.Unique {
		if slices.ContainsFunc(columns, func(name string) bool { c := t.Column(name); return c == nil || !c.NotNull || c.Generated }) {
			continue
		}
		mend += fmt.Sprintf("\nor here: id: [%s]", listOf(columns, quoteIfNeeded))
		if !t.Identity.Covers(columns) {
			mend += ", and in the database:\n" + identityMend(t, "FULL")
		}
		return mend
	}
	return mend + "\nor CREATE UNIQUE INDEX over NOT NULL columns, name them in id, and in the database:\n" + identityMend(t, "FULL")
}

// routing reports whether old rows must carry the routing column besides the key.
func (k *checker) routing(ix *Index, t *Table, path string) bool {
	if ix.Routing == "" {
		return false
	}
	c := k.column(t, ix.lines.routing, path+".routing", ix.Routing)
	if c != nil && c.Generated {
		k.problem(ix.lines.routing, "name another column, or make it an ordinary one", "%s.routing: column %s is generated: the log does not carry it", path, ix.Routing)
	}
	return c != nil && !c.Generated && !slices.Contains(ix.KeyColumns(t), ix.Routing)
}

// identity reports whether an update or a delete tells which document it concerns.
func (k *checker) identity(ix *Index, t *Table, path string, routed bool) {
	id := ix.KeyColumns(t)
	// The primary key alone is the cheapest identity, but a deferrable one, which
	// leaves the default without columns, cannot be it.
	form := "FULL"
	if t.Identity.Kind != IdentityDefault && sameColumns(id, t.PrimaryKey) && !routed {
		form = "DEFAULT"
	}
	mend := identityMend(t, form)
	switch {
	case t.Identity.Kind == IdentityMixed && !t.Identity.Usable():
		k.problem(ix.idLine(), mend, "%s: the partitions of table %s have no replica identity in common: deletes could not be found", path, t.TableName())
	case !t.Identity.Usable():
		k.problem(ix.idLine(), mend, "%s: table %s has no replica identity: its updates and deletes are not logged", path, t.TableName())
	case !t.Identity.Covers(id):
		k.problem(ix.idLine(), mend, "%s: the replica identity of table %s does not hold all of %s: deletes could not be found", path, t.TableName(), strings.Join(id, ", "))
	case routed && !t.Identity.Covers([]string{ix.Routing}):
		k.problem(ix.lines.routing, mend, "%s.routing: the replica identity of table %s does not hold %s: deletes could not be found", path, t.TableName(), ix.Routing)
	}
}

// fields reports entries without a column, and documents that no index takes.
func (k *checker) fields(ix *Index, t *Table, path string) {
	for _, f := range ix.Fields {
		k.column(t, f.line, path+".fields."+f.Name, f.Column)
	}
	fields := ix.DocumentFields(t)
	if len(fields) == 0 {
		k.problem(ix.lines.fields, "list one, such as id: true", "%s.fields: no field is left", path)
	}
	for _, f := range fields {
		if err := checkFieldName(f); err != nil {
			k.problem(f.line, otherName(f.Column), "%s: column %s cannot be a field of this name: %v", path, f.Column, err)
		}
	}
	// Sorted by their parts, whatever lies inside a field follows it directly.
	slices.SortFunc(fields, func(a, b Field) int {
		return slices.CompareFunc(strings.Split(a.Name, "."), strings.Split(b.Name, "."), cmp.Compare[string])
	})
	for i := 1; i < len(fields); i++ {
		outer, inner := fields[i-1], fields[i]
		if strings.HasPrefix(inner.Name, outer.Name+".") {
			k.problem(max(outer.line, inner.line), otherName(inner.Column), "%s: field %s lies inside field %s", path, inner.Name, outer.Name)
			fields[i] = outer // the next one may lie inside it, too
		}
	}
}

// idLine gives the line of id, or else of the table whose primary key it is.
func (ix *Index) idLine() int {
	if len(ix.lines.id) > 0 {
		return ix.lines.id[0]
	}
	return ix.lines.table
}

// identityMend gives the SQL that sets the replica identity of t. Partitions do
// not take it over from their root, so there it is a line for psql that does it
// to each.
func identityMend(t *Table, form string) string {
	if !t.Partitioned {
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s;", sqlName(t), form)
	}
	return fmt.Sprintf("SELECT format('ALTER TABLE %%s REPLICA IDENTITY %s', relid::regclass) FROM pg_partition_tree('%s') WHERE isleaf \\gexec",
		form, strings.ReplaceAll(sqlName(t), "'", "''"))
}

// sqlName gives the table for SQL that people paste, quoted even where only
// reserved words need it.
func sqlName(t *Table) string { return QuoteIdent(t.Schema) + "." + QuoteIdent(t.Name) }

func listOf(columns []string, quote func(string) string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = quote(c)
	}
	return strings.Join(quoted, ", ")
}

// sameColumns reports whether both have the same columns, in any order.
func sameColumns(a, b []string) bool {
	return len(a) > 0 && slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
