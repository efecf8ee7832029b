package indexer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// Parents p have children c, these have details d; links l join parents and tags g. Children
// and links carry their whole old row.
const family = `
	CREATE TABLE p (id int PRIMARY KEY, boss int, g int, tenant text);
	CREATE TABLE c (id int PRIMARY KEY, p int, q int, d int, v text, unused text);
	CREATE TABLE d (id int PRIMARY KEY, v text);
	CREATE TABLE l (p int, g int, at int, PRIMARY KEY (p, g));
	CREATE TABLE g (id int PRIMARY KEY, v text);
	ALTER TABLE p REPLICA IDENTITY FULL; ALTER TABLE c REPLICA IDENTITY FULL; ALTER TABLE l REPLICA IDENTITY FULL;
	INSERT INTO p (id, tenant) SELECT i, 't' || i FROM generate_series(1, 4) i`

// generated is the table m of children with generated columns, which the log does not carry.
const generated = `
	CREATE TABLE m (id int PRIMARY KEY, p int, n int, a text, b text, ab text GENERATED ALWAYS AS (a || b) STORED, twice int GENERATED ALWAYS AS (n * 2) STORED);
	ALTER TABLE m REPLICA IDENTITY FULL; `

// Mappings of the family; S stands for its schema.
const (
	children = `{table: S.p, fields: [id], include: {cs: {table: S.c, on: {id: p}, value: v}}}`
	detailed = `{table: S.p, fields: [id], include: {cs: {table: S.c, on: {id: p}, many: object, fields: [id], include: {d: {table: S.d, on: {d: id}, value: v}}}}}`
	category = `{table: S.p, fields: [id], include: {g: {table: S.g, on: {g: id}, value: v}}}`
	tagged   = `{table: S.p, fields: [id], include: {gs: {table: S.g, through: {table: S.l, on: {id: p}, to: {g: id}}, value: v, order_by: at}}}`
	bosses   = `{table: S.p, fields: [id], include: {boss: {table: S.p, on: {boss: id}, fields: [tenant]}}}`
)

