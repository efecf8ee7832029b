package dbsync_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// members are the tables that are in a publication by themselves, with the oid of their row in
// pg_publication_rel, and without the watermark table.
func members(t *testing.T, db *testenv.Database, publication string) map[string]uint32 {
	t.Helper()
	rows, err := db.DB.QueryContext(t.Context(), `SELECT c.oid::regclass::text, r.oid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
		JOIN pg_class c ON c.oid = r.prrelid WHERE p.pubname = $1 AND c.relname <> 'dbsync_wmtable'`, publication)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := make(map[string]uint32)
	for rows.Next() {
		var name string
		var oid uint32
		if err := rows.Scan(&name, &oid); err != nil {
			t.Fatal(err)
		}
		out[name] = oid
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// published asserts which tables are in the publication, but for the watermark table.
func published(t *testing.T, db *testenv.Database, want string) {
	t.Helper()
	if got := strings.Join(slices.Sorted(maps.Keys(members(t, db, "dbsync_mypub"))), " "); got != want {
		t.Errorf("published are %s, want %s", got, want)
	}
}

// sharing makes a Syncer of another slot.
func sharing(t *testing.T, db *testenv.Database, slot string, opts ...dbsync.SyncerOpt) *syncer {
	t.Helper()
	slot = db.Unique(slot)
	return &syncer{db: db, slot: slot, store: newStore(), opts: append(append(options(t, db), dbsync.WithReplicationSlot(slot)), opts...)}
}

func comment(t *testing.T, db *testenv.Database) string {
	t.Helper()
	return query[string](t, db, "SELECT coalesce(obj_description(oid, 'pg_publication'), '') FROM pg_publication WHERE pubname = 'dbsync_mypub'")
}

const threeTables = `CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text); CREATE TABLE c (id int PRIMARY KEY, v text)`

// Slots of one control schema share a publication: it has what any of them needs.
func TestPublicationIsShared(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, threeTables)
	first := sharing(t, db, "first", dbsync.ForTables("a"))
	first.open(t)
	first.run(t)
	before := members(t, db, "dbsync_mypub")
	second := sharing(t, db, "second", dbsync.ForTables("b"))
	second.open(t)
	second.run(t)
	published(t, db, "a b")
	db.Exec(t, "INSERT INTO a VALUES (1, 'one')", "INSERT INTO b VALUES (2, 'two')")
	first.check(t, "a")
	second.check(t, "b")

	// Another start needs another table.
	second.Stop()
	second.inactive(t)
	third := sharing(t, db, "second", dbsync.ForTables("c"))
	third.open(t)
	published(t, db, "a c")
	if now := members(t, db, "dbsync_mypub"); now["a"] != before["a"] {
		t.Error("the table of the first slot was taken out and put back")
	}
	db.Exec(t, "INSERT INTO a VALUES (3, 'three')")
	first.check(t, "a")

	// What a slot needed that is gone nobody needs.
	third.Close()
	db.Exec(t, "SELECT pg_drop_replication_slot('"+third.slot+"')")
	first.Stop()
	first.inactive(t)
	first.open(t)
	published(t, db, "a")
}

// Who waits for the slot with other tables takes none away from who has it.
func TestPublicationIsSharedWithAStandby(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, threeTables)
	first := sharing(t, db, "slot", dbsync.ForTables("a", "b"))
	first.open(t)
	first.run(t)
	first.settle(t)
	before := members(t, db, "dbsync_mypub")
	standby := sharing(t, db, "slot", dbsync.ForTables("b", "c"))
	standby.open(t)
	published(t, db, "a b c")
	db.Exec(t, "INSERT INTO a VALUES (1)")
	first.check(t, "a")
	if changed, err := first.Publish(t.Context(), "a", "b"); err != nil || changed {
		t.Errorf("for who has the slot it returns %v, %v", changed, err)
	}
	if now := members(t, db, "dbsync_mypub"); now["a"] != before["a"] || now["b"] != before["b"] {
		t.Error("a table was taken out and put back")
	}
	first.Stop()
	standby.run(t)
	standby.settle(t)
	if _, err := standby.Publish(t.Context(), "b", "c"); err != nil {
		t.Error(err)
	}
	published(t, db, "b c")
	db.Exec(t, "INSERT INTO c VALUES (1)")
	standby.check(t, "c")
}

