package catalog

import (
	"cmp"
	"slices"
	"strings"
)

// A Child is a table that inherits from another one, or from one that does.
type Child struct {
	OID uint32
	TableName
	Logged        bool     // the log carries it: it is neither unlogged nor a foreign table
	Identity      Identity // what its old rows carry
	EstimatedRows int64    // pg_class.reltuples; -1: never analyzed
}

// SQL returns the table's name for a statement, quoted.
func (c *Child) SQL() string { return QuoteIdent(c.Schema) + "." + QuoteIdent(c.Name) }

// Publishable reports whether the table can be in a publication and its rows still be updated:
// Postgres refuses an update of a published table whose old rows carry nothing.
func (c *Child) Publishable() bool { return c.Logged && c.Identity.Usable() }

// Following returns the table as it is where the rows of its children count as its own: what its
// old rows carry is what those of all have in common. A partitioned table is returned as it is.
func (t *Table) Following() *Table {
	if t.Partitioned || t.WithChildren {
		return t
	}
	f := *t
	f.WithChildren, f.Own = true, t.Identity
	f.File = "" // each has its own, as partitions have
	identities := []Identity{t.Identity}
	for i := range t.Children {
		c := &t.Children[i]
		identities = append(identities, c.Identity)
		if c.EstimatedRows >= 0 {
			f.EstimatedRows = max(f.EstimatedRows, 0) + c.EstimatedRows
		}
	}
	f.Identity = common(t.Identity.Kind, identities)
	return &f
}

// Follow has the rows of children count as rows of these tables, as far as they are there.
func (ts Tables) Follow(names []TableName) {
	for _, name := range names {
		if t := ts[name]; t != nil {
			ts[name] = t.Following()
		}
	}
}

// Has reports whether rows of the table with an oid are rows of t: it is t, or a child whose rows
// count as its own.
func (t *Table) Has(oid uint32) bool {
	return t.OID == oid || t.WithChildren && slices.ContainsFunc(t.Children, func(c Child) bool { return c.OID == oid })
}

// SameChildren reports whether the same tables inherit from it as before, with the same names and
// replica identities.
func (t *Table) SameChildren(before *Table) bool {
	return slices.EqualFunc(t.Children, before.Children, func(a, b Child) bool {
		return a.OID == b.OID && a.TableName == b.TableName && a.Logged == b.Logged && a.Identity.equal(b.Identity)
	})
}

// Published returns the names, for a statement and in order, of what a publication has to name so
// that changes of all rows of the tables are published. Children that cannot be in one are left
// out, see [Tables.Unpublishable]. Behind the name of a table that is in only, and of its children,
// are the columns that only has of it: public.t ("id", "title").
func (ts Tables) Published(only map[TableName][]string) []string {
	var names []string
	for name, t := range ts {
		if t == nil {
			continue
		}
		list := ""
		if columns := only[name]; len(columns) > 0 {
			quoted := make([]string, len(columns))
			for i, c := range columns {
				quoted[i] = QuoteIdent(c)
			}
			list = " (" + strings.Join(quoted, ", ") + ")"
		}
		names = append(names, t.SQL()+list)
		for i := range t.Children {
			if c := &t.Children[i]; t.WithChildren && c.Publishable() {
				names = append(names, c.SQL()+list)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Unpublishable returns the children whose rows count and that cannot be in a publication,
// ordered by oid.
func (ts Tables) Unpublishable() []Child {
	var children []Child
	for _, t := range ts {
		if t == nil || !t.WithChildren {
			continue
		}
		for _, c := range t.Children {
			if !c.Publishable() {
				children = append(children, c)
			}
		}
	}
	slices.SortFunc(children, func(a, b Child) int { return cmp.Compare(a.OID, b.OID) })
	return slices.CompactFunc(children, func(a, b Child) bool { return a.OID == b.OID })
}
