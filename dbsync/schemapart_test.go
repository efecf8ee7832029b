package dbsync_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// contents is all that a schema holds, as text.
func contents(t *testing.T, db *testenv.Database, schema string) string {
	t.Helper()
	return query[string](t, db, `SELECT coalesce(string_agg(c.relname || ' ' || (
			SELECT string_agg(concat(a.attname, ' ', format_type(a.atttypid, a.atttypmod), ' ', a.attnotnull), ', ' ORDER BY a.attnum)
			FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
			|| ' ' || query_to_xml(format('SELECT * FROM %I.%I t ORDER BY t::text', n.nspname, c.relname), true, true, '')::text, E'\n' ORDER BY c.relname), '')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'`, schema)
}

// step is one that runs statements.
func step(name string, statements ...string) dbsync.Migration {
	return dbsync.Migration{Name: name, Up: func(ctx context.Context, tx pgx.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	}}
}

// migrate runs the steps of a part on a connection of its own, and returns what it said.
func migrate(t *testing.T, db *testenv.Database, part *dbsync.SchemaPart) (said string, err error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var log bytes.Buffer
	err = part.Migrate(t.Context(), conn, slog.New(slog.NewTextHandler(&log, nil)))
	return log.String(), err
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, `CREATE SCHEMA "My ""schema"; CREATE TABLE note (at text)`)
	part := func(name string, steps ...dbsync.Migration) *dbsync.SchemaPart {
		return &dbsync.SchemaPart{Schema: `My "schema`, Name: name, Steps: steps}
	}
	one, two := step("first", "CREATE TABLE note (id int)", "INSERT INTO note VALUES (1)"), step("second", "UPDATE note SET id = id + 1")

	said, err := migrate(t, db, part("a", one, two))
	if err != nil || !strings.Contains(said, "first") || !strings.Contains(said, "second") || strings.Count(said, "\n") != 2 {
		t.Errorf("%v, and it says %s", err, said)
	}
	if _, err := migrate(t, db, part("b", step("of another part", "UPDATE note SET id = id + 10"))); err != nil {
		t.Error(err)
	}
	before := contents(t, db, `My "schema`)
	if said, err = migrate(t, db, part("a", one, two)); err != nil || said != "" || contents(t, db, `My "schema`) != before {
		t.Errorf("a schema that is current: %v, %s\n%s\nwas\n%s", err, said, contents(t, db, `My "schema`), before)
	}
	if said, err = migrate(t, db, part("a", one, two, step("third", "UPDATE note SET id = id * 2"))); err != nil || strings.Count(said, "\n") != 1 || !strings.Contains(said, "version=3") {
		t.Errorf("%v, and it says %s", err, said)
	}
	if got := query[int](t, db, `SELECT id FROM "My ""schema".note`); got != 24 {
		t.Errorf("the steps have made %d, want 24: they ran in another order, or another time, or elsewhere", got)
	}

	// What a later version has changed is left alone.
	before = contents(t, db, `My "schema`)
	_, err = migrate(t, db, part("a", one, two))
	newer, ok := errors.AsType[*dbsync.NewerSchemaError](err)
	if !ok || newer.Version != 3 || newer.Known != 2 || newer.Part != "a" || !newer.Permanent() || newer.Hint() == "" {
		t.Errorf("a newer schema: %v", err)
	}
	if now := contents(t, db, `My "schema`); now != before {
		t.Errorf("a newer schema was changed:\n%s\nwas\n%s", now, before)
	}
}

// Whatever ends a migration in the middle leaves the schema as it was.
func TestMigrateEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]string{
		"killed":  "SELECT pg_terminate_backend(pg_backend_pid())",
		"refused": "SELECT 1 / 0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, "CREATE SCHEMA s; CREATE TABLE s.note (id int); INSERT INTO s.note VALUES (1)")
			before := contents(t, db, "s")
			first := step("first", "ALTER TABLE note ADD COLUMN at text NOT NULL DEFAULT 'x'")
			said, err := migrate(t, db, &dbsync.SchemaPart{Schema: "s", Name: "a", Steps: []dbsync.Migration{first, step("last", "UPDATE note SET id = 2", last)}})
			if err == nil || !strings.Contains(err.Error(), "step 2 of part a (last)") || said != "" {
				t.Errorf("%v, and it says %s", err, said)
			}
			if now := contents(t, db, "s"); now != before {
				t.Errorf("the schema is\n%s\nwas\n%s", now, before)
			}
			if _, err := migrate(t, db, &dbsync.SchemaPart{Schema: "s", Name: "a", Steps: []dbsync.Migration{first, step("last", "UPDATE note SET id = 3")}}); err != nil {
				t.Error(err)
			}
			if got := query[int](t, db, "SELECT id FROM s.note WHERE at = 'x'"); got != 3 {
				t.Errorf("the next one has made %d", got)
			}
		})
	}
}

// Of processes that begin at once one runs the steps.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, "CREATE SCHEMA s; CREATE TABLE s.note (id int); INSERT INTO s.note VALUES (1)")
	part := &dbsync.SchemaPart{Schema: "s", Name: "a", Steps: []dbsync.Migration{step("double", "UPDATE note SET id = id * 2")}}
	type result struct {
		said string
		err  error
	}
	all := make(chan result)
	for range 4 {
		go func() {
			said, err := migrate(t, db, part)
			all <- result{said, err}
		}()
	}
	said := ""
	for range 4 {
		r := receive(t, "a migration", all)
		if r.err != nil {
			t.Error(r.err)
		}
		said += r.said
	}
	if got := query[int](t, db, "SELECT id FROM s.note"); got != 2 || strings.Count(said, "\n") != 1 {
		t.Errorf("they have made %d, and say %s", got, said)
	}
}