// Which documents are written for changes of related rows, and what they are then.
func TestRelated(t *testing.T) {
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	tests := []struct {
		name     string
		index    string
		building bool     // a second index is being built
		setup    string   // SQL
		changes  []string // SQL, each a transaction, and a batch when it is committed
		late     string   // SQL, committed before the batches of changes are written
		want     []string
	}{
		{
			name:    "insert, update, delete",
			index:   children,
			changes: []string{`INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`, `UPDATE c SET v = 'b'`, `DELETE FROM c`},
			want:    []string{`index 1 {"id":1,"cs":["a"]}`, `index 1 {"id":1,"cs":["b"]}`, `index 1 {"id":1,"cs":[]}`},
		}, {
			name:    "moved: the one that it was in, and the one that it is in",
			index:   children,
			setup:   `INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`,
			changes: []string{`UPDATE c SET p = 2`},
			want:    []string{`index 1 {"id":1,"cs":[]}`, `index 2 {"id":2,"cs":["a"]}`},
		}, {
			name:    "NULL leads nowhere",
			index:   children,
			changes: []string{`INSERT INTO c (id, v) VALUES (10, 'a')`, `UPDATE c SET v = 'b'`, `UPDATE c SET p = 1`, `UPDATE c SET p = NULL`, `DELETE FROM c`},
			want:    []string{`index 1 {"id":1,"cs":["b"]}`, `index 1 {"id":1,"cs":[]}`},
		}, {
			name:    "so does a parent that is not there",
			index:   children,
			changes: []string{`INSERT INTO c (id, p, v) VALUES (10, 99, 'a')`, `UPDATE c SET p = 1`, `UPDATE c SET p = 99`},
			want:    []string{`index 1 {"id":1,"cs":["a"]}`, `index 1 {"id":1,"cs":[]}`},
		}, {
			name:    "parent that comes later",
			index:   children,
			changes: []string{`INSERT INTO c (id, p, v) VALUES (10, 99, 'a')`, `INSERT INTO p VALUES (99)`},
			want:    []string{`index 99 {"id":99,"cs":["a"]}`},
		}, {
			name:    "key of a child, which orders them",
			index:   children,
			setup:   `INSERT INTO c (id, p, v) VALUES (10, 1, 'a'), (11, 1, 'b')`,
			changes: []string{`UPDATE c SET id = 12 WHERE id = 10`},
			want:    []string{`index 1 {"id":1,"cs":["b","a"]}`},
		}, {
			name:    "key of a parent",
			index:   children,
			setup:   `INSERT INTO c (id, p, v) VALUES (10, 1, 'a'), (11, 5, 'b')`,
			changes: []string{`UPDATE p SET id = 5 WHERE id = 1`},
			want:    []string{`index 5 {"id":5,"cs":["b"]}`, `delete 1`},
		}, {
			name:    "columns that no document has: the whole old row tells",
			index:   children,
			setup:   `INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`,
			changes: []string{`UPDATE c SET unused = 'x', q = 3, d = 4`, `UPDATE c SET v = v`},
		}, {
			name:    "columns that no document has: an identity of some columns does not tell",
			index:   children,
			setup:   `ALTER TABLE c ALTER p SET NOT NULL; CREATE UNIQUE INDEX linked ON c (id, p); ALTER TABLE c REPLICA IDENTITY USING INDEX linked; INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`,
			changes: []string{`UPDATE c SET unused = 'x'`, `UPDATE c SET p = 2`, `DELETE FROM c`},
			want: []string{`index 1 {"id":1,"cs":["a"]}`, `index 1 {"id":1,"cs":[]}`, `index 2 {"id":2,"cs":["a"]}`,
				`index 2 {"id":2,"cs":[]}`},
		}, {
			name:    "count: only rows that come, go and move",
			index:   `{table: S.p, fields: [id], include: {n: {table: S.c, on: {id: p}, aggregate: count}}}`,
			changes: []string{`INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`, `UPDATE c SET v = 'b'`, `UPDATE c SET p = 2`, `DELETE FROM c`},
			want:    []string{`index 1 {"id":1,"n":1}`, `index 1 {"id":1,"n":0}`, `index 2 {"id":2,"n":1}`, `index 2 {"id":2,"n":0}`},
		}, {
			name:    "condition in SQL: any column may be in it",
			index:   `{table: S.p, fields: [id], include: {n: {table: S.c, on: {id: p}, aggregate: count, where: unused IS NULL}}}`,
			setup:   `INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`,
			changes: []string{`UPDATE c SET unused = 'x'`},
			want:    []string{`index 1 {"id":1,"n":0}`},
		}, {
			name:  "a row that many have",
			index: category,
			setup: `INSERT INTO g VALUES (5, 'five'); UPDATE p SET g = id % 2 + 5`,
			changes: []string{`UPDATE g SET v = 'FIVE'`, `UPDATE g SET id = 6`, `INSERT INTO g VALUES (5, 'new')`, `DELETE FROM g WHERE id = 6`,
				`INSERT INTO g VALUES (7, 'nobody has it')`},
			want: []string{`index 2 {"id":2,"g":"FIVE"}`, `index 4 {"id":4,"g":"FIVE"}`,
				`index 1 {"id":1,"g":"FIVE"}`, `index 2 {"id":2,"g":null}`, `index 3 {"id":3,"g":"FIVE"}`, `index 4 {"id":4,"g":null}`,
				`index 2 {"id":2,"g":"new"}`, `index 4 {"id":4,"g":"new"}`,
				`index 1 {"id":1,"g":null}`, `index 3 {"id":3,"g":null}`},
		}, {
			name:    "related to itself",
			index:   bosses,
			setup:   `UPDATE p SET boss = 1 WHERE id IN (1, 2, 3)`,
			changes: []string{`UPDATE p SET tenant = 'new' WHERE id = 1`, `UPDATE p SET tenant = 'other' WHERE id = 2`, `DELETE FROM p WHERE id = 1`},
			want: []string{`index 1 {"id":1,"boss":{"tenant":"new"}}`, `index 2 {"id":2,"boss":{"tenant":"new"}}`, `index 3 {"id":3,"boss":{"tenant":"new"}}`,
				`index 2 {"id":2,"boss":{"tenant":"new"}}`,
				`index 2 {"id":2,"boss":null}`, `index 3 {"id":3,"boss":null}`, `delete 1`},
		}, {
			name:  "through a link table",
			index: tagged,
			setup: `INSERT INTO g VALUES (5, 'a'), (6, 'b')`,
			changes: []string{`INSERT INTO l VALUES (1, 6, 1)`, `INSERT INTO l VALUES (1, 5, 2)`, `UPDATE l SET at = 0 WHERE g = 5`, `UPDATE l SET p = 2 WHERE g = 5`,
				`UPDATE g SET v = v || '!'`, `UPDATE l SET g = 5`, `DELETE FROM g`, `DELETE FROM l`},
			want: []string{`index 1 {"id":1,"gs":["b"]}`, `index 1 {"id":1,"gs":["b","a"]}`, `index 1 {"id":1,"gs":["a","b"]}`,
				`index 1 {"id":1,"gs":["b"]}`, `index 2 {"id":2,"gs":["a"]}`,
				`index 1 {"id":1,"gs":["b!"]}`, `index 2 {"id":2,"gs":["a!"]}`,
				`index 1 {"id":1,"gs":["a!"]}`,
				`index 1 {"id":1,"gs":[]}`, `index 2 {"id":2,"gs":[]}`,
				`index 1 {"id":1,"gs":[]}`, `index 2 {"id":2,"gs":[]}`},
		}, {
			name:    "two tables away",
			index:   detailed,
			setup:   `INSERT INTO d VALUES (7, 'x'), (8, 'y'); INSERT INTO c (id, p, d) VALUES (10, 1, 7), (11, 2, 7), (12, 3, 8)`,
			changes: []string{`UPDATE d SET v = 'X' WHERE id = 7`, `UPDATE c SET d = 8 WHERE id = 10`, `DELETE FROM d WHERE id = 8`},
			want: []string{`index 1 {"id":1,"cs":[{"id":10,"d":"X"}]}`, `index 2 {"id":2,"cs":[{"id":11,"d":"X"}]}`,
				`index 1 {"id":1,"cs":[{"id":10,"d":"y"}]}`,
				`index 1 {"id":1,"cs":[{"id":10,"d":null}]}`, `index 3 {"id":3,"cs":[{"id":12,"d":null}]}`},
		}, {
			name:    "two tables away, and what is between them moves in the same transaction",
			index:   detailed,
			setup:   `INSERT INTO d VALUES (7, 'x'); INSERT INTO c (id, p, d) VALUES (10, 1, 7)`,
			changes: []string{`BEGIN; UPDATE d SET v = 'X'; UPDATE c SET p = 2; UPDATE d SET v = 'XX'; COMMIT`},
			want:    []string{`index 1 {"id":1,"cs":[]}`, `index 2 {"id":2,"cs":[{"id":10,"d":"XX"}]}`},
		}, {
			name:    "the row itself and rows in it",
			index:   children,
			changes: []string{`BEGIN; INSERT INTO p VALUES (7); INSERT INTO c (id, p, v) VALUES (10, 7, 'a'), (11, 7, 'b'), (12, 2, 'c'); COMMIT`},
			want:    []string{`index 7 {"id":7,"cs":["a","b"]}`, `index 2 {"id":2,"cs":["c"]}`},
		}, {
			name:    "truncated",
			index:   detailed,
			setup:   `INSERT INTO d VALUES (7, 'x'); INSERT INTO c (id, p, d) VALUES (10, 1, 7)`,
			changes: []string{`TRUNCATE d`, `TRUNCATE c`},
			want: []string{`index 1 {"id":1,"cs":[{"id":10,"d":null}]}`, `index 2 {"id":2,"cs":[]}`, `index 3 {"id":3,"cs":[]}`, `index 4 {"id":4,"cs":[]}`,
				`index 1 {"id":1,"cs":[]}`, `index 2 {"id":2,"cs":[]}`, `index 3 {"id":3,"cs":[]}`, `index 4 {"id":4,"cs":[]}`},
		}, {
			name:    "link table truncated",
			index:   tagged,
			setup:   `INSERT INTO g VALUES (5, 'a'); INSERT INTO l VALUES (1, 5); DELETE FROM p WHERE id > 2`,
			changes: []string{`TRUNCATE l`},
			want:    []string{`index 1 {"id":1,"gs":[]}`, `index 2 {"id":2,"gs":[]}`},
		}, {
			name: "several ways from one table",
			index: `{table: S.p, fields: [id], include: {cs: {table: S.c, on: {id: p}, value: v}, qs: {table: S.c, on: {id: q}, many: object, fields: [unused],
					include: {other: {table: S.c, on: {d: id}, value: v}}}}}`,
			setup:   `INSERT INTO c VALUES (10, 1, 2, 10, 'a'), (11, 3, 3, 10, 'b')`,
			changes: []string{`UPDATE c SET v = 'A' WHERE id = 10`, `UPDATE c SET unused = 'x' WHERE id = 10`, `UPDATE c SET q = NULL WHERE id = 11`},
			want: []string{`index 1 {"id":1,"cs":["A"],"qs":[]}`, `index 2 {"id":2,"cs":[],"qs":[{"unused":null,"other":"A"}]}`, `index 3 {"id":3,"cs":["b"],"qs":[{"unused":null,"other":"A"}]}`,
				`index 2 {"id":2,"cs":[],"qs":[{"unused":"x","other":"A"}]}`,
				`index 3 {"id":3,"cs":["b"],"qs":[]}`},
		}, {
			name:    "several ways from one table by the same value",
			index:   `{table: S.p, fields: [id], include: {cs: {table: S.c, on: {id: p}, value: v}, ds: {table: S.c, on: {boss: q}, value: v}}}`,
			setup:   `UPDATE p SET boss = 3 WHERE id = 1`,
			changes: []string{`INSERT INTO c VALUES (10, 3, 3, 3, 'a')`},
			want:    []string{`index 1 {"id":1,"cs":[],"ds":["a"]}`, `index 3 {"id":3,"cs":["a"],"ds":[]}`},
		}, {
			name:    "routing, as it is now",
			index:   `{table: S.p, routing: tenant, fields: [id], include: {cs: {table: S.c, on: {id: p}, value: v}}}`,
			changes: []string{`INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`},
			late:    `UPDATE p SET tenant = 'new' WHERE id = 1`,
			want:    []string{`index 1@new {"id":1,"cs":["a"]}`, `index 1@new {"id":1,"cs":["a"]}`, `delete 1@t1`},
		}, {
			name:    "routing NULL",
			index:   `{table: S.p, routing: tenant, fields: [id], include: {cs: {table: S.c, on: {id: p}, value: v}}}`,
			setup:   `UPDATE p SET tenant = NULL WHERE id = 1`,
			changes: []string{`INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`, `DELETE FROM p WHERE id = 1`},
			want:    []string{`index 1 {"id":1,"cs":["a"]}`, `delete 1`},
		}, {
			name:    "row that is no document",
			index:   `{table: S.p, where: tenant != "t1", fields: [id], include: {cs: {table: S.c, on: {id: p}, value: v}}}`,
			changes: []string{`INSERT INTO c (id, p, v) VALUES (10, 1, 'a'), (20, 2, 'a')`, `UPDATE p SET tenant = 't1' WHERE id = 2`, `UPDATE p SET tenant = 't2' WHERE id = 1`},
			want:    []string{`delete 1`, `index 2 {"id":2,"cs":["a"]}`, `delete 2`, `index 1 {"id":1,"cs":["a"]}`},
		}, {
			name:    "row that is gone is removed by its own change alone",
			index:   `{table: S.p, routing: tenant, fields: [id], include: {cs: {table: S.c, on: {id: p}, value: v}}}`,
			changes: []string{`INSERT INTO c (id, p, v) VALUES (10, 1, 'a'), (11, 1, 'b')`},
			late:    `BEGIN; DELETE FROM c; DELETE FROM p WHERE id = 1; COMMIT`,
			want:    []string{`delete 1@t1`},
		}, {
			name:    "row that has moved to another key",
			index:   children,
			changes: []string{`INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`},
			late:    `BEGIN; UPDATE p SET id = 5 WHERE id = 1; UPDATE c SET p = 5; COMMIT`,
			want:    []string{`index 5 {"id":5,"cs":["a"]}`, `delete 1`},
		}, {
			name:     "an index in use and one that is being built",
			index:    children,
			building: true,
			changes:  []string{`INSERT INTO c (id, p, v) VALUES (10, 1, 'a'), (20, 2, 'b')`},
			want:     []string{`index 1 {"id":1,"cs":["a"]}`, `index 2 {"id":2,"cs":["b"]}`},
		}, {
			name:  "large linking value that did not change",
			index: `{table: S.big, fields: [v], include: {cs: {table: S.bigc, on: {id: p}, value: v}}}`,
			setup: `CREATE TABLE big (id text PRIMARY KEY, v text); ALTER TABLE big ALTER id SET STORAGE EXTERNAL;
					CREATE TABLE bigc (id int, p text, v text, PRIMARY KEY (id, p)); ALTER TABLE bigc ALTER p SET STORAGE EXTERNAL;
					INSERT INTO big VALUES (repeat('k', 2500), 'big'); INSERT INTO bigc VALUES (1, repeat('k', 2500), 'a')`,
			changes: []string{`UPDATE bigc SET v = 'b'`, `UPDATE bigc SET id = 2`},
			want: []string{`index ~sha256-c80d51d536a7793634986db94f8773d6feaad30f882436fc43f84494c44b2cda {"v":"big","cs":["b"]}`,
				`index ~sha256-c80d51d536a7793634986db94f8773d6feaad30f882436fc43f84494c44b2cda {"v":"big","cs":["b"]}`},
		}, {
			name:  "links of other types",
			index: `{table: S.typed, id: [id], fields: [id], include: {cs: {table: S.typedc, on: {at: at, code: code}, value: v}}}`,
			setup: `CREATE TABLE typed (id bigint PRIMARY KEY, at timestamptz, code char(5)); CREATE TABLE typedc (v int, at date, code text); ALTER TABLE typedc REPLICA IDENTITY FULL;
					INSERT INTO typed VALUES (1, '2026-01-31 00:00+00', 'a"{}'), (2, '2026-02-01 00:00+00', 'a"{}'), (3, '2026-01-31 00:00+00', NULL)`,
			changes: []string{`INSERT INTO typedc VALUES (5, '2026-01-31', 'a"{}'), (6, '2026-01-31', NULL)`, `UPDATE typedc SET at = '2026-02-01'`},
			want:    []string{`index 1 {"id":1,"cs":[5]}`, `index 1 {"id":1,"cs":[]}`, `index 2 {"id":2,"cs":[5]}`},
		}, {
			name:    "generated column: value",
			index:   `{table: S.p, fields: [id], include: {cs: {table: S.m, on: {id: p}, value: ab}}}`,
			setup:   generated + `INSERT INTO m VALUES (10, 1, 7, 'a', 'b')`,
			changes: []string{`UPDATE m SET b = 'c'`},
			want:    []string{`index 1 {"id":1,"cs":["ac"]}`},
		}, {
			name:    "generated column: field, and one that nothing is made of",
			index:   `{table: S.p, fields: [id], include: {cs: {table: S.m, on: {id: p}, many: object, fields: [ab]}, ds: {table: S.m, on: {boss: p}, value: a}}}`,
			setup:   generated + `INSERT INTO m VALUES (10, 1, 7, 'a', 'b'); UPDATE p SET boss = 1 WHERE id = 2`,
			changes: []string{`UPDATE m SET b = 'c'`},
			want:    []string{`index 1 {"id":1,"cs":[{"ab":"ac"}],"ds":[]}`},
		}, {
			name:    "generated column: order",
			index:   `{table: S.p, fields: [id], include: {cs: {table: S.m, on: {id: p}, value: id, order_by: ab}}}`,
			setup:   generated + `INSERT INTO m VALUES (10, 1, 7, 'a', 'b'), (11, 1, 7, 'a', 'c')`,
			changes: []string{`UPDATE m SET b = 'd' WHERE id = 10`},
			want:    []string{`index 1 {"id":1,"cs":[11,10]}`},
		}, {
			name:    "generated column: condition",
			index:   `{table: S.p, fields: [id], include: {cs: {table: S.m, on: {id: p}, value: id, where: ab <> 'ac'}}}`,
			setup:   generated + `INSERT INTO m VALUES (10, 1, 7, 'a', 'b')`,
			changes: []string{`UPDATE m SET b = 'c'`},
			want:    []string{`index 1 {"id":1,"cs":[]}`},
		}, {
			name:    "generated column: aggregate",
			index:   `{table: S.p, fields: [id], include: {last: {table: S.m, on: {id: p}, aggregate: max, column: ab}}}`,
			setup:   generated + `INSERT INTO m VALUES (10, 1, 7, 'a', 'b')`,
			changes: []string{`UPDATE m SET b = 'c'`},
			want:    []string{`index 1 {"id":1,"last":"ac"}`},
		}, {
			name:    "generated column: link to a table below",
			index:   `{table: S.p, fields: [id], include: {cs: {table: S.m, on: {id: p}, many: object, fields: [id], include: {g: {table: S.g, on: {twice: id}, value: v}}}}}`,
			setup:   generated + `INSERT INTO m VALUES (10, 1, 7, 'a', 'b'); INSERT INTO g VALUES (14, 'x'), (16, 'y')`,
			changes: []string{`UPDATE m SET n = 8`, `UPDATE g SET v = 'z' WHERE id = 16`},
			want:    []string{`index 1 {"id":1,"cs":[{"id":10,"g":"y"}]}`, `index 1 {"id":1,"cs":[{"id":10,"g":"z"}]}`},
		}, {
			name:    "generated column: of a link table",
			index:   `{table: S.p, fields: [id], include: {gs: {table: S.g, through: {table: S.m, on: {id: p}, to: {twice: id}}, value: v}}}`,
			setup:   generated + `INSERT INTO m VALUES (10, 1, 7, 'a', 'b'); INSERT INTO g VALUES (14, 'x'), (16, 'y')`,
			changes: []string{`UPDATE m SET n = 8`, `UPDATE m SET a = 'z'`},
			want:    []string{`index 1 {"id":1,"gs":["y"]}`, `index 1 {"id":1,"gs":["y"]}`},
		}, {
			name:  "partitions",
			index: `{table: S.p, fields: [id], include: {cs: {table: S.parted, on: {id: p}, value: v}}}`,
			setup: `CREATE TABLE parted (id int PRIMARY KEY, p int, v text) PARTITION BY RANGE (id);
					CREATE TABLE parted1 PARTITION OF parted FOR VALUES FROM (0) TO (10); ALTER TABLE parted1 REPLICA IDENTITY FULL;
					CREATE TABLE parted2 PARTITION OF parted FOR VALUES FROM (10) TO (20); ALTER TABLE parted2 REPLICA IDENTITY FULL`,
			changes: []string{`INSERT INTO parted VALUES (1, 1, 'a')`, `UPDATE parted SET v = 'b'`, `UPDATE parted SET id = 11`, `UPDATE parted SET p = 2`, `DELETE FROM parted`, `TRUNCATE parted`},
			want: []string{`index 1 {"id":1,"cs":["a"]}`, `index 1 {"id":1,"cs":["b"]}`, `index 1 {"id":1,"cs":["b"]}`,
				`index 1 {"id":1,"cs":[]}`, `index 2 {"id":2,"cs":["b"]}`, `index 2 {"id":2,"cs":[]}`,
				`index 1 {"id":1,"cs":[]}`, `index 2 {"id":2,"cs":[]}`, `index 3 {"id":3,"cs":[]}`, `index 4 {"id":4,"cs":[]}`},
		},
	}

	db := testenv.NewDatabase(t)
	var indices strings.Builder
	for i, test := range tests {
		name := fmt.Sprintf("s%d", i)
		db.Exec(t, fmt.Sprintf(`CREATE SCHEMA %s; SET search_path = %[1]s; %s; %s`, name, family, test.setup))
		fmt.Fprintf(&indices, "%s: %s\n", name, strings.ReplaceAll(test.index, "S.", name+"."))
	}
	s := newStream(t, db, indices.String())
	s.MaxMessagesToRead = 1 // so that nothing is compacted but what is read again
	proxy := engine.NewProxy(t)
	w := s.writeTo(t, proxy.URL, search.BulkOptions{Requests: 1})
	seen, r := watch(proxy), s.record()
	s.run(t)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			name := fmt.Sprintf("s%d", i)
			aliases := []string{s.documentsOf(t, engine, name, loose)}
			if test.building {
				_, building := searchtest.NewIndex(t, engine, loose)
				aliases = append(aliases, building)
				s.targets[name].SetTargets(Target{Alias: aliases[0]}, Target{Alias: building})
			}
			exec := func(change string) {
				db.Exec(t, "SET search_path = "+name+"; "+strings.TrimPrefix(strings.TrimSuffix(change, "; COMMIT"), "BEGIN; "))
				s.settle(t)
			}
			var changed []dbsync.Operation
			for _, change := range test.changes {
				if exec(change); test.late == "" {
					s.write(t, r.operations())
				}
			}
			if test.late != "" {
				changed = r.operations()
				exec(test.late)
				s.write(t, changed)
				s.write(t, r.operations())
			}
			for _, alias := range aliases {
				if diff := cmp.Diff(test.want, seen.lines(alias)); diff != "" {
					t.Errorf("written (-want +got):\n%s", diff)
				}
			}
		})
	}
	w.WantRefused(t)
}

