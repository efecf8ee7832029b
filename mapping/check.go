package mapping

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/near"
	"tidemark/mapping/value"
)

// Check holds the mapping against the catalog. tables has an entry for each of
// [Config.Tables]; nil says that [LoadTable] found none. More entries are welcome:
// a table that is missing may have been meant to be one of them.
func (c *Config) Check(tables catalog.Tables) Problems {
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
	t := k.table(s.Table, s.path)
	if t == nil {
		return
	}
	routed := k.routing(s, t)
	if k.key(s, t) {
		k.identity(s, t, routed)
	}
	if s.Where != "" {
		if _, err := expr.CompileCondition(s.Where, t); err != nil {
			k.expression(s.Key("where"), s.Key("where"), err)
		}
	}
	k.fields(&s.Shape, t, s.path, k.entry)
	for _, in := range s.Include {
		k.include(in, t)
	}
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

// A need is what is demanded of the replica identity of one table.
type need struct {
	columns []string // all that documents are found by, each once

	// Of includes alone, what the identity does not meet:
	in      *Include // the first one
	missing []string // columns
	indices []string // whose documents would not be found
}

// demand notes what a source demands of the replica identities of all its tables.
func (k *checker) demand(s *Source) {
	if t := k.tables[s.Table]; t != nil {
		n := k.need(s.Table)
		for _, name := range s.KeyColumns(t) {
			n.columns = appendNew(n.columns, name)
		}
		if s.Routing != "" {
			n.columns = appendNew(n.columns, s.Routing)
		}
	}
	for _, p := range s.Paths() {
		k.path(p)
	}
}

func (k *checker) need(name catalog.TableName) *need {
	if k.needs[name] == nil {
		k.needs[name] = new(need)
	}
	return k.needs[name]
}

// identityForm returns the replica identity that meets all that is demanded of a table. The
// primary key alone is the cheapest one, but a deferrable one, which leaves the default
// without columns, cannot be it.
func (k *checker) identityForm(t *catalog.Table) string {
	outside := func(name string) bool { return !slices.Contains(t.PrimaryKey, name) }
	if t.Identity.Kind == catalog.IdentityDefault || slices.ContainsFunc(k.need(t.TableName()).columns, outside) {
		return "FULL"
	}
	return "DEFAULT"
}

// path notes by which columns of the table at its end the row before it is found: its old
// rows have to tell them.
func (k *checker) path(p *Path) {
	t := k.tables[p.Table()]
	if t == nil || slices.ContainsFunc(p.Columns(), func(name string) bool { c := t.Column(name); return c == nil || c.Generated }) {
		return // reported
	}
	n := k.need(p.Table())
	for _, name := range p.Columns() {
		n.columns = appendNew(n.columns, name)
		if !t.Identity.Covers([]string{name}) {
			n.missing = appendNew(n.missing, name)
			n.indices = appendNew(n.indices, p.Source.Index.Name)
			if n.in == nil {
				n.in = p.Hops[len(p.Hops)-1].uses
			}
		}
	}
}

// related reports the tables whose old rows do not tell which rows they belonged to, each
// once: the identity that it is to have serves all documents.
func (k *checker) related(c *Config) {
	for _, name := range c.Tables() {
		n := k.needs[name]
		if n == nil || n.in == nil {
			continue
		}
		t := k.tables[name]
		hint := identityHint(t, k.identityForm(t))
		if slices.ContainsFunc(k.problems, func(p Problem) bool { return p.Hint == hint }) {
			continue // the table's own documents need the same, as reported
		}
		documents := "index " + n.indices[0]
		if len(n.indices) > 1 {
			documents = "indices " + strings.Join(n.indices, ", ")
		}
		k.problem(n.in.path, hint,
			"%s: the replica identity of table %s does not hold %s: when a row is deleted or moved, it would not be known which documents of %s it was in",
			n.in.path, t.TableName(), strings.Join(n.missing, ", "), documents)
	}
}

func appendNew(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
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

// key reports whether the id columns name one row each, so that rows and
// documents are the same in number.
func (k *checker) key(s *Source, t *catalog.Table) bool {
	path := s.path
	if len(s.ID) == 0 {
		if len(t.PrimaryKey) == 0 {
			k.problem(s.Key("table"), noKeyHint(t), "%s: table %s has no primary key, and id is not given", path, t.TableName())
		}
		return len(t.PrimaryKey) > 0
	}
	ok := true
	for i, name := range s.ID {
		at := s.Key(fmt.Sprintf("id[%d]", i))
		switch c := k.column(t, at, path+".id", name); {
		case c == nil:
			ok = false
		case c.Generated:
			k.problem(at, "name other columns", "%s.id: column %s is generated: the log does not carry it", path, name)
			ok = false
		case !c.NotNull:
			k.problem(at, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL;", t.SQL(), catalog.QuoteIdent(name)), "%s.id: column %s can be NULL", path, name)
		}
	}
	unique := sameColumns(t.PrimaryKey, s.ID)
	for _, columns := range t.Unique {
		unique = unique || sameColumns(columns, s.ID)
	}
	if ok && !unique {
		concurrently := " CONCURRENTLY"
		if t.Partitioned {
			concurrently = "" // Postgres cannot
		}
		k.problem(k.idPath(s), fmt.Sprintf("CREATE UNIQUE INDEX%s ON %s (%s);", concurrently, t.SQL(), listOf(s.ID, catalog.QuoteIdent)),
			"%s.id: table %s has no unique index on exactly %s", path, t.TableName(), strings.Join(s.ID, ", "))
	}
	return ok
}

// noKeyHint says how a table without a primary key gets one, or does without.
func noKeyHint(t *catalog.Table) string {
	hint := fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (…);", t.SQL())
	for _, columns := range t.Unique {
		if slices.ContainsFunc(columns, func(name string) bool { c := t.Column(name); return c == nil || !c.NotNull || c.Generated }) {
			continue
		}
		hint += fmt.Sprintf("\nor here: id: [%s]", listOf(columns, catalog.QuoteIfNeeded))
		if !t.Identity.Covers(columns) {
			hint += ", and in the database:\n" + identityHint(t, "FULL")
		}
		return hint
	}
	return hint + "\nor CREATE UNIQUE INDEX over NOT NULL columns, name them in id, and in the database:\n" + identityHint(t, "FULL")
}

// routing reports whether old rows must carry the routing column besides the key.
func (k *checker) routing(s *Source, t *catalog.Table) bool {
	path := s.path
	if s.Routing == "" {
		return false
	}
	c := k.column(t, s.Key("routing"), path+".routing", s.Routing)
	if c != nil && c.Generated {
		k.problem(s.Key("routing"), "name another column, or make it an ordinary one", "%s.routing: column %s is generated: the log does not carry it", path, s.Routing)
	}
	return c != nil && !c.Generated && !slices.Contains(s.KeyColumns(t), s.Routing)
}

// identity reports whether an update or a delete tells which document it concerns.
func (k *checker) identity(s *Source, t *catalog.Table, routed bool) {
	path := s.path
	id := s.KeyColumns(t)
	hint := identityHint(t, k.identityForm(t))
	switch {
	case t.Identity.Kind == catalog.IdentityMixed && !t.Identity.Usable():
		k.problem(k.idPath(s), hint, "%s: the partitions of table %s have no replica identity in common: deletes could not be found", path, t.TableName())
	case !t.Identity.Usable():
		k.problem(k.idPath(s), hint, "%s: table %s has no replica identity: its updates and deletes are not logged", path, t.TableName())
	case !t.Identity.Covers(id):
		k.problem(k.idPath(s), hint, "%s: the replica identity of table %s does not hold all of %s: deletes could not be found", path, t.TableName(), strings.Join(id, ", "))
	case routed && !t.Identity.Covers([]string{s.Routing}):
		k.problem(s.Key("routing"), hint, "%s.routing: the replica identity of table %s does not hold %s: deletes could not be found", path, t.TableName(), s.Routing)
	}
}

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

// idPath returns the path of id, or else of the table whose primary key it is.
func (k *checker) idPath(s *Source) string {
	if len(s.ID) > 0 {
		return s.Key("id[0]")
	}
	return s.Key("table")
}

// identityHint returns the SQL that sets the replica identity of t. Partitions do
// not take it over from their root, so there it is a line for psql that does it
// to each.
func identityHint(t *catalog.Table, form string) string {
	if !t.Partitioned {
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s;", t.SQL(), form)
	}
	return fmt.Sprintf("SELECT format('ALTER TABLE %%s REPLICA IDENTITY %s', relid::regclass) FROM pg_partition_tree('%s') WHERE isleaf \\gexec",
		form, strings.ReplaceAll(t.SQL(), "'", "''"))
}

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
