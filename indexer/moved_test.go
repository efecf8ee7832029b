package indexer

import (
	"testing"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// With one shard, every routing leads to the same one: what removes the document of the old
// routing must not remove that of the new one, be it ready, read again, or in another
// request.
func TestRoutingOnTheSameShard(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		db := testenv.NewDatabase(t)
		db.Exec(t, `CREATE TABLE flat (id int PRIMARY KEY, tenant text, v text); ALTER TABLE flat REPLICA IDENTITY FULL`,
			`CREATE TABLE toast (id int PRIMARY KEY, tenant text NOT NULL, note text); ALTER TABLE toast ALTER note SET STORAGE EXTERNAL`,
			`CREATE UNIQUE INDEX routed ON toast (id, tenant); ALTER TABLE toast REPLICA IDENTITY USING INDEX routed`,
			`CREATE TABLE around (id int PRIMARY KEY, tenant text); ALTER TABLE around REPLICA IDENTITY FULL`,
			`INSERT INTO flat SELECT i, 't' || i % 7, 'v' FROM generate_series(1, 3000) i`, `INSERT INTO toast SELECT i, 't' || i % 7, `+large+` FROM generate_series(1, 30) i`,
			`INSERT INTO around SELECT id, tenant FROM toast`)
		s := newStream(t, db, "flat: {table: flat, routing: tenant}\ntoast: {table: toast, routing: tenant}\n"+
			"around: {table: around, routing: tenant, include: {v: {table: flat, on: {id: id}, value: v}}}")
		w := s.writeTo(t, engine.URL, search.BulkOptions{Documents: 500})
		check := func() {
			t.Helper()
			s.settle(t)
			testenv.CheckSynced(t, db, engine, s.targets["flat"].Targets()[0], "flat", testenv.WithRouting("tenant"))
			testenv.CheckSynced(t, db, engine, s.targets["toast"].Targets()[0], "toast", testenv.WithRouting("tenant"))
			testenv.CheckSynced(t, db, engine, s.targets["around"].Targets()[0], "around", testenv.WithRouting("tenant"), testenv.WithQuery(
				`SELECT id, tenant, json_build_object('id', id, 'tenant', tenant, 'v', (SELECT v FROM flat f WHERE f.id = a.id)) FROM around a`))
		}
		for _, name := range []string{"flat", "toast", "around"} {
			s.documentsOf(t, engine, name, loose)
		}
		s.run(t)
		db.Exec(t, `UPDATE flat SET v = 'first'`, `UPDATE toast SET note = note || 'x'`, `UPDATE around SET id = id`)
		check()
		db.Exec(t, `BEGIN; UPDATE flat SET tenant = 'x' || id % 5; UPDATE toast SET tenant = 'x' || id % 5; UPDATE around SET tenant = 'x' || id % 5; COMMIT`)
		check()
		// There and back, deleted and made anew, and given to another row.
		db.Exec(t, `BEGIN; UPDATE flat SET tenant = 'y' || tenant WHERE id < 100; UPDATE flat SET tenant = substr(tenant, 2) WHERE id < 100; UPDATE around SET tenant = 'y'; UPDATE flat SET v = 'second' WHERE id < 50; COMMIT`,
			`BEGIN; DELETE FROM flat WHERE id BETWEEN 200 AND 300; INSERT INTO flat SELECT i, NULL, 'anew' FROM generate_series(200, 300) i; COMMIT`,
			`BEGIN; DELETE FROM flat WHERE id BETWEEN 400 AND 499; UPDATE flat SET id = id - 100, tenant = 'z' WHERE id BETWEEN 500 AND 599; COMMIT`,
			`TRUNCATE toast; INSERT INTO toast SELECT i, 'anew', 'small' FROM generate_series(1, 30) i; UPDATE around SET tenant = NULL WHERE id < 5`)
		check()
		w.WantRefused(t)
	})
}
