package indexer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// ranked are rows with a key that is checked when a transaction ends, so that within one several
// rows have the same, and documents of them of every kind.
type ranked struct {
	*stream
	db     *testenv.Database
	engine *testenv.SearchServer
	writer *searchtest.Writer
}

func newRanked(t *testing.T, engine *testenv.SearchServer, shards int) *ranked {
	t.Helper()
	db := testenv.NewDatabase(t)
	db.Exec(t, `CREATE TABLE list (pos int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, tenant text, v text, note text); ALTER TABLE list ALTER note SET STORAGE EXTERNAL; ALTER TABLE list REPLICA IDENTITY FULL`,
		`CREATE TABLE other (id int PRIMARY KEY, v text)`, `CREATE TABLE extra (id int PRIMARY KEY, v text, n text); ALTER TABLE extra REPLICA IDENTITY FULL`,
		`CREATE TABLE unindexed (id int, pos int NOT NULL, v text); CREATE UNIQUE INDEX dropped ON unindexed (pos); ALTER TABLE unindexed REPLICA IDENTITY FULL`)
	s := newStream(t, db, `flat: {table: list}
routed: {table: list, routing: tenant}
around: {table: list, routing: tenant, fields: [v], include: {xs: {table: extra, on: {v: v}, value: n}}}
some: {table: list, where: v != "hidden"}
two: {tables: [{table: list, id: "list-{pos}", routing: tenant, fields: [v]}, {table: other, id: "other-{id}", fields: [v]}]}
unindexed: {table: unindexed, id: [pos]}
`)
	r := &ranked{stream: s, db: db, engine: engine, writer: s.writeTo(t, engine.URL, search.BulkOptions{Documents: 500})}
	for name := range s.targets {
		s.documentsOf(t, engine, name, strings.Replace(loose, `"number_of_shards": 1`, fmt.Sprintf(`"number_of_shards": %d`, shards), 1))
	}
	s.targets["flat"].SetTargets(s.targets["flat"].Targets()[0], Target{Alias: s.twin(t, engine)})
	s.run(t)
	return r
}

// twin returns an index like that of flat, as one that is being built beside it.
func (s *stream) twin(t *testing.T, engine *testenv.SearchServer) string {
	t.Helper()
	_, alias := searchtest.NewIndex(t, engine, loose)
	return alias
}

// check compares the documents with the rows.
func (r *ranked) check(t *testing.T) {
	t.Helper()
	r.settle(t)
	target := func(name string) string { return r.targets[name].Targets()[0].Alias }
	for _, flat := range r.targets["flat"].Targets() {
		testenv.CheckSynced(t, r.db, r.engine, flat.Alias, "list")
	}
	testenv.CheckSynced(t, r.db, r.engine, target("routed"), "list", testenv.WithRouting("tenant"))
	testenv.CheckSynced(t, r.db, r.engine, target("around"), "list", testenv.WithRouting("tenant"), testenv.WithQuery(
		`SELECT pos, tenant, json_build_object('v', v, 'xs', coalesce((SELECT json_agg(n ORDER BY id) FROM extra e WHERE e.v = l.v), '[]')) FROM list l`))
	testenv.CheckSynced(t, r.db, r.engine, target("some"), "list", testenv.WithQuery(`SELECT pos, to_json(l) FROM list l WHERE v IS DISTINCT FROM 'hidden'`))
	testenv.CheckSynced(t, r.db, r.engine, target("two"), "list", testenv.WithRouting("tenant"), testenv.WithQuery(
		`SELECT 'list-' || pos, tenant, json_build_object('v', v) FROM list UNION ALL SELECT 'other-' || id, NULL, json_build_object('v', v) FROM other`))
	testenv.CheckSynced(t, r.db, r.engine, target("unindexed"), "unindexed", testenv.WithQuery(`SELECT pos, to_json(u) FROM unindexed u`))
	r.writer.WantRefused(t)
}

