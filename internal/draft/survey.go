package draft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// maxTables bounds what is read: nobody edits a file of more.
const maxTables = 5000

// A survey is what the database says about its tables.
type survey struct {
	database, role string
	slots          map[string]bool     // of the server that are not for us: of other databases, or of other programs
	schemas        map[string]bool     // that have tables
	names          []catalog.TableName // of the tables: public ones first, then by name
	tables         catalog.Tables      // that the role may read
	facts          map[catalog.TableName]*facts
	keys           []*foreignKey // in the order of names, then of columns
}

// facts are what [mapping.Table] does not say.
type facts struct {
	comment  string
	columns  map[string]string // comments of columns, by name
	readable bool              // by the role
	indexes  [][]string        // columns of those that find rows by them; "" is an expression
}

// A foreignKey says that rows of one table belong to rows of another one.
type foreignKey struct {
	table, to catalog.TableName
	pairs     []mapping.Pair // Near: columns of table; Far: columns of to
}

// near returns the columns that refer to the other table.
func (k *foreignKey) near() []string {
	var columns []string
	for _, p := range k.pairs {
		columns = append(columns, p.Near)
	}
	return columns
}

// reversed returns the pairs as the table sees them that is referred to.
func (k *foreignKey) reversed() []mapping.Pair {
	var pairs []mapping.Pair
	for _, p := range k.pairs {
		pairs = append(pairs, mapping.Pair{Near: p.Far, Far: p.Near})
	}
	return pairs
}

// userTables are the tables that somebody made: no partitions, which their root stands for,
// none of Postgres, of an extension or of Tidemark, which has its watermarks in one. $1 is
// the default control schema.
const userTables = `
	SELECT c.oid, n.nspname, c.relname, n.oid AS schema FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
	  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> $1
	  AND NOT EXISTS (SELECT FROM pg_catalog.pg_class w WHERE w.relnamespace = n.oid AND w.relname = 'dbsync_wmtable')
	  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')`

const tablesQuery = `
SELECT t.nspname, t.relname,
	pg_catalog.has_schema_privilege(t.schema, 'USAGE') AND pg_catalog.has_table_privilege(t.oid, 'SELECT'),
	coalesce(pg_catalog.obj_description(t.oid, 'pg_class'), ''),
	coalesce((SELECT pg_catalog.json_object_agg(a.attname, d.description)
		FROM pg_catalog.pg_description d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
		WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objoid = t.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}')::text,
	coalesce((SELECT pg_catalog.json_agg((SELECT pg_catalog.json_agg(a.attname ORDER BY k.ord)
			FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ord)
			LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.ord <= i.indnkeyatts))
		FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid JOIN pg_catalog.pg_am am ON am.oid = ic.relam
		WHERE i.indrelid = t.oid AND i.indisvalid AND i.indpred IS NULL AND am.amname IN ('btree', 'hash')), '[]')::text
FROM (` + userTables + `) t
ORDER BY t.nspname <> 'public', t.nspname, t.relname LIMIT $2`

// keysQuery leaves out what Postgres made for partitions of a key of their root.
const keysQuery = `
WITH t AS (` + userTables + `)
SELECT a.nspname, a.relname, b.nspname, b.relname,
	(SELECT pg_catalog.json_agg(pg_catalog.json_build_object('near', n.attname, 'far', f.attname) ORDER BY k.ord)
	 FROM ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey)) WITH ORDINALITY k(near, far, ord)
	 JOIN pg_catalog.pg_attribute n ON n.attrelid = c.conrelid AND n.attnum = k.near
	 JOIN pg_catalog.pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.far)::text
FROM pg_catalog.pg_constraint c JOIN t a ON a.oid = c.conrelid JOIN t b ON b.oid = c.confrelid
WHERE c.contype = 'f' AND c.conparentid = 0
ORDER BY a.nspname <> 'public', a.nspname, a.relname, c.conkey, c.conname`