// Slots whose tables come at once leave each other's in.
func TestPublicationIsSharedAtOnce(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, threeTables)
	all := make(chan error)
	for _, table := range []string{"a", "b", "c"} {
		s := sharing(t, db, "of_"+table, dbsync.ForTables(table))
		go func() {
			made, err := dbsync.NewSyncerContext(t.Context(), s.opts...)
			if err == nil {
				_, err = made.Publish(t.Context(), table)
				err = errors.Join(err, made.Close())
			}
			all <- err
		}()
	}
	for range 3 {
		if err := receive(t, "a Syncer", all); err != nil {
			t.Error(err)
		}
	}
	published(t, db, "a b c")
}

// Publications are changed by one at a time: what one slot takes out another one has not just put in,
// and none is refused because another one changes it, too.
func TestPublishAtOnce(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, threeTables+"; CREATE TABLE shared (id int PRIMARY KEY)")
	all := make(chan error)
	tables := []string{"a", "b", "c"}
	for _, table := range tables {
		s := sharing(t, db, "of_"+table, dbsync.ForTables(table))
		s.open(t)
		go func() {
			for range 20 {
				for _, needed := range [][]string{{"shared"}, {table, "shared"}, {table}} {
					if _, err := s.Publish(t.Context(), needed...); err != nil {
						all <- fmt.Errorf("%s needs %s: %w", table, needed, err)
						return
					}
				}
			}
			all <- nil
		}()
	}
	for range tables {
		if err := receive(t, "all is published", all); err != nil {
			t.Error(err)
		}
	}
	published(t, db, "a b c")
}

