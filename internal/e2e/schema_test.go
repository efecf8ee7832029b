package e2e

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"tidemark/testenv"
)

// A migration is what is done to the tables of an index while the command runs: nothing in the
// stream tells of it, or not enough.
type migration struct {
	name    string
	tables  string   // made before; table t is the index's
	alter   []string // each in a transaction of its own
	after   string   // a change of a row after it; "": none
	more    string   // YAML of the index
	from    int      // the first major version of Postgres that has the statement; 0: all
	options []testenv.CheckOption
}

// enum makes a type whose values are renamed.
const enum = `CREATE TYPE mood AS ENUM ('sad', 'ok');`

var migrations = []migration{
	{name: "rewritten by using", tables: `CREATE TABLE t (id int PRIMARY KEY, amount numeric, v text); INSERT INTO t SELECT i, i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN amount TYPE numeric USING amount * 100`}, after: `UPDATE t SET v = 'after' WHERE id = 1`},
	{name: "rewritten by using, nothing after", tables: `CREATE TABLE t (id int PRIMARY KEY, amount numeric, v text); INSERT INTO t SELECT i, i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN amount TYPE numeric USING amount * 100`}},
	{name: "generated column anew", tables: `CREATE TABLE t (id int PRIMARY KEY, qty int, price int, total int GENERATED ALWAYS AS (qty * price) STORED); INSERT INTO t SELECT i, i, 2 FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t DROP COLUMN total, ADD COLUMN total int GENERATED ALWAYS AS (qty * price * 2) STORED`}},
	{name: "expand and contract", tables: `CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TABLE t ADD COLUMN name_new text; UPDATE t SET name_new = upper(name); ALTER TABLE t DROP COLUMN name; ALTER TABLE t RENAME name_new TO name; COMMIT`}},
	{name: "names exchanged", tables: `CREATE TABLE t (id int PRIMARY KEY, a text, b text); INSERT INTO t SELECT i, 'a' || i, 'b' || i FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TABLE t RENAME a TO c; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME c TO b; UPDATE t SET a = 'x' WHERE id = 3; COMMIT`}},
	{name: "column order by drop and add", tables: `CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t SELECT i, i, -i FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN a int; UPDATE t SET a = id * 7; COMMIT`}},
	{name: "enum value of the key renamed", tables: enum + `CREATE TABLE t (m mood PRIMARY KEY, v text); INSERT INTO t VALUES ('sad', 'v'), ('ok', 'v')`,
		alter: []string{`ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`}},
	{name: "key exchanged", tables: `CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text); INSERT INTO t SELECT i, i + 1000, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TABLE t DROP COLUMN id; ALTER TABLE t RENAME k TO id; ALTER TABLE t ADD PRIMARY KEY (id); COMMIT`}, after: `DELETE FROM t WHERE id = 1005`},
	{name: "enum value renamed", tables: enum + `CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[]); INSERT INTO t SELECT i, 'sad', '{sad,ok}' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`}},
	{name: "enum value renamed and back", tables: enum + `CREATE TABLE t (id int PRIMARY KEY, m mood); INSERT INTO t SELECT i, 'sad' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`, `INSERT INTO t VALUES (100, 'unhappy')`, `ALTER TYPE mood RENAME VALUE 'unhappy' TO 'sad'`}},
	{name: "column renamed and back", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t RENAME v TO x`, `UPDATE t SET x = 'between' WHERE id = 3`, `ALTER TABLE t RENAME x TO v`}},
	{name: "enum value added", tables: enum + `CREATE TABLE t (id int PRIMARY KEY, m mood); INSERT INTO t SELECT i, 'sad' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE mood ADD VALUE 'well'`}, after: `UPDATE t SET m = 'well' WHERE id = 1`},
	{name: "attribute renamed", tables: `CREATE TYPE pair AS (a int, b int); CREATE TABLE t (id int PRIMARY KEY, p pair); INSERT INTO t SELECT i, (i, i)::pair FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE pair RENAME ATTRIBUTE a TO c`}, after: `INSERT INTO t VALUES (100, '(1,2)')`},
	{name: "table swapped", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i; CREATE TABLE t_new (LIKE t INCLUDING ALL); INSERT INTO t_new SELECT i, 'new' FROM generate_series(11, 30) i`,
		alter: []string{`BEGIN; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; COMMIT`}, after: `INSERT INTO t VALUES (100, 'after')`},
	{name: "table made anew", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`DROP TABLE t`, `CREATE TABLE t (id int PRIMARY KEY, v text)`}, after: `INSERT INTO t VALUES (100, 'after')`},
	{name: "column with a default, nothing after", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ADD COLUMN c int NOT NULL DEFAULT 7`}},
	{name: "column's default changed", tables: `CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT 'x'); INSERT INTO t SELECT i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN v SET DEFAULT 'y'`}, after: `INSERT INTO t (id) VALUES (100)`},
	{name: "vacuum full", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`VACUUM FULL t`}, after: `UPDATE t SET v = 'after' WHERE id = 1`},
	{name: "taken out of the publication", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER PUBLICATION dbsync_mypub DROP TABLE ONLY t`}, after: `INSERT INTO t VALUES (100, 'after')`},
	{name: "publication without updates for a while", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER PUBLICATION dbsync_mypub SET (publish = 'insert')`, `UPDATE t SET v = 'missed' WHERE id = 7`, `ALTER PUBLICATION dbsync_mypub SET (publish = 'insert, update, delete, truncate')`}},
	{name: "truncated outside of the publication", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER PUBLICATION dbsync_mypub DROP TABLE ONLY t; TRUNCATE t; ALTER PUBLICATION dbsync_mypub ADD TABLE ONLY t; COMMIT`}, after: `INSERT INTO t VALUES (100, 'after')`},
	{name: "schema and back", tables: `CREATE SCHEMA s; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t SET SCHEMA s`, `UPDATE s.t SET v = 'there' WHERE id = 2`, `ALTER TABLE s.t SET SCHEMA public`}, after: `INSERT INTO t VALUES (100, 'after')`},
	{name: "partitions rewritten", tables: `CREATE TABLE t (id int PRIMARY KEY, amount numeric) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (1000); INSERT INTO t SELECT i, i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN amount TYPE numeric USING amount * 100`}},
	{name: "partition with another order of columns", tables: `CREATE TABLE t (id int PRIMARY KEY, a text, b text) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t2 (b text, gone int, a text, id int PRIMARY KEY); ALTER TABLE t2 DROP COLUMN gone; INSERT INTO t2 SELECT 'b', 'a', i FROM generate_series(10, 20) i; INSERT INTO t SELECT i, 'a', 'b' FROM generate_series(1, 5) i`,
		alter: []string{`ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (1000)`}, after: `UPDATE t SET a = 'after' WHERE id IN (2, 12)`},
	{name: "key renamed", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; UPDATE t SET v = 'before' WHERE id = 3; ALTER TABLE t RENAME id TO key; DELETE FROM t WHERE key = 4; COMMIT`}, after: `DELETE FROM t WHERE key = 5`},
	{name: "key to bigint", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TABLE t ADD COLUMN id_new bigint; UPDATE t SET id_new = id; ALTER TABLE t DROP COLUMN id; ALTER TABLE t RENAME id_new TO id; ALTER TABLE t ADD PRIMARY KEY (id); COMMIT`}, after: `DELETE FROM t WHERE id = 5`},

	// Types and what they are made of.
	{name: "attribute added", tables: `CREATE TYPE pair AS (a int, b int); CREATE TABLE t (id int PRIMARY KEY, p pair, ps pair[]); INSERT INTO t SELECT i, (i, i)::pair, ARRAY[(i, -i)::pair] FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE pair ADD ATTRIBUTE c int`}, after: `INSERT INTO t VALUES (100, '(1,2,3)', '{"(1,2,3)"}')`},
	{name: "attribute dropped", tables: `CREATE TYPE pair AS (a int, b int); CREATE TABLE t (id int PRIMARY KEY, p pair, ps pair[]); INSERT INTO t SELECT i, (i, i)::pair, ARRAY[(i, -i)::pair] FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE pair DROP ATTRIBUTE a`}},
	{name: "attribute dropped and added", tables: `CREATE TYPE pair AS (a int, b int); CREATE TABLE t (id int PRIMARY KEY, p pair); INSERT INTO t SELECT i, (i, i)::pair FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TYPE pair DROP ATTRIBUTE b; ALTER TYPE pair ADD ATTRIBUTE b int; COMMIT`}},
	{name: "attributes exchanged in an array", tables: `CREATE TYPE pair AS (a int, b int); CREATE TABLE t (id int PRIMARY KEY, ps pair[]); INSERT INTO t SELECT i, ARRAY[(i, -i)::pair] FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TYPE pair RENAME ATTRIBUTE a TO c; ALTER TYPE pair RENAME ATTRIBUTE b TO a; ALTER TYPE pair RENAME ATTRIBUTE c TO b; COMMIT`}},
	{name: "enum below a domain in an array of composites", tables: enum + `CREATE DOMAIN feeling AS mood; CREATE TYPE pair AS (a int, f feeling); CREATE TABLE t (id int PRIMARY KEY, f feeling, ps pair[]); INSERT INTO t SELECT i, 'sad', ARRAY[(i, 'sad')::pair] FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`}},
	{name: "domain altered", tables: `CREATE DOMAIN small AS int CHECK (VALUE < 1000); CREATE TABLE t (id int PRIMARY KEY, n small); INSERT INTO t SELECT i, i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER DOMAIN small SET DEFAULT 7`, `ALTER DOMAIN small ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID`, `ALTER DOMAIN small VALIDATE CONSTRAINT positive`, `ALTER DOMAIN small RENAME TO tiny`}, after: `INSERT INTO t (id) VALUES (100)`},
	{name: "column to a domain", tables: `CREATE DOMAIN label AS text CHECK (VALUE <> ''); CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN v TYPE label`}, after: `UPDATE t SET v = 'after' WHERE id = 1`},
	{name: "type made anew", tables: enum + `CREATE TABLE t (id int PRIMARY KEY, m mood); INSERT INTO t SELECT i, 'sad' FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; DROP TYPE mood CASCADE; CREATE TYPE mood AS ENUM ('new'); ALTER TABLE t ADD COLUMN m mood; UPDATE t SET m = 'new'; COMMIT`}, after: `INSERT INTO t VALUES (100, 'new')`},
	{name: "schema of a type renamed", tables: `CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('sad', 'ok'); CREATE TYPE s.pair AS (a int, m s.mood); CREATE TABLE t (id int PRIMARY KEY, m s.mood, p s.pair, v text); INSERT INTO t SELECT i, 'sad', (i, 'ok')::s.pair FROM generate_series(1, 20) i`,
		alter: []string{`ALTER SCHEMA s RENAME TO s2`}, after: `UPDATE t SET v = 'after' WHERE id = 1`},
	{name: "type without another file", tables: `CREATE TABLE t (id int PRIMARY KEY, v varchar(10), n numeric(10,2)); INSERT INTO t SELECT i, 'v', i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN v TYPE text, ALTER COLUMN n TYPE numeric(12,2)`}, after: `UPDATE t SET v = 'after', n = 1234567890.12 WHERE id = 1`},

	// Columns.
	{name: "expression of a stored column", from: 17, tables: `CREATE TABLE t (id int PRIMARY KEY, qty int, total int GENERATED ALWAYS AS (qty * 2) STORED); INSERT INTO t SELECT i, i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN total SET EXPRESSION AS (qty * 3)`}},
	{name: "virtual column anew", from: 18, tables: `CREATE TABLE t (id int PRIMARY KEY, qty int, total int GENERATED ALWAYS AS (qty * 2) VIRTUAL); INSERT INTO t SELECT i, i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t DROP COLUMN total, ADD COLUMN total int GENERATED ALWAYS AS (qty * 3) VIRTUAL`}}, // SET EXPRESSION is refused for a published table
	{name: "virtual column added", from: 18, tables: `CREATE TABLE t (id int PRIMARY KEY, qty int); INSERT INTO t SELECT i, i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ADD COLUMN total int GENERATED ALWAYS AS (qty * 2) VIRTUAL`}},
	{name: "expression dropped", tables: `CREATE TABLE t (id int PRIMARY KEY, qty int, total int GENERATED ALWAYS AS (qty * 2) STORED); INSERT INTO t SELECT i, i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN total DROP EXPRESSION`}, after: `UPDATE t SET total = -1 WHERE id = 3`},
	{name: "not null dropped", tables: `CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN v DROP NOT NULL`}, after: `UPDATE t SET v = NULL WHERE id = 3`},
	{name: "identity column added", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ADD COLUMN n int GENERATED ALWAYS AS IDENTITY`}},
	{name: "column becomes an identity", tables: `CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO t SELECT i, i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN n ADD GENERATED BY DEFAULT AS IDENTITY`, `ALTER TABLE t ALTER COLUMN n SET GENERATED ALWAYS RESTART WITH 500`}, after: `INSERT INTO t (id) VALUES (100)`},
	{name: "serial column added", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ADD COLUMN n serial`}},
	{name: "collation of an ordered include", tables: `CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT i FROM generate_series(1, 20) i; CREATE TABLE r (id int PRIMARY KEY, t_id int, name text COLLATE "C"); ALTER TABLE r REPLICA IDENTITY FULL; INSERT INTO r SELECT i, 1 + i % 20, CASE WHEN i > 30 THEN 'a' ELSE 'B' END FROM generate_series(1, 60) i`,
		alter: []string{`ALTER TABLE r ALTER COLUMN name TYPE text COLLATE "und-x-icu"`}, more: `, include: {rs: {table: r, on: {id: t_id}, order_by: name, many: object}}`,
		options: []testenv.CheckOption{testenv.WithQuery(`SELECT id, json_build_object('id', id, 'rs', coalesce((SELECT json_agg(to_json(r) ORDER BY r.name, r.id) FROM r WHERE r.t_id = t.id), '[]')) FROM t`)}},
	{name: "where, routing and id rewritten", tables: `CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL, place int NOT NULL, kept int NOT NULL, v text); CREATE UNIQUE INDEX t_code ON t (code, place); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i, i, i % 3, i % 2, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t ALTER COLUMN code TYPE int USING code + 1000, ALTER COLUMN place TYPE int USING place + 10, ALTER COLUMN kept TYPE int USING 1 - kept`}, after: `DELETE FROM t WHERE id = 2`,
		more:    `, id: [code, place], routing: place, where: kept == 1, fields: [v]`,
		options: []testenv.CheckOption{testenv.WithRouting("its own"), testenv.WithQuery(`SELECT code || '|' || place, place::text, json_build_object('v', v) FROM t WHERE kept = 1`)}},
	{name: "enum of the id renamed", tables: enum + `CREATE TABLE t (m mood PRIMARY KEY, v text); INSERT INTO t VALUES ('sad', 'x'), ('ok', 'y')`,
		alter: []string{`ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`}},
	{name: "enum of the routing renamed", tables: enum + `CREATE TABLE t (id int PRIMARY KEY, m mood NOT NULL); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i, 'sad' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`}, more: `, routing: m, settings: {number_of_shards: 3}`, options: []testenv.CheckOption{testenv.WithRouting("m")}},
	{name: "enum of where renamed", tables: enum + `CREATE TABLE t (id int PRIMARY KEY, m mood NOT NULL); INSERT INTO t SELECT i, CASE WHEN i < 9 THEN 'sad' ELSE 'ok' END::mood FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`, `ALTER TYPE mood RENAME VALUE 'ok' TO 'sad'`}, more: `, where: "m == 'sad'"`, options: []testenv.CheckOption{testenv.WithQuery(`SELECT id, to_json(t) FROM t WHERE m::text = 'sad'`)}},
	{name: "name of the id exchanged", tables: `CREATE TABLE t (id int PRIMARY KEY, b int NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i, i + 15 FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TABLE t RENAME id TO c; ALTER TABLE t RENAME b TO id; ALTER TABLE t RENAME c TO b; COMMIT`}, more: `, id: [id]`, options: []testenv.CheckOption{testenv.WithID("id")}},
	{name: "name of where exchanged", tables: `CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t SELECT i, i % 2, i % 3 FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TABLE t RENAME a TO c; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME c TO b; COMMIT`}, more: `, where: a == 1`, options: []testenv.CheckOption{testenv.WithQuery(`SELECT id, to_json(t) FROM t WHERE a = 1`)}},

	// Tables.
	{name: "file moved", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`CLUSTER t USING t_pkey`, `REINDEX TABLE t`, `BEGIN; TRUNCATE t; INSERT INTO t SELECT i, 'anew' FROM generate_series(5, 25) i; COMMIT`}, after: `UPDATE t SET v = 'after' WHERE id = 6`},
	{name: "swapped and back", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i; CREATE TABLE t_new (LIKE t INCLUDING ALL); INSERT INTO t_new SELECT i, 'new' FROM generate_series(11, 30) i`,
		alter: []string{`BEGIN; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; COMMIT`, `UPDATE t SET v = 'between' WHERE id = 12; UPDATE t_old SET v = 'old' WHERE id = 12`,
			`BEGIN; ALTER TABLE t RENAME TO t_new; ALTER TABLE t_old RENAME TO t; COMMIT`}, after: `INSERT INTO t VALUES (100, 'after')`},
	{name: "swapped twice in one transaction", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i; CREATE TABLE t_new (LIKE t INCLUDING ALL)`,
		alter: []string{`BEGIN; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; INSERT INTO t VALUES (7, 'other'); UPDATE t_old SET v = 'away' WHERE id = 8; ALTER TABLE t RENAME TO t_new; ALTER TABLE t_old RENAME TO t; UPDATE t SET v = 'back' WHERE id = 9; COMMIT`}, after: `INSERT INTO t VALUES (100, 'after')`},
	{name: "included table swapped", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i; CREATE TABLE r (id int PRIMARY KEY, t_id int, name text); ALTER TABLE r REPLICA IDENTITY FULL; CREATE TABLE r_new (LIKE r INCLUDING ALL); ALTER TABLE r_new REPLICA IDENTITY FULL; INSERT INTO r SELECT i, i, 'old' FROM generate_series(1, 20) i; INSERT INTO r_new SELECT i, i, 'new' FROM generate_series(5, 30) i`,
		alter: []string{`BEGIN; ALTER TABLE r RENAME TO r_old; ALTER TABLE r_new RENAME TO r; COMMIT`}, after: `UPDATE r SET name = 'after' WHERE id = 6`, more: `, include: {rs: {table: r, on: {id: t_id}, many: object}}`,
		options: []testenv.CheckOption{testenv.WithQuery(`SELECT id, json_build_object('id', id, 'v', v, 'rs', coalesce((SELECT json_agg(to_json(r) ORDER BY r.id) FROM r WHERE r.t_id = t.id), '[]')) FROM t`)}},
	{name: "unlogged and logged again", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER PUBLICATION dbsync_mypub DROP TABLE ONLY t; ALTER TABLE t SET UNLOGGED; COMMIT`, `UPDATE t SET v = 'nobody sees it' WHERE id = 3`, `ALTER TABLE t SET LOGGED`}, after: `INSERT INTO t VALUES (100, 'after')`},
	{name: "replica identity", tables: `CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE); INSERT INTO t SELECT i, 'c' || i FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TABLE t REPLICA IDENTITY FULL`, `DELETE FROM t WHERE id = 3`, `ALTER TABLE t REPLICA IDENTITY DEFAULT`}, after: `DELETE FROM t WHERE id = 4`},
	{name: "another primary key", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD COLUMN n int NOT NULL DEFAULT 1; ALTER TABLE t ADD PRIMARY KEY (id, n); COMMIT`}, after: `DELETE FROM t WHERE id = 4`},
	{name: "table becomes partitioned", tables: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`,
		alter: []string{`BEGIN; ALTER TABLE t RENAME TO t1; CREATE TABLE t (LIKE t1 INCLUDING ALL) PARTITION BY RANGE (id); ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (1000); COMMIT`}, after: `UPDATE t SET v = 'after' WHERE id = 6`},
	{name: "partition rewritten while it was away", tables: parts, alter: []string{`BEGIN; ALTER TABLE t DETACH PARTITION t2; ALTER TABLE t2 ALTER COLUMN v TYPE text USING v || '!'; ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (1000); COMMIT`}, after: `UPDATE t SET v = 'after' WHERE id = 12`},
	{name: "partition detached concurrently", tables: parts, alter: []string{`ALTER TABLE t DETACH PARTITION t2 CONCURRENTLY`}, after: `UPDATE t SET v = 'after' WHERE id = 2`},
	{name: "partition truncated and another vacuumed", tables: parts, alter: []string{`TRUNCATE t2`, `VACUUM FULL t1`}, after: `UPDATE t SET v = 'after' WHERE id = 2`},
}