// A role without the rights is told which; one that has nothing to change needs only to read.
func TestMigrateRights(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, "CREATE SCHEMA s")
	role := db.Unique("role")
	db.Exec(t, "CREATE ROLE "+role)
	defer db.Exec(t, "DROP OWNED BY "+role+"; DROP ROLE "+role)
	as := func(part *dbsync.SchemaPart) error {
		conn, err := pgx.Connect(t.Context(), db.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		if _, err := conn.Exec(t.Context(), "SET ROLE "+role); err != nil {
			t.Fatal(err)
		}
		return part.Migrate(t.Context(), conn, slog.New(slog.DiscardHandler))
	}
	part := &dbsync.SchemaPart{Schema: "s", Name: "a", Steps: []dbsync.Migration{step("first", "CREATE TABLE note (id int)")}}
	setupError(t, as(part), "may not change control schema s")
	if _, err := migrate(t, db, part); err != nil {
		t.Fatal(err)
	}
	e := setupError(t, as(part), "may not read the version")
	_, sql, _ := strings.Cut(e.Hint, ": ")
	db.Exec(t, strings.ReplaceAll(sql, "ROLE", role))
	if err := as(part); err != nil {
		t.Error(err)
	}
}

// A slot table of any earlier version gets what it lacks, and keeps its notes.
func TestMigrateSlotTable(t *testing.T) {
	t.Parallel()
	const columns = "slot text PRIMARY KEY, system_identifier text NOT NULL, timeline int NOT NULL, confirmed pg_lsn NOT NULL, " +
		"made_at timestamptz NOT NULL DEFAULT now(), confirmed_at timestamptz NOT NULL DEFAULT now()"
	for name, test := range map[string]struct{ more, values, generation, lost string }{
		"first":               {"", "", "", ""},
		"with generations":    {", generation text NOT NULL", ", 'G'", "G", ""},
		"lost":                {", generation text NOT NULL", ", 'G'", "G", "earlier version"},
		"with losses":         {", generation text NOT NULL, lost text", ", 'G', 'gone'", "G", "gone"},
		"with a loss at zero": {", generation text NOT NULL, lost text", ", 'G', NULL", "G", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, table(1)+"; CREATE SCHEMA dbsync_ctrl; CREATE TABLE dbsync_ctrl.dbsync_slots ("+columns+test.more+")")
			s := &syncer{db: db, slot: db.Unique("slot"), store: newStore(), opts: options(t, db, "t")}
			db.Exec(t, "CREATE PUBLICATION dbsync_mypub FOR TABLE t; COMMENT ON PUBLICATION dbsync_mypub IS 'kept by dbsync'",
				"SELECT pg_create_logical_replication_slot('"+s.slot+"', 'pgoutput')",
				"INSERT INTO dbsync_ctrl.dbsync_slots SELECT slot_name, (SELECT system_identifier FROM pg_control_system()), 1, confirmed_flush_lsn, now(), now()"+test.values+
					" FROM pg_replication_slots WHERE slot_name = '"+s.slot+"'")
			if name == "lost" || name == "with a loss at zero" {
				db.Exec(t, "UPDATE dbsync_ctrl.dbsync_slots SET confirmed = '0/0'")
			}
			found, err := dbsync.Inspect(t.Context(), s.opts...)
			if err != nil || len(found.Wrong) > 0 || !strings.Contains(strings.Join(found.Steps, "\n"), "migrate control schema dbsync_ctrl to version 1 of its part dbsync") {
				t.Errorf("an inspection finds %+v, %v", found, err)
			}
			err = s.tryOpen(t)
			if _, lost := errors.AsType[*dbsync.SlotLostError](err); lost != (test.lost != "" || name == "with a loss at zero") || !lost && err != nil {
				t.Errorf("it begins with %v", err)
			} else if lost && !strings.Contains(err.Error(), test.lost) {
				t.Errorf("it begins with %v, want %s", err, test.lost)
			}
			if err == nil && (s.Generation() == "" || test.generation != "" && s.Generation() != test.generation) {
				t.Errorf("the generation is %q, want %q", s.Generation(), test.generation)
			}
		})
	}
}

// A control schema that a later version has changed is refused before anything is made.
func TestSetupRefusesNewerSchema(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(1))
	newSyncer(t, db, "t")
	db.Exec(t, "UPDATE dbsync_ctrl.schema_version SET version = 1000", "DROP PUBLICATION dbsync_mypub")
	before := contents(t, db, "dbsync_ctrl")
	s := &syncer{db: db, slot: db.Unique("other"), store: newStore(), opts: append(options(t, db, "t"), dbsync.WithReplicationSlot(db.Unique("other")))}
	if _, ok := errors.AsType[*dbsync.NewerSchemaError](s.tryOpen(t)); !ok {
		t.Error("a Syncer is made with it")
	}
	if _, err := dbsync.Inspect(t.Context(), s.opts...); err == nil || !strings.Contains(err.Error(), "1000") {
		t.Errorf("an inspection says %v", err)
	}
	if now := contents(t, db, "dbsync_ctrl"); now != before {
		t.Errorf("the schema is\n%s\nwas\n%s", now, before)
	}
	if n := query[int](t, db, "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1)", s.slot); n != 0 {
		t.Error("something was made")
	}
}
