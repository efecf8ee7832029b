package e2e

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"tidemark/testenv"
)

// newOrders has documents of rows with keys of several columns of several types, with
// related rows by such keys, routed; and documents of partitioned tables with each other's
// rows in them.
func newOrders(t *testing.T, search *testenv.SearchServer) *setup {
	t.Helper()
	s := newSetup(t, search)
	s.db.Exec(t, `
		CREATE TYPE kind AS ENUM ('web', 'sh|op');
		CREATE TABLE orders (kind kind, at timestamptz, no numeric(10,2), tenant uuid, v text, PRIMARY KEY (no, kind, at));
		ALTER TABLE orders REPLICA IDENTITY FULL;
		INSERT INTO orders SELECT CASE i % 2 WHEN 0 THEN 'web' ELSE 'sh|op' END::kind, '2026-01-31 12:00+01'::timestamptz + i * interval '1.000001 day', i / 4.0, md5((i % 5)::text)::uuid, 'v' || i FROM generate_series(1, 200) i;
		CREATE TABLE line (kind kind, at timestamptz, no numeric(10,2), n int, v text, PRIMARY KEY (kind, at, no, n),
			FOREIGN KEY (no, kind, at) REFERENCES orders (no, kind, at) ON UPDATE CASCADE ON DELETE CASCADE);
		INSERT INTO line SELECT kind, at, no, n, v || '.' || n FROM orders, generate_series(1, 3) n;

		CREATE TABLE area (region text, id int, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
		CREATE TABLE area_a PARTITION OF area FOR VALUES IN ('a');
		CREATE TABLE area_b PARTITION OF area FOR VALUES IN ('b');
		CREATE TABLE shop (id int PRIMARY KEY, region text, area int, v text) PARTITION BY RANGE (id);
		CREATE TABLE shop_1 PARTITION OF shop FOR VALUES FROM (1) TO (100); CREATE TABLE shop_2 PARTITION OF shop FOR VALUES FROM (100) TO (200);
		ALTER TABLE shop_1 REPLICA IDENTITY FULL; ALTER TABLE shop_2 REPLICA IDENTITY FULL;
		INSERT INTO area SELECT chr(97 + i % 2), i, 'area ' || i FROM generate_series(1, 20) i;
		INSERT INTO shop SELECT i, chr(98 - i % 2), i % 20 + 1, 'shop ' || i FROM generate_series(1, 199) i`)
	s.index("orders", "orders", `, routing: tenant, settings: {number_of_shards: 4}, include: {lines: {table: line, on: {no: no, kind: kind, at: at}, many: object, fields: [n, v]}}`,
		testenv.WithRouting("tenant"), testenv.WithQuery(`
		SELECT no || '|' || replace(kind::text, '|', '~|') || '|' || at, tenant, json_build_object('kind', kind, 'at', regexp_replace(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.?0+$', '') || 'Z', 'no', no, 'tenant', tenant, 'v', v,
			'lines', coalesce((SELECT json_agg(json_build_object('n', n, 'v', v) ORDER BY n) FROM line l WHERE (l.no, l.kind, l.at) = (o.no, o.kind, o.at)), '[]')) FROM orders o`))
	s.index("areas", "area", `, include: {shops: {table: shop, on: {region: region, id: area}, value: v}}`, testenv.WithQuery(`
		SELECT region || '|' || id, json_build_object('region', region, 'id', id, 'v', v, 'shops', coalesce((SELECT json_agg(s.v ORDER BY s.id) FROM shop s WHERE (s.region, s.area) = (a.region, a.id)), '[]')) FROM area a`))
	s.index("shops", "shop", `, fields: [v], include: {area: {table: area, on: {region: region, area: id}, value: v}}`, testenv.WithQuery(`
		SELECT id, json_build_object('v', v, 'area', (SELECT a.v FROM area a WHERE (s.region, s.area) = (a.region, a.id))) FROM shop s`))
	return s
}