// parts is a table with two partitions.
const parts = `CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (1000); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`

// awaitEqual waits until these indices, or all, equal their tables.
func (s *setup) awaitEqual(t testing.TB, i *instance, names ...string) {
	t.Helper()
	i.poll(t, "the indices equal their tables", func(ctx context.Context) error { return s.equal(ctx, names...) })
}

// needVersion skips a test whose statements Postgres has from this major version on.
func (s *setup) needVersion(t *testing.T, from int) {
	t.Helper()
	var version int
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT current_setting('server_version_num')::int / 10000`).Scan(&version))
	if version < from {
		t.Skipf("Postgres %d has no such statement, %d and newer have", version, from)
	}
}

// newMigrated has an index ix of the table t.
func newMigrated(t *testing.T, postgres *testenv.Postgres, m migration) *setup {
	s := newSetupOn(t, postgres, shared(t))
	s.needVersion(t, m.from)
	s.db.Exec(t, m.tables)
	s.index("ix", "t", m.more, m.options...)
	return s
}

// TestMigrations does to tables what a stream of rows tells nothing of, while the command runs.
// The index follows without its being started anew.
func TestMigrations(t *testing.T) {
	t.Parallel()
	for _, m := range migrations {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := newMigrated(t, testenv.SharedPostgres(t), m)
			i := s.start(t, "run")
			i.awaitLog(t, "index is complete")
			s.awaitCaughtUp(t, i)
			for _, statement := range m.alter {
				s.db.Exec(t, statement)
			}
			if m.after != "" {
				s.db.Exec(t, m.after)
			}
			s.awaitEqual(t, i)
			i.stop(t)
		})
	}
}

// TestMigrationsBetweenRuns does the same while nobody runs. The next start follows, and the one
// after it finds everything as it has to be.
func TestMigrationsBetweenRuns(t *testing.T) {
	t.Parallel()
	for _, m := range migrations {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := newMigrated(t, testenv.SharedPostgres(t), m)
			s.once(t)
			for _, statement := range append(m.alter, m.after) {
				if statement != "" {
					s.db.Exec(t, statement)
				}
			}
			s.once(t)
			s.checkSynced(t)
			if log := s.once(t).log(); strings.Contains(log, "made a physical index") || strings.Contains(log, "stored again") {
				t.Errorf("the next start does it again:\n%s", log)
			}
		})
	}
}

// A heldMigration leaves the index of table t without rows to make documents of, until it is undone.
type heldMigration struct {
	name, tables, more, alter string
	alarm                     string // what /readyz says
	meanwhile, back           string
	options                   []testenv.CheckOption
}

var heldMigrations = []heldMigration{
	{name: "named column renamed", tables: twenty, more: `, fields: {x: {column: v}}`, options: []testenv.CheckOption{testenv.WithFields("v", "x")},
		alter: `ALTER TABLE t RENAME COLUMN v TO w`, alarm: "column v", meanwhile: `UPDATE t SET w = 'away' WHERE id = 3`, back: `ALTER TABLE t RENAME COLUMN w TO v`},
	{name: "column of where renamed", tables: `CREATE TABLE t (id int PRIMARY KEY, kept int); INSERT INTO t SELECT i, i % 2 FROM generate_series(1, 20) i`, more: `, where: kept == 1`,
		options: []testenv.CheckOption{testenv.WithQuery(`SELECT id, to_json(t) FROM t WHERE kept = 1`)},
		alter:   `ALTER TABLE t RENAME COLUMN kept TO w`, alarm: "kept", meanwhile: `UPDATE t SET w = 1 WHERE id = 4`, back: `ALTER TABLE t RENAME COLUMN w TO kept`},
	{name: "column of the routing renamed", tables: `CREATE TABLE t (id int PRIMARY KEY, r text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i, 'r' || i % 3 FROM generate_series(1, 20) i`, more: `, routing: r`,
		options: []testenv.CheckOption{testenv.WithRouting("r")},
		alter:   `ALTER TABLE t RENAME COLUMN r TO w`, alarm: "column r", meanwhile: `DELETE FROM t WHERE id = 4`, back: `ALTER TABLE t RENAME COLUMN w TO r`},
	{name: "column of the id dropped", tables: `CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, v text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i, 'c' || i FROM generate_series(1, 20) i`, more: `, id: [code]`,
		options: []testenv.CheckOption{testenv.WithID("code")},
		alter:   `ALTER TABLE t DROP COLUMN code`, alarm: "code", meanwhile: `DELETE FROM t WHERE id = 4`, back: `BEGIN; ALTER TABLE t ADD COLUMN code text; UPDATE t SET code = 'n' || id; ALTER TABLE t ADD UNIQUE (code), ALTER COLUMN code SET NOT NULL; COMMIT`},
	{name: "linking column renamed", tables: twenty + `; CREATE TABLE r (id int PRIMARY KEY, t_id int, name text); ALTER TABLE r REPLICA IDENTITY FULL; INSERT INTO r SELECT i, i, 'r' FROM generate_series(1, 20) i`, more: `, include: {rs: {table: r, on: {id: t_id}, many: object, fields: [name]}}`,
		options: []testenv.CheckOption{testenv.WithQuery(`SELECT id, json_build_object('id', id, 'v', v, 'rs', coalesce((SELECT json_agg(json_build_object('name', name) ORDER BY r.id) FROM r WHERE r.t_id = t.id), '[]')) FROM t`)},
		alter:   `ALTER TABLE r RENAME COLUMN t_id TO w`, alarm: "t_id", meanwhile: `UPDATE r SET w = 5 WHERE id = 3`, back: `ALTER TABLE r RENAME COLUMN w TO t_id`},
	{name: "primary key dropped", tables: twenty, alter: `ALTER TABLE t DROP CONSTRAINT t_pkey`, alarm: "public.t", meanwhile: `INSERT INTO t VALUES (100, 'away')`, back: `ALTER TABLE t ADD PRIMARY KEY (id)`},
	{name: "unlogged", tables: twenty, alter: `BEGIN; ALTER PUBLICATION dbsync_mypub DROP TABLE ONLY t; ALTER TABLE t SET UNLOGGED; COMMIT`, alarm: "is unlogged", meanwhile: `UPDATE t SET v = 'away' WHERE id = 3`, back: `ALTER TABLE t SET LOGGED`},
	{name: "view in its place", tables: twenty, alter: `BEGIN; ALTER TABLE t RENAME TO base; CREATE VIEW t AS SELECT * FROM base; COMMIT`, alarm: "public.t", meanwhile: `UPDATE t SET v = 'away' WHERE id = 3`, back: `BEGIN; DROP VIEW t; ALTER TABLE base RENAME TO t; COMMIT`},
	{name: "row-level security", tables: twenty, alter: `ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`, alarm: "row-level security", meanwhile: `UPDATE t SET v = 'away' WHERE id = 3`, back: `ALTER TABLE t DISABLE ROW LEVEL SECURITY`},
	{name: "row-level security by membership", tables: twenty + `; ALTER TABLE t ENABLE ROW LEVEL SECURITY`, alter: `REVOKE $OWNER FROM $ROLE`, alarm: "row-level security", meanwhile: `UPDATE t SET v = 'away' WHERE id = 3`, back: `GRANT $OWNER TO $ROLE`},
	{name: "schema renamed", tables: `CREATE SCHEMA s; ` + twenty + `; ALTER TABLE t SET SCHEMA s`, alter: `ALTER SCHEMA s RENAME TO s2`, alarm: "s.t", meanwhile: `UPDATE s2.t SET v = 'away' WHERE id = 3`, back: `ALTER SCHEMA s2 RENAME TO s`},
}

const twenty = `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i`

// TestHeldMigrations does to tables what leaves no way to make documents: the index is held with
// an alarm that says why, and is made anew when that is undone. Tidemark's role is none that sees
// everything: it has the rights of the tables' owner by membership.
func TestHeldMigrations(t *testing.T) {
	t.Parallel()
	for _, m := range heldMigrations {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, shared(t))
			role, owner := s.db.Unique("role"), s.db.Unique("owner")
			named := strings.NewReplacer("$ROLE", role, "$OWNER", owner)
			table := "t"
			s.db.Exec(t, m.tables)
			if strings.Contains(m.tables, "SET SCHEMA s") {
				table = "s.t"
				s.db.Exec(t, `GRANT USAGE ON SCHEMA s TO PUBLIC`)
			}
			s.db.Exec(t, named.Replace(`CREATE ROLE $OWNER; CREATE ROLE $ROLE LOGIN REPLICATION; GRANT $OWNER TO $ROLE; GRANT CREATE ON DATABASE `+s.db.Name+` TO $ROLE`))
			s.db.Exec(t, named.Replace(`ALTER TABLE `+table+` OWNER TO $OWNER; GRANT SELECT ON `+table+` TO $ROLE`))
			if strings.Contains(m.tables, "TABLE r ") {
				s.db.Exec(t, named.Replace(`ALTER TABLE r OWNER TO $OWNER`))
			}
			u, err := url.Parse(s.db.URL)
			must(t, err)
			u.User = url.User(role)
			s.postgresURL = u.String()
			s.index("ix", table, m.more, m.options...)
			i := s.start(t, "run")
			i.awaitReady(t, 200, "")
			s.awaitCaughtUp(t, i)
			s.db.Exec(t, named.Replace(m.alter))
			i.awaitReady(t, 503, m.alarm)
			s.db.Exec(t, m.meanwhile)
			i.awaitReady(t, 503, m.alarm)
			s.db.Exec(t, named.Replace(m.back))
			i.awaitReady(t, 200, "")
			s.awaitEqual(t, i)
			s.db.Exec(t, `INSERT INTO `+table+` (id) SELECT 200 WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '`+table+`'::regclass AND attname = 'code')`)
			s.awaitEqual(t, i)
		})
	}
}

// nothings are statements that concern no document.
var nothings = []string{
	`ALTER TABLE t ALTER COLUMN v SET STATISTICS 50`, `ALTER TABLE t ALTER COLUMN v SET (n_distinct = 5)`, `ALTER TABLE t ALTER COLUMN v RESET (n_distinct)`,
	`ALTER TABLE t ALTER COLUMN v SET STORAGE EXTERNAL`, `ALTER TABLE t ALTER COLUMN v SET COMPRESSION pglz`,
	`ALTER TABLE t ADD CONSTRAINT c CHECK (n > -1000) NOT VALID`, `ALTER TABLE t VALIDATE CONSTRAINT c`, `ALTER TABLE t RENAME CONSTRAINT c TO d`, `ALTER TABLE t DROP CONSTRAINT d`,
	`CREATE TABLE o (id int PRIMARY KEY)`, `ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (n) REFERENCES o DEFERRABLE NOT VALID`, `ALTER TABLE t ALTER CONSTRAINT f NOT DEFERRABLE`, `ALTER TABLE t DROP CONSTRAINT f`,
	`ALTER TABLE t ADD CONSTRAINT e EXCLUDE USING btree (v WITH =) WHERE (n > 100)`, `ALTER TABLE t DROP CONSTRAINT e`,
	`CREATE INDEX i ON t (v)`, `ALTER INDEX i RENAME TO j`, `ALTER INDEX j SET (fillfactor = 50)`, `REINDEX INDEX j`, `DROP INDEX j`, `REINDEX TABLE t`,
	`ALTER TABLE t CLUSTER ON t_pkey`, `ALTER TABLE t SET WITHOUT CLUSTER`, `ALTER TABLE t SET WITHOUT OIDS`, `ALTER TABLE t SET (fillfactor = 70, autovacuum_enabled = false)`, `ALTER TABLE t RESET (fillfactor)`,
	`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`, `CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()`,
	`ALTER TABLE t DISABLE TRIGGER g`, `ALTER TABLE t ENABLE ALWAYS TRIGGER g`, `ALTER TRIGGER g ON t RENAME TO h`, `DROP TRIGGER h ON t`,
	`CREATE RULE r AS ON INSERT TO t WHERE false DO INSTEAD NOTHING`, `ALTER RULE r ON t RENAME TO s`, `ALTER TABLE t DISABLE RULE s`, `ALTER TABLE t ENABLE RULE s`, `DROP RULE s ON t`,
	`CREATE TYPE tt AS (id int, v text, n int)`, `ALTER TABLE t OF tt`, `ALTER TABLE t NOT OF`, `CREATE TABLE parent (v text)`, `ALTER TABLE t INHERIT parent`, `ALTER TABLE t NO INHERIT parent`,
	`ALTER TABLE t OWNER TO $ROLE`, `ALTER TABLE t OWNER TO CURRENT_USER`, `GRANT SELECT ON t TO PUBLIC`, `REVOKE SELECT ON t FROM PUBLIC`, `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`,
	`CREATE POLICY p ON t USING (n > 3)`, `ALTER POLICY p ON t USING (n > 4)`, `DROP POLICY p ON t`,
	`COMMENT ON TABLE t IS 'x'`, `COMMENT ON COLUMN t.v IS 'x'`, `CREATE STATISTICS st ON v, n FROM t`, `ALTER STATISTICS st SET STATISTICS 10`, `ANALYZE t`, `VACUUM t`, `CHECKPOINT`, `BEGIN; LOCK t; COMMIT`,
	`CREATE VIEW w AS SELECT * FROM t`, `ALTER VIEW w RENAME COLUMN v TO vv`, `DROP VIEW w`, `CREATE MATERIALIZED VIEW mv AS SELECT * FROM t`, `REFRESH MATERIALIZED VIEW mv`, `ALTER MATERIALIZED VIEW mv RENAME TO mw`,
	`CREATE TABLE another AS SELECT * FROM t`, `CREATE SEQUENCE sq`, `ALTER SEQUENCE sq OWNED BY t.n`,
	`ALTER TABLE t ALTER COLUMN n SET DEFAULT 3, ALTER COLUMN n DROP NOT NULL`, `ALTER TABLE t ALTER COLUMN n SET NOT NULL, ALTER COLUMN n DROP DEFAULT`,
}

// TestMigrationsOfNothing does to a table what concerns no document, and wants nothing done.
func TestMigrationsOfNothing(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	role := s.db.Unique("role")
	s.db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, v text, n int NOT NULL)`, `INSERT INTO t SELECT i, 'v', i FROM generate_series(1, 20) i`, `CREATE ROLE `+role)
	s.index("ix", "t", "", testenv.WithAbsent("last"))
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitCaughtUp(t, i)
	before := len(i.log())
	for _, statement := range nothings {
		s.db.Exec(t, strings.ReplaceAll(statement, "$ROLE", role))
	}
	s.db.Exec(t, `UPDATE t SET v = 'after' WHERE id = 3`)
	// This is seen after all of them.
	s.db.Exec(t, `ALTER TABLE t ADD COLUMN last int`)
	i.awaitLog(t, "the index has the fields of new columns")
	s.awaitEqual(t, i)
	for _, done := range []string{"made a physical index", "stored again", "unproven"} {
		if strings.Contains(i.log()[before:], done) {
			t.Errorf("something was done: %s", done)
		}
	}
}