// Changes of related rows that do not tell where the rows were stop the stream.
func TestRelatedStops(t *testing.T) {
	const hint = `hint: ALTER TABLE public.c REPLICA IDENTITY FULL, drop the replication slot, and start with on_slot_lost: reindex`
	tests := []struct{ name, change, want string }{
		{"insert", `INSERT INTO c VALUES (11, 1)`, ""},
		{"update", `UPDATE c SET v = 'x'`, `index p: public.c was changed while column "p" was not in its replica identity`},
		{"update of the link", `UPDATE c SET p = 2`, hint},
		{"delete", `DELETE FROM c`, hint},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := testenv.NewDatabase(t)
			db.Exec(t, family, `INSERT INTO c (id, p, v) VALUES (10, 1, 'a')`, `ALTER TABLE c REPLICA IDENTITY DEFAULT`)
			s := newStream(t, db, "p: "+strings.ReplaceAll(children, "S.", ""))
			r := s.record()
			s.run(t)
			db.Exec(t, test.change)
			if test.want == "" {
				s.settle(t)
				if ops := r.operations(); len(ops) != 1 {
					t.Errorf("%d operations, want 1", len(ops))
				}
				return
			}
			select {
			case err := <-s.done:
				if permanent := (*dbsync.PermanentError)(nil); !errors.As(err, &permanent) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("Run: %v, want a permanent error with %q", err, test.want)
				}
			case <-time.After(30 * time.Second):
				t.Error("it goes on")
			}
		})
	}
}

