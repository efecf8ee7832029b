package reindex

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// partedTable has leaves of every kind, and 40 rows in each of a, b and c.
const partedTable = `
	CREATE TABLE t (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
	CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a', NULL);
	CREATE TABLE t_b PARTITION OF t FOR VALUES IN ('b') PARTITION BY RANGE (id);
	CREATE TABLE t_b1 PARTITION OF t_b FOR VALUES FROM (0) TO (100);
	CREATE TABLE t_b2 PARTITION OF t_b FOR VALUES FROM (100) TO (1000);
	CREATE TABLE t_c PARTITION OF t FOR VALUES IN ('c') PARTITION BY HASH (id);
	CREATE TABLE t_c0 PARTITION OF t_c FOR VALUES WITH (modulus 2, remainder 0);
	CREATE TABLE t_c1 PARTITION OF t_c FOR VALUES WITH (modulus 2, remainder 1);
	INSERT INTO t SELECT i, r, r || i FROM unnest('{a,b,c}'::text[]) r, generate_series(80, 119) i`

// partitionsApplied waits until an index is noted to be as the partitions are now.
func (r *rig) partitionsApplied(t *testing.T, p *process, index string) {
	t.Helper()
	ix := r.config(t).Indices[0]
	await(t, "index "+index+" is as the partitions are", func() bool {
		table, err := catalog.LoadTable(t.Context(), r.db.DB, "public", "t")
		if err != nil {
			t.Fatal(err)
		}
		tables := catalog.Tables{{Schema: "public", Name: "t"}: table, {Schema: "public", Name: "u"}: {}}
		tables.Follow(ix.WithChildren())
		now, err := readPartitions(t.Context(), r.db.DB, ix, tables, mapping.DefaultPublication)
		if err != nil {
			t.Fatal(err)
		}
		text, err := now.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return r.state(t, index).Live.Partitions == text
	})
	p.settle(t)
}

// TestPartitions does to partitions what is not in the stream, one thing after the other,
// while a process runs and while none does.
func TestPartitions(t *testing.T) {
	t.Parallel()
	changes := []struct {
		name, sql string
		requests  int // that it takes
	}{
		{"truncated", `TRUNCATE t_a`, 0},
		{"detached", `ALTER TABLE t_b DETACH PARTITION t_b1`, 0},
		{"attached with rows", `UPDATE t_b1 SET v = 'changed apart'; ALTER TABLE t_b ATTACH PARTITION t_b1 FOR VALUES FROM (0) TO (100)`, 1},
		{"detached, changed and attached at once", `ALTER TABLE t_b DETACH PARTITION t_b1; UPDATE t_b1 SET v = 'at once'; DELETE FROM t_b1 WHERE id = 85; ALTER TABLE t_b ATTACH PARTITION t_b1 FOR VALUES FROM (0) TO (100)`, 1},
		{"dropped", `DROP TABLE t_b2`, 0},
		{"a new one", `CREATE TABLE t_b3 PARTITION OF t_b FOR VALUES FROM (100) TO (200)`, 0},
		{"rows by the stream", `INSERT INTO t VALUES (120, 'b', 'streamed')`, 0},
		{"a new one with rows by the stream", `CREATE TABLE t_b4 PARTITION OF t_b FOR VALUES FROM (200) TO (300); INSERT INTO t VALUES (220, 'b', 'streamed'); UPDATE t SET v = 'again' WHERE id = 220`, 0},
		{"a branch detached", `ALTER TABLE t DETACH PARTITION t_c`, 0},
		{"a branch attached", `UPDATE t_c SET v = 'apart'; ALTER TABLE t ATTACH PARTITION t_c FOR VALUES IN ('c')`, 2},
		{"all in one transaction", `CREATE TABLE t_f (LIKE t INCLUDING ALL);INSERT INTO t_f VALUES (1, 'f', 'before');ALTER TABLE t ATTACH PARTITION t_f FOR VALUES IN ('f')`, 1},
		{"attached as the default", `CREATE TABLE t_d (LIKE t INCLUDING ALL); INSERT INTO t_d VALUES (1, 'x', 'brought'), (2, 'y', 'brought'); ALTER TABLE t ATTACH PARTITION t_d DEFAULT; INSERT INTO t VALUES (3, 'z', 'streamed')`, 1},
		{"written anew", `VACUUM FULL t_d`, 0},
		{"the table itself truncated", `TRUNCATE t; INSERT INTO t VALUES (90, 'b', 'after')`, 0},
		{"no partition left", `DROP TABLE t_a, t_b, t_c, t_d`, 0},
	}
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("away=%v", away), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `PREFIXt: {table: t}`, partedTable)
			o := options{serve: true, partitions: 20 * time.Millisecond}
			p := r.start(t, o)
			p.complete(t)
			finished := r.state(t, "t").FinishedAt
			for _, change := range changes {
				if away {
					p.crash()
				}
				before := query[int](t, r.db, `SELECT count(*) FROM dbsync_ctrl.requests`)
				r.db.Exec(t, strings.Split(change.sql, "; ")...) // each in a transaction of its own
				if away {
					p = r.start(t, o)
					p.complete(t)
				}
				r.partitionsApplied(t, p, "t")
				if n := query[int](t, r.db, `SELECT count(*) FROM dbsync_ctrl.requests`) - before; n != change.requests && !(away && n <= change.requests+1) {
					t.Errorf("%s: %d requests, want %d; the last one where %s", change.name, n, change.requests,
						query[string](t, r.db, `SELECT condition FROM dbsync_ctrl.requests ORDER BY id DESC LIMIT 1`))
				}
				r.check(t, "t", testenv.WithID("id", "region"))
				if t.Failed() {
					t.Fatalf("after: %s", change.name)
				}
			}
			if st := r.state(t, "t"); !st.FinishedAt.Equal(finished) {
				t.Error("the index was rebuilt")
			}
		})
	}
}