// TestRelatedKeys changes keys, routing and links of rows that are documents and of rows
// that are in documents, and moves them between partitions.
func TestRelatedKeys(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newOrders(t, testenv.SharedSearch(t, e))
		i := s.start(t, "run")
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
		for _, change := range []struct{ name, sql string }{
			{"keys that take their lines along", `UPDATE orders SET no = -no WHERE no BETWEEN 5 AND 8; UPDATE orders SET at = at + interval '1 microsecond', kind = 'web' WHERE no BETWEEN 10 AND 12`},
			{"routing", `UPDATE orders SET tenant = md5('x')::uuid WHERE no BETWEEN 15 AND 18; UPDATE orders SET tenant = NULL WHERE no BETWEEN 18 AND 20; UPDATE orders SET tenant = md5('y')::uuid, no = no + 1000 WHERE no BETWEEN 21 AND 22`},
			{"routing, and lines", `BEGIN; UPDATE line SET v = 'one' WHERE no = 23; UPDATE orders SET tenant = md5('z')::uuid WHERE no = 23; UPDATE line SET v = 'two' WHERE no = 23; COMMIT; UPDATE line SET v = v || '!' WHERE no = 24; UPDATE orders SET tenant = NULL WHERE no = 24`},
			{"lines that move", `INSERT INTO orders VALUES ('web', '2026-01-01', 5000, NULL, 'new'); UPDATE line SET (kind, at, no, n) = ('web'::kind, '2026-01-01'::timestamptz, 5000::numeric, n + (100 * no)::int) WHERE no BETWEEN 25 AND 26; DELETE FROM line WHERE no = 27`},
			{"rows deleted with their lines", `DELETE FROM orders WHERE no BETWEEN 30 AND 35; DELETE FROM orders WHERE no = 36; INSERT INTO orders VALUES ('web', '2026-01-01', 36, NULL, 'again')`},
			{"key given to another row", `BEGIN; DELETE FROM orders WHERE no = 40; UPDATE orders SET (no, kind, at, tenant) = (40, 'web', '2026-02-02', md5('w')::uuid) WHERE no = 41; COMMIT; UPDATE orders SET no = 41 WHERE no = 40`},
			{"truncated with what refers to it", `TRUNCATE orders CASCADE; INSERT INTO orders VALUES ('web', '2026-01-01', 1, NULL, 'first'); INSERT INTO line VALUES ('web', '2026-01-01', 1, 1, 'line')`},
			{"rows between partitions", `DELETE FROM shop WHERE id BETWEEN 150 AND 160; UPDATE shop SET id = id + 100, v = 'moved' WHERE id BETWEEN 50 AND 60;
				UPDATE area SET region = 'b' WHERE region = 'a' AND id < 5; UPDATE shop SET region = 'b' WHERE area < 3; UPDATE shop SET area = NULL WHERE area = 7`},
			{"a new partition", `CREATE TABLE shop_3 PARTITION OF shop FOR VALUES FROM (200) TO (300); ALTER TABLE shop_3 REPLICA IDENTITY FULL; INSERT INTO shop SELECT i, 'b', 9, 'new ' || i FROM generate_series(200, 210) i;
				UPDATE shop SET v = 'changed' WHERE id = 205; UPDATE shop SET id = 211 WHERE id = 10; DELETE FROM shop_3 WHERE id = 207`},
			{"an empty partition attached", `CREATE TABLE area_c (LIKE area INCLUDING ALL); ALTER TABLE area ATTACH PARTITION area_c FOR VALUES IN ('c'); INSERT INTO area VALUES ('c', 1, 'in a new partition'); UPDATE shop SET region = 'c', area = 1 WHERE id < 5; UPDATE area_c SET v = 'changed'`},
		} {
			t.Run(strings.ReplaceAll(change.name, " ", "-"), func(t *testing.T) {
				s.db.Exec(t, change.sql)
				s.awaitCaughtUp(t, i)
				s.checkSynced(t)
			})
		}
		// The catalog does not tell this from partitions that were truncated by themselves, so
		// what is done to the stream's documents is done by a rebuild as well.
		s.db.Exec(t, `TRUNCATE shop; INSERT INTO shop SELECT i, 'a', 6, 'again' FROM generate_series(95, 105) i`)
		i.poll(t, "the table is truncated", func(ctx context.Context) error { return s.equal(ctx) })
		i.stop(t)
		s.once(t)
		s.checkSynced(t)
	})
}