// A slot that is being made needs its tables before it is noted. That takes as long as somebody
// writes, and who is running meanwhile leaves them in.
func TestPublicationIsSharedWithASlotInTheMaking(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, threeTables)
	first := sharing(t, db, "first", dbsync.ForTables("a", "c"))
	first.open(t)
	writing := newSession(t, db)
	writing.exec("BEGIN", "INSERT INTO c VALUES (1)")
	second := sharing(t, db, "second", dbsync.ForTables("b"))
	made := make(chan error, 1)
	go func() {
		s, err := dbsync.NewSyncerContext(t.Context(), second.opts...)
		if err == nil {
			err = s.Close()
		}
		made <- err
	}()
	await(t, "the slot is being made", func() bool {
		return query[bool](t, db, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_create_logical_replication_slot%' AND wait_event_type = 'Lock')")
	})
	published(t, db, "a b c")
	if _, err := first.Publish(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	published(t, db, "a b c")
	writing.exec("COMMIT")
	if err := receive(t, "the second", made); err != nil {
		t.Error(err)
	}
	if _, err := first.Publish(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	published(t, db, "a b")
}

// What slots of another control schema need cannot be seen, so a publication is kept from one.
func TestPublicationOfAnotherControlSchema(t *testing.T) {
	t.Parallel()
	const mark, earlier = "kept by dbsync from control schema dbsync_ctrl", "COMMENT ON PUBLICATION dbsync_mypub IS 'kept by dbsync'"
	for name, test := range map[string]struct {
		before string
		wrong  string // "" if the second may keep it
	}{
		"kept":                             {"", "is kept from control schema dbsync_ctrl"},
		"kept by an earlier version":       {earlier, "is kept from control schema dbsync_ctrl"},
		"its schema is gone":               {"DROP SCHEMA dbsync_ctrl CASCADE", ""},
		"its schema has another name":      {"ALTER SCHEMA dbsync_ctrl RENAME TO elsewhere", "is kept from control schema elsewhere"},
		"an earlier version's is gone":     {earlier + "; DROP SCHEMA dbsync_ctrl CASCADE", ""},
		"an earlier version's was renamed": {earlier + "; ALTER SCHEMA dbsync_ctrl RENAME TO \"Other 'one'\"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, threeTables)
			first := sharing(t, db, "first", dbsync.ForTables("a"))
			first.open(t)
			if got := comment(t, db); got != mark {
				t.Errorf("the publication says %q", got)
			}
			first.Close()
			if test.before != "" {
				db.Exec(t, test.before)
			}
			second := sharing(t, db, "second", dbsync.ForTables("b"), dbsync.WithCtrlNamespace("Other 'one'"))
			if test.wrong != "" {
				e := setupError(t, second.tryOpen(t), test.wrong)
				found, err := dbsync.Inspect(t.Context(), second.opts...)
				if err != nil || len(found.Wrong) != 1 || found.Wrong[0].Error() != e.Error() {
					t.Errorf("an inspection finds %+v, %v", found, err)
				}
				db.Exec(t, "DO $$ BEGIN ALTER SCHEMA elsewhere RENAME TO dbsync_ctrl; EXCEPTION WHEN invalid_schema_name THEN NULL; END $$")
				first.open(t) // it is the first one's still
				published(t, db, "a")
				if got := comment(t, db); got != mark {
					t.Errorf("the publication says %q", got)
				}
				return
			}
			second.open(t)
			want := "b"
			if strings.Contains(test.before, "Other") {
				want = "a b" // the slot that needs it is noted there
			}
			published(t, db, want)
			if got := comment(t, db); got != "kept by dbsync from control schema Other 'one'" {
				t.Errorf("the publication says %q", got)
			}
			second.run(t)
			db.Exec(t, "INSERT INTO b VALUES (1)")
			second.check(t, "b")
		})
	}
}

// While the slot of an earlier version lives, which did not note its tables, nothing is taken out.
func TestPublicationIsSharedWithAnEarlierVersion(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, threeTables)
	earlier := sharing(t, db, "earlier", dbsync.ForTables("a"))
	earlier.open(t)
	earlier.run(t)
	db.Exec(t, "ALTER TABLE dbsync_ctrl.dbsync_slots DROP COLUMN publication, DROP COLUMN published, DROP COLUMN event_triggers", "COMMENT ON PUBLICATION dbsync_mypub IS 'kept by dbsync'",
		"UPDATE dbsync_ctrl.schema_version SET version = 1 WHERE part = 'dbsync'")
	second := sharing(t, db, "second", dbsync.ForTables("b"))
	found, err := dbsync.Inspect(t.Context(), second.opts...)
	if err != nil || len(found.Wrong) > 0 || !slices.Contains(found.Steps, "change publication dbsync_mypub: add 1 tables, remove 0") {
		t.Errorf("an inspection finds %+v, %v", found, err)
	}
	second.open(t)
	published(t, db, "a b")
	if _, err := second.Publish(t.Context(), "c"); err != nil {
		t.Error(err)
	}
	published(t, db, "a b c")
	db.Exec(t, "INSERT INTO a VALUES (1)")
	earlier.check(t, "a")
	earlier.Stop()
	earlier.inactive(t)
	db.Exec(t, "SELECT pg_drop_replication_slot('"+earlier.slot+"')")
	second.opts = append(second.opts, dbsync.ForTables("b"))
	second.open(t)
	published(t, db, "b")
}

// Tables that inherit from one are not published with it, which would have the application's
// updates of them refused.
func TestPublicationWithoutChildren(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, "CREATE TABLE base (id int PRIMARY KEY, v text); CREATE TABLE child () INHERITS (base); INSERT INTO child VALUES (1, 'one')")
	s := newSyncer(t, db, "base")
	published(t, db, "base")
	db.Exec(t, "UPDATE child SET v = 'two'", "DELETE FROM child", "INSERT INTO child VALUES (1, 'one')")
	// An earlier version has published them.
	before := members(t, db, "dbsync_mypub")
	db.Exec(t, "ALTER PUBLICATION dbsync_mypub ADD TABLE child")
	if _, err := db.DB.ExecContext(t.Context(), "UPDATE child SET v = 'two'"); err == nil {
		t.Fatal("an update of a table without a key is not refused")
	}
	s.open(t)
	published(t, db, "base")
	db.Exec(t, "UPDATE child SET v = 'two'")
	if now := members(t, db, "dbsync_mypub"); now["base"] != before["base"] {
		t.Error("the table was taken out and put back")
	}
	s.run(t)
	db.Exec(t, "INSERT INTO base VALUES (2, 'two')")
	s.settle(t)
	if got := s.store.rows("base"); len(got) != 1 {
		t.Errorf("documents are %v", got)
	}
	// Also where the table comes later.
	db.Exec(t, "CREATE TABLE alone (id int PRIMARY KEY)")
	for _, tables := range [][]string{{"alone"}, {"alone", "base"}, {"base"}} {
		if _, err := s.Publish(t.Context(), tables...); err != nil {
			t.Fatal(err)
		}
		published(t, db, strings.Join(tables, " "))
	}
	// Where the children are asked for they are there, and no others.
	db.Exec(t, "ALTER TABLE child ADD PRIMARY KEY (id); CREATE TABLE another () INHERITS (base)")
	if _, err := s.Publish(t.Context(), "base", "child"); err != nil {
		t.Fatal(err)
	}
	published(t, db, "base child")
	if _, err := s.Publish(t.Context(), "base"); err != nil {
		t.Fatal(err)
	}
	published(t, db, "base")
}