// readSurvey reads all that drafts are made of.
func readSurvey(ctx context.Context, q catalog.Querier) (*survey, error) {
	c := &survey{slots: make(map[string]bool), schemas: make(map[string]bool), tables: make(catalog.Tables), facts: make(map[catalog.TableName]*facts)}
	err := each(ctx, q, func(scan func(...any) error) error { return scan(&c.database, &c.role) },
		"SELECT current_database(), current_user")
	if err == nil {
		err = each(ctx, q, c.addSlot, "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE database IS DISTINCT FROM current_database() OR plugin <> 'pgoutput'")
	}
	if err == nil {
		err = each(ctx, q, c.addTable, tablesQuery, mapping.DefaultControlSchema, maxTables+1)
	}
	if err == nil && len(c.names) > maxTables {
		return nil, mapping.Problems{{File: "database " + c.database, Text: fmt.Sprintf("it has more than %d tables, which is too much for one file", maxTables),
			Hint: "write the mapping by hand: config.example.yaml has every key"}}
	}
	if err == nil {
		err = each(ctx, q, c.addKey, keysQuery, mapping.DefaultControlSchema)
	}
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	for _, name := range c.names {
		if !c.facts[name].readable {
			continue
		}
		t, err := catalog.LoadTable(ctx, q, name.Schema, name.Name)
		if errors.Is(err, catalog.ErrNoTable) {
			continue // dropped just now
		}
		if err != nil {
			return nil, err
		}
		c.tables[name] = t
	}
	return c, nil
}

func (c *survey) addSlot(scan func(...any) error) error {
	var name string
	err := scan(&name)
	c.slots[name] = true
	return err
}

func (c *survey) addTable(scan func(...any) error) error {
	var name catalog.TableName
	var columns, indexes []byte
	f := new(facts)
	if err := scan(&name.Schema, &name.Name, &f.readable, &f.comment, &columns, &indexes); err != nil {
		return err
	}
	c.names, c.facts[name], c.schemas[name.Schema] = append(c.names, name), f, true
	return errors.Join(json.Unmarshal(columns, &f.columns), json.Unmarshal(indexes, &f.indexes))
}

func (c *survey) addKey(scan func(...any) error) error {
	k := new(foreignKey)
	var pairs []byte
	if err := scan(&k.table.Schema, &k.table.Name, &k.to.Schema, &k.to.Name, &pairs); err != nil {
		return err
	}
	if err := json.Unmarshal(pairs, &k.pairs); err != nil {
		return err
	}
	same := func(o *foreignKey) bool {
		return o.table == k.table && o.to == k.to && slices.Equal(o.pairs, k.pairs)
	}
	if !slices.ContainsFunc(c.keys, same) {
		c.keys = append(c.keys, k)
	}
	return nil
}

// each calls do for each row of the answer.
func each(ctx context.Context, q catalog.Querier, do func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := do(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (c *survey) schemaNames() []string { return slices.Sorted(maps.Keys(c.schemas)) }

// indexed reports whether rows of the table are found by columns without reading all of it.
func (c *survey) indexed(name catalog.TableName, columns []string) bool {
	return slices.ContainsFunc(c.facts[name].indexes, func(index []string) bool {
		return len(index) >= len(columns) && sameNames(index[:len(columns)], columns)
	})
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// keysOf returns the foreign keys of a table, and those that refer to it, as far as the role
// may read both tables.
func (c *survey) keysOf(name catalog.TableName) (own, others []*foreignKey) {
	for _, k := range c.keys {
		if c.tables[k.table] == nil || c.tables[k.to] == nil {
			continue
		}
		if k.table == name {
			own = append(own, k)
		}
		if k.to == name {
			others = append(others, k)
		}
	}
	return own, others
}

// pureLink reports whether a table does nothing but link two others: all its columns belong
// to two foreign keys, but for one that orders the rows.
func (c *survey) pureLink(name catalog.TableName) bool {
	t := c.tables[name]
	own, _ := c.keysOf(name)
	return t != nil && len(own) == 2 && len(c.linkRest(t, own)) <= 1 && !slices.ContainsFunc(c.linkRest(t, own), func(column string) bool { return !orders.MatchString(column) })
}

// linkRest returns the columns of a table that belong to none of its foreign keys.
func (c *survey) linkRest(t *catalog.Table, own []*foreignKey) []string {
	var rest []string
	for _, column := range t.Columns {
		if !slices.ContainsFunc(own, func(k *foreignKey) bool { return slices.Contains(k.near(), column.Name) }) {
			rest = append(rest, column.Name)
		}
	}
	return rest
}
