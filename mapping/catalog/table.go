package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ErrNoTable is what [LoadTable] returns for a name that is no table, or that
// is a view, a foreign table or anything else without a log of its changes.
var ErrNoTable = errors.New("no such table")

// A Querier is the part of [*sql.DB], [*sql.Conn] and [*sql.Tx] that reads.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// A TableName names a table of the database by schema and name, both as the
// catalog spells them, unquoted.
type TableName struct {
	Schema, Name string
}

// String returns the name as SQL takes it, quoted where it must be.
func (n TableName) String() string {
	return QuoteIfNeeded(n.Schema) + "." + QuoteIfNeeded(n.Name)
}

// A Table is what the catalog says about one table. It is not changed after
// [LoadTable] made it, so several goroutines may read it.
type Table struct {
	OID           uint32
	Schema, Name  string
	Columns       []Column // in the order of the table, dropped ones left out
	PrimaryKey    []string // column names in the order of the key; empty: none
	KeyDeferrable bool     // within a transaction several rows may have one primary key
	Identity      Identity
	Unique        [][]string // other valid, immediate unique indexes that cover every row and have no expressions
	RowSecurity   bool       // policies may hide rows from User
	User          string     // the role that asked
	Unlogged      bool       // the log does not carry the table, so it cannot be published
	Partitioned   bool       // the table is the root of partitions and has no rows of its own
	File          string     // pg_class.relfilenode, and that of its TOAST table: another one when the table was rewritten; "" of a partitioned one
	Root          TableName  // the partitioned table at the top of which this one is a partition; zero: none
	Published     string     // another text when the publication was altered, but for the tables in it, see [dbsync.TableGeneration]; "": there is none, or it was not asked for
	EstimatedRows int64      // pg_class.reltuples, of all partitions; -1: never analyzed
	Listed        []string   // publications that name columns of it: Postgres refuses updates while the replica identity has another one. They are not stored

	// Children are the tables that inherit from it, at any distance, ordered by name, without the
	// temporary ones of sessions; none of a partitioned one. They are not stored with the rest.
	Children     []Child
	WithChildren bool     // the rows of Children count as rows of it, see Following
	Own          Identity // where they do: of the table without them. It is not stored
}

// TableName returns the name under which a mapping asks for the table.
func (t *Table) TableName() TableName { return TableName{t.Schema, t.Name} }

// Column returns the column called name, or nil.
func (t *Table) Column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// Virtual returns the first column that is generated when it is read, or nil. With one,
// REPLICA IDENTITY FULL has Postgres refuse every update and delete of a published table: the
// identity would contain what cannot be published.
func (t *Table) Virtual() *Column {
	for i := range t.Columns {
		if t.Columns[i].Virtual {
			return &t.Columns[i]
		}
	}
	return nil
}

// ColumnAt returns the column that is this one, whatever it is called, or nil. Columns that an
// earlier version has noted have no number, and are not found.
func (t *Table) ColumnAt(number int16) *Column {
	for i := range t.Columns {
		if t.Columns[i].Number == number && number != 0 {
			return &t.Columns[i]
		}
	}
	return nil
}

// A Column is one column of a [Table].
type Column struct {
	Number     int16 // pg_attribute.attnum: which column it is, as long as it is there; 0: not known
	Name       string
	Type       *Type
	NotNull    bool
	Generated  bool   // computed from other columns; the log does not carry it, a select does
	Virtual    bool   // generated when it is read, not stored (Postgres 18)
	Expression string // of a generated column: a hash of what it is computed by, and how it is kept
	Default    bool   // what has a value in a new row, and in all old ones when it is added
	Collation  uint32 // pg_attribute.attcollation; 0: none, or not known
}

// An IdentityKind says what the log tells about the old row of an update or a
// delete: the letter of pg_class.relreplident.
type IdentityKind byte

const (
	IdentityDefault IdentityKind = 'd' // the primary key; nothing if there is none
	IdentityIndex   IdentityKind = 'i' // the columns of a unique index
	IdentityFull    IdentityKind = 'f' // the whole row
	IdentityNothing IdentityKind = 'n'
	IdentityMixed   IdentityKind = 'm' // partitions, or children, differ from each other or from their root
)

// An Identity is the replica identity of a table. On a partitioned table it is
// what all partitions have in common: old rows are logged with the identity of
// their partition, and a new partition does not take it over from its root.
type Identity struct {
	Kind    IdentityKind
	Columns []string // the columns that old rows carry; for IdentityFull all that the log carries
}

// Usable reports whether updates and deletes can be replicated at all.
func (i Identity) Usable() bool { return len(i.Columns) > 0 }

