package dbsync_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// listed returns the columns that the publication names of a table, in the order of the table;
// "all" where it names none.
func listed(t *testing.T, db *testenv.Database, table string) string {
	t.Helper()
	return query[string](t, db, `SELECT coalesce((SELECT string_agg(a.attname, ' ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)), 'all')
		FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = 'dbsync_mypub' AND r.prrelid = $1::regclass`, table)
}

func generation(t *testing.T, s *syncer, table string) string {
	t.Helper()
	g, err := s.TableGeneration(t.Context(), "public", table)
	if err != nil {
		t.Fatal(err)
	}
	without, err := dbsync.TableGeneration(t.Context(), s.db.DB, s.Generation(), "dbsync_mypub", "public", table)
	if err != nil || without != g {
		t.Errorf("without a Syncer the generation of %s is %s, %v; want %s", table, without, err, g)
	}
	return g
}

// newestAndOldest are the versions of Postgres with column lists that differ in what these may have.
func newestAndOldest(t *testing.T, test func(t *testing.T, server *testenv.Postgres)) {
	for _, version := range []string{"15", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, testenv.StartPostgres(t, testenv.PostgresOptions{Version: version}))
		})
	}
}

const docs = `CREATE TABLE docs (id int PRIMARY KEY, v text, slug text NOT NULL DEFAULT gen_random_uuid(), note text, more int NOT NULL DEFAULT 0, file bytea);
	CREATE UNIQUE INDEX docs_slug ON docs (slug)`