// TestTablespace moves a table: its rows are in another file, and the index is compared with it.
func TestTablespace(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.needVersion(t, 15)
	space := s.db.Unique("space")
	s.db.Exec(t, twenty, `SET allow_in_place_tablespaces = on`, `CREATE TABLESPACE `+space+` LOCATION ''`)
	s.index("ix", "t", "")
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitCaughtUp(t, i)
	s.db.Exec(t, `ALTER TABLE t SET TABLESPACE `+space, `UPDATE t SET v = 'after' WHERE id = 3`)
	i.awaitLog(t, "an index is unproven until it was compared with its tables")
	s.awaitEqual(t, i)
}

// TestStandbyReadsTheCatalog has a second instance wait for the slot while a column is added and
// the first one follows that. The second one takes over, and finds everything as it has to be.
func TestStandbyReadsTheCatalog(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, twenty)
	s.index("ix", "t", "")
	first := s.start(t, "run")
	first.awaitReady(t, 200, "")
	s.awaitCaughtUp(t, first)
	second := s.start(t, "run")
	second.awaitLog(t, "the slot is in use by another process")
	s.db.Exec(t, `ALTER TABLE t ADD COLUMN c int NOT NULL DEFAULT 7`, `UPDATE t SET v = 'after' WHERE id = 3`)
	s.awaitEqual(t, first)
	s.awaitCaughtUp(t, first)
	first.stop(t)
	second.awaitLog(t, "following the slot")
	s.db.Exec(t, `UPDATE t SET v = 'and after' WHERE id = 4`)
	s.awaitEqual(t, second)
	s.awaitCaughtUp(t, second)
	if log := second.log(); strings.Contains(log, "made a physical index") || strings.Contains(log, "stored again") {
		t.Error("the second instance does again what the first one has done")
	}
}

