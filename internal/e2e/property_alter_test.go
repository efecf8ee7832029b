package e2e

import (
	"fmt"
	"slices"
	"strings"
)

// An alteration is what a migration does to random tables. Afterwards they have the columns that the
// mapping asks for, so that an index can be made of them. It is one transaction, or two with others
// in between.
type alteration struct {
	kind  string
	apply func(d draw, t *propertyTable, n int) [][]string // statements of each transaction; nil: this table is not fit for it. n: a number of its own
	away  bool                                             // between the two the mapping does not fit: nothing may come in between, nor may a process start
	bare  bool                                             // its statements are no transaction
}

var randomAlterations = []alteration{
	{kind: "column rewritten by using", apply: func(d draw, t *propertyTable, _ int) [][]string {
		c := one(d, t.plain)
		return [][]string{{rewritten(d, t, c, "")}}
	}},
	{kind: "expand and contract", apply: func(d draw, t *propertyTable, n int) [][]string {
		c := one(d, t.plain)
		table, column, added := ident(t.name), ident(c.name), ident(fmt.Sprintf("added %d", n))
		all := []string{fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", table, added, c.sql()), fmt.Sprintf("UPDATE %s SET %s = %s", table, added, column)}
		if d.odds(2) {
			all = append(all, fmt.Sprintf("UPDATE %s SET %s = %s%s", table, added, drawValue(d, t, c), drawWhere(d, t)))
		}
		contract := []string{fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", table, column), fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", table, added, column)}
		return split(d, all, contract)
	}},
	{kind: "names of columns exchanged", apply: func(d draw, t *propertyTable, _ int) [][]string {
		for i, c := range t.plain {
			for _, other := range t.plain[:i] {
				if c.sql() == other.sql() {
					return [][]string{exchanged("ALTER TABLE "+ident(t.name)+" RENAME COLUMN %s TO %s", ident(c.name), ident(other.name))}
				}
			}
		}
		return nil
	}},
	{kind: "column renamed and back", apply: func(d draw, t *propertyTable, _ int) [][]string {
		c := one(d, t.plain)
		table, column := ident(t.name), ident(c.name)
		return [][]string{{fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO away", table, column),
			fmt.Sprintf("UPDATE %s SET away = %s", table, drawValue(d, t, c)),
			fmt.Sprintf("ALTER TABLE %s RENAME COLUMN away TO %s", table, column), drawStatement(d, t)}}
	}},
	{kind: "column dropped and added", apply: func(d draw, t *propertyTable, _ int) [][]string {
		c := one(d, t.plain)
		table, column := ident(t.name), ident(c.name)
		add := fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", table, column, c.sql())
		if d.odds(2) {
			add += " DEFAULT " + one(d, c.values)
		}
		return [][]string{{fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", table, column), add}}
	}},
	{kind: "column added and dropped", apply: func(d draw, t *propertyTable, n int) [][]string {
		added := ident(fmt.Sprintf("added %d", n))
		end := one(d, []string{"", " DEFAULT 7", " NOT NULL DEFAULT 7", " GENERATED ALWAYS AS (1 + 1) STORED"})
		return split(d, []string{fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s integer%s", ident(t.name), added, end)}, []string{fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", ident(t.name), added)})
	}},
	{kind: "type of a column", apply: func(d draw, t *propertyTable, _ int) [][]string {
		c := one(d, t.plain)
		wider := map[string]string{"integer": "bigint", "smallint": "integer", "small": "integer", "numeric(12,2)": "numeric(14,2)"}[c.kind.name]
		if wider == "" {
			return nil
		}
		return [][]string{{fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s", ident(t.name), ident(c.name), wider)}}
	}},
	{kind: "collation of a column", apply: func(d draw, t *propertyTable, _ int) [][]string {
		for _, c := range t.plain {
			if c.kind == textKind {
				return [][]string{{fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE text COLLATE %s", ident(t.name), ident(c.name), ident(one(d, []string{"und-x-icu", "C"})))}}
			}
		}
		return nil
	}},
	{kind: "default and not null", apply: func(d draw, t *propertyTable, _ int) [][]string {
		c := one(d, t.plain)
		return [][]string{{fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s", ident(t.name), ident(c.name), one(d, c.kind.values))}}
	}},
	{kind: "values of an enum exchanged", apply: func(draw, *propertyTable, int) [][]string {
		return [][]string{exchanged("ALTER TYPE mood RENAME VALUE %s TO %s", "'sad'", "'happy'")}
	}},
	{kind: "enum value added", apply: func(d draw, t *propertyTable, n int) [][]string {
		return [][]string{{fmt.Sprintf("ALTER TYPE mood ADD VALUE 'mood %d'", n)}}
	}},
	{kind: "domain altered", apply: func(d draw, t *propertyTable, n int) [][]string {
		return [][]string{{fmt.Sprintf("ALTER DOMAIN small ADD CONSTRAINT %s CHECK (VALUE > -%d)", ident(fmt.Sprintf("c %d", n)), 1000+n)}}
	}},
	{kind: "table swapped", apply: func(d draw, t *propertyTable, n int) [][]string {
		if t.partitioned {
			return nil
		}
		table, added, old := ident(t.name), ident(fmt.Sprintf("new %d", n)), ident(fmt.Sprintf("old %d", n))
		all := []string{fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL)", added, table)}
		if t.full {
			all = append(all, "ALTER TABLE "+added+" REPLICA IDENTITY FULL")
		}
		filled := *t
		filled.name = fmt.Sprintf("new %d", n)
		columns := identifiers(t.columns())
		all = append(all, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s%s", added, columns, columns, table, drawWhere(d, t)), drawStatement(d, &filled))
		swap := []string{fmt.Sprintf("ALTER TABLE %s RENAME TO %s", table, old), fmt.Sprintf("ALTER TABLE %s RENAME TO %s", added, table)}
		switch d.int(0, 2) {
		case 0:
			swap = append(swap, "DROP TABLE "+old+" CASCADE")
		case 1: // and back
			swap = append(swap, drawStatement(d, t), fmt.Sprintf("ALTER TABLE %s RENAME TO %s", table, added), fmt.Sprintf("ALTER TABLE %s RENAME TO %s", old, table))
		}
		return split(d, all, swap)
	}},
	{kind: "table made anew", apply: func(d draw, t *propertyTable, _ int) [][]string {
		all := append([]string{"DROP TABLE " + ident(t.name) + " CASCADE"}, t.statements()...)
		return [][]string{append(all, drawInsert(d, t, d.int(1, 6)))}
	}},
	{kind: "table away and back", away: true, apply: func(d draw, t *propertyTable, n int) [][]string {
		away := *t
		away.name, away.partitioned = fmt.Sprintf("away %d", n), false
		return [][]string{{fmt.Sprintf("ALTER TABLE %s RENAME TO %s", ident(t.name), ident(away.name)), drawStatement(d, &away)}, {fmt.Sprintf("ALTER TABLE %s RENAME TO %s", ident(away.name), ident(t.name))}}
	}},
	{kind: "schema and back", apply: func(d draw, t *propertyTable, n int) [][]string {
		if t.partitioned {
			return nil
		}
		c, schema := one(d, t.plain), ident(fmt.Sprintf("schema %d", n))
		table := schema + "." + ident(t.name)
		return [][]string{{"CREATE SCHEMA " + schema, fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s", ident(t.name), schema),
			fmt.Sprintf("UPDATE %s SET %s = %s%s", table, ident(c.name), drawValue(d, t, c), drawWhere(d, t)), "ALTER TABLE " + table + " SET SCHEMA public"}}
	}},
	{kind: "replica identity", apply: func(_ draw, t *propertyTable, _ int) [][]string {
		var all []string
		for _, leaf := range t.leaves() {
			all = append(all, "ALTER TABLE "+ident(leaf)+" REPLICA IDENTITY FULL")
		}
		return [][]string{all}
	}},
	{kind: "out of the publication and back", apply: func(d draw, t *propertyTable, _ int) [][]string {
		all := []string{"ALTER PUBLICATION dbsync_mypub DROP TABLE ONLY " + ident(t.name), drawStatement(d, t), drawStatement(d, t)}
		if d.odds(2) {
			all = append(all, "ALTER PUBLICATION dbsync_mypub ADD TABLE ONLY "+ident(t.name))
		}
		return [][]string{all}
	}},
	{kind: "vacuum full", bare: true, apply: func(_ draw, t *propertyTable, _ int) [][]string {
		return [][]string{{"VACUUM FULL " + ident(t.name)}}
	}},
	{kind: "partition rewritten while it was away", apply: func(d draw, t *propertyTable, _ int) [][]string {
		if !t.partitioned {
			return nil
		}
		i := d.int(0, 1)
		leaf := *t
		leaf.name, leaf.partitioned = t.leaf(i), false
		c := one(d, t.plain)
		return [][]string{{fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s", ident(t.name), ident(leaf.name)), rewritten(d, &leaf, c, c.sql()),
			fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s %s", ident(t.name), ident(leaf.name), leafBounds(i))}}
	}},
	{kind: "partition made anew with another order of columns", apply: func(d draw, t *propertyTable, n int) [][]string {
		if !t.partitioned {
			return nil
		}
		i := d.int(0, 1)
		added := fmt.Sprintf("leaf %d", n)
		columns := t.columns()
		slices.Reverse(columns)
		leaf := *t
		leaf.name, leaf.partitioned = t.leaf(i), false
		selected := identifiers(columns)
		all := []string{fmt.Sprintf("CREATE TABLE %s AS SELECT %s FROM %s%s", ident(added), selected, ident(leaf.name), drawWhere(d, t)), fmt.Sprintf("DROP TABLE %s CASCADE", ident(leaf.name)),
			fmt.Sprintf("ALTER TABLE %s RENAME TO %s", ident(added), ident(leaf.name))}
		for _, c := range t.key {
			all = append(all, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", ident(leaf.name), ident(c.name)))
		}
		if t.full {
			all = append(all, "ALTER TABLE "+ident(leaf.name)+" REPLICA IDENTITY FULL")
		}
		return [][]string{append(all, fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s %s", ident(t.name), ident(leaf.name), leafBounds(i)))}
	}},
	{kind: "nothing that counts", apply: func(d draw, t *propertyTable, n int) [][]string {
		table, column := ident(t.name), ident(one(d, t.plain).name)
		return [][]string{{one(d, []string{
			fmt.Sprintf("COMMENT ON TABLE %s IS 'comment %d'", table, n), fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET STATISTICS %d", table, column, n%100),
			fmt.Sprintf("GRANT SELECT ON %s TO PUBLIC", table), fmt.Sprintf("CREATE INDEX %s ON %s (%s)", ident(fmt.Sprintf("index %d", n)), table, identifiers(t.key)),
			fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (true)", table, ident(fmt.Sprintf("check %d", n))), "ANALYZE " + table,
		})}}
	}},
}

// split makes one transaction of two parts, or two.
func split(d draw, first, second []string) [][]string {
	if d.odds(2) {
		return [][]string{first, second}
	}
	return [][]string{append(first, second...)}
}

// exchanged gives two names to each other's bearers; statement renames one.
func exchanged(statement, a, b string) []string {
	between := a[:1] + "between" + a[len(a)-1:] // quoted as a is
	return []string{fmt.Sprintf(statement, a, between), fmt.Sprintf(statement, b, a), fmt.Sprintf(statement, between, b)}
}

// rewritten gives rows with one value another one by rewriting the table. Nothing of it is in the log.
func rewritten(d draw, t *propertyTable, c *propertyColumn, typ string) string {
	if typ == "" {
		typ = c.sql()
	}
	return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %[2]s TYPE %[3]s USING CASE WHEN %[2]s IS NOT DISTINCT FROM %[4]s::%[3]s THEN %[5]s::%[3]s ELSE %[2]s END", ident(t.name), ident(c.name), typ, one(d, c.values), one(d, c.values))
}

// leaves are the tables whose replica identities count: itself, and its partitions.
func (t *propertyTable) leaves() []string {
	if !t.partitioned {
		return []string{t.name}
	}
	return []string{t.name, t.leaf(0), t.leaf(1)}
}

// An alterer draws alterations, each with a number of its own.
type alterer struct {
	draw
	tables []*propertyTable
	n      int
}

// into puts so many alterations between transactions, and those of two parts around some. away says
// that the mapping need not fit all the time.
func (a *alterer) into(all []transaction, count int, away bool) []transaction {
	for range count {
		from := randomAlterations
		if a.odds(2) { // rapid prefers the first ones
			from = from[len(from)/2:]
		}
		how := one(a.draw, from)
		if how.away && !away {
			continue
		}
		a.n++
		parts := how.apply(a.draw, one(a.draw, a.tables), a.n)
		if parts == nil {
			continue
		}
		at := a.int(0, len(all))
		for i, statements := range parts {
			t := transaction{statements: statements, kind: how.kind, bare: how.bare, first: i < len(parts)-1}
			if !how.bare {
				t.statements = append([]string{"SET LOCAL lock_timeout = '5s'"}, statements...)
			}
			all = slices.Insert(all, at, t)
			if at++; !how.away {
				at = a.int(at, len(all))
			}
		}
	}
	// What overlaps with an alteration may be waited for by it: each waits for the other's end.
	for i := range all {
		if all[i].kind != "" || i+1 < len(all) && all[i+1].kind != "" {
			all[i].overlaps = false
		}
	}
	return all
}

// altered says how often each kind of alteration was committed.
func altered(n map[string]int) string {
	var all []string
	for _, how := range randomAlterations {
		all = append(all, fmt.Sprintf("%s %d", how.kind, n[how.kind]))
	}
	return strings.Join(all, ", ")
}