// The publication names the columns that any of its slots needs, and those that may be the replica
// identity; what it leaves out is not read when the log is decoded, however large it is.
func TestPublicationNamesColumns(t *testing.T) {
	t.Parallel()
	newestAndOldest(t, func(t *testing.T, server *testenv.Postgres) {
		db := server.NewDatabase(t)
		db.Exec(t, docs)
		first := sharing(t, db, "first", dbsync.ForTables("docs (id, v)"))
		first.open(t)
		want := func(columns string) {
			t.Helper()
			if got := listed(t, db, "docs"); got != columns {
				t.Errorf("columns %s are published, want %s", got, columns)
			}
		}
		publish := func(s *syncer, changed bool, tables ...string) {
			t.Helper()
			if got, err := s.Publish(t.Context(), tables...); err != nil || got != changed {
				t.Errorf("Publish(%q) returns %v, %v; want %v", tables, got, err, changed)
			}
		}
		want("id v slug")
		first.run(t)
		of := generation(t, first, "docs")
		publish(first, false, "docs (v, id)")

		// Written as text the value is larger than a message can be. convert_to is quicker than the hex form.
		db.Exec(t, `INSERT INTO docs (id, v, file) VALUES (1, 'a', convert_to(repeat('x', 540000000), 'UTF8'))`, `UPDATE docs SET v = 'b'`)
		first.settle(t)
		row := func(want string) {
			t.Helper()
			if got := fmt.Sprint(first.store.rows("docs")); !strings.Contains(got, want) { // by any key
				t.Errorf("the documents are %s, want %s in one", got, want)
			}
		}
		row("v:b")
		db.Exec(t, `UPDATE docs SET file = NULL`)

		// Each slot gets what it needs, and nobody takes away what another one needs.
		second := sharing(t, db, "second", dbsync.ForTables("docs (id, note)"))
		found, err := dbsync.Inspect(t.Context(), second.opts...)
		if says := `change publication dbsync_mypub: publish of "public"."docs" only (id, v, slug, note)`; err != nil || len(found.Steps) == 0 || found.Steps[0] != says {
			t.Errorf("an inspection finds %+v, %v; want %s", found, err, says)
		}
		second.open(t)
		want("id v slug note")
		publish(first, true, "docs (id, v)")
		publish(first, false, "docs (id, v)")
		publish(second, false, "docs (id, note)")
		publish(second, true, "docs")
		want("all")
		publish(first, true, "docs (id, v)")
		want("all")
		publish(second, true, "docs (id, note)")
		want("id v slug note")
		publish(first, true, "docs (id, v)")

		// A name that a column gets is another name of the same column.
		db.Exec(t, `ALTER TABLE docs RENAME COLUMN note TO remark`)
		want("id v slug remark")
		publish(first, false, "docs (id, v)")

		// What a slot needed before goes out at its next start.
		second.Close()
		second = &syncer{db: db, slot: second.slot, store: newStore(), opts: append(options(t, db, "docs (id)"), dbsync.WithReplicationSlot(second.slot))}
		second.open(t)
		want("id v slug")
		publish(second, false, "docs (id)")
		publish(first, true, "docs (id, v)")

		// No change is missing of what is published with other columns.
		if now := generation(t, first, "docs"); now != of {
			t.Errorf("the generation is %s, it was %s", now, of)
		}
		db.Exec(t, `UPDATE docs SET v = 'c'`)
		first.settle(t)
		row("v:c")

		// Where a value that is in a list may be part of the identity next, it is in the list before.
		db.Exec(t, `ALTER TABLE docs DROP CONSTRAINT docs_pkey`, `ALTER TABLE docs ADD PRIMARY KEY USING INDEX docs_slug`, `UPDATE docs SET v = 'd'`)
		publish(first, false, "docs (id, v)") // there is no index over id any more, which the slots need all the same
		want("id v slug")
		db.Exec(t, `CREATE UNIQUE INDEX more ON docs (more)`)
		publish(first, true, "docs (id, v)")
		want("id v slug more")
		db.Exec(t, `ALTER TABLE docs REPLICA IDENTITY USING INDEX more`, `UPDATE docs SET v = 'e'`)

		// With the whole row as identity Postgres refuses the application's updates as long as there is a list.
		db.Exec(t, `ALTER TABLE docs REPLICA IDENTITY FULL`)
		publish(first, true, "docs (id, v)")
		want("all")
		db.Exec(t, `UPDATE docs SET v = 'f'`)
		first.settle(t)
		row("v:f")
		db.Exec(t, `ALTER TABLE docs REPLICA IDENTITY DEFAULT`)
		publish(first, true, "docs (id, v)")
		want("id v slug more")
		if now := generation(t, first, "docs"); now != of {
			t.Errorf("the generation is %s, it was %s", now, of)
		}

		// What somebody does by hand is put right, and changes may be missing.
		for _, by := range []string{"(id, slug, more)", "", "(id, v, slug, more)"} {
			db.Exec(t, "BEGIN; ALTER PUBLICATION dbsync_mypub DROP TABLE docs; ALTER PUBLICATION dbsync_mypub ADD TABLE ONLY docs "+by+"; COMMIT")
			publish(first, true, "docs (id, v)")
			publish(first, false, "docs (id, v)")
			want("id v slug more")
			now := generation(t, first, "docs")
			if now == of {
				t.Errorf("somebody published %s by hand, and the generation is the same", by)
			}
			of = now
		}

		_, err = first.Publish(t.Context(), "docs (id, nothing)")
		setupError(t, err, `table "docs" has no column "nothing"`)
		if n := query[int](t, db, "SELECT count(*) FROM dbsync_ctrl.dbsync_memberships"); n != 1 {
			t.Errorf("%d memberships are noted, want that of docs", n)
		}
	})
}

// A slot of an earlier version, which noted tables alone, needs all columns of them.
func TestColumnsOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, docs)
	earlier := sharing(t, db, "earlier", dbsync.ForTables("docs"))
	earlier.open(t)
	db.Exec(t, "ALTER TABLE dbsync_ctrl.dbsync_slots DROP COLUMN published_columns", "DROP TABLE dbsync_ctrl.dbsync_memberships", "UPDATE dbsync_ctrl.schema_version SET version = 3 WHERE part = 'dbsync'")
	second := sharing(t, db, "second", dbsync.ForTables("docs (id)"))
	if found, err := dbsync.Inspect(t.Context(), second.opts...); err != nil || len(found.Wrong) > 0 {
		t.Errorf("an inspection finds %+v, %v", found, err)
	}
	second.open(t)
	publish := func(s *syncer, tables ...string) {
		t.Helper()
		if _, err := s.Publish(t.Context(), tables...); err != nil {
			t.Error(err)
		}
	}
	publish(second, "docs (id)")
	if got := listed(t, db, "docs"); got != "all" {
		t.Errorf("columns %s are published, the earlier version needs all", got)
	}
	earlier.Close()
	db.Exec(t, "SELECT pg_drop_replication_slot('"+earlier.slot+"')")
	publish(second, "docs (id)")
	if got := listed(t, db, "docs"); got != "id slug" {
		t.Errorf("columns %s are published", got)
	}
}