// TestRelatedPartitions has rows of partitions inside of documents: the index is rebuilt.
func TestRelatedPartitions(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXu: {table: u, include: {n: {table: t, on: {region: region}, aggregate: count}}}`,
		partedTable, `CREATE TABLE u (region text PRIMARY KEY); INSERT INTO u VALUES ('a'), ('b'), ('c')`,
		`DO $$ DECLARE l regclass; BEGIN FOR l IN SELECT relid FROM pg_partition_tree('t') LOOP EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', l); END LOOP; END $$`)
	p := r.start(t, options{serve: true, partitions: 20 * time.Millisecond})
	p.complete(t)
	check := func() {
		t.Helper()
		r.partitionsApplied(t, p, "u")
		r.check(t, "u", testenv.WithQuery(`SELECT region, json_build_object('region', region, 'n', (SELECT count(*) FROM t WHERE t.region = u.region)) FROM u`))
	}
	check()
	for _, sql := range []string{
		`TRUNCATE t_a`, `ALTER TABLE t DETACH PARTITION t_b`, `ALTER TABLE t ATTACH PARTITION t_b FOR VALUES IN ('b')`, `DROP TABLE t_c0`,
		`CREATE TABLE t_d PARTITION OF t FOR VALUES IN ('d'); ALTER TABLE t_d REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'd', ''); INSERT INTO u VALUES ('d')`,
	} {
		r.db.Exec(t, strings.Split(sql, "; ")...)
		check()
	}
	if n := query[int](t, r.db, `SELECT count(*) FROM dbsync_ctrl.requests WHERE kind = 'reindex' AND phase = 'done'`); n != 4 {
		t.Errorf("rebuilt %d times, want 4", n)
	}
}

// TestPartitionsWhileBackfilling has partitions come and go during the backfill, which is
// what the number of rows does not tell.
func TestPartitionsWhileBackfilling(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 5, max_rows_per_second: 50}}`, partedTable)
	p := r.start(t, options{serve: true, partitions: 20 * time.Millisecond})
	r.building(t, "t")
	r.db.Exec(t, `DROP TABLE t_c`, `CREATE TABLE t_e (LIKE t INCLUDING ALL)`, `INSERT INTO t_e VALUES (1, 'e', 'before the chunks')`, `ALTER TABLE t ATTACH PARTITION t_e FOR VALUES IN ('e')`)
	r.building(t, "t")
	p.complete(t)
	r.partitionsApplied(t, p, "t")
	r.check(t, "t", testenv.WithID("id", "region"))
}

// TestPartitionsBehind backfills an index while the stream is behind: it brings rows that went
// with their partitions before.
func TestPartitionsBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, routing: v}`, partedTable, `ALTER TABLE t_a REPLICA IDENTITY FULL`, `ALTER TABLE t_b1 REPLICA IDENTITY FULL`, `ALTER TABLE t_b2 REPLICA IDENTITY FULL`,
		`ALTER TABLE t_c0 REPLICA IDENTITY FULL`, `ALTER TABLE t_c1 REPLICA IDENTITY FULL`)
	o := options{serve: true, partitions: 20 * time.Millisecond}
	p := r.start(t, o)
	p.complete(t)
	p.crash()
	r.db.Exec(t, `INSERT INTO t SELECT i, 'a', 'gone' FROM generate_series(200, 300) i`, `UPDATE t SET v = 'elsewhere' WHERE region = 'b'`, `TRUNCATE t_a`,
		`ALTER TABLE t_b DETACH PARTITION t_b1`, `UPDATE t_b1 SET v = 'apart'`, `ALTER TABLE t_b ATTACH PARTITION t_b1 FOR VALUES FROM (0) TO (100)`)
	o.rebuild = func(string) bool { return true }
	p = r.start(t, o)
	p.complete(t)
	r.partitionsApplied(t, p, "t")
	r.check(t, "t", testenv.WithID("id", "region"), testenv.WithRouting("v"))
}

func TestChangesOf(t *testing.T) {
	for _, test := range []struct {
		name        string
		before, now leaves
		gone        bool
		attached    string
	}{
		{"nothing", nil, nil, false, "[]"},
		{"as before", leaves{1: "10:5"}, leaves{1: "10:5"}, false, "[]"},
		{"unknown", nil, leaves{2: "10:5", 1: "11:5"}, false, "[1 2]"},
		{"one more", leaves{1: "10:5"}, leaves{1: "10:5", 2: "20:7"}, false, "[2]"},
		{"one less", leaves{1: "10:5", 2: "20:7"}, leaves{1: "10:5"}, true, "[]"},
		{"another file", leaves{1: "10:5"}, leaves{1: "12:5"}, true, "[]"},
		{"attached again", leaves{1: "10:5"}, leaves{1: "10:6"}, true, "[1]"},
		{"what it is below attached again", leaves{1: "10:5:3"}, leaves{1: "10:5:8"}, true, "[1]"},
	} {
		c := changesOf(test.before, test.now)
		if c.gone != test.gone || fmt.Sprint(c.attached) != test.attached {
			t.Errorf("%s: gone %v, attached %v", test.name, c.gone, c.attached)
		}
	}
}