// Whatever somebody does to a publication of ours is put right, at the start and while running.
// Tables of which changes were missing are known by it.
func TestPublicationIsPutRight(t *testing.T) {
	t.Parallel()
	everything := []string{"a", "b", "p"}
	eighteen := testenv.StartPostgres(t, testenv.PostgresOptions{Version: "18"})
	for name, test := range map[string]struct {
		spoil   string
		says    string
		missing []string // tables of which changes were missing
		version string
	}{
		"kinds":                {"ALTER PUBLICATION dbsync_mypub SET (publish = 'insert')", "put right kinds of change that were left out", everything, ""},
		"truncate":             {"ALTER PUBLICATION dbsync_mypub SET (publish = 'insert, update, delete')", "put right kinds of change that were left out", everything, ""},
		"partitions":           {"ALTER PUBLICATION dbsync_mypub SET (publish_via_partition_root = false)", "put right changes under the names of partitions", []string{"p"}, ""},
		"a row filter":         {"ALTER PUBLICATION dbsync_mypub DROP TABLE a; ALTER PUBLICATION dbsync_mypub ADD TABLE a WHERE (id > 5)", `put right a row filter or column list on "public"."a"`, []string{"a"}, ""},
		"a column list":        {"ALTER PUBLICATION dbsync_mypub DROP TABLE a; ALTER PUBLICATION dbsync_mypub ADD TABLE a (id)", `put right a row filter or column list on "public"."a"`, []string{"a"}, ""},
		"a table out":          {"ALTER PUBLICATION dbsync_mypub DROP TABLE b", "add 1 tables, remove 0", []string{"b"}, ""},
		"a table more":         {"ALTER PUBLICATION dbsync_mypub ADD TABLE c", "add 0 tables, remove 1", nil, ""},
		"all of a schema":      {"CREATE SCHEMA s; ALTER PUBLICATION dbsync_mypub ADD TABLES IN SCHEMA s", "put right all tables in schema s", nil, ""},
		"the watermarks out":   {"ALTER PUBLICATION dbsync_mypub DROP TABLE dbsync_ctrl.dbsync_wmtable", "add 1 tables, remove 0", nil, ""},
		"a table made anew":    {"DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY, v text)", "add 1 tables, remove 0", []string{"a"}, ""},
		"no generated columns": {"ALTER PUBLICATION dbsync_mypub SET (publish_generated_columns = none)", "put right generated columns that were left out", nil, "18"},
		"kinds on 18":          {"ALTER PUBLICATION dbsync_mypub SET (publish = 'insert')", "put right kinds of change that were left out", everything, "18"},
	} {
		for _, when := range []string{"start", "running"} {
			t.Run(name+"/"+when, func(t *testing.T) {
				t.Parallel()
				var db *testenv.Database
				if test.version == "18" {
					db = eighteen.NewDatabase(t)
				} else {
					db = testenv.NewDatabase(t)
				}
				db.Exec(t, threeTables, "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100)")
				other := sharing(t, db, "other", dbsync.ForTables("b"))
				other.open(t)
				s := sharing(t, db, "slot", dbsync.ForTables("a", "b", "p"))
				s.open(t)
				if when == "running" {
					s.run(t)
					await(t, "it has the slot", func() bool { return s.Status().Connected }) // the inspection looks for that
				}
				before := members(t, db, "dbsync_mypub")
				if changed, err := s.Publish(t.Context(), everything...); err != nil || changed {
					t.Errorf("nothing was changed, and it returns %v, %v", changed, err)
				}
				if changed, err := other.Publish(t.Context(), "b"); err != nil || changed {
					t.Errorf("nothing was changed, and it returns %v, %v", changed, err)
				}
				db.Exec(t, strings.ReplaceAll(test.spoil, "; ", ";\n"))
				found, err := dbsync.Inspect(t.Context(), s.opts...)
				if extra := len(test.missing) == 0 && !strings.Contains(test.says, "add 1") && test.version == ""; extra && when == "running" {
					if err != nil || len(found.Wrong)+len(found.Steps) > 0 { // who is running takes it out
						t.Errorf("an inspection finds %+v, %v; want nothing", found, err)
					}
				} else if want := "change publication dbsync_mypub: " + test.says; err != nil || len(found.Wrong) > 0 || len(found.Steps) != 1 || found.Steps[0] != want {
					t.Errorf("an inspection finds %+v, %v; want %s", found, err, want)
				}
				want := len(test.missing) > 0 || strings.Contains(test.says, "add 1")
				if when == "start" {
					s.open(t)
				} else if changed, err := s.Publish(t.Context(), everything...); err != nil || changed != want {
					t.Errorf("it returns %v, %v; want %v", changed, err, want)
				}
				if changed, err := s.Publish(t.Context(), everything...); err != nil || changed {
					t.Errorf("all is right, and it returns %v, %v", changed, err)
				}
				published(t, db, "a b p")
				now := members(t, db, "dbsync_mypub")
				for _, table := range everything {
					if again := now[table] != before[table]; again != slices.Contains(test.missing, table) {
						t.Errorf("table %s has another generation: %v", table, again)
					}
				}
				// Who shares a table learns of it, too.
				if changed, err := other.Publish(t.Context(), "b"); err != nil || changed != (slices.Contains(test.missing, "b") || strings.Contains(test.spoil, "wmtable")) {
					t.Errorf("for the other slot it returns %v, %v", changed, err)
				}
				if test.version == "18" && query[string](t, db, "SELECT pubgencols::text FROM pg_publication") != "s" {
					t.Error("generated columns are not published")
				}
				if when == "start" {
					s.run(t)
				}
				db.Exec(t, "INSERT INTO a VALUES (1, 'x'), (2, 'y')", "UPDATE a SET v = 'z'", "DELETE FROM a WHERE id = 2", "INSERT INTO p VALUES (3, 'p')")
				s.check(t, "a")
				s.check(t, "p")
				db.Exec(t, "TRUNCATE a")
				s.check(t, "a")
			})
		}
	}
}