// TestPartitionsComeAndGo does to partitions what is not in the stream of their table. It is
// followed, while an instance runs and after one was away, also where documents have rows of
// partitions inside.
func TestPartitionsComeAndGo(t *testing.T) {
	t.Parallel()
	s := newOrders(t, shared(t))
	delete(s.indices, "orders")
	s.index("flat", "shop", "")
	s.once(t)
	i := s.start(t, "run")
	i.awaitLog(t, "following the slot")
	s.db.Exec(t, `ALTER TABLE shop DETACH PARTITION shop_1`, `UPDATE shop_1 SET v = 'nobody sees it'`, `TRUNCATE shop_2`, `DROP TABLE area_b`,
		`CREATE TABLE area_d (LIKE area INCLUDING ALL)`, `INSERT INTO area_d VALUES ('d', 1, 'brought along')`, `ALTER TABLE area ATTACH PARTITION area_d FOR VALUES IN ('d')`,
		`INSERT INTO area VALUES ('d', 2, 'followed')`, `INSERT INTO shop VALUES (150, 'd', 2, 'followed')`,
		`CREATE TABLE shop_9 PARTITION OF shop FOR VALUES FROM (900) TO (901)`)
	i.poll(t, "the indices follow the partitions", func(ctx context.Context) error { return s.equal(ctx) })
	// The last one lacks what an update of its rows would need.
	if line := i.awaitLog(t, "the mapping does not fit the table any more"); !strings.Contains(line, "replica identity") || !strings.Contains(line, "REPLICA IDENTITY") {
		t.Errorf("it says %s", line)
	}
	s.db.Exec(t, `ALTER TABLE shop_9 REPLICA IDENTITY FULL`)
	i.kill()
	s.db.Exec(t, `ALTER TABLE shop ATTACH PARTITION shop_1 FOR VALUES FROM (0) TO (100)`, `UPDATE shop SET v = 'again' WHERE id = 7`, `TRUNCATE area_d`)
	s.once(t)
	s.checkSynced(t)
}

// equal compares these indices with their tables, all if none are named.
func (s *setup) equal(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		names = slices.Collect(maps.Keys(s.indices))
	}
	for _, name := range names {
		report, err := testenv.NewChecker(s.db, s.search, s.alias(name), s.tables[name], s.options[name]...).Check(ctx)
		if err != nil {
			return err
		}
		if !report.Equal() {
			return fmt.Errorf("index %s: %s", name, report)
		}
	}
	return nil
}

// fix does what the command asks for when it refuses to start, as psql would.
func (s *setup) fix(t *testing.T, i *instance) {
	t.Helper()
	said := strings.ReplaceAll(i.tail(100), "hint: ", "")
	found := regexp.MustCompile(`(?m)^\s*((?:ALTER TABLE|SELECT format).*(?:;|\\gexec))\s*$`).FindAllStringSubmatch(said, -1)
	if len(found) == 0 {
		t.Fatalf("no statement to fix it:\n%s", said)
	}
	for _, m := range found {
		query, generated := strings.CutSuffix(m[1], `\gexec`)
		t.Logf("fixed: %s", m[1])
		if !generated {
			s.db.Exec(t, query)
			continue
		}
		rows, err := s.db.DB.QueryContext(t.Context(), query)
		must(t, err)
		var statements []string
		for rows.Next() {
			var statement string
			must(t, rows.Scan(&statement))
			statements = append(statements, statement)
		}
		must(t, rows.Err())
		s.db.Exec(t, statements...)
	}
}