// TestLogOfATableMadeAnew has changes of a table in the log that was dropped before anybody read
// them, and made anew under its name, with columns of other types: they are not the new table's.
func TestLogOfATableMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, twenty)
	s.index("ix", "t", "")
	s.once(t)
	s.db.Exec(t, `INSERT INTO t VALUES (50, 'a row of the old table')`, `UPDATE t SET v = 'old' WHERE id = 7`, `DELETE FROM t WHERE id = 8`,
		`DROP TABLE t`, `CREATE TABLE t (id int PRIMARY KEY, v int)`, `INSERT INTO t VALUES (7, 70), (8, 80)`)
	s.once(t)
	s.checkSynced(t)
	s.db.Exec(t, `UPDATE t SET v = 71 WHERE id = 7`, `DELETE FROM t WHERE id = 8`)
	s.once(t)
	s.checkSynced(t)
}

// TestHeldIndex takes away the table of one index: that one waits with an alarm, the other goes
// on, and when the table is back it is made anew.
func TestHeldIndex(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `CREATE TABLE b (id int PRIMARY KEY, v text)`, `INSERT INTO a VALUES (1, 'x')`, `INSERT INTO b VALUES (1, 'x')`)
	s.index("a", "a", "")
	s.index("b", "b", "")
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitCaughtUp(t, i)
	s.db.Exec(t, `ALTER TABLE a RENAME TO z`, `UPDATE z SET v = 'away'`, `UPDATE b SET v = 'on'`)
	i.awaitReady(t, 503, "table public.a is")
	s.awaitEqual(t, i, "b")
	// Another process does not begin without the table.
	i.stop(t)
	s.start(t, "run").fail(t, 2, "no table public.a")
	s.db.Exec(t, `ALTER TABLE z RENAME TO a`)
	i = s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
	s.db.Exec(t, `ALTER TABLE a RENAME TO z`, `UPDATE z SET v = 'away again'`)
	i.awaitReady(t, 503, "table public.a is")
	s.db.Exec(t, `ALTER TABLE z RENAME TO a`)
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
}

