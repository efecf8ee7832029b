package indexer

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// documentsOf makes an index and has the documents of a mapping written there.
func (s *stream) documentsOf(t *testing.T, engine *testenv.SearchServer, index, body string) (alias string) {
	t.Helper()
	_, alias = searchtest.NewIndex(t, engine, body)
	s.targets[index].SetTargets(Target{Alias: alias})
	return alias
}

// loose is the body of an index that takes every document.
const loose = `{"settings": {"number_of_shards": 1, "number_of_replicas": 0}, "mappings": {"dynamic": false}}`

// sent keeps what bulk requests to a server consist of.
type sent struct {
	mu       sync.Mutex
	items    []testenv.Item
	requests [][]testenv.Item
}

func watch(p *testenv.SearchProxy) *sent {
	s := new(sent)
	p.Inject(testenv.Watch(func(r *testenv.Request) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.items = append(s.items, r.Items...)
		if r.IsBulk() {
			s.requests = append(s.requests, r.Items)
		}
		return false
	}))
	return s
}

// sizes returns of how many items the requests for an index consist.
func (s *sent) sizes(index string) (sizes []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, items := range s.requests {
		if items[0].Index == index {
			sizes = append(sizes, len(items))
		}
	}
	return sizes
}

// lines returns the items of an index, one line each, with at most 60 bytes of the body.
func (s *sent) lines(index string) (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.items {
		if i.Index == index {
			line := i.Action + " " + i.ID
			if i.Routing != "" {
				line += "@" + i.Routing
			}
			if i.Action == "index" {
				line += " " + string(i.Body[:min(len(i.Body), 60)])
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func TestReread(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		tests := []struct {
			name      string
			routing   string
			change    string // has rows read again
			meanwhile string // done before they are
			want      []string
		}{
			{
				name:      "as it is now",
				change:    `UPDATE t SET v = 1`,
				meanwhile: `UPDATE t SET v = 2, note = 'newer'`,
				want:      []string{`index 7 {"id":7,"v":2,"note":"newer","tenant":null}`, `index 7 {"id":7,"v":2,"note":"newer","tenant":null}`},
			}, {
				name:      "row that is gone",
				change:    `UPDATE t SET v = 1`,
				meanwhile: `DELETE FROM t`,
				want:      []string{`delete 7`, `delete 7`},
			}, {
				name:      "row that has moved",
				change:    `UPDATE t SET v = 1`,
				meanwhile: `UPDATE t SET id = 8, note = 'newer'`,
				want:      []string{`delete 7`, `delete 7`, `index 8 {"id":8,"v":1,"note":"newer","tenant":null}`},
			}, {
				name:      "row with another routing",
				routing:   "tenant",
				change:    `UPDATE t SET v = 1`,
				meanwhile: `UPDATE t SET tenant = 'y', note = 'newer'`,
				want: []string{`delete 7@x`, `index 7@y {"id":7,"v":1,"note":"newer","tenant":"y"}`,
					`delete 7@x`, `index 7@y {"id":7,"v":1,"note":"newer","tenant":"y"}`},
			}, {
				name:      "column that is gone",
				change:    `UPDATE t SET v = 1`,
				meanwhile: `ALTER TABLE t DROP COLUMN v; UPDATE t SET note = 'newer'`,
				want:      []string{`index 7 {"id":7,"note":"newer","tenant":null}`, `index 7 {"id":7,"note":"newer","tenant":null}`},
			}, {
				name:      "key of another type",
				change:    `UPDATE t SET v = 1`,
				meanwhile: `ALTER TABLE t ALTER id TYPE text; UPDATE t SET note = 'newer'`,
				want:      []string{`index 7 {"id":"7","v":1,"note":"newer","tenant":null}`, `index 7 {"id":"7","v":1,"note":"newer","tenant":null}`},
			},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				db := testenv.NewDatabase(t)
				db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, v int, note text, tenant text); ALTER TABLE t ALTER note SET STORAGE EXTERNAL;
					INSERT INTO t VALUES (7, 0, `+large+`)`)
				indices := "t: {table: t}"
				if test.routing != "" {
					// Not with the whole old row: it would have the value.
					db.Exec(t, `UPDATE t SET tenant = 'x'; ALTER TABLE t ALTER tenant SET NOT NULL; CREATE UNIQUE INDEX t_routed ON t (id, tenant);
						ALTER TABLE t REPLICA IDENTITY USING INDEX t_routed`)
					indices = "t: {table: t, routing: tenant}"
				}
				s := newStream(t, db, indices)
				proxy := engine.NewProxy(t)
				s.writeTo(t, proxy.URL, search.BulkOptions{})
				alias := s.documentsOf(t, engine, "t", loose)
				seen, r := watch(proxy), s.record()
				s.run(t)
				db.Exec(t, test.change)
				s.settle(t)
				changed := r.operations()
				db.Exec(t, test.meanwhile)
				s.settle(t)
				s.write(t, changed)
				s.write(t, r.operations())
				if diff := cmp.Diff(test.want, seen.lines(alias)); diff != "" {
					t.Errorf("written (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// Keys of all kinds of types find their rows again.
func TestRereadKeys(t *testing.T) {
	keys := map[string]struct{ setup, columns, key, rows string }{
		"composite": {
			`CREATE TYPE mood AS ENUM ('sad', 'ok', 'a "quoted", {one}'); CREATE DOMAIN code AS varchar(20) CHECK (value <> '');
			 CREATE DOMAIN codes AS code`,
			`i int, tx text, u uuid, ts timestamptz, m mood, d codes, c char(5), n numeric(10,3), b bytea`,
			`i, tx, u, ts, m, d, c, n, b`,
			`(1, 'plain', '00000000-0000-0000-0000-000000000001', '2026-01-31 12:00:00.123456+01', 'sad', 'x', 'ab', 1.5, '\x00ff'),
			 (1, 'a "quoted" text', '00000000-0000-0000-0000-000000000002', '0044-03-15 00:00:00+00 BC', 'ok', 'y z', '', -0.001, ''),
			 (2, E'back\\slash \\" {brace}, {,}', '00000000-0000-0000-0000-000000000003', 'infinity', 'a "quoted", {one}', '{', 'abcde', 0, '\x5c22'),
			 (3, 'NULL', '00000000-0000-0000-0000-000000000004', '-infinity', 'sad', 'NULL', 'a b', 1234567.891, '\x7b7d'),
			 (-4, '', '00000000-0000-0000-0000-000000000005', '20000-01-01 00:00:00+00', 'ok', '"', '"', 'NaN', '\x0a'),
			 (-4, E' \n\t\r ', '00000000-0000-0000-0000-000000000005', '2026-01-31 12:00:00+00', 'ok', '\', '\', 1.000, '\x0a'),
			 (5, 'ünïcödé 😀 ~|', '00000000-0000-0000-0000-000000000006', '2026-01-31 12:00:00+00', 'ok', 'ü', 'ü', 2, '\xc3bc')`,
		},
		"float":     {``, `k float8`, `k`, `('NaN'), ('Infinity'), ('-Infinity'), (0.1), (1e300), (1.0000000000000002), (-0.0)`},
		"numeric":   {``, `k numeric`, `k`, `('NaN'), (1.10), (1.200), (123456789012345678901234567890.123456789)`},
		"interval":  {``, `k interval`, `k`, `('1 day'), ('25 hours'), ('-1 mon +2 days 03:04:05.6')`},
		"date":      {``, `k date`, `k`, `('2026-01-31'), ('0001-01-01 BC'), ('infinity')`},
		"time":      {``, `k timetz`, `k`, `('12:00+02'), ('12:00+03:30')`},
		"bool":      {``, `k bool`, `k`, `(true), (false)`},
		"bit":       {``, `k bit varying(9)`, `k`, `(b'101'), (b'')`},
		"inet":      {``, `k inet`, `k`, `('10.0.0.1'), ('10.0.0.1/24'), ('::1')`},
		"array":     {``, `k text[]`, `k`, `('{}'), ('{a,"b,c",NULL}'), ('{{1,2},{3,4}}')`},
		"range":     {``, `k int4range`, `k`, `('[1,3)'), ('empty'), ('(,5)')`},
		"collation": {`CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`, `k text COLLATE ci`, `k`, `('Abc'), ('abd')`},
		"name":      {``, `k name`, `k`, `('a'), ('B c')`},
		"char":      {``, `k "char"`, `k`, `('a'), ('"')`},
		"jsonb":     {``, `k jsonb`, `k`, `('{"a": "b\"c"}'), ('null'), ('[1, 2]')`},
		"long text": {``, `k text`, `k`, `(repeat('ab"\', 400)), (repeat('ab"\', 400) || 'x')`},
		"named":     {`CREATE SCHEMA "Strange ""one"`, `"K" int, "select" "Strange ""one"."My type"`, `"K", "select"`, `(1, 'a b'), (2, 'it''s')`},
	}
	keys["named"] = struct{ setup, columns, key, rows string }{
		`CREATE SCHEMA "Strange ""one"; CREATE TYPE "Strange ""one"."My type" AS ENUM ('a b', 'it''s')`,
		keys["named"].columns, keys["named"].key, keys["named"].rows,
	}
	db := testenv.NewDatabase(t)
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	var indices strings.Builder
	table := func(name string) string { return "t_" + strings.ReplaceAll(name, " ", "_") }
	for name, k := range keys {
		db.Exec(t, k.setup, fmt.Sprintf(`CREATE TABLE %s (%s, v int, note text, PRIMARY KEY (%s))`, table(name), k.columns, k.key),
			fmt.Sprintf(`ALTER TABLE %s ALTER note SET STORAGE EXTERNAL`, table(name)))
		fmt.Fprintf(&indices, "%s: {table: %s}\n", table(name), table(name))
	}
	s := newStream(t, db, indices.String())
	w := s.writeTo(t, engine.URL, search.BulkOptions{})
	for name, k := range keys {
		s.documentsOf(t, engine, table(name), loose)
		rows := regexp.MustCompile(`\)(,\s+\(|$)`).ReplaceAllString(k.rows, ", 0, "+large+")$1")
		db.Exec(t, fmt.Sprintf(`INSERT INTO %s VALUES %s`, table(name), rows), fmt.Sprintf(`UPDATE %s SET v = v + 1`, table(name)))
	}
	s.run(t)
	s.settle(t)
	w.WantRefused(t)
	for name := range keys {
		t.Run(name, func(t *testing.T) {
			testenv.CheckSynced(t, db, engine, s.targets[table(name)].Targets()[0].Alias, table(name))
		})
	}
}

// A commit is in the stream before other sessions see it. What is read again until then
// is the row as it was before, which must not be stored with the commit's version.
func TestRereadWaitsUntilTheTransactionIsVisible(t *testing.T) {
	db := startWithoutStandby(t).NewDatabase(t)
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, v text, note text); ALTER TABLE t ALTER note SET STORAGE EXTERNAL; INSERT INTO t VALUES (7, 'old', `+large+`)`)
	s := newStream(t, db, `t: {table: t}`)
	s.writeTo(t, engine.URL, search.BulkOptions{})
	alias := s.documentsOf(t, engine, "t", loose)
	s.run(t)
	db.Exec(t, `INSERT INTO t VALUES (8, 'described', NULL)`) // the stream describes the table
	s.settle(t)

	release := hang(t, db, `UPDATE t SET v = 'new' WHERE id = 7`)
	if docs := engine.Documents(t, alias); len(docs) != 1 {
		t.Errorf("the row was read before its change was visible: %.100s", docs["7"].Source)
	}
	release()
	s.settle(t)
	testenv.CheckSynced(t, db, engine, alias, "t")
}

// However many rows a batch has read again, and however large they are, the queries are
// few and hold a bounded part of them. What a query gave is written by one request here.
func TestRereadIsSplit(t *testing.T) {
	db := testenv.NewDatabase(t)
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	db.Exec(t, `CREATE TABLE small (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v + 1) STORED);
		CREATE TABLE large (id int PRIMARY KEY, v int, note text); ALTER TABLE large ALTER note SET STORAGE EXTERNAL;
		INSERT INTO large SELECT i, 0, repeat('x', 1000000) FROM generate_series(1, 20) i`)
	s := newStream(t, db, "small: {table: small}\nlarge: {table: large}")
	proxy := engine.NewProxy(t)
	s.writeTo(t, proxy.URL, search.BulkOptions{Requests: 1})
	small, large := s.documentsOf(t, engine, "small", loose), s.documentsOf(t, engine, "large", loose)
	seen, r := watch(proxy), s.record()
	s.run(t)
	db.Exec(t, `INSERT INTO small SELECT i, i FROM generate_series(1, 5000) i`, `UPDATE large SET v = 1`)
	s.settle(t)
	s.write(t, r.operations())
	testenv.CheckSynced(t, db, engine, small, "small")
	testenv.CheckSynced(t, db, engine, large, "large")
	if diff := cmp.Diff([]int{64, 2000, 2000, 936}, seen.sizes(small)); diff != "" {
		t.Errorf("small rows of each query (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{5, 4, 4, 4, 3}, seen.sizes(large)); diff != "" {
		t.Errorf("large rows of each query (-want +got):\n%s", diff)
	}
}

// statements are what a server has run since the last look, and how often: constants left
// out, and without those of the look itself.
func statements(t *testing.T, db *testenv.Database) map[string]int {
	t.Helper()
	rows, err := db.DB.QueryContext(t.Context(), `SELECT query, calls FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'
		AND query NOT LIKE 'SELECT (SELECT pg_catalog.concat(pid,%' -- of a connection that was idle: whether it still has its session`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	calls := make(map[string]int)
	for rows.Next() {
		var query string
		var n int
		if err := rows.Scan(&query, &n); err != nil {
			t.Fatal(err)
		}
		calls[query] += n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return calls
}

// The number of queries for a batch does not depend on how many related rows changed, nor
// on how far they are from the root. 100 documents have what changes in them, however much
// that is.
func TestRelatedQueriesAreConstant(t *testing.T) {
	server := testenv.StartPostgres(t, testenv.PostgresOptions{})
	db := server.NewDatabase(t)
	var there bool
	if err := db.DB.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements')`).Scan(&there); err != nil {
		t.Fatal(err)
	}
	if !there {
		t.Skip("the queries cannot be counted: this server does not have the extension pg_stat_statements")
	}
	db.Exec(t, `ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'`)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `CREATE EXTENSION pg_stat_statements`,
		`CREATE TABLE p (id int PRIMARY KEY, v text)`, `CREATE TABLE l (p int, c int, v text, PRIMARY KEY (p, c))`, `CREATE INDEX ON l (c)`,
		`CREATE TABLE c (id int PRIMARY KEY, d int, v text)`, `CREATE INDEX ON c (d)`, `CREATE TABLE d (id int PRIMARY KEY, e int, v text)`, `CREATE INDEX ON d (e)`,
		`CREATE TABLE e (id int PRIMARY KEY, v text)`, `INSERT INTO p SELECT i, 'old' FROM generate_series(0, 99) i`)
	first := 0
	for _, n := range []int{10, 100, 1000} { // each links all of p: 10 rows to 10 each, 1000 to one each
		db.Exec(t, fmt.Sprintf(`INSERT INTO l SELECT DISTINCT i %% 100, %d + i %% %d, 'old' FROM generate_series(0, greatest(99, %[2]d - 1)) i`, first, n),
			fmt.Sprintf(`INSERT INTO c SELECT i, i, 'old' FROM generate_series(%d, %d) i`, first, first+n-1),
			fmt.Sprintf(`INSERT INTO d SELECT i, i, 'old' FROM generate_series(%d, %d) i`, first, first+n-1),
			fmt.Sprintf(`INSERT INTO e SELECT i, 'old' FROM generate_series(%d, %d) i`, first, first+n-1))
		first += n
	}
	db.Exec(t, "ANALYZE")
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	s := newStream(t, db, `p: {table: p, include: {cs: {table: c, through: {table: l, on: {id: p}, to: {c: id}}, many: object,
		include: {d: {table: d, on: {d: id}, include: {e: {table: e, on: {e: id}, value: v}}}}}}}`)
	s.writeTo(t, engine.URL, search.BulkOptions{})
	alias := s.documentsOf(t, engine, "p", loose)
	r := s.record()
	s.run(t)
	db.Exec(t, `INSERT INTO p VALUES (-1, 'first'); INSERT INTO l VALUES (-1, -1, 'first'); INSERT INTO c VALUES (-1, -1, 'first'); INSERT INTO d VALUES (-1, -1, 'first'); INSERT INTO e VALUES (-1, 'first')`)
	s.settle(t)
	s.write(t, r.operations())

	tables, sizes := []string{"c", "d", "e"}, []int{10, 100, 1000}
	batches := make(map[string][][]dbsync.Operation)
	for _, table := range tables {
		first := 0
		for _, n := range sizes {
			db.Exec(t, fmt.Sprintf(`UPDATE %s SET v = 'new' WHERE id BETWEEN %d AND %d`, table, first, first+n-1))
			first += n
			s.settle(t)
			batch := r.operations()
			if len(batch) != n {
				t.Fatalf("%d operations for %d rows of %s", len(batch), n, table)
			}
			batches[table] = append(batches[table], batch)
		}
	}
	s.stop() // it has statements of its own run from time to time
	for _, table := range tables {
		var want map[string]int
		for i, batch := range batches[table] {
			db.Exec(t, `SELECT pg_stat_statements_reset()`)
			s.write(t, batch)
			got := statements(t, db)
			if i == 0 {
				want = got
				total := 0
				for _, calls := range got {
					total += calls
				}
				t.Logf("a batch of rows of %s has %d statements run", table, total)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d rows of %s have other statements run than %d (-want +got):\n%s", sizes[i], table, sizes[0], diff)
			}
		}
	}
	if docs := engine.Documents(t, alias); len(docs) != 101 {
		t.Errorf("%d documents, want 101", len(docs))
	}
}

// A related row that very many documents have in them is worked through in pieces:
// documents by what they take up, requests within their bound.
func TestRelatedIsSplit(t *testing.T) {
	db := testenv.NewDatabase(t)
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	db.Exec(t, `CREATE TABLE g (id int PRIMARY KEY, v text); INSERT INTO g VALUES (1, 'old'), (2, 'old');
		CREATE TABLE small (id int PRIMARY KEY, g int); INSERT INTO small SELECT i, 1 FROM generate_series(1, 20500) i;
		CREATE TABLE large (id int PRIMARY KEY, g int, note text); INSERT INTO large SELECT i, 2, repeat('x', 1000000) FROM generate_series(1, 15) i`)
	const include = ", include: {g: {table: g, on: {g: id}, value: v}}}\n"
	s := newStream(t, db, "small: {table: small"+include+"large: {table: large"+include)
	s.handler.o.FanOut = 20500
	proxy := engine.NewProxy(t)
	s.writeTo(t, proxy.URL, search.BulkOptions{Requests: 1, Bytes: 2 << 20})
	small, large := s.documentsOf(t, engine, "small", loose), s.documentsOf(t, engine, "large", loose)
	seen, r := watch(proxy), s.record()
	s.run(t)
	db.Exec(t, `UPDATE g SET v = 'new'`)
	s.settle(t)
	batch := r.operations()
	if len(batch) != 4 { // two rows in two indices
		t.Fatalf("the batch has %d operations: what is in it must not depend on how many documents they concern", len(batch))
	}
	s.write(t, batch)
	testenv.CheckSynced(t, db, engine, small, "small", testenv.WithQuery(`SELECT id, json_build_object('id', id, 'g', 'new') FROM small`))
	testenv.CheckSynced(t, db, engine, large, "large", testenv.WithQuery(`SELECT id, json_build_object('id', id, 'g', 'new', 'note', note) FROM large`))
	if diff := cmp.Diff([]int{64, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 436}, seen.sizes(small)); diff != "" {
		t.Errorf("small rows of each request (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{2, 2, 1, 2, 2, 2, 2, 2}, seen.sizes(large)); diff != "" {
		t.Errorf("large rows of each request (-want +got):\n%s", diff)
	}
}