// TestReplicaIdentity has tables of every replica identity, as documents and within them:
// what does not tell enough is refused, and what is said to fix it does.
func TestReplicaIdentity(t *testing.T) {
	t.Parallel()
	const (
		tables = `CREATE TABLE p (id int PRIMARY KEY, code text NOT NULL, tenant text NOT NULL, v text); CREATE UNIQUE INDEX p_code ON p (code); CREATE UNIQUE INDEX p_all ON p (code, tenant);
			CREATE TABLE c (id int PRIMARY KEY, code text NOT NULL, v text); CREATE UNIQUE INDEX c_code ON c (id, code); CREATE INDEX ON c (code);
			CREATE TABLE parted (id int PRIMARY KEY, code text, v text) PARTITION BY RANGE (id); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100); CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
			INSERT INTO p SELECT i, 'c' || i, 't' || i % 3, 'v' FROM generate_series(1, 60) i; INSERT INTO c SELECT i, 'c' || i / 3, 'v' || i FROM generate_series(1, 190) i; INSERT INTO parted SELECT * FROM c`
		changes = `UPDATE p SET v = 'new' WHERE id < 10; DELETE FROM p WHERE id = 20; UPDATE p SET id = -id WHERE id = 21; UPDATE p SET code = 'x' || code WHERE id = 22; UPDATE p SET tenant = 'new' WHERE id BETWEEN 23 AND 26;
			UPDATE c SET v = 'new' WHERE id BETWEEN 90 AND 100; UPDATE c SET code = 'c50' WHERE id BETWEEN 110 AND 115; DELETE FROM c WHERE id = 120; UPDATE c SET id = -id WHERE id = 125;
			UPDATE parted SET v = 'new' WHERE id BETWEEN 90 AND 110; UPDATE parted SET code = 'c50' WHERE id BETWEEN 115 AND 120; DELETE FROM parted WHERE id = 130; UPDATE parted SET id = -id WHERE id = 140`
	)
	byCode := func(table string) string {
		return fmt.Sprintf(`include: {cs: {table: %s, on: {code: code}, value: v}}`, table)
	}
	tests := []struct {
		name, identity string
		more           string // of the index of p
		id             string // SQL
		routed         bool
		refused        string // "": it is not
	}{
		{name: "default", id: "id"},
		{name: "nothing", identity: `ALTER TABLE p REPLICA IDENTITY NOTHING`, id: "id", refused: "table public.p has no replica identity"},
		{name: "index without the key", identity: `ALTER TABLE p REPLICA IDENTITY USING INDEX p_code`, id: "id", refused: "does not hold all of id"},
		{name: "index that is the id", identity: `ALTER TABLE p REPLICA IDENTITY USING INDEX p_code`, more: ", id: [code]", id: "code"},
		{name: "index that is the id, without the routing", identity: `ALTER TABLE p REPLICA IDENTITY USING INDEX p_code`, more: ", id: [code], routing: tenant", id: "code", routed: true, refused: "does not hold tenant"},
		{name: "index with the routing", identity: `ALTER TABLE p REPLICA IDENTITY USING INDEX p_all`, more: ", id: [code], routing: tenant", id: "code", routed: true},
		{name: "full", identity: `ALTER TABLE p REPLICA IDENTITY FULL`, more: ", routing: tenant", id: "id", routed: true},
		{name: "related default", more: ", " + byCode("c"), id: "id", refused: "the replica identity of table public.c does not hold code"},
		{name: "related nothing", identity: `ALTER TABLE c REPLICA IDENTITY NOTHING`, more: ", " + byCode("c"), id: "id", refused: "table public.c"},
		{name: "related index", identity: `ALTER TABLE c REPLICA IDENTITY USING INDEX c_code`, more: ", " + byCode("c"), id: "id"},
		{name: "related full", identity: `ALTER TABLE c REPLICA IDENTITY FULL`, more: ", " + byCode("c"), id: "id"},
		{name: "related partitions", more: ", " + byCode("parted"), id: "id", refused: "the replica identity of table public.parted does not hold code"},
		{name: "related partitions, one of them full", identity: `ALTER TABLE parted_1 REPLICA IDENTITY FULL`, more: ", " + byCode("parted"), id: "id", refused: "table public.parted"},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			s := newSetup(t, shared(t))
			s.db.Exec(t, tables, test.identity)
			cs := ""
			for _, table := range []string{"c", "parted"} {
				if strings.Contains(test.more, "table: "+table) {
					cs = fmt.Sprintf(`, 'cs', coalesce((SELECT json_agg(c.v ORDER BY c.id) FROM %s c WHERE c.code = p.code), '[]')`, table)
				}
			}
			query, options := `SELECT `+test.id, []testenv.CheckOption(nil)
			if test.routed {
				query, options = query+", tenant", append(options, testenv.WithRouting("tenant"))
			}
			query += `, json_build_object('id', id, 'code', code, 'tenant', tenant, 'v', v` + cs + `) FROM p`
			s.index("p", "p", test.more, append(options, testenv.WithQuery(query))...)
			if test.refused != "" {
				i := s.start(t, "run")
				if code := i.wait(t); code != 2 || !strings.Contains(i.tail(100), test.refused) {
					t.Fatalf("exit code %d, want 2 and %q:\n%s", code, test.refused, i.tail(20))
				}
				s.fix(t, i)
			}
			s.once(t)
			s.checkSynced(t)
			s.db.Exec(t, changes)
			s.once(t)
			s.checkSynced(t)
		})
	}
}

