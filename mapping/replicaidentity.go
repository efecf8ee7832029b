package mapping

import (
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
)

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
	if t.Identity.Kind == catalog.IdentityDefault || t.WithChildren || slices.ContainsFunc(k.need(t.TableName()).columns, outside) {
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
		hint := identityHint(t, k.identityForm(t), k.need(t.TableName()).columns)
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

// identity reports whether an update or a delete tells which document it concerns.
func (k *checker) identity(s *Source, t *catalog.Table, routed bool) {
	path := s.path
	id := s.KeyColumns(t)
	hint := identityHint(t, k.identityForm(t), k.need(t.TableName()).columns)
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
// to each. Of children whose rows count, those are named whose old rows lack one of needs.
func identityHint(t *catalog.Table, form string, needs []string) string {
	if t.WithChildren {
		return identityHintOfAll(t, form, needs)
	}
	if !t.Partitioned {
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s;", t.SQL(), form)
	}
	return fmt.Sprintf("SELECT format('ALTER TABLE %%s REPLICA IDENTITY %s', relid::regclass) FROM pg_partition_tree('%s') WHERE isleaf \\gexec",
		form, strings.ReplaceAll(t.SQL(), "'", "''"))
}