// TestRefusedRebuild alters a table so that the cluster refuses the new index: that index is
// reported, and the others go on, also after the next start.
func TestRefusedRebuild(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `CREATE TABLE b (id int PRIMARY KEY, v text)`, `INSERT INTO a VALUES (1, 'x')`, `INSERT INTO b VALUES (1, 'x')`)
	s.index("a", "a", ", settings: {index.mapping.total_fields.limit: 5}")
	s.index("b", "b", "")
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitCaughtUp(t, i)
	var columns []string
	for n := range 20 {
		columns = append(columns, fmt.Sprintf("ADD COLUMN c%d int NOT NULL DEFAULT 1", n))
	}
	s.db.Exec(t, `ALTER TABLE a `+strings.Join(columns, ", "), `UPDATE a SET v = 'after'`, `UPDATE b SET v = 'after'`)
	i.awaitReady(t, 503, "index "+s.alias("a"))
	s.awaitEqual(t, i, "b")
	i.stop(t)
	i = s.start(t, "run")
	s.db.Exec(t, `UPDATE b SET v = 'and after'`)
	i.awaitReady(t, 503, "index "+s.alias("a"))
	s.awaitEqual(t, i, "b")
	s.db.Exec(t, `UPDATE a SET v = 'a document of another form'`)
	s.awaitCaughtUp(t, i)
	for n := range 20 {
		s.db.Exec(t, fmt.Sprintf("ALTER TABLE a DROP COLUMN c%d", n))
	}
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
}