// Partitions have columns with other numbers, and replica identities of their own; a generated
// column can be in a list from Postgres 18 on.
func TestColumnsOfPartitions(t *testing.T) {
	t.Parallel()
	newestAndOldest(t, func(t *testing.T, server *testenv.Postgres) {
		db := server.NewDatabase(t)
		db.Exec(t, `CREATE TABLE p (junk int, id int, k int, v text, other int NOT NULL, twice int GENERATED ALWAYS AS (other * 2) STORED, file bytea, PRIMARY KEY (id, k)) PARTITION BY LIST (k)`,
			`ALTER TABLE p DROP COLUMN junk`, `CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)`,
			`CREATE TABLE p2 (file bytea, other int NOT NULL, v text, k int NOT NULL, id int NOT NULL, twice int GENERATED ALWAYS AS (other * 2) STORED)`,
			`CREATE UNIQUE INDEX identity ON p2 (other, k)`, `ALTER TABLE p2 REPLICA IDENTITY USING INDEX identity`, `ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)`)
		s := sharing(t, db, "slot", dbsync.ForTables("p (id, v, twice)"))
		s.open(t)
		want := "id k v other"
		if query[int](t, db, "SELECT current_setting('server_version_num')::int") >= 180000 {
			want += " twice"
		}
		if got := listed(t, db, "p"); got != want {
			t.Errorf("columns %s are published, want %s", got, want)
		}
		s.run(t)
		db.Exec(t, `INSERT INTO p (id, k, v, other) VALUES (1, 1, 'one', 1), (2, 2, 'two', 2)`, `UPDATE p SET v = v || '!', file = 'x'`, `DELETE FROM p WHERE id = 1`)
		s.settle(t)
		docs := 0
		for id, doc := range s.store.rows("p") {
			if docs++; strings.Contains(doc, "file") || !strings.Contains(doc, "v:two!") {
				t.Errorf("document %s is %s", id, doc)
			}
		}
		if docs == 0 {
			t.Error("there is no document")
		}
		// Old rows of one partition carry all columns.
		db.Exec(t, `ALTER TABLE p2 REPLICA IDENTITY FULL`)
		if changed, err := s.Publish(t.Context(), "p (id, v, twice)"); err != nil || !changed {
			t.Errorf("it returns %v, %v", changed, err)
		}
		if got := listed(t, db, "p"); got != "all" {
			t.Errorf("columns %s are published, want all", got)
		}
		db.Exec(t, `UPDATE p SET v = 'again'`)
		s.settle(t)
	})
}