// A row that is gone when its document is read again has been removed by its own change,
// unless it is that change which has it read.
func TestRelatedGoneMeanwhile(t *testing.T) {
	db := testenv.NewDatabase(t)
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	db.Exec(t, family)
	s := newStream(t, db, "p: "+strings.ReplaceAll(children, "S.", ""))
	proxy := engine.NewProxy(t)
	s.writeTo(t, proxy.URL, search.BulkOptions{})
	alias := s.documentsOf(t, engine, "p", loose)
	seen := watch(proxy)
	plan, err := NewRowPlan(s.targets["p"], s.config.Indices[0].Sources[0], s.handler.o.Catalog.Tables())
	if err != nil {
		t.Fatal(err)
	}
	reader := s.handler.newRowReader(plan, nil)
	for what, ids := range map[changed][]string{aRelatedRow: {"1", "98"}, itself: {"99"}} {
		var ops []dbsync.Operation
		for _, id := range ids {
			ops = append(ops, dbsync.Operation{Kind: dbsync.Reread, Index: alias, ID: id, Version: 5, Key: [][]byte{[]byte(id)}})
		}
		if err := reader.write(searchtest.Within(t, 30*time.Second), ops, what); err != nil {
			t.Fatal(err)
		}
	}
	written := seen.lines(alias)
	slices.Sort(written)
	if diff := cmp.Diff([]string{`delete 99`, `index 1 {"id":1,"cs":[]}`}, written); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
}