// TestKeysHandedOn hands keys on from row to row within a transaction, in every order.
func TestKeysHandedOn(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		for _, shards := range []int{1, 4} {
			t.Run(fmt.Sprintf("%d shards", shards), func(t *testing.T) {
				r := newRanked(t, engine, shards)
				fill := `DELETE FROM list; INSERT INTO list SELECT i, 't' || i % 3, 'v' || i, ` + large + ` FROM generate_series(1, 5) i`
				r.db.Exec(t, `INSERT INTO other SELECT i, 'o' || i FROM generate_series(1, 6) i`, `INSERT INTO extra SELECT i, 'v' || i % 7, 'n' || i FROM generate_series(1, 20) i`,
					`INSERT INTO unindexed SELECT i, i, 'v' || i FROM generate_series(1, 5) i`)
				for _, change := range []struct{ name, sql string }{
					{"one further", `UPDATE list SET pos = pos + 1`},
					{"one back", `UPDATE list SET pos = pos - 1`},
					{"swapped", `UPDATE list SET pos = 6 - pos`},
					{"swapped, and routed otherwise", `UPDATE list SET pos = 6 - pos, tenant = 't' || pos`},
					{"deleted, then its key given to another", `BEGIN; DELETE FROM list WHERE pos = 2; UPDATE list SET pos = 2 WHERE pos = 1; COMMIT`},
					{"its key given to another, then deleted", `BEGIN; UPDATE list SET pos = 2 WHERE v = 'v1'; DELETE FROM list WHERE v = 'v2'; COMMIT`},
					{"its key given to a new row, then deleted", `BEGIN; INSERT INTO list VALUES (2, 'new', 'new', 'short'); DELETE FROM list WHERE v = 'v2'; COMMIT`},
					{"its key given to a hidden row", `BEGIN; UPDATE list SET pos = 2, v = 'hidden' WHERE v = 'v1'; DELETE FROM list WHERE v = 'v2'; COMMIT`},
					{"lent", `BEGIN; UPDATE list SET pos = 4 WHERE v = 'v1'; UPDATE list SET tenant = 'x' WHERE v = 'v1'; UPDATE list SET pos = 9 WHERE v = 'v1'; COMMIT`},
					{"and a related row", `BEGIN; UPDATE list SET pos = pos + 1; UPDATE extra SET n = n || '!'; COMMIT`},
				} {
					t.Run(strings.ReplaceAll(change.name, " ", "-"), func(t *testing.T) {
						r.db.Exec(t, fill)
						r.check(t)
						r.db.Exec(t, change.sql)
						r.check(t)
					})
				}
				t.Run("index-dropped", func(t *testing.T) {
					r.db.Exec(t, `DROP INDEX dropped`, `UPDATE unindexed SET pos = pos + 1`)
					r.check(t)
				})
				t.Run("any", func(t *testing.T) {
					for seed := range uint64(20) {
						r.db.Exec(t, fill)
						sql := anyHandingOn(seed)
						r.db.Exec(t, sql)
						if r.check(t); t.Failed() {
							t.Fatalf("after %s", sql)
						}
					}
				})
				if shards > 1 {
					return
				}
				t.Run("in-several-batches", func(t *testing.T) {
					r.db.Exec(t, `TRUNCATE list; INSERT INTO list SELECT i, 't' || i % 3, 'v' || i, 'n' FROM generate_series(1, 9000) i`,
						`BEGIN; UPDATE list SET pos = 9001 - pos, v = v || '!'; UPDATE list SET tenant = 'x' WHERE pos % 5 = 0; DELETE FROM list WHERE pos % 7 = 0; COMMIT`)
					r.check(t)
				})
			})
		}
	})
}

// TestKeysHandedOnAwaitVisible has the operations of such a table wait until all of their batch
// is visible: who has a key now may be the work of another transaction than the one that has it
// read.
func TestKeysHandedOnAwaitVisible(t *testing.T) {
	db := testenv.NewDatabase(t)
	db.Exec(t, `CREATE TABLE list (pos int PRIMARY KEY DEFERRABLE, v text); ALTER TABLE list REPLICA IDENTITY FULL`)
	s := newStream(t, db, `flat: {table: list}`)
	r := s.record()
	s.run(t)
	db.Exec(t, `INSERT INTO list VALUES (1, 'a'), (2, 'b')`, `UPDATE list SET pos = pos + 1`, `DELETE FROM list`)
	s.settle(t)
	ops := r.operations()
	for _, op := range ops {
		if !op.AwaitVisible {
			t.Errorf("%s does not wait", operationText(op))
		}
	}
	if len(ops) == 0 {
		t.Error("no operations")
	}
}

// anyHandingOn returns a transaction that gives rows keys which others have, changes and removes
// them, and leaves each key to one row.
func anyHandingOn(seed uint64) string {
	random := rand.New(rand.NewPCG(seed, 1))
	one := func() string {
		return fmt.Sprintf("ctid = (SELECT ctid FROM list ORDER BY md5(ctid::text || '%d') LIMIT 1)", random.IntN(1000))
	}
	sql := "BEGIN;"
	for range 3 + random.IntN(8) {
		switch random.IntN(7) {
		case 0:
			sql += fmt.Sprintf(" INSERT INTO list VALUES (%d, 't%d', 'new', 'n');", random.IntN(7), random.IntN(3))
		case 1:
			sql += " DELETE FROM list WHERE " + one() + ";"
		case 2:
			sql += fmt.Sprintf(" UPDATE list SET tenant = 't%d' WHERE %s;", random.IntN(3), one())
		case 3:
			sql += fmt.Sprintf(" UPDATE list SET v = 'v%d' WHERE %s;", random.IntN(9), one())
		default:
			sql += fmt.Sprintf(" UPDATE list SET pos = %d WHERE %s;", random.IntN(7), one())
		}
	}
	return sql + " DELETE FROM list a USING list b WHERE a.pos = b.pos AND a.ctid < b.ctid; COMMIT"
}
