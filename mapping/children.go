package mapping

import (
	"fmt"
	"strings"

	"tidemark/mapping/catalog"
)

// A tableUse is one place of the file where a table is read.
type tableUse struct {
	table    catalog.TableName
	children bool
	path     string // of what has the key table
}

// uses returns all places of the file where a table is read, in order.
func (c *Config) uses() (uses []tableUse) {
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			uses = append(uses, tableUse{s.Table, s.Children, s.path})
			for _, p := range s.Paths() {
				last := p.Hops[len(p.Hops)-1]
				path := last.uses.path
				if last.link {
					path = join(path, "through")
				}
				uses = append(uses, tableUse{last.Table, last.Children, path})
			}
		}
	}
	return uses
}

// children reports tables whose children's rows count in one place, and not in another: what the
// stream brings of them, and what is read, is one thing for all indices.
func (k *checker) children(c *Config) {
	uses := c.uses()
	with := make(map[catalog.TableName]tableUse)
	for _, u := range uses {
		if _, there := with[u.table]; u.children && !there {
			with[u.table] = u
		}
	}
	for _, u := range uses {
		if t := k.tables[u.table]; u.children && t != nil && t.Partitioned {
			k.problem(u.path+".table", "table: "+u.table.String(), "%s.table: table %s is partitioned: the rows of its partitions are its own anyway", u.path, u.table)
		}
		if other, there := with[u.table]; there && !u.children {
			k.problem(u.path+".table", fmt.Sprintf("table: {name: %s, children: true}", u.table),
				"%s.table: the rows of tables that inherit from %s are left out here, and count as its own in %s.table", u.path, u.table, other.path)
		}
	}
}

// heirs reports what keeps the rows of a table's children from being followed, where they count.
func (k *checker) heirs(t *catalog.Table, path string) {
	if !t.WithChildren {
		return
	}
	for _, c := range t.Children {
		if !c.Logged {
			k.problem(path+".table", fmt.Sprintf("ALTER TABLE %s SET LOGGED;\nor, if its rows are not wanted: ALTER TABLE %[1]s NO INHERIT …;", c.SQL()),
				"%s.table: table %s, which inherits from %s, is unlogged or a foreign table: the log does not carry it", path, c.TableName, t.TableName())
		}
	}
}

// maxHinted bounds the statements of one hint.
const maxHinted = 20

// identityHintOfAll returns the statements that set the replica identity of a table and its
// children, of those whose old rows lack one of needs.
func identityHintOfAll(t *catalog.Table, form string, needs []string) string {
	var statements []string
	add := func(table string, identity catalog.Identity) {
		if !identity.Usable() || !identity.Covers(needs) {
			statements = append(statements, fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s;", table, form))
		}
	}
	add(t.SQL(), t.Own)
	for _, c := range t.Children {
		add(c.SQL(), c.Identity)
	}
	if n := len(statements) - maxHinted; n > 0 {
		statements = append(statements[:maxHinted], fmt.Sprintf("and so for %d more", n))
	}
	return strings.Join(statements, "\n")
}

// Unfollowed says in one line that a table has children whose rows are not followed, "" if it has
// none or they are.
func Unfollowed(t *catalog.Table) string {
	if t.WithChildren || len(t.Children) == 0 {
		return ""
	}
	children := "1 child"
	if n := len(t.Children); n > 1 {
		children = fmt.Sprintf("%d children", n)
	}
	return fmt.Sprintf("table %s has %s by inheritance, whose rows are not followed; hint: table: {name: %[1]s, children: true}", t.TableName(), children)
}
