package reindex

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"tidemark/indexer"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// A keyed table has a key of some type. The rows' keys are given by an expression of i,
// which counts from 1.
type keyedTable struct {
	name, setup string
	columns     string // of the key, with their types
	key, value  string
	rows        int    // default 45
	more        string // further keys
}

func keyedTables(t testing.TB) []keyedTable {
	tables := []keyedTable{
		{name: "k_int", columns: `k int`, value: `i - 20`},
		{name: "k_bigint", columns: `k bigint`, value: `(i - 20) * 300000000000000000`},
		{name: "k_text", columns: `k text`, value: `chr(64 + i) || ' "' || i`, more: `(''), ('ünï'), ('~'), (E'\\\'\n')`},
		{name: "k_icu", columns: `k text COLLATE "en-x-icu"`, value: `(array['a', 'A', 'ä', 'Z', 'z', '-', '10', '9'])[1 + i % 8] || i`},
		{name: "k_c", columns: `k varchar(10) COLLATE "C"`, value: `(array['a', 'A', 'ä', 'Z', 'z', '-', '10', '9'])[1 + i % 8] || i`},
		{name: "k_caseless", setup: `CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
			columns: `k text COLLATE caseless`, value: `(array['a', 'B', 'c', 'D'])[1 + i % 4] || i`},
		{name: "k_char", columns: `k char(5)`, value: `chr(64 + i)`, more: `('')`},
		{name: "k_uuid", columns: `k uuid`, value: `md5(i::text)::uuid`},
		{name: "k_timestamptz", columns: `k timestamptz`, value: `'2026-01-01'::timestamptz + i * interval '1 day 0.000001 s'`, more: `('infinity'), ('-infinity'), ('0044-03-15 BC')`},
		{name: "k_date", columns: `k date`, value: `'2026-01-31'::date + i`, more: `('infinity'), ('-infinity'), ('0044-03-15 BC')`},
		{name: "k_numeric", columns: `k numeric`, value: `i * 1.10`, more: `('NaN'), (123456789012345678901234567890.5), (-0.001)`},
		{name: "k_float", columns: `k float8`, value: `i * 0.1`, more: `('NaN'), ('Infinity'), ('-Infinity'), (-0.0), (1e-300)`},
		{name: "k_enum", setup: `DO $$ BEGIN EXECUTE 'CREATE TYPE letters AS ENUM (' || (SELECT string_agg(quote_literal(chr(110 - i)), ', ') FROM generate_series(1, 45) i) || ')'; END $$`,
			columns: `k letters`, value: `chr(64 + i)::letters`},
		{name: "k_domain", setup: `CREATE DOMAIN code AS text COLLATE "C" CHECK (value <> 'x'); CREATE DOMAIN codes AS code`, columns: `k codes`, value: `chr(64 + i) || 'x'`},
		{name: "k_bytea", columns: `k bytea`, value: `decode(md5(i::text), 'hex')`, more: `('')`},
		{name: "k_interval", columns: `k interval`, value: `i * interval '1 mon 2 days 03:04:05.6'`, more: `('1 day'), ('-1 mon')`},
		{name: "k_inet", columns: `k inet`, value: `('10.0.0.' || i)::inet`, more: `('10.0.0.1/24'), ('::1')`},
		{name: "k_array", columns: `k text[]`, value: `array[i::text, '"', NULL, ',']`, more: `('{}')`},
		{name: "k_range", columns: `k int4range`, value: `int4range(i, i + 5)`, more: `('empty'), ('(,5)')`},
		{name: "k_jsonb", columns: `k jsonb`, value: `jsonb_build_object('a"', i)`, more: `('null'), ('[]')`},
		{name: "k_composite", columns: `v0 text, b text, a int`, key: `a, b`, value: `'x', 'b|' || i, i % 4`},
		{name: "k_mixed", columns: `a boolean, "B b" uuid, "order" timestamptz, d char(3)`, key: `a, "order", "B b", d`,
			value: `i % 2 = 0, md5(i::text)::uuid, '2026-01-01'::timestamptz + (i % 3) * interval '1 s', 'x'`},
		{name: "k_skewed", columns: `a int, b int`, key: `a, b`, value: `1, i`},
	}
	for i := range tables {
		k := &tables[i]
		if k.key == "" {
			k.key = "k"
		}
		if k.rows == 0 {
			k.rows = 45
		}
	}
	db := testenv.NewDatabase(t)
	var citext bool
	if err := db.DB.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citext')`).Scan(&citext); err != nil {
		t.Fatal(err)
	}
	if citext {
		value := `(array['a', 'B', 'c', 'D'])[1 + i % 4] || i`
		tables = append(tables,
			keyedTable{name: "k_citext", setup: `CREATE SCHEMA "Ex.t"; CREATE EXTENSION citext SCHEMA "Ex.t"`, columns: `k "Ex.t".citext`, key: `k`, value: value, rows: 45},
			keyedTable{name: "k_citext2", setup: `CREATE DOMAIN caseless_code AS "Ex.t".citext`, columns: `a caseless_code, b int, c "Ex.t".citext`, key: `b, a, c`, value: value + `, i % 3, ` + value, rows: 45})
	}
	return tables
}

// make makes the table with its rows.
func (k *keyedTable) make(t testing.TB, db *testenv.Database, rows int) {
	t.Helper()
	db.Exec(t, k.setup, fmt.Sprintf(`CREATE TABLE %s (%s, v int, PRIMARY KEY (%s))`, k.name, k.columns, k.key),
		fmt.Sprintf(`INSERT INTO %s SELECT %s FROM generate_series(1, %d) i`, k.name, k.value, rows))
	if k.more != "" {
		db.Exec(t, fmt.Sprintf(`INSERT INTO %s VALUES %s`, k.name, k.more))
	}
}

// Tables with keys of every kind of type are backfilled whole, by several chunks.
func TestBackfillKeys(t *testing.T) {
	t.Parallel()
	tables := slices.DeleteFunc(keyedTables(t), func(k keyedTable) bool { // an index takes its time, and these are like others
		return slices.Contains([]string{"k_c", "k_date", "k_bytea", "k_interval", "k_inet", "k_array", "k_range", "k_jsonb", "k_skewed"}, k.name)
	})
	var indices strings.Builder
	for _, k := range tables {
		fmt.Fprintf(&indices, "PREFIX%s: {table: %s, reindex: {chunk: 10}}\n", k.name, k.name)
	}
	r := newRig(t, indices.String())
	for _, k := range tables {
		k.make(t, r.db, k.rows)
	}
	var chunks atomic.Int64 // tables are read at the same time
	p := r.start(t, options{stored: func(int64) { chunks.Add(1) }})
	p.complete(t)
	if chunks.Load() < int64(5*len(tables)) {
		t.Errorf("%d chunks for %d tables", chunks.Load(), len(tables))
	}
	for _, k := range tables {
		t.Run(k.name, func(t *testing.T) {
			r.check(t, k.name)
			r.settled(t, k.name)
		})
	}
}

// A plan is a node of what EXPLAIN says.
type plan struct {
	Kind    string  `json:"Node Type"`
	Rows    float64 `json:"Actual Rows"`
	Removed float64 `json:"Rows Removed by Filter"`
	Cond    string  `json:"Index Cond"`
	Filter  string
	Plans   []plan
}

// A chunk costs as much in the middle of a large table as at its beginning: it is read along the
// key's index from where the last one ended, and so is where it ends itself.
func TestChunkPlan(t *testing.T) {
	t.Parallel()
	tables := keyedTables(t)
	tables = slices.DeleteFunc(tables, func(k keyedTable) bool { return strings.HasPrefix(k.name, "k_enum") || k.name == "k_inet" }) // have few values
	tables = slices.DeleteFunc(tables, func(k keyedTable) bool { return k.name == "k_citext2" })                                     // filters, see afterCondition
	for i := range tables {
		k := &tables[i]
		k.value = strings.NewReplacer(`chr(64 + i)`, `to_char(i, 'FM00000')`, `300000000000000000`, `1`).Replace(k.value)
	}
	tables = append(tables, keyedTable{name: "k_parted", columns: `k int`, key: `k`, value: `i`})
	db := testenv.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, k := range tables {
		t.Run(k.name, func(t *testing.T) {
			const rows, limit = 20_000, 100
			if k.name == "k_parted" {
				db.Exec(t, `CREATE TABLE k_parted (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
					CREATE TABLE k_parted1 PARTITION OF k_parted FOR VALUES FROM (0) TO (9950); CREATE TABLE k_parted2 PARTITION OF k_parted FOR VALUES FROM (9950) TO (30000);
					INSERT INTO k_parted SELECT i, i FROM generate_series(1, 20000) i`)
			} else {
				k.make(t, db, rows)
			}
			db.Exec(t, "ANALYZE "+k.name)
			table, err := catalog.LoadTable(t.Context(), db.DB, "public", k.name)
			if err != nil {
				t.Fatal(err)
			}
			source := &mapping.Source{Index: &mapping.Index{Name: table.Name}, Table: table.TableName()}
			source.Index.Sources = []*mapping.Source{source}
			rowPlan, err := indexer.NewRowPlan(&indexer.Documents{Index: source.Index}, source, catalog.Tables{source.Table: table})
			if err != nil {
				t.Fatal(err)
			}
			middle := conn.PgConn().ExecParams(t.Context(), fmt.Sprintf("SELECT %s FROM %s ORDER BY %s OFFSET 10000 LIMIT 1", k.key, k.name, k.key), nil, nil, nil, nil).Read()
			if middle.Err != nil {
				t.Fatal(middle.Err)
			}
			rest := &indexer.Pager{Plan: rowPlan, Key: table.PrimaryKey, Cursor: middle.Rows[0], NextRows: limit}
			boundary, bounds := rest.Boundary()
			end := conn.PgConn().ExecParams(t.Context(), boundary, bounds, nil, nil, nil).Read()
			if end.Err != nil || len(end.Rows) != 1 {
				t.Fatalf("%s: %d rows, %v", boundary, len(end.Rows), end.Err)
			}
			span := rest.Cut(end.Rows[0])
			along := []string{"Limit", "Index Scan", "Index Only Scan", "Append", "Merge Append"}
			for _, statement := range []struct {
				query string
				args  [][]byte
				kinds []string
			}{
				{boundary, bounds, along},
				{(&indexer.Pager{Plan: rowPlan, Key: rest.Key, Cursor: middle.Rows[0], NextRows: limit}).Query(rowPlan), middle.Rows[0], along},
				{span.Next().Query, span.Next().Args, append(along, "Sort", "Bitmap Heap Scan", "Bitmap Index Scan")}, // of what is between two keys
			} {
				explained := conn.PgConn().ExecParams(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+statement.query, statement.args, nil, nil, nil).Read()
				if explained.Err != nil {
					t.Fatal(explained.Err)
				}
				var answer []struct{ Plan plan }
				if err := json.Unmarshal(explained.Rows[0][0], &answer); err != nil {
					t.Fatal(err)
				}
				var walk func(p plan)
				walk = func(p plan) {
					if !slices.Contains(statement.kinds, p.Kind) || p.Rows > limit || p.Removed > 0 || p.Filter != "" {
						t.Errorf("%s reads %v rows and drops %v by %s, condition %s", p.Kind, p.Rows, p.Removed, p.Filter, p.Cond)
					}
					for _, below := range p.Plans {
						walk(below)
					}
				}
				if walk(answer[0].Plan); t.Failed() {
					t.Logf("%s", explained.Rows[0][0])
				}
			}
		})
	}
}

// How many rows a chunk has follows from how long they take, and grows to what the mapping has.
func TestChunkTimes(t *testing.T) {
	const row = 100 // bytes
	for _, test := range []struct {
		name              string
		most, limit, rows int
		took              time.Duration
		want              int
	}{
		{"the first one", 10_000, indexer.FirstChunk, indexer.FirstChunk, 0, 4000},
		{"the second one", 10_000, 4000, 4000, 0, 10_000},
		{"at once", 10_000, 10_000, 10_000, 0, 10_000},
		{"as long as it may", 10_000, 10_000, 10_000, indexer.ChunkTime, 10_000},
		{"twice as long", 10_000, 10_000, 10_000, 2 * indexer.ChunkTime, 5000},
		{"a hundred times as long", 10_000, 1000, 1000, 100 * indexer.ChunkTime, indexer.SlowChunk},
		{"faster again", 10_000, indexer.SlowChunk, indexer.SlowChunk, indexer.ChunkTime / 8, 4 * indexer.SlowChunk},
		{"half as long", 10_000, 2000, 2000, indexer.ChunkTime / 2, 4000},
		{"few rows at the end", 10_000, 10_000, 1, indexer.ChunkTime, indexer.SlowChunk},
		{"less is wanted", 10, 10, 10, time.Hour, 10},
	} {
		c := &indexer.Pager{MaxRows: test.most, NextRows: test.limit}
		if got := c.Fitting(test.rows, test.rows*row, test.took); got != test.want {
			t.Errorf("%s: %d rows, want %d", test.name, got, test.want)
		}
	}
}

// How many rows a chunk has follows from what they weigh. There are less than slowChunk, so
// that a slow machine changes nothing.
func TestChunkSizes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, statement string
		chunk           int
		want            []int64
	}{
		{"empty", ``, 10_000, nil},
		{"one row more than a chunk", `INSERT INTO t SELECT i, 'x' FROM generate_series(1, 11) i`, 5, []int64{5, 5, 1}},
		{"a whole number of chunks", `INSERT INTO t SELECT i, 'x' FROM generate_series(1, 10) i`, 5, []int64{5, 5}},
		{"one by one", `INSERT INTO t SELECT i, 'x' FROM generate_series(1, 3) i`, 1, []int64{1, 1, 1}},
		{"heavy", `INSERT INTO t SELECT i, repeat('x', 200000) FROM generate_series(1, 60) i`, 10_000, []int64{20, 15, 15, 10}},
		{"heavier than a chunk", `INSERT INTO t SELECT i, repeat('x', 9000000) FROM generate_series(1, 3) i`, 10_000, []int64{1, 1, 1}},
		{"heavy, then light", `INSERT INTO t SELECT i, repeat('x', 9000000) FROM generate_series(1, 2) i; INSERT INTO t SELECT i, 'x' FROM generate_series(3, 40) i`,
			10_000, []int64{1, 1, 1, 4, 16, 17}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, fmt.Sprintf(`PREFIXt: {table: t, reindex: {chunk: %d}}`, test.chunk), `CREATE TABLE t (id int PRIMARY KEY, v text)`, test.statement)
			var got []int64
			p := r.start(t, options{stored: func(n int64) { got = append(got, n) }})
			p.complete(t)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("rows of the chunks (-want +got):\n%s", diff)
			}
			r.check(t, "t")
			r.settled(t, "t")
			if st := r.state(t, "t"); st.Done != query[int64](t, r.db, "SELECT count(*) FROM t") || st.FinishedAt.IsZero() {
				t.Errorf("the state has %d rows, finished %s", st.Done, st.FinishedAt)
			}
		})
	}
}

// TestMaxRows holds a backfill against its bound: of 300 rows, 100 in the first second.
func TestMaxRows(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {max_rows_per_second: 100}}`, tableT, rowsT(300))
	start := time.Now()
	r.start(t, options{}).complete(t)
	if took := time.Since(start); took < 1900*time.Millisecond {
		t.Errorf("300 rows took %s at 100 a second", took)
	}
	r.check(t, "t")
}