// A publication that somebody else made is never changed. What would make documents wrong is
// refused, at the start and while running, and each hint works.
func TestPublicationOfSomebodyElse(t *testing.T) {
	t.Parallel()
	eighteen := testenv.StartPostgres(t, testenv.PostgresOptions{Version: "18"})
	const wm = ", dbsync_ctrl.dbsync_wmtable"
	for name, test := range map[string]struct {
		make    string
		tables  string
		wrong   []string // what is refused, in order; each hint is done
		version string
	}{
		"all tables":            {"FOR ALL TABLES WITH (publish_via_partition_root = true)", "a p", nil, ""},
		"schemas":               {"FOR TABLES IN SCHEMA public, dbsync_ctrl WITH (publish_via_partition_root = true)", "a p", nil, ""},
		"a filter and schemas":  {"FOR TABLE a WHERE (id > 1), TABLES IN SCHEMA public, dbsync_ctrl", "a", nil, ""},
		"all columns in a list": {"FOR TABLE a (v, id)" + wm, "a", nil, ""},
		"kinds":                 {"FOR ALL TABLES WITH (publish = 'insert, update, delete')", "a", []string{"leaves out some kinds of change"}, ""},
		"a row filter":          {"FOR TABLE a WHERE (id > 1)" + wm, "a", []string{`has a row filter on "public"."a"`}, ""},
		"of another table":      {"FOR TABLE a, b WHERE (id > 1)" + wm, "a", nil, ""},
		"a column list":         {"FOR TABLE a (id)" + wm, "a", []string{`has a column list on "public"."a" that leaves out v`}, ""},
		"partitions":            {"FOR TABLE p" + wm, "p", []string{`gives changes of "public"."p" under the names of partitions`}, ""},
		"a partition":           {"FOR TABLE p1" + wm, "p1", nil, ""},
		"several":               {"FOR TABLE a (id), b WHERE (id > 3), p WITH (publish = 'insert')", "a b c p", []string{"kinds of change", "names of partitions", "column list on", "row filter on", "lacks"}, ""},
		"on 18":                 {"FOR TABLE a, g" + wm, "a g", nil, "18"},
		"a column list on 18":   {"FOR TABLE g (id)" + wm, "g", nil, "18"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var db *testenv.Database
			if test.version == "18" {
				db = eighteen.NewDatabase(t)
			} else {
				db = testenv.NewDatabase(t)
			}
			db.Exec(t, threeTables, "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100)",
				"CREATE TABLE g (id int PRIMARY KEY, v int GENERATED ALWAYS AS (id) STORED)",
				"CREATE SCHEMA dbsync_ctrl; CREATE TABLE dbsync_ctrl.dbsync_wmtable (slot text PRIMARY KEY, token text NOT NULL, at timestamptz NOT NULL DEFAULT now())",
				"CREATE PUBLICATION dbsync_mypub "+test.make)
			tables := strings.Fields(test.tables)
			s := sharing(t, db, "slot", dbsync.ForTables(tables...))
			state := func() string {
				return query[string](t, db, `SELECT concat(p.xmin, ' ', (SELECT string_agg(concat(r.xmin, r.oid), ' ' ORDER BY r.oid) FROM pg_publication_rel r)) FROM pg_publication p`)
			}
			for _, reason := range test.wrong {
				before := state()
				e := setupError(t, s.tryOpen(t), reason)
				if now := state(); now != before {
					t.Error("the publication was changed")
				}
				db.Exec(t, e.Hint)
			}
			before := state()
			s.open(t)
			s.run(t)
			if changed, err := s.Publish(t.Context(), tables...); err != nil || changed {
				t.Errorf("all is right, and it returns %v, %v", changed, err)
			}
			if now := state(); now != before {
				t.Error("the publication was changed")
			}
			db.Exec(t, "ALTER PUBLICATION dbsync_mypub SET (publish = 'insert')")
			_, err := s.Publish(t.Context(), tables...)
			e := setupError(t, err, "leaves out some kinds of change")
			db.Exec(t, e.Hint)
			if changed, err := s.Publish(t.Context(), tables...); err != nil || changed {
				t.Errorf("it is right again, and it returns %v, %v", changed, err)
			}
		})
	}
}