func (i Identity) equal(other Identity) bool {
	return i.Kind == other.Kind && slices.Equal(i.Columns, other.Columns)
}

// Covers reports whether an old row carries all of columns.
func (i Identity) Covers(columns []string) bool {
	for _, want := range columns {
		found := false
		for _, have := range i.Columns {
			found = found || have == want
		}
		if !found {
			return false
		}
	}
	return true
}

// tablesQuery gives one row with one JSON value for each table that there is, of those whose
// schemas and names are its parameters; the third is the publication: all from one snapshot, in one answer, and without a lock
// on any of them. Functions that take one, as those that write expressions as SQL do, would wait
// for a migration.
const tablesQuery = `
WITH RECURSIVE rel AS MATERIALIZED (
	SELECT c.*, n.nspname FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) w(schema, name)
	JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
	JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
), tree AS ( -- the partitions of each, and of those
	SELECT rel.oid AS root, rel.oid, rel.relkind, rel.relreplident, rel.reltuples FROM rel
	UNION ALL SELECT tree.root, c.oid, c.relkind, c.relreplident, c.reltuples
	FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
	WHERE tree.relkind = 'p'
), heirs AS ( -- the tables that inherit from each, and from those
	SELECT rel.oid AS root, rel.oid FROM rel WHERE rel.relkind = 'r'
	UNION SELECT heirs.root, i.inhrelid FROM heirs JOIN pg_catalog.pg_inherits i ON i.inhparent = heirs.oid
), leaf AS ( -- the tables that have the rows
	SELECT root, oid, relreplident, reltuples FROM tree WHERE relkind = 'r'
	UNION ALL SELECT oid, oid, relreplident, reltuples FROM rel
	WHERE relkind <> 'r' AND NOT EXISTS (SELECT FROM tree WHERE tree.root = rel.oid AND tree.relkind <> 'p')
), col AS MATERIALIZED (
	SELECT a.* FROM rel JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid
	WHERE a.attnum > 0 AND NOT a.attisdropped
), uniq AS MATERIALIZED (
	SELECT i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate, ic.relname AS name,
		(SELECT pg_catalog.json_agg(a.attname ORDER BY k.ord)
		 FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ord)
		 JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		 WHERE k.ord <= i.indnkeyatts) AS columns
	FROM (SELECT oid FROM rel UNION SELECT oid FROM leaf UNION SELECT oid FROM heirs) t
	JOIN pg_catalog.pg_index i ON i.indrelid = t.oid JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
	WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
), used(rel, oid, typmod) AS ( -- types, with those that they are made of
	SELECT attrelid, atttypid, atttypmod FROM col
	UNION
	SELECT u.rel, b.oid, b.typmod
	FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid CROSS JOIN LATERAL (
		SELECT t.typbasetype, t.typtypmod WHERE t.typtype = 'd'
		UNION ALL SELECT e.oid, u.typmod FROM pg_catalog.pg_type e
		WHERE e.oid = t.typelem AND e.typarray = t.oid -- int2vector has elements, but is no array
		UNION ALL SELECT r.rngsubtype, -1 FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
		UNION ALL SELECT r.rngtypid, -1 FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid
		UNION ALL SELECT a.atttypid, a.atttypmod FROM pg_catalog.pg_attribute a
		WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
	) b(oid, typmod)
), ident AS MATERIALIZED ( -- what old rows carry
	SELECT c.oid, pg_catalog.json_build_object(
		'identity', c.relreplident::text,
		'rows', c.reltuples::float8,
		'columns', CASE c.relreplident
			WHEN 'f' THEN (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
				WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
			ELSE (SELECT u.columns FROM uniq u WHERE u.indrelid = c.oid AND u.indimmediate
				AND (c.relreplident = 'd' AND u.indisprimary OR c.relreplident = 'i' AND u.indisreplident))
			END) AS is
	FROM (SELECT oid FROM leaf UNION SELECT oid FROM heirs) t JOIN pg_catalog.pg_class c ON c.oid = t.oid
), leaves AS (
	SELECT leaf.root, pg_catalog.json_agg(ident.is) AS list FROM leaf JOIN ident ON ident.oid = leaf.oid GROUP BY leaf.root
), children AS (
	SELECT heirs.root, pg_catalog.json_agg(pg_catalog.json_build_object(
		'oid', c.oid::bigint,
		'schema', n.nspname,
		'name', c.relname,
		'logged', c.relkind = 'r' AND c.relpersistence = 'p',
		'leaf', ident.is) ORDER BY n.nspname, c.relname) AS list
	FROM heirs JOIN pg_catalog.pg_class c ON c.oid = heirs.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	JOIN ident ON ident.oid = c.oid
	WHERE heirs.oid <> heirs.root AND c.relpersistence <> 't' GROUP BY heirs.root
), cols AS (
	SELECT col.attrelid, pg_catalog.json_agg(pg_catalog.json_build_object(
		'number', attnum,
		'name', attname,
		'type', atttypid::bigint,
		'typmod', atttypmod,
		'notNull', attnotnull,
		'generated', attgenerated <> '',
		'virtual', attgenerated = 'v',
		'expression', CASE WHEN attgenerated <> '' THEN pg_catalog.md5(attgenerated::text || d.adbin::text) ELSE '' END,
		'default', atthasdef OR atthasmissing OR attidentity <> '',
		'collation', attcollation::bigint) ORDER BY attnum) AS list
	FROM col LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = col.attrelid AND d.adnum = col.attnum AND col.attgenerated <> ''
	GROUP BY col.attrelid
), keys AS (
	SELECT indrelid, pg_catalog.json_agg(columns ORDER BY name) FILTER (WHERE indisprimary) AS first,
		pg_catalog.bool_or(indisprimary AND NOT indimmediate) AS deferrable,
		pg_catalog.json_agg(columns ORDER BY name) FILTER (WHERE NOT indisprimary AND indimmediate) AS list
	FROM uniq GROUP BY indrelid
), types AS (
	SELECT used.rel, pg_catalog.json_agg(pg_catalog.json_build_object(
		'oid', t.oid::bigint,
		'typmod', used.typmod,
		'kind', t.typtype::text,
		'category', t.typcategory::text,
		'delim', t.typdelim::text,
		'base', CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE 0 END::bigint,
		'baseTypmod', t.typtypmod,
		'elem', coalesce(e.oid, r.rngsubtype, m.rngtypid, 0)::bigint,
		'array', e.oid IS NOT NULL,
		'canonical', coalesce(r.rngcanonical <> 0, false),
		'attributes', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
			'number', a.attnum, 'name', a.attname, 'type', a.atttypid::bigint, 'typmod', a.atttypmod,
			'written', a.xmin::text, 'row', pg_catalog.md5(a::text)) ORDER BY a.attnum)
			FROM pg_catalog.pg_attribute a
			WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
		'labels', (SELECT CASE WHEN pg_catalog.count(*) <= 1000
				THEN pg_catalog.json_agg(pg_catalog.json_build_object('oid', l.oid::bigint, 'text', l.enumlabel, 'written', l.xmin::text, 'row', pg_catalog.md5(l::text)) ORDER BY l.oid)
				ELSE pg_catalog.json_build_array(pg_catalog.json_build_object('oid', 0, 'text', pg_catalog.md5(pg_catalog.string_agg(l.enumlabel, ',' ORDER BY l.oid)))) END
			FROM pg_catalog.pg_enum l WHERE t.typtype = 'e' AND l.enumtypid = t.oid),
		'schema', n.nspname,
		'plain', t.typname,
		'extension', coalesce((SELECT x.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
			WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid AND d.deptype = 'e'
			  AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass), ''),
		'fraction', CASE t.oid WHEN 'pg_catalog.money'::pg_catalog.regtype
			THEN pg_catalog.scale('0'::pg_catalog.money::pg_catalog.numeric) ELSE 0 END,
		'name', CASE WHEN n.nspname = 'pg_catalog' THEN pg_catalog.format_type(t.oid, used.typmod)
			ELSE pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) || pg_catalog.substr(
				pg_catalog.format_type(t.oid, used.typmod), pg_catalog.length(pg_catalog.format_type(t.oid, NULL)) + 1)
			END)) AS list
	FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
	LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
	LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
	LEFT JOIN pg_catalog.pg_range m ON m.rngmultitypid = t.oid
	GROUP BY used.rel
)
SELECT pg_catalog.json_build_object(
	'oid', rel.oid::bigint,
	'published', coalesce((SELECT p.oid::text || '.' || p.xmin || coalesce((
			SELECT pg_catalog.string_agg(' ' || d.objid, '' ORDER BY d.objid) FROM pg_catalog.pg_depend d -- the schemas that it is for; Postgres 14 has none
			WHERE d.refclassid = 'pg_catalog.pg_publication'::pg_catalog.regclass AND d.refobjid = p.oid AND d.classid = pg_catalog.to_regclass('pg_catalog.pg_publication_namespace')), '')
		FROM pg_catalog.pg_publication p WHERE p.pubname = $3), ''),
	'listed', (SELECT pg_catalog.json_agg(p.pubname ORDER BY p.pubname) FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
		WHERE r.prrelid = rel.oid AND pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL), -- Postgres 14 has none
	'schema', rel.nspname,
	'name', rel.relname,
	'kind', rel.relkind::text,
	'identity', rel.relreplident::text,
	'unlogged', rel.relpersistence <> 'p',
	'file', CASE rel.relkind WHEN 'r' THEN rel.relfilenode::text || coalesce('+' || toast.relfilenode, '') ELSE '' END,
	'root', (WITH RECURSIVE up(oid) AS (
			SELECT inhparent FROM pg_catalog.pg_inherits WHERE inhrelid = rel.oid AND rel.relispartition
			UNION ALL SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid)
		SELECT pg_catalog.json_build_object('schema', n.nspname, 'name', c.relname)
		FROM up JOIN pg_catalog.pg_class c ON c.oid = up.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE NOT c.relispartition),
	'user', current_user::text,
	'rowSecurity', pg_catalog.row_security_active(rel.oid),
	'leaves', leaves.list,
	'children', children.list,
	'columns', cols.list,
	'primaryKey', keys.first -> 0,
	'keyDeferrable', coalesce(keys.deferrable, false),
	'unique', keys.list,
	'types', types.list
)::text
FROM rel LEFT JOIN pg_catalog.pg_class toast ON toast.oid = rel.reltoastrelid
LEFT JOIN leaves ON leaves.root = rel.oid LEFT JOIN children ON children.root = rel.oid LEFT JOIN cols ON cols.attrelid = rel.oid
LEFT JOIN keys ON keys.indrelid = rel.oid LEFT JOIN types ON types.rel = rel.oid`

