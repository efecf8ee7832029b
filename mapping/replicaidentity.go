package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
)

// A need is what is demanded of the replica identity of one table.
type need struct {
	columns []string // all that documents are found by, each once
	path    string   // of what names the table first

	// Of includes alone, what the identity does not meet:
	in      *Include // the first one
	missing []string // columns
	indices []string // whose documents would not be found
}

// demand notes what a source demands of the replica identities of all its tables.
func (k *checker) demand(s *Source) {
	if t := k.tables[s.Table]; t != nil {
		n := k.need(s.Table)
		n.path = cmp.Or(n.path, s.path)
		for _, name := range s.KeyColumns(t) {
			n.columns = appendNew(n.columns, name)
		}
		if s.Routing != "" {
			n.columns = appendNew(n.columns, s.Routing)
		}
		if name := s.valueColumn(); name != "" {
			n.columns = appendNew(n.columns, name)
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

// identityHint returns the SQL that sets the replica identity which meets all that is demanded of
// a table. The primary key alone is the cheapest one, but a deferrable one, which leaves the
// default without columns, cannot be it.
func (k *checker) identityHint(t *catalog.Table) string {
	columns := k.need(t.TableName()).columns
	outside := func(name string) bool { return !slices.Contains(t.PrimaryKey, name) }
	if t.Identity.Kind == catalog.IdentityDefault || t.KeyDeferrable || t.WithChildren || slices.ContainsFunc(columns, outside) {
		return fullHint(t, columns)
	}
	return identityHint(t, "DEFAULT", columns)
}

// path notes by which columns of the table at its end the row before it is found: its old
// rows have to tell them.
func (k *checker) path(p *Path) {
	t := k.tables[p.Table()]
	if t == nil || slices.ContainsFunc(p.Columns(), func(name string) bool { c := t.Column(name); return c == nil || c.Generated }) {
		return // reported
	}
	n := k.need(p.Table())
	n.path = cmp.Or(n.path, p.Hops[len(p.Hops)-1].uses.path)
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
		hint := k.identityHint(t)
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

// refusedWrites reports the tables whose updates and deletes Postgres refuses, because of us: they
// are refused as soon as the table is published.
func (k *checker) refusedWrites(c *Config) {
	for _, name := range c.Tables() {
		t, n := k.tables[name], k.needs[name]
		if t == nil || n == nil || t.Virtual() == nil || !wholeRows(t) {
			continue
		}
		k.problem(n.path, k.identityHint(t), "%s: table %s has the virtual generated column %s and REPLICA IDENTITY FULL: Postgres refuses its updates and deletes while it is published",
			n.path, t.TableName(), t.Virtual().Name)
	}
}

// wholeRows reports whether old rows carry all that they can. Partitions may have the identity
// FULL though their root has not.
func wholeRows(t *catalog.Table) bool {
	all := !slices.ContainsFunc(t.Columns, func(c catalog.Column) bool { return !c.Generated && !t.Identity.Covers([]string{c.Name}) })
	return t.Identity.Kind == catalog.IdentityFull || t.Identity.Kind == catalog.IdentityMixed && all
}

func appendNew(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

// identity reports whether an update or a delete tells which document it concerns.
func (k *checker) identity(s *Source, t *catalog.Table, routed bool) {
	path := s.path
	id := s.KeyColumns(t)
	hint := k.identityHint(t)
	switch {
	case t.WithChildren && !t.Identity.Usable():
		k.problem(k.idPath(s), hint, "%s: table %s and those that inherit from it have no replica identity in common: updates and deletes could not be followed", path, t.TableName())
	case t.Identity.Kind == catalog.IdentityMixed && !t.Identity.Usable():
		k.problem(k.idPath(s), hint, "%s: the partitions of table %s have no replica identity in common: deletes could not be found", path, t.TableName())
	case !t.Identity.Usable():
		k.problem(k.idPath(s), hint, "%s: table %s has no replica identity: its updates and deletes are not logged", path, t.TableName())
	case !t.Identity.Covers(id):
		k.problem(k.idPath(s), hint, "%s: the replica identity of table %s does not hold all of %s: deletes could not be found", path, t.TableName(), strings.Join(id, ", "))
	case routed && !t.Identity.Covers([]string{s.Routing}):
		k.problem(s.Key("routing"), hint, "%s.routing: the replica identity of table %s does not hold %s: deletes could not be found", path, t.TableName(), s.Routing)
	case s.valueColumn() != "" && t.Column(s.valueColumn()) != nil && !t.Identity.Covers([]string{s.valueColumn()}):
		k.problem(s.Index.Path()+".name", hint, "%s.name: the replica identity of table %s does not hold %s: it would not be known which index has the document of a row that is deleted or gets another value", s.Index.Path(), t.TableName(), s.valueColumn())
	}
}

// idPath returns the path of id, or else of the table whose primary key it is.
func (k *checker) idPath(s *Source) string {
	if len(s.ID) > 0 {
		return s.Key("id[0]")
	}
	return s.Key("table")
}

// fullHint returns the SQL by which old rows have all of columns. Whole old rows do, but see
// [catalog.Table.Virtual]; then it is an index over a key and the columns, which Postgres takes
// only where none of them can be NULL.
func fullHint(t *catalog.Table, columns []string) string {
	virtual := t.Virtual()
	if virtual == nil {
		return identityHint(t, "FULL", columns)
	}
	why := fmt.Sprintf("\n-- not FULL: with the virtual generated column %s Postgres would refuse updates and deletes", catalog.QuoteIfNeeded(virtual.Name))
	key := t.OrderKey()
	if t.KeyDeferrable || key == nil {
		// An index over a deferrable key would be unique at once, and refuse what the key allows.
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX …; -- a unique index over NOT NULL columns, among them %s", t.SQL(), listOf(columns, catalog.QuoteIdent)) + why
	}
	all := slices.Clone(key)
	for _, name := range columns {
		all = appendNew(all, name)
	}
	hint := ""
	for _, name := range all {
		if c := t.Column(name); c != nil && !c.NotNull {
			hint += fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL;\n", t.SQL(), catalog.QuoteIdent(name))
		}
	}
	index, concurrently := t.Name+"_identity", " CONCURRENTLY"
	if t.Partitioned {
		concurrently = "" // Postgres cannot
	}
	hint += fmt.Sprintf("CREATE UNIQUE INDEX%s %s ON %s (%s);\n", concurrently, catalog.QuoteIdent(index), t.SQL(), listOf(all, catalog.QuoteIdent))
	if !t.Partitioned {
		return hint + identityHint(t, "USING INDEX "+catalog.QuoteIdent(index), columns) + why
	}
	qualified := catalog.QuoteIdent(t.Schema) + "." + catalog.QuoteIdent(index)
	return hint + fmt.Sprintf("SELECT format('ALTER TABLE %%s REPLICA IDENTITY USING INDEX %%I', i.indrelid::regclass, c.relname) "+
		"FROM pg_partition_tree('%s') p JOIN pg_index i ON i.indexrelid = p.relid JOIN pg_class c ON c.oid = p.relid WHERE p.isleaf \\gexec",
		strings.ReplaceAll(qualified, "'", "''")) + why
}

// identityHint returns the SQL that sets the replica identity of t. Partitions do
// not take it over from their root, so there it is a line for psql that does it
// to each. Of children whose rows count, those are named whose old rows lack one of needs.
func identityHint(t *catalog.Table, form string, needs []string) string {
	if t.WithChildren {
		return identityHintOfAll(t, form, needs)
	}
	if len(t.Listed) > 0 {
		return unlisted(t, form)
	}
	return identityStatement(t, form)
}

// unlisted is identityHint where publications name columns of the table: Postgres would refuse all
// updates as soon as the identity has another one. It is one transaction, since a list of ours is
// put back within seconds as long as it covers the identity.
func unlisted(t *catalog.Table, form string) string {
	var b strings.Builder
	b.WriteString("BEGIN; -- as long as publications name columns of the table Postgres would refuse updates and deletes\n")
	for _, publication := range t.Listed {
		fmt.Fprintf(&b, "ALTER PUBLICATION %[1]s DROP TABLE ONLY %[2]s;\nALTER PUBLICATION %[1]s ADD TABLE ONLY %[2]s;\n", catalog.QuoteIdent(publication), t.SQL())
	}
	return b.String() + identityStatement(t, form) + "\nCOMMIT;"
}

// identityStatement is identityHint of one table.
func identityStatement(t *catalog.Table, form string) string {
	if !t.Partitioned {
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s;", t.SQL(), form)
	}
	return fmt.Sprintf("SELECT format('ALTER TABLE %%s REPLICA IDENTITY %s', relid::regclass) FROM pg_partition_tree('%s') WHERE isleaf \\gexec",
		form, strings.ReplaceAll(t.SQL(), "'", "''"))
}