// A table below one that is published gives no changes of its own.
func TestPublicationOfATableAbove(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100)")
	first := sharing(t, db, "first", dbsync.ForTables("p1"))
	first.open(t) // nobody has published the other
	setupError(t, sharing(t, db, "both", dbsync.ForTables("p", "p1")).tryOpen(t), `gives changes of "public"."p1" under the name of public.p`)
	sharing(t, db, "second", dbsync.ForTables("p")).open(t)
	_, err := first.Publish(t.Context(), "p1")
	setupError(t, err, `gives changes of "public"."p1" under the name of public.p`)
}

// While running, other tables may be needed, and somebody may do what he likes.
func TestPublish(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, threeTables+"; CREATE SCHEMA \"S.1\"; CREATE TABLE \"S.1\".\"T\" (id int PRIMARY KEY)")
	s := newSyncer(t, db, "a")
	s.run(t)
	publish := func(want bool, tables ...string) {
		t.Helper()
		if changed, err := s.Publish(t.Context(), tables...); err != nil || changed != want {
			t.Errorf("Publish(%q) returns %v, %v; want %v", tables, changed, err, want)
		}
	}
	generation := func(table string) string {
		t.Helper()
		g, err := s.TableGeneration(t.Context(), "public", table)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	of := generation("a")
	publish(true, "a", `"S.1"."T"`, "public.b", "b")
	published(t, db, `"S.1"."T" a b`)
	db.Exec(t, "INSERT INTO b VALUES (1, 'one')")
	s.check(t, "b")
	publish(false, `"S.1"."T"`, "b", "a")
	publish(true, "b", "a")
	published(t, db, "a b")
	if generation("a") != of {
		t.Error("the table that stayed has another generation")
	}
	// What was asked for last holds at the next start: somebody else's start takes nothing out.
	sharing(t, db, "other", dbsync.ForTables("c")).open(t)
	published(t, db, "a b c")

	// Taken out and put back by hand, changes are missing as well.
	db.Exec(t, "ALTER PUBLICATION dbsync_mypub DROP TABLE a", "INSERT INTO a VALUES (7)", "ALTER PUBLICATION dbsync_mypub ADD TABLE a")
	publish(true, "a", "b")
	publish(false, "a", "b")
	if generation("a") == of {
		t.Error("the table that was out has the same generation")
	}
	// One that was put in another one's place by its name is another table.
	db.Exec(t, "BEGIN; CREATE TABLE a_new (LIKE a INCLUDING ALL); ALTER TABLE a RENAME TO a_old; ALTER TABLE a_new RENAME TO a; COMMIT")
	publish(true, "a", "b")
	published(t, db, "a b c")

	for _, tables := range [][]string{nil, {"a..b"}, {"a", "nothing"}} {
		if _, err := s.Publish(t.Context(), tables...); err == nil {
			t.Errorf("Publish(%q) returns no error", tables)
		}
	}
	_, err := s.Publish(t.Context(), "a", "nothing")
	setupError(t, err, `"nothing"`)
	publish(false, "a", "b")

	db.Exec(t, "DROP PUBLICATION dbsync_mypub")
	var lost *dbsync.SlotLostError
	if _, err := s.Publish(t.Context(), "a", "b"); !errors.As(err, &lost) || lost.Slot != s.slot || !strings.Contains(lost.Reason, "publication dbsync_mypub does not exist") {
		t.Errorf("the publication is gone, and it returns %v", err)
	}
	db.Exec(t, "CREATE PUBLICATION dbsync_mypub FOR TABLE a, b, dbsync_ctrl.dbsync_wmtable")
	publish(true, "a", "b") // it is another one
}

