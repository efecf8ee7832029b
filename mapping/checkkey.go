package mapping

import (
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
)

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
			hint += ", and in the database:\n" + fullHint(t, columns)
		}
		return hint
	}
	form := "FULL"
	if t.Virtual() != nil {
		form = "USING INDEX …"
	}
	return hint + "\nor CREATE UNIQUE INDEX over NOT NULL columns, name them in id, and in the database:\n" + identityHint(t, form, nil)
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