// tableAnswer is one row of what tablesQuery gives.
type tableAnswer struct {
	OID         uint32
	Schema      string
	Name        string
	Kind        string
	Identity    string
	Unlogged    bool
	File        string
	Published   string
	Listed      []string
	Root        TableName
	RowSecurity bool
	User        string
	Leaves      []leafAnswer
	Children    []struct {
		OID          uint32
		Schema, Name string
		Logged       bool
		Leaf         leafAnswer
	}
	Columns []struct {
		Number     int16
		Name       string
		Type       uint32
		Typmod     int32
		NotNull    bool
		Generated  bool
		Virtual    bool
		Expression string
		Default    bool
		Collation  uint32
	}
	PrimaryKey    []string
	KeyDeferrable bool
	Unique        [][]string
	Types         []typeAnswer
}

type leafAnswer struct {
	Identity string
	Rows     float64
	Columns  []string
}

// LoadTable reads what the catalog says about a table, partitioned or not, in
// one query. Its error is [ErrNoTable] where there is no such table.
func LoadTable(ctx context.Context, q Querier, schema, name string) (*Table, error) {
	full := TableName{schema, name}
	answers, err := loadAnswers(ctx, q, []TableName{full}, "")
	if err != nil {
		return nil, fmt.Errorf("read the catalog about %s: %w", full, err)
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("%s: %w", full, ErrNoTable)
	}
	if a := answers[0]; !a.isTable() {
		return nil, fmt.Errorf("%s is %s: %w", full, relationKind(a.Kind), ErrNoTable)
	}
	return answers[0].table()
}