// onMessage tells of a log line.
type onMessage struct {
	slog.Handler
	text string
	c    chan<- struct{}
}

func (h *onMessage) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.text) {
		select {
		case h.c <- struct{}{}:
		default:
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h *onMessage) Enabled(context.Context, slog.Level) bool { return true }

// What a transaction did before its table was published does not come down the stream, so no row
// counts before it has ended.
func TestPublishWaitsForOpenTransactions(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"this one", "another one"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, threeTables+"; INSERT INTO b SELECT i, 'v' FROM generate_series(1, 10) i")
			s := newSyncer(t, db, "a")
			waits := make(chan struct{}, 1)
			s.opts = append(s.opts, dbsync.WithLogger(slog.New(&onMessage{slog.NewTextHandler(t.Output(), nil), "rows are read when", waits})))
			s.open(t)
			s.mirror.table = "b"
			s.run(t)
			s.settle(t)
			writing := newSession(t, db)
			writing.exec("BEGIN", "INSERT INTO b VALUES (11, 'before'); UPDATE b SET v = 'before' WHERE id = 1")
			if by == "another one" {
				db.Exec(t, "ALTER PUBLICATION dbsync_mypub ADD TABLE ONLY b")
			}
			if changed, err := s.Publish(t.Context(), "a", "b"); err != nil || !changed {
				t.Fatalf("it returns %v, %v", changed, err)
			}
			window := s.window(t, s.selectOf(t, "b", "SELECT * FROM b"))
			select {
			case <-waits:
			case w := <-window:
				t.Fatalf("a window counts with %d rows while the transaction is open", w.Len())
			}
			writing.exec("COMMIT")
			s.stored(t, window)
			s.check(t, "b")
		})
	}
}

// A window that had begun before its table was published is read again.
func TestPublishHasWindowsReadAgain(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, threeTables+"; INSERT INTO b SELECT i, 'v' FROM generate_series(1, 10) i")
	s := newSyncer(t, db, "a")
	s.mirror.table = "b"
	s.run(t)
	s.settle(t)
	g := shutGate(t, db, 1)
	window := s.window(t, s.selectOf(t, "b", fmt.Sprintf("WITH gate AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(%d)) SELECT b.* FROM gate, b ORDER BY id", g.key)))
	g.arrived()
	db.Exec(t, "UPDATE b SET v = 'between' WHERE id = 1")
	if changed, err := s.Publish(t.Context(), "a", "b"); err != nil || !changed {
		t.Fatalf("it returns %v, %v", changed, err)
	}
	g.open()
	s.stored(t, window)
	s.check(t, "b")
}