// TestReplicaIdentityTakenAway has somebody make a table's replica identity smaller while
// the command runs. It stops at the first change that does not tell enough, and is fixed
// as it says.
func TestReplicaIdentityTakenAway(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"a", "b"} {
		t.Run(table, func(t *testing.T) {
			s := newAltered(t)
			s.db.Exec(t, `ALTER TABLE a ADD CONSTRAINT n UNIQUE (n)`, `ALTER TABLE a ALTER n SET NOT NULL`)
			s.once(t)
			i := s.start(t, "run")
			i.awaitLog(t, "following the slot")
			identity := map[string]string{"a": "USING INDEX n", "b": "DEFAULT"}[table]
			s.db.Exec(t, fmt.Sprintf(`ALTER TABLE %s REPLICA IDENTITY %s`, table, identity), fmt.Sprintf(`UPDATE %s SET id = -id WHERE id = 7`, table))
			i.fail(t, 1, "public."+table+" was changed while column", "hint: ALTER TABLE public."+table+" REPLICA IDENTITY FULL, drop the replication slot, and start with on_slot_lost: reindex")
			s.db.Exec(t, fmt.Sprintf(`ALTER TABLE public.%s REPLICA IDENTITY FULL`, table))
			s.start(t, "run").fail(t, 1, "was changed while column") // what was logged stays as it is
			s.dropSlot(t)
			s.top = "on_slot_lost: reindex"
			s.once(t)
			s.checkSynced(t)
		})
	}
}

// TestCategory changes a row that all of very many documents have in them, as many as the stream waits for
// by its bound, and kills the command in the middle: the change is not confirmed before all of them are stored.
func TestCategory(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE category (id int PRIMARY KEY, name text)`, `INSERT INTO category VALUES (1, 'old')`,
		`CREATE TABLE product (id int PRIMARY KEY, category int, title text)`, `INSERT INTO product SELECT i, 1, 'title ' || repeat(md5(i::text), 30) FROM generate_series(1, 20000) i`, `CREATE INDEX ON product (category)`)
	s.index("products", "product", `, include: {category: {table: category, on: {category: id}, value: name}}`,
		testenv.WithQuery(`SELECT id, json_build_object('id', id, 'title', title, 'category', (SELECT name FROM category c WHERE c.id = category)) FROM product`))
	s.top = "indexer: {fan_out: 20000}"
	proxy := s.search.NewProxy(t)
	s.searchURL = proxy.URL
	i := s.startBinary(t, plainBinary(t), "run")
	s.awaitCaughtUp(t, i)
	before := i.peak(t)

	var requests atomic.Int64
	held := proxy.Inject(testenv.Hold(0, func(r *testenv.Request) bool { return r.IsBulk() && requests.Add(1) > 3 }))
	s.db.Exec(t, `UPDATE category SET name = 'new'`)
	var committed string
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT pg_current_wal_insert_lsn()::text`).Scan(&committed))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, held.Await(ctx, 1))
	var confirmed bool
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`, committed, s.slot).Scan(&confirmed))
	if confirmed {
		t.Error("the change is confirmed before all documents are stored")
	}
	i.kill()
	held.Lift()

	i = s.startBinary(t, plainBinary(t), "run")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	s.db.Exec(t, `UPDATE category SET name = 'newer'`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	peak := i.peak(t)
	t.Logf("peak of memory: %d MB after the backfill, %d MB after the changes of 20,000 documents", before>>20, peak>>20)
	if peak > 100<<20 {
		t.Errorf("peak of memory is %d MB, want less than 100", peak>>20)
	}
	i.stop(t)
}