// TestFunctionOfACondition changes a function that an include's condition calls. Neither the stream
// nor what is watched of the catalog tells: the comparison that comes again and again finds it.
func TestFunctionOfACondition(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.top = "verify: {every: 2s, rows_per_second: 100000}"
	s.db.Exec(t, twenty, `CREATE TABLE r (id int PRIMARY KEY, t_id int, n int)`, `ALTER TABLE r REPLICA IDENTITY FULL`, `INSERT INTO r SELECT i, i, i FROM generate_series(1, 20) i`,
		`CREATE FUNCTION wanted(n int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT n < 10'`)
	s.index("ix", "t", `, include: {rs: {table: r, on: {id: t_id}, value: n, where: "public.wanted(n)"}}`, testenv.WithQuery(
		`SELECT id, json_build_object('id', id, 'v', v, 'rs', (SELECT coalesce(json_agg(n ORDER BY r.id), '[]') FROM r WHERE r.t_id = t.id AND wanted(n))) FROM t`))
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
	s.db.Exec(t, `CREATE OR REPLACE FUNCTION wanted(n int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT n > 10'`)
	s.awaitEqual(t, i)
}

// TestEventTriggers has the database announce what nothing else in the stream tells.
func TestEventTriggers(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.postgres = ", event_triggers: true"
	s.db.Exec(t, enum+`CREATE TABLE t (id int PRIMARY KEY, m mood)`, `INSERT INTO t SELECT i, 'sad' FROM generate_series(1, 20) i`)
	s.index("ix", "t", "")
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitCaughtUp(t, i)
	s.db.Exec(t, `ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`)
	i.awaitLog(t, "an event trigger announces a change of the catalog")
	s.awaitEqual(t, i)
}
