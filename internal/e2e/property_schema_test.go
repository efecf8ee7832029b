package e2e

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// A draw makes the random choices of one case. Rapid makes the first of several more
// likely, and comes to them when it looks for a smaller case that fails: they are the plain
// ones.
type draw struct{ t *rapid.T }

func (d draw) int(low, high int) int { return rapid.IntRange(low, high).Draw(d.t, "n") }

// odds is true once in n times.
func (d draw) odds(n int) bool { return rapid.IntRange(0, n-1).Draw(d.t, "odds") == n-1 }

func one[T any](d draw, from []T) T { return rapid.SampledFrom(from).Draw(d.t, "one") }

// some chooses at least low of them, in any order.
func some[T any](d draw, low int, from []T) []T {
	return rapid.Permutation(from).Draw(d.t, "some")[:d.int(low, len(from))]
}

// A kind is a type of columns.
type kind struct {
	name   string
	values []string // in SQL, to choose from; no two are equal but in letter case
	json   string   // SQL for the JSON value that docs/types.md promises, of a column %s
	key    bool     // fit for keys
	sum    bool     // has sum and avg, whose results do not depend on the order
	least  bool     // has min and max, likewise
	route  bool     // short, fit for routing
}

var (
	integerKind = &kind{name: "integer", values: []string{"1", "2", "3", "4", "5", "'-6'", "0", "2147483647"}, key: true, sum: true, least: true, route: true}
	bigintKind  = &kind{name: "bigint", values: []string{"1", "2", "3", "4", "5", "9007199254740993", "'-9223372036854775808'"}, key: true, sum: true, least: true, route: true}
	textKind    = &kind{name: "text", values: []string{`'a'`, `'B b'`, `''`, `'~|x'`, `'ünï 🙂'`, `E'tab\tline\n"quoted" \\'`, `'-N~'`}, key: true, least: true}
	boolKind    = &kind{name: "boolean", values: []string{"true", "false"}, route: true}
)

var kinds = []*kind{
	integerKind, textKind, bigintKind, boolKind,
	{name: "long text", values: []string{`'short'`, `repeat('long, ', 900)`, `repeat('longer, ', 900)`}},
	{name: "citext", values: []string{`'a'`, `'A'`, `'b'`, `'B'`, `'c'`, `'Ä'`}, json: "to_json(%s::text)", key: true},
	{name: "uuid", values: []string{`'00000000-0000-0000-0000-000000000001'`, `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'`, `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'`, `'ffffffff-ffff-ffff-ffff-ffffffffffff'`}, key: true, route: true},
	{name: "numeric", values: []string{"1.50", "'-0.001'", "12345678901234567890.123", "0", "'NaN'"}, json: "to_json(nullif(%s, 'NaN'))", sum: true, least: true},
	{name: "numeric(12,2)", values: []string{"1.50", "'-2'", "99.99"}, key: true, sum: true, least: true},
	{name: "smallint", values: []string{"1", "2", "3", "'-32768'"}, key: true, sum: true, least: true, route: true},
	{name: "timestamptz", values: []string{`'2026-01-31 12:00:00.123456+00'`, `'1999-12-31 23:59:59+00'`, `'2026-06-01 00:00+02'`, `'infinity'`},
		json: "to_json(CASE WHEN isfinite(%[1]s) THEN replace(to_json(%[1]s) #>> '{}', '+00:00', 'Z') END)", least: true},
	{name: "date", values: []string{`'2026-01-31'`, `'1999-12-31'`, `'0001-01-01'`}, key: true, least: true},
	{name: "jsonb", values: []string{`'{"a": 1, "b": [null, true, {"c": "\n"}]}'`, `'[]'`, `'null'`, `'"text"'`, `'1.0'`}},
	{name: "integer[]", values: []string{`'{}'`, `'{1,NULL,3}'`, `'{{1,2},{3,4}}'`}},
	{name: "text[]", values: []string{`'{}'`, `'{a,NULL,"b \" c",""}'`}},
	{name: "double precision", values: []string{"1.5", "0.1", "'-0'", "1e300", "'NaN'"}, json: "to_json(nullif(%s, 'NaN'))"},
	{name: "bytea", values: []string{`'\x'`, `'\x00ff10'`}, json: "to_json(encode(%s, 'base64'))"},
	{name: "mood", values: []string{`'sad'`, `'happy'`}, route: true},
	{name: "small", values: []string{"1", "2", "9"}, key: true},
}

// types are made in each database.
const types = `CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN small AS integer CHECK (VALUE < 10)`

// A propertyColumn is one of a random table.
type propertyColumn struct {
	name   string
	kind   *kind
	values []string // to choose from
}

// sql is the type's name in SQL.
func (c *propertyColumn) sql() string { return strings.TrimPrefix(c.kind.name, "long ") }

// json returns the SQL for a value's JSON.
func (k *kind) jsonOf(ref string) string {
	if k.json == "" {
		return "to_json(" + ref + ")"
	}
	return fmt.Sprintf(k.json, ref)
}

// A reference is columns of a table that hold keys of another one, or of the same one.
type reference struct {
	to      *propertyTable
	columns []*propertyColumn
	foreign bool // with a foreign key
}

