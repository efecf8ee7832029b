package reindex

import (
	"fmt"
	"testing"

	"tidemark/testenv"
)

// TestFanOutOfEachKind defers the changes of related rows that are found in other ways than by one column of
// another plain table, and compares index and tables when they are stored.
func TestFanOutOfEachKind(t *testing.T) {
	t.Parallel()
	const people = `INSERT INTO p SELECT i, CASE WHEN i %% 3 > 0 THEN %s END FROM generate_series(1, 60) i`
	tests := []struct {
		name, index, query string
		setup, changes     []string
	}{
		{
			name: "the table itself", index: `{table: p, include: {boss: {table: p, on: {c: id}, value: name}, staff: {table: p, on: {id: c}, aggregate: count}}}`,
			setup:   []string{`CREATE TABLE p (id int PRIMARY KEY, c int, name text)`, `ALTER TABLE p REPLICA IDENTITY FULL`, `CREATE INDEX ON p (c)`, `INSERT INTO p SELECT i, CASE WHEN i > 2 THEN 1 + i % 2 END, 'n' || i FROM generate_series(1, 60) i`},
			changes: []string{`UPDATE p SET name = 'boss' WHERE id = 1`, `UPDATE p SET c = 2, name = 'x' WHERE id = 1`, `DELETE FROM p WHERE id = 2`, `UPDATE p SET id = 1000 WHERE id = 1`},
			query:   `SELECT id, json_build_object('id', id, 'c', c, 'name', name, 'boss', (SELECT name FROM p b WHERE b.id = p.c), 'staff', (SELECT count(*) FROM p s WHERE s.c = p.id)) FROM p`,
		},
		{
			name: "partitions of both", index: `{table: p, include: {name: {table: c, on: {c: id}, value: name}}}`,
			setup: []string{`CREATE TABLE c (id int PRIMARY KEY, name text) PARTITION BY RANGE (id)`, `CREATE TABLE c1 PARTITION OF c FOR VALUES FROM (0) TO (2)`, `CREATE TABLE c2 PARTITION OF c DEFAULT`, `ALTER TABLE c1 REPLICA IDENTITY FULL`, `ALTER TABLE c2 REPLICA IDENTITY FULL`, `ALTER TABLE c REPLICA IDENTITY FULL`,
				`CREATE TABLE p (id int PRIMARY KEY, c int) PARTITION BY HASH (id)`, `CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0)`, `CREATE TABLE p2 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1)`, `CREATE INDEX ON p (c)`,
				`INSERT INTO c VALUES (1, 'one'), (2, 'two')`, fmt.Sprintf(people, `1 + i % 2`)},
			changes: []string{`UPDATE c SET name = 'uno' WHERE id = 1`, `UPDATE c SET id = 3 WHERE id = 1`, `UPDATE c SET id = 1, name = 'back' WHERE id = 3`, `DELETE FROM c WHERE id = 2`},
			query:   `SELECT id, json_build_object('id', id, 'c', c, 'name', (SELECT name FROM c WHERE c.id = p.c)) FROM p`,
		},
		{
			name: "several columns", index: `{table: p, include: {name: {table: c, on: {c: a, d: b}, value: name}}}`,
			setup: []string{`CREATE TABLE c (a int, b text, name text, PRIMARY KEY (b, a))`, `ALTER TABLE c REPLICA IDENTITY FULL`, `INSERT INTO c VALUES (1, 'x|', 'one'), (1, '', 'two')`,
				`CREATE TABLE p (id int PRIMARY KEY, c int, d text)`, `CREATE INDEX ON p (c, d)`, `INSERT INTO p SELECT i, 1, CASE i % 3 WHEN 0 THEN 'x|' WHEN 1 THEN '' END FROM generate_series(1, 60) i`},
			changes: []string{`UPDATE c SET name = 'uno' WHERE b = 'x|'`, `UPDATE c SET name = 'due' WHERE b = ''`, `UPDATE c SET b = 'y' WHERE b = 'x|'`, `DELETE FROM c WHERE b = ''`},
			query:   `SELECT id, json_build_object('id', id, 'c', c, 'd', d, 'name', (SELECT name FROM c WHERE c.a = p.c AND c.b = p.d)) FROM p`,
		},
		{
			name: "a link that is NULL", index: `{table: p, include: {name: {table: c, on: {c: code}, value: name, order_by: id}}}`,
			setup: []string{`CREATE TABLE c (id int PRIMARY KEY, code int UNIQUE, name text)`, `ALTER TABLE c REPLICA IDENTITY FULL`, `INSERT INTO c VALUES (1, 1, 'one'), (2, NULL, 'two')`,
				`CREATE TABLE p (id int PRIMARY KEY, c int)`, `CREATE INDEX ON p (c)`, fmt.Sprintf(people, `1 + i % 2`)},
			changes: []string{`UPDATE c SET code = NULL WHERE id = 1`, `UPDATE c SET code = 2 WHERE id = 2`, `UPDATE c SET code = 1, name = 'back' WHERE id = 1`, `UPDATE c SET code = NULL, name = 'gone' WHERE id = 2`},
			query:   `SELECT id, json_build_object('id', id, 'c', c, 'name', (SELECT name FROM c WHERE c.code = p.c)) FROM p`,
		},
		{
			name: "two levels", index: `{table: p, include: {c: {table: c, on: {c: id}, fields: [name], include: {land: {table: d, on: {d: id}, value: name}}}}, fields: {c: false}}`,
			setup: []string{`CREATE TABLE d (id int PRIMARY KEY, name text)`, `ALTER TABLE d REPLICA IDENTITY FULL`, `INSERT INTO d VALUES (1, 'A'), (2, 'B')`,
				`CREATE TABLE c (id int PRIMARY KEY, name text, d int)`, `ALTER TABLE c REPLICA IDENTITY FULL`, `CREATE INDEX ON c (d)`, `INSERT INTO c VALUES (1, 'one', 1), (2, 'two', 1)`,
				`CREATE TABLE p (id int PRIMARY KEY, c int)`, `CREATE INDEX ON p (c)`, fmt.Sprintf(people, `1 + i % 2`)},
			changes: []string{`UPDATE d SET name = 'AA' WHERE id = 1`, `UPDATE c SET d = 2 WHERE id = 2`, `BEGIN; UPDATE d SET name = 'BB' WHERE id = 2; UPDATE p SET c = 2 WHERE id < 10; COMMIT`, `DELETE FROM d WHERE id = 1`},
			query:   `SELECT p.id, json_build_object('id', p.id, 'c', (SELECT json_build_object('name', c.name, 'land', (SELECT d.name FROM d WHERE d.id = c.d)) FROM c WHERE c.id = p.c)) FROM p`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `PREFIXp: `+test.index, test.setup...)
			p := r.start(t, options{serve: true, fanOut: 5})
			p.complete(t)
			r.awaitCheck(t, "p", testenv.WithQuery(test.query))
			for _, change := range test.changes {
				before := query[int64](t, r.db, `SELECT coalesce(pg_sequence_last_value('dbsync_ctrl.fan_outs_asked_seq'), 0)`)
				r.db.Exec(t, change)
				p.settle(t)
				r.awaitCheck(t, "p", testenv.WithQuery(test.query))
				if after := query[int64](t, r.db, `SELECT coalesce(pg_sequence_last_value('dbsync_ctrl.fan_outs_asked_seq'), 0)`); after == before {
					t.Errorf("nothing is deferred for %s", change)
				}
			}
		})
	}
}
