package e2e

import (
	"context"
	"fmt"
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
	{name: "enum value renamed", tables: enum + `CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[]); INSERT INTO t SELECT i, 'sad', '{sad,ok}' FROM generate_series(1, 20) i`,
		alter: []string{`ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`}},
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
}

// awaitEqual waits until these indices, or all, equal their tables.
func (s *setup) awaitEqual(t testing.TB, i *instance, names ...string) {
	t.Helper()
	i.poll(t, "the indices equal their tables", func(ctx context.Context) error { return s.equal(ctx, names...) })
}

// newMigrated has an index ix of the table t.
func newMigrated(t *testing.T, postgres *testenv.Postgres, m migration) *setup {
	s := newSetupOn(t, postgres, shared(t))
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
			// The next start finds everything as it has to be.
			if log := s.once(t).log(); strings.Contains(log, "made a physical index") || strings.Contains(log, "stored again") {
				t.Errorf("the next start does it again:\n%s", log)
			}
			s.checkSynced(t)
		})
	}
}

// TestMigrationsBetweenRuns does the same while nobody runs.
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
		})
	}
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
	for n := range 20 {
		s.db.Exec(t, fmt.Sprintf("ALTER TABLE a DROP COLUMN c%d", n))
	}
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
}