// A propertyTable is a random table. Its key may be made of references.
type propertyTable struct {
	name        string
	key         []*propertyColumn
	references  []*reference
	plain       []*propertyColumn
	secondary   bool // the key is not the primary key: there is none
	partitioned bool
	full        bool            // REPLICA IDENTITY
	needs       map[string]bool // columns that the replica identity has to hold
}

func (t *propertyTable) keyed(c *propertyColumn) bool { return slices.Contains(t.key, c) }

// columns are all, each once.
func (t *propertyTable) columns() []*propertyColumn {
	return append(slices.Clone(t.key), t.free()...)
}

// free are the columns outside of the key.
func (t *propertyTable) free() []*propertyColumn {
	var free []*propertyColumn
	for _, r := range t.references {
		for _, c := range r.columns {
			if !t.keyed(c) {
				free = append(free, c)
			}
		}
	}
	return append(free, t.plain...)
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

func identifiers(columns []*propertyColumn) string { return list(columns, ident) }

func list(columns []*propertyColumn, f func(name string) string) string {
	var all []string
	for _, c := range columns {
		all = append(all, f(c.name))
	}
	return strings.Join(all, ", ")
}

// drawTables makes 2 to 5 tables with references among them.
func drawTables(d draw) []*propertyTable {
	tables := make([]*propertyTable, d.int(2, 5))
	for i := range tables {
		tables[i] = &propertyTable{name: fmt.Sprintf("t%d", i), needs: make(map[string]bool)}
		if d.odds(5) {
			tables[i].name = fmt.Sprintf(`Table "%d"`, i)
		}
	}
	var fit []*kind
	for _, k := range kinds {
		if k.key {
			fit = append(fit, k)
		}
	}
	for i, t := range tables {
		if i > 0 && d.odds(3) { // an extension of another table, or a link between two
			for n := range d.int(1, 2) {
				r := drawReference(d, one(d, tables[:i]), fmt.Sprintf("r%d", n))
				t.references = append(t.references, r)
				t.key = append(t.key, r.columns...)
			}
			continue
		}
		for n := range 1 + d.int(0, 5)/5 {
			k := one(d, fit)
			t.key = append(t.key, &propertyColumn{name: []string{"id", "key 2"}[n], kind: k, values: k.values})
		}
	}
	for i, t := range tables {
		for n := range d.int(0, 2) {
			if i == 1 && len(t.references) == 0 && n == 0 {
				t.references = append(t.references, drawReference(d, tables[0], "r0"))
				continue
			}
			t.references = append(t.references, drawReference(d, one(d, tables), fmt.Sprintf("r%d", len(t.references))))
		}
		for n := range d.int(1, 4) {
			k := one(d, kinds)
			c := &propertyColumn{name: fmt.Sprintf("c%d", n), kind: k, values: append(slices.Clone(k.values), "NULL")}
			if d.odds(8) {
				c.name = fmt.Sprintf(`Column "%d"`, n)
			}
			t.plain = append(t.plain, c)
		}
		t.secondary, t.partitioned = d.odds(7), d.odds(4)
	}
	return tables
}

func drawReference(d draw, to *propertyTable, name string) *reference {
	r := &reference{to: to, foreign: d.odds(3)}
	for i, c := range to.key {
		k := c.kind
		if k == integerKind && d.odds(6) {
			k = bigintKind
		}
		r.columns = append(r.columns, &propertyColumn{name: name + strings.Repeat("b", i), kind: k, values: c.values})
	}
	return r
}

// statements make the table. Foreign keys come when all tables are there.
func (t *propertyTable) statements() []string {
	var defs []string
	constraint := "PRIMARY KEY"
	if t.secondary {
		constraint = "UNIQUE"
	}
	for _, c := range t.columns() {
		def := ident(c.name) + " " + c.sql()
		if t.keyed(c) {
			def += " NOT NULL"
		}
		defs = append(defs, def)
	}
	by := ""
	if t.partitioned {
		by = " PARTITION BY HASH (" + ident(t.key[0].name) + ")"
	}
	all := []string{fmt.Sprintf("CREATE TABLE %s (%s, %s (%s))%s", ident(t.name), strings.Join(defs, ", "), constraint, identifiers(t.key), by)}
	leaves := []string{t.name}
	if t.partitioned {
		for i := range 2 {
			leaf := t.leaf(i)
			leaves = append(leaves, leaf)
			all = append(all, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s %s", ident(leaf), ident(t.name), leafBounds(i)))
		}
	}
	for _, leaf := range leaves {
		if t.full {
			all = append(all, fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL", ident(leaf)))
		}
		for _, c := range t.plain {
			if c.kind.name == "long text" { // outside of the row, and not compressed
				all = append(all, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET STORAGE EXTERNAL", ident(leaf), ident(c.name)))
			}
		}
	}
	return all
}

// leaf is the name of one of the partitions, of which there are two.
func (t *propertyTable) leaf(i int) string { return fmt.Sprintf("%s part %d", t.name, i) }

func leafBounds(i int) string {
	return fmt.Sprintf("FOR VALUES WITH (MODULUS 2, REMAINDER %d)", i)
}

func (t *propertyTable) foreignKeys() []string {
	var all []string
	for _, r := range t.references {
		if r.foreign {
			all = append(all, fmt.Sprintf("ALTER TABLE %s ADD FOREIGN KEY (%s) REFERENCES %s (%s)", ident(t.name), identifiers(r.columns), ident(r.to.name), identifiers(r.to.key)))
		}
	}
	return all
}