// Watermarks that were written while their table was out do not come: who waits for one is served all
// the same when it is back.
func TestPublishBringsWatermarksBack(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(10))
	s := newSyncer(t, db, "t")
	s.run(t)
	s.settle(t)
	db.Exec(t, "ALTER PUBLICATION dbsync_mypub DROP TABLE dbsync_ctrl.dbsync_wmtable")
	window := s.window(t, s.selectT(t, "SELECT * FROM t"))
	await(t, "a high watermark", func() bool { return strings.HasPrefix(s.token(t), "high:") })
	barrier := make(chan error, 1)
	go func() { barrier <- s.Barrier(t.Context()) }()
	await(t, "a mark", func() bool { return strings.HasPrefix(s.token(t), "mark:") })
	if changed, err := s.Publish(t.Context(), "t"); err != nil || !changed {
		t.Fatalf("it returns %v, %v", changed, err)
	}
	s.stored(t, window)
	if err := receive(t, "the barrier", barrier); err != nil {
		t.Error(err)
	}
	s.check(t, "t")
}

// What is torn down leaves the others in sync; the last one takes the publication with it.
func TestTeardown(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, threeTables)
	first := sharing(t, db, "first", dbsync.ForTables("a", "c"))
	first.open(t)
	first.run(t)
	second := sharing(t, db, "second", dbsync.ForTables("b", "c"))
	second.open(t)
	second.run(t)
	second.settle(t)
	published(t, db, "a b c")
	before := members(t, db, "dbsync_mypub")
	if err := dbsync.Teardown(t.Context(), second.opts...); !errors.Is(err, dbsync.ErrSlotInUse) {
		t.Errorf("while it runs: %v", err)
	}
	published(t, db, "a b c")
	second.Close()
	second.inactive(t)
	for range 2 { // the second time there is nothing left
		if err := dbsync.Teardown(t.Context(), second.opts...); err != nil {
			t.Fatal(err)
		}
	}
	published(t, db, "a c")
	if now := members(t, db, "dbsync_mypub"); now["a"] != before["a"] || now["c"] != before["c"] {
		t.Error("tables of the other slot were taken out and put back")
	}
	if n := query[int](t, db, `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1) + (SELECT count(*) FROM dbsync_ctrl.dbsync_slots WHERE slot = $1)
		+ (SELECT count(*) FROM dbsync_ctrl.dbsync_wmtable WHERE slot = $1)`, second.slot); n != 0 {
		t.Errorf("%d things of it are left", n)
	}
	db.Exec(t, "INSERT INTO a VALUES (1)", "INSERT INTO c VALUES (1)")
	first.check(t, "a")
	first.check(t, "c")
	// One of an earlier version, of which it is not known what it needs, keeps everything.
	db.Exec(t, "UPDATE dbsync_ctrl.dbsync_slots SET published = NULL")
	second.open(t)
	second.Close()
	second.inactive(t)
	if err := dbsync.Teardown(t.Context(), second.opts...); err != nil {
		t.Fatal(err)
	}
	published(t, db, "a b c")
	first.Close()
	first.inactive(t)
	if err := dbsync.Teardown(t.Context(), first.opts...); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, db, "SELECT count(*) FROM pg_publication"); n != 0 {
		t.Error("the publication is there")
	}
	// Another one's publication is not ours to drop.
	db.Exec(t, "CREATE PUBLICATION dbsync_mypub FOR ALL TABLES")
	first.open(t)
	first.Close()
	if err := dbsync.Teardown(t.Context(), first.opts...); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, db, "SELECT count(*) FROM pg_publication"); n != 1 {
		t.Error("the publication of somebody else was dropped")
	}
	// Where nothing was ever made there is nothing to do.
	if err := dbsync.Teardown(t.Context(), append(first.opts, dbsync.WithCtrlNamespace("never"), dbsync.WithPublication("never"))...); err != nil {
		t.Error(err)
	}
}