// LoadTables reads what the catalog says about tables, all as one snapshot has them, in one
// query. It takes no lock, so it does not wait for a statement that alters one. Names that are
// no tables are nil in what it returns. publication is the one that has them, for
// [Table.Published]; "": that is not asked for.
func LoadTables(ctx context.Context, q Querier, names []TableName, publication string) (Tables, error) {
	answers, err := loadAnswers(ctx, q, names, publication)
	if err != nil {
		return nil, fmt.Errorf("read the catalog about %d tables: %w", len(names), err)
	}
	tables := make(Tables, len(names))
	for _, name := range names {
		tables[name] = nil
	}
	for i := range answers {
		a := &answers[i]
		if !a.isTable() {
			continue
		}
		t, err := a.table()
		if err != nil {
			return nil, err
		}
		tables[t.TableName()] = t
	}
	return tables, nil
}

// loadAnswers asks for tables by name. Those that are not there are not among the answers.
func loadAnswers(ctx context.Context, q Querier, names []TableName, publication string) (answers []tableAnswer, err error) {
	schemas, plain := make([]string, len(names)), make([]string, len(names))
	for i, name := range names {
		schemas[i], plain[i] = name.Schema, name.Name
	}
	rows, err := q.QueryContext(ctx, tablesQuery, schemas, plain, publication)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		var a tableAnswer
		if err := json.Unmarshal(text, &a); err != nil {
			return nil, err
		}
		answers = append(answers, a)
	}
	return answers, rows.Err()
}