// A list is changed while others write: each change is decoded either as before or as after, also
// those of transactions that are under way.
func TestColumnsAreChangedWhileOthersWrite(t *testing.T) {
	t.Parallel()
	newestAndOldest(t, func(t *testing.T, server *testenv.Postgres) {
		const writers, rounds = 4, 60
		db := server.NewDatabase(t)
		db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, v text, w text, file bytea)`)
		s := sharing(t, db, "slot", dbsync.ForTables("t (id, v)"))
		s.open(t)
		s.run(t)
		of := generation(t, s, "t")
		if changed, err := s.Publish(t.Context(), "t"); err != nil || !changed || listed(t, db, "t") != "all" {
			t.Errorf("Publish returns %v, %v", changed, err)
		}
		// While a transaction is under way that has written to the table its list stays as it is: it could be
		// decoded with one or the other.
		across := newSession(t, db)
		across.exec("BEGIN", "INSERT INTO t VALUES (-1, 'before')")
		if changed, err := s.Publish(t.Context(), "t (id)"); err != nil || changed || !s.ColumnsPending() || listed(t, db, "t") != "all" {
			t.Errorf("somebody writes, and Publish returns %v, %v", changed, err)
		}
		across.exec("INSERT INTO t VALUES (-2, 'after')", "COMMIT")
		stop := make(chan struct{})
		var wg sync.WaitGroup
		errs := make(chan error, writers)
		for w := range writers {
			session := newSession(t, db)
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					id := w*1000000 + n*3 // most rows are written once
					sql := fmt.Sprintf(`BEGIN; INSERT INTO t VALUES (%[1]d, 'v%[1]d', 'w', 'f'); INSERT INTO t VALUES (%[1]d + 1, 'x', 'w', 'f'); INSERT INTO t VALUES (%[1]d + 2, 'x');
						UPDATE t SET v = 'u' WHERE id = %[1]d + 1; DELETE FROM t WHERE id = %[1]d + 2; COMMIT`, id)
					if _, err := session.conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		lists, n := []string{"t (id)", "t (id, v, w)", "t", "t (id, v)"}, 0
		for ; n < rounds; n++ {
			if _, err := s.Publish(t.Context(), lists[n%len(lists)]); err != nil {
				t.Errorf("Publish returns %v", err)
			}
		}
		if n := query[int](t, db, "SELECT count(*) FROM pg_publication_rel"); n != 2 {
			t.Errorf("%d tables are published", n)
		}
		close(stop)
		wg.Wait()
		select {
		case err := <-errs:
			t.Fatal(err)
		default:
		}
		s.settle(t)
		rows, err := db.DB.QueryContext(t.Context(), "SELECT id::text FROM t")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		ids, n := s.store.rows("t"), 0
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			if n++; ids[id] == "" {
				t.Errorf("row %s has no document", id)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if n != len(ids) || n < rounds {
			t.Errorf("%d rows, %d documents", n, len(ids))
		}
		if s.Publish(t.Context(), "t (id)"); s.ColumnsPending() || listed(t, db, "t") != "id" {
			t.Error("nobody writes, and the list is not changed")
		}
		if now := generation(t, s, "t"); now != of {
			t.Errorf("the generation is %s, it was %s", now, of)
		}
	})
}

// A publication of somebody else may name columns, as long as those are among them that are needed.
func TestColumnsOfSomebodyElse(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, docs+`; CREATE SCHEMA dbsync_ctrl; CREATE TABLE dbsync_ctrl.dbsync_wmtable (slot text PRIMARY KEY, token text NOT NULL, at timestamptz NOT NULL DEFAULT now());
		CREATE PUBLICATION dbsync_mypub FOR TABLE docs (id, v), dbsync_ctrl.dbsync_wmtable`)
	s := sharing(t, db, "slot", dbsync.ForTables("docs (id, note)"))
	err := s.tryOpen(t)
	setupError(t, err, `has a column list on "public"."docs" that leaves out note`)
	s = sharing(t, db, "slot", dbsync.ForTables("docs (v)"))
	s.open(t)
	if changed, err := s.Publish(t.Context(), "docs (id, v)"); err != nil || changed {
		t.Errorf("it returns %v, %v", changed, err)
	}
	if _, err := s.Publish(t.Context(), "docs"); err == nil {
		t.Error("it leaves out columns that are needed, and there is no error")
	}
}

// What is left over in the control schema when a slot is torn down are notes of other slots.
func TestTeardownForgetsMemberships(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, docs)
	s := sharing(t, db, "slot", dbsync.ForTables("docs (id)"))
	s.open(t)
	if err := errors.Join(s.Close(), dbsync.Teardown(t.Context(), s.opts...)); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, db, "SELECT count(*) FROM dbsync_ctrl.dbsync_memberships"); n != 0 {
		t.Errorf("%d memberships are noted", n)
	}
}
