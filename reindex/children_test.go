package reindex

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/mapping"
	"tidemark/testenv"
)

// familyTable has children of every kind, and 20 rows in each table: one has its columns in another
// order and one more, one is at a distance.
const familyTable = `
	CREATE TABLE t (id int PRIMARY KEY, v text);
	CREATE TABLE t_a (PRIMARY KEY (id)) INHERITS (t);
	CREATE TABLE t_b (more text, v text, gone int, id int PRIMARY KEY);
	ALTER TABLE t_b DROP COLUMN gone;
	ALTER TABLE t_b INHERIT t;
	CREATE TABLE t_b1 (PRIMARY KEY (id)) INHERITS (t_b);
	INSERT INTO t SELECT i, 't' || i FROM generate_series(1, 20) i;
	INSERT INTO t_a SELECT i, 'a' || i FROM generate_series(101, 120) i;
	INSERT INTO t_b (id, v, more) SELECT i, 'b' || i, 'more' FROM generate_series(201, 220) i;
	INSERT INTO t_b1 (id, v) SELECT i, 'b1' || i FROM generate_series(301, 320) i`

// familyRows gives the documents of familyTable.
const familyRows = `SELECT id, json_build_object('id', id, 'v', v) FROM t`

// TestChildren does to a table and its children what is in the stream, and what is not, one thing
// after the other, while a process runs and while none does.
func TestChildren(t *testing.T) {
	t.Parallel()
	changes := []struct{ name, sql string }{
		{"rows by the stream", `INSERT INTO t VALUES (21, 'new'); INSERT INTO t_a VALUES (121, 'new'); INSERT INTO t_b (id, v, more) VALUES (221, 'new', 'x'); UPDATE t SET v = v || ' again' WHERE id % 5 = 0; DELETE FROM t WHERE id % 7 = 0; UPDATE t_b1 SET id = id + 1000 WHERE id < 305`},
		{"moved to a child", `WITH m AS (DELETE FROM ONLY t WHERE id < 4 RETURNING *) INSERT INTO t_a SELECT * FROM m`},
		{"moved, new row first", `BEGIN; INSERT INTO t_a SELECT * FROM ONLY t WHERE id < 10; DELETE FROM ONLY t WHERE id < 10; COMMIT`},
		{"moved, in two transactions", `INSERT INTO t_b SELECT NULL, v, id FROM ONLY t WHERE id < 15; DELETE FROM ONLY t WHERE id < 15`},
		{"a child truncated", `TRUNCATE t_b1`},
		{"the table alone truncated", `TRUNCATE ONLY t; INSERT INTO t VALUES (22, 'after')`},
		{"a child that is filled", `CREATE TABLE t_c (PRIMARY KEY (id)) INHERITS (t); INSERT INTO t_c SELECT i, 'c' || i FROM generate_series(401, 420) i; UPDATE t_c SET v = 'updated' WHERE id = 405; DELETE FROM t_c WHERE id = 406`},
		{"followed", `INSERT INTO t_c VALUES (421, 'streamed'); UPDATE t_c SET v = 'streamed' WHERE id = 407; DELETE FROM t_c WHERE id = 408`},
		{"all in one transaction", `CREATE TABLE t_d (LIKE t INCLUDING ALL);INSERT INTO t_d VALUES (501, 'd');ALTER TABLE t_d INHERIT t`},
		{"no child any more", `ALTER TABLE t_a NO INHERIT t; UPDATE t_a SET v = 'apart'; INSERT INTO t_a VALUES (130, 'apart')`},
		{"a child again", `ALTER TABLE t_a INHERIT t`},
		{"left and came at once", `ALTER TABLE t_a NO INHERIT t; UPDATE t_a SET v = 'at once'; DELETE FROM t_a WHERE id = 101; ALTER TABLE t_a INHERIT t`},
		{"taken out of the publication", `ALTER PUBLICATION dbsync_mypub DROP TABLE ONLY t_a; UPDATE t_a SET v = 'unpublished'; DELETE FROM t_a WHERE id = 102`},
		{"a branch dropped", `DROP TABLE t_b CASCADE`},
		{"written anew", `VACUUM FULL t_a`},
		{"rewritten", `ALTER TABLE t ALTER COLUMN v TYPE text USING v || '!'`},
		{"renamed", `ALTER TABLE t_c RENAME TO t_e; UPDATE t_e SET v = 'renamed' WHERE id = 410`},
		{"all truncated", `TRUNCATE t; INSERT INTO t_e VALUES (430, 'after')`},
	}
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("away=%v", away), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `PREFIXt: {table: {name: t, children: true}}`, familyTable)
			o := options{serve: true, partitions: 20 * time.Millisecond, verify: mapping.Verify{RowsPerSecond: 100000, OnDifference: mapping.OnDifferenceRepair}}
			p := r.start(t, o)
			p.complete(t)
			r.check(t, "t", testenv.WithQuery(familyRows))
			finished := r.state(t, "t").FinishedAt
			for _, change := range changes {
				// The last look may have been between two transactions of a change.
				await(t, "the children are published", func() bool {
					return query[bool](t, r.db, `WITH RECURSIVE tree AS (SELECT 't'::regclass::oid AS oid UNION SELECT inhrelid FROM tree JOIN pg_inherits ON inhparent = tree.oid)
						SELECT NOT EXISTS (SELECT FROM tree WHERE oid NOT IN (SELECT prrelid FROM pg_publication_rel))`)
				})
				_, version := r.document(t, r.prefix+"t", "20") // of a row of t
				if away {
					p.crash()
				}
				for statement := range strings.SplitSeq(change.sql, "; ") { // each in a transaction of its own
					if strings.HasPrefix(change.sql, "BEGIN") {
						statement = change.sql
					}
					r.db.Exec(t, statement)
					if statement == change.sql {
						break
					}
				}
				if away {
					p = r.start(t, o)
					p.complete(t)
				}
				r.partitionsApplied(t, p, "t")
				r.awaitCheck(t, "t", testenv.WithQuery(familyRows))
				if _, now := r.document(t, r.prefix+"t", "20"); change.name == "a child truncated" && now != version {
					t.Errorf("the document of a row of another table was written again, with version %d instead of %d", now, version)
				}
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