func (a *tableAnswer) isTable() bool { return a.Kind == "r" || a.Kind == "p" }

// table makes the table of an answer.
func (a *tableAnswer) table() (*Table, error) {
	t := &Table{
		OID: a.OID, Schema: a.Schema, Name: a.Name, File: a.File, Published: a.Published, Listed: a.Listed,
		PrimaryKey: a.PrimaryKey, KeyDeferrable: a.KeyDeferrable, Unique: a.Unique,
		RowSecurity: a.RowSecurity, User: a.User, Unlogged: a.Unlogged, Partitioned: a.Kind == "p", Root: a.Root,
		Identity:      commonIdentity(IdentityKind(a.Identity[0]), a.Leaves),
		EstimatedRows: estimatedRows(a.Leaves),
	}
	for _, c := range a.Children {
		leaves := []leafAnswer{c.Leaf}
		t.Children = append(t.Children, Child{OID: c.OID, TableName: TableName{c.Schema, c.Name}, Logged: c.Logged,
			Identity: commonIdentity(IdentityKind(c.Leaf.Identity[0]), leaves), EstimatedRows: estimatedRows(leaves)})
	}
	types := newTypeSet(a.Types)
	for _, c := range a.Columns {
		typ, err := types.resolve(c.Type, c.Typmod)
		if err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", QuoteIdent(c.Name), t.TableName(), err)
		}
		t.Columns = append(t.Columns, Column{Number: c.Number, Name: c.Name, Type: typ, NotNull: c.NotNull,
			Generated: c.Generated, Virtual: c.Virtual, Expression: c.Expression, Default: c.Default, Collation: c.Collation})
	}
	if len(a.Leaves) == 0 { // no partitions yet; the first one begins with the default
		t.Identity = Identity{Kind: IdentityDefault, Columns: t.PrimaryKey}
	}
	return t, nil
}

// Grown reports whether the table is as before, but for columns that were added and are NULL
// in every row that was there.
func (t *Table) Grown(before *Table) bool {
	if len(t.Columns) < len(before.Columns) || !slices.Equal(t.PrimaryKey, before.PrimaryKey) || !t.Identity.Covers(before.Identity.Columns) {
		return false
	}
	for i, c := range t.Columns {
		if i >= len(before.Columns) {
			if c.NotNull || c.Generated || c.Default || c.Type.Kind == KindDomain { // which may have a default
				return false
			}
			continue
		}
		b := before.Columns[i]
		if c.Name != b.Name || !c.Type.Equal(b.Type) || c.Generated != b.Generated {
			return false
		}
	}
	return true
}

// commonIdentity returns what the old rows of all leaves carry. root is the kind
// of the table itself, by which the log announces it.
func commonIdentity(root IdentityKind, leaves []leafAnswer) Identity {
	all := make([]Identity, len(leaves))
	for i, leaf := range leaves {
		all[i] = Identity{IdentityKind(leaf.Identity[0]), leaf.Columns}
	}
	return common(root, all)
}

// common returns what old rows with any of some identities carry.
func common(root IdentityKind, all []Identity) Identity {
	id := Identity{Kind: root}
	for i, one := range all {
		if one.Kind != root {
			id.Kind = IdentityMixed
		}
		if i == 0 {
			id.Columns = one.Columns
			continue
		}
		var shared []string
		for _, name := range id.Columns {
			if one.Covers([]string{name}) {
				shared = append(shared, name)
			}
		}
		id.Columns = shared
	}
	return id
}

// estimatedRows adds up what the leaves were found to hold when they were last
// analyzed; -1 where none was.
func estimatedRows(leaves []leafAnswer) int64 {
	total := int64(-1)
	for _, leaf := range leaves {
		if leaf.Rows >= 0 {
			total = max(total, 0) + int64(leaf.Rows)
		}
	}
	return total
}

// relationKind names what pg_class.relkind stands for.
func relationKind(kind string) string {
	switch kind {
	case "v":
		return "a view"
	case "m":
		return "a materialized view"
	case "f":
		return "a foreign table"
	case "S":
		return "a sequence"
	case "i", "I":
		return "an index"
	case "c":
		return "a composite type"
	}
	return fmt.Sprintf("a relation of kind %q", kind)
}

// Tables are what the catalog says of the tables that documents are made of, by name. nil says
// that there is no such table.
type Tables map[TableName]*Table
