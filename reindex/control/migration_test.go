package control

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// look returns the condition of the schema ctrl.
func look(t *testing.T, db *sql.DB) Condition {
	t.Helper()
	c, err := Look(searchtest.Within(t, time.Minute), db, "ctrl")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Several instances that begin at once make the tables once; then there is nothing to do, which
// a role without the right to create finds, too.
func TestMigrate(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	db := testenv.NewDatabase(t)
	if c := look(t, db.DB); c.Made || c.Readable || len(c.Pending) != len(part("ctrl").Steps) || c.Current() != nil {
		t.Errorf("without a schema: %+v", c)
	}
	db.Exec(t, "CREATE SCHEMA ctrl")
	logs := make(chan string)
	for range 8 {
		go func() {
			var log bytes.Buffer
			if err := Migrate(ctx, db.DB, "ctrl", slog.New(slog.NewTextHandler(&log, nil))); err != nil {
				t.Error(err)
			}
			logs <- log.String()
		}()
	}
	said := ""
	for range 8 {
		said += <-logs
	}
	if strings.Count(said, "migrated the control schema") != len(part("ctrl").Steps) {
		t.Errorf("eight at once say %s", said)
	}
	if c := look(t, db.DB); !c.Made || !c.Readable || !c.Proofs || !c.Marks || len(c.Pending) != 0 || c.Current() != nil {
		t.Errorf("when it was migrated: %+v", c)
	}

	role := db.Unique("reader")
	db.Exec(t, `CREATE ROLE `+role, `GRANT USAGE ON SCHEMA ctrl TO `+role, `GRANT SELECT ON ctrl.schema_version TO `+role)
	t.Cleanup(func() {
		if _, err := db.DB.Exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role); err != nil {
			t.Error(err)
		}
	})
	limited, err := sql.Open("pgx", db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer limited.Close()
	limited.SetMaxOpenConns(1)
	if _, err := limited.ExecContext(ctx, `SET ROLE `+role); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(ctx, limited, "ctrl", slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("where everything is there: %v", err)
	}
}

// A schema that a later version has changed is refused, by who looks as by who would migrate.
func TestNewerSchema(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	db := testenv.NewDatabase(t)
	db.Exec(t, "CREATE SCHEMA ctrl", "CREATE TABLE ctrl.schema_version (part text PRIMARY KEY, version integer NOT NULL, migrated_at timestamptz NOT NULL)",
		"INSERT INTO ctrl.schema_version VALUES ('tidemark', 1000, now())")
	_, err := Look(ctx, db.DB, "ctrl")
	for _, err := range []error{err, Migrate(ctx, db.DB, "ctrl", slog.New(slog.DiscardHandler))} {
		if newer, ok := errors.AsType[*dbsync.NewerSchemaError](err); !ok || newer.Version != 1000 || newer.Known != len(part("ctrl").Steps) {
			t.Errorf("a newer schema: %v", err)
		}
	}
	if n := count(t, db, "SELECT count(*) FROM pg_class WHERE relnamespace = 'ctrl'::regnamespace AND relkind = 'r'"); n != 1 {
		t.Errorf("there are %d tables", n)
	}
}

func count(t *testing.T, db *testenv.Database, query string) (n int) {
	t.Helper()
	if err := db.DB.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// What was JSON with the names of Go's fields is converted, in the columns of both versions.
func TestNameJSON(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	db := testenv.NewDatabase(t)
	db.Exec(t, "CREATE SCHEMA ctrl")
	first := part("ctrl")
	first.Steps = first.Steps[:1]
	if err := dbsync.WithConn(ctx, db.DB, func(conn *pgx.Conn) error { return first.Migrate(ctx, conn, slog.New(slog.DiscardHandler)) }); err != nil {
		t.Fatal(err)
	}
	if c := look(t, db.DB); !c.Made || !c.Readable || c.Proofs || c.Marks || c.Unnoted || len(c.Pending) != len(part("ctrl").Steps)-1 {
		t.Errorf("after the first step: %+v", c)
	} else if _, ok := errors.AsType[*OlderSchemaError](c.Current()); !ok {
		t.Errorf("after the first step it is %v", c.Current())
	}
	insert := func(name, mapping string) {
		t.Helper()
		if _, err := db.DB.ExecContext(ctx, `INSERT INTO ctrl.indices (name, generation, live_mapping, building_mapping, live_partitions, building_partitions)
			VALUES ($1, '', $2, $2, '{"leaves":{"public.t":{"7":"8:9"}},"unlisted":true}', '{}')`, name, mapping); err != nil {
			t.Fatal(err)
		}
	}
	insert("a", `{"Name":"a","Sources":[{"Table":{"Schema":"public","Name":"t"},"ID":["id"],"Routing":"","Where":"","Fields":null,"Listed":false,"Include":null,"Literals":null}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":7,"KeepOld":0,"MaxRowsPerSecond":0}}`)
	insert("b", "")
	if err := Migrate(ctx, db.DB, "ctrl", searchtest.Logger(t)); err != nil {
		t.Fatal(err)
	}
	states := Open(db.DB, "ctrl", "slot").States()
	for _, name := range []string{"a", "b"} {
		st, err := states.Read(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []Version{st.Live, st.Building} {
			if named := strings.HasPrefix(v.Mapping, `{"version":1,`) && strings.Contains(v.Mapping, `"id":["id"]`); named != (name == "a") || strings.Contains(v.Mapping, "Sources") {
				t.Errorf("the mapping of %s is %s", name, v.Mapping)
			}
		}
		if want := `{"version":1,"leaves":{"public.t":{"7":"8:9"}},"unlisted":true}`; st.Live.Partitions != want || st.Building.Partitions != `{"version":1}` {
			t.Errorf("the partitions of %s are %s and %s", name, st.Live.Partitions, st.Building.Partitions)
		}
	}

	// What cannot be read stays, and is named.
	db.Exec(t, "DELETE FROM ctrl.schema_version", `UPDATE ctrl.indices SET live_tables = '{"public.t": 7}' WHERE name = 'a'`)
	if err := Migrate(ctx, db.DB, "ctrl", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "live_tables of index a") {
		t.Errorf("tables that are none: %v", err)
	}
	if n := count(t, db, "SELECT count(*) FROM ctrl.schema_version"); n != 0 {
		t.Error("a version is noted")
	}
}

// The form in the middle of step 1, of which no column says that it is.
func TestBarePartitions(t *testing.T) {
	ctx := context.WithoutCancel(searchtest.Within(t, time.Minute))
	db := newMigrated(t)
	for i, test := range []struct{ before, after string }{
		{"", ""},
		{"{}", `{"version":1}`},
		{`{"public.t":{}}`, `{"version":1,"leaves":{"public.t":{}},"unlisted":true}`},
		{`{"public.t":{"7":"8:9"},"s.\"leaves\"":{"10":"11:12:13"}}`, `{"version":1,"leaves":{"public.t":{"7":"8:9"},"s.\"leaves\"":{"10":"11:12:13"}},"unlisted":true}`},
		{`{"leaves":{"public.t":{"7":"8:9"}}}`, `{"version":1,"leaves":{"public.t":{"7":"8:9"}}}`},
		{`{"unlisted":true}`, `{"version":1,"unlisted":true}`},
		{`{"version":1,"leaves":{"public.t":{"7":"8:9"}}}`, `{"version":1,"leaves":{"public.t":{"7":"8:9"}}}`},
	} {
		db.Exec(t, "DELETE FROM ctrl.schema_version", "DROP TABLE ctrl.proofs, ctrl.recoveries, ctrl.physical_indices, ctrl.fan_outs, ctrl.fan_out_passes, ctrl.epochs, ctrl.topics", "DELETE FROM ctrl.indices",
			"ALTER TABLE ctrl.indices DROP live_generation, DROP live_base, DROP building_base", "ALTER TABLE ctrl.indices RENAME building_generation TO generation")
		if _, err := db.DB.ExecContext(ctx, "INSERT INTO ctrl.indices (name, generation, live_partitions) VALUES ($1, '', $2)", fmt.Sprint(i), test.before); err != nil {
			t.Fatal(err)
		}
		if err := Migrate(ctx, db.DB, "ctrl", slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("%s: %v", test.before, err)
			continue
		}
		st, err := Open(db.DB, "ctrl", "slot").States().Read(ctx, fmt.Sprint(i))
		if err != nil || st.Live.Partitions != test.after {
			t.Errorf("%s became %s, %v; want %s", test.before, st.Live.Partitions, err, test.after)
		}
	}
}

// Which physical index a generation was of, and which indices were made without a mark, is told by
// what a version before noted of both.
func TestMarksOfVersionsBefore(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	db := testenv.NewDatabase(t)
	db.Exec(t, "CREATE SCHEMA ctrl")
	before := part("ctrl")
	before.Steps = before.Steps[:3]
	if err := dbsync.WithConn(ctx, db.DB, func(conn *pgx.Conn) error { return before.Migrate(ctx, conn, slog.New(slog.DiscardHandler)) }); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, generation, live, fingerprint, building string }{
		{"live", "g", "live-1", "f", ""},
		{"rebuilt", "g", "rebuilt-1", "f", "rebuilt-2"},
		{"incomplete", "g", "incomplete-1", "", "incomplete-2"},
		{"given-up", "g", "given-up-1", "", ""},
		{"new", "g", "", "", "new-1"},
	} {
		if _, err := db.DB.ExecContext(ctx, "INSERT INTO ctrl.indices (name, generation, live, live_fingerprint, building) VALUES ($1, $2, $3, $4, $5)",
			row.name, row.generation, row.live, row.fingerprint, row.building); err != nil {
			t.Fatal(err)
		}
	}
	if err := Migrate(ctx, db.DB, "ctrl", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]string{"live": {"g", ""}, "rebuilt": {"g", "g"}, "incomplete": {"", "g"}, "given-up": {"", ""}, "new": {"", "g"}} {
		st, err := Open(db.DB, "ctrl", "slot").States().Read(ctx, name)
		if err != nil || st.Live.Generation != want[0] || st.Building.Generation != want[1] || st.Incomplete() != (st.Live.Physical != "" && want[0] == "") {
			t.Errorf("%s: %+v, %v; want the generations %q", name, st, err, want)
		}
		marks, err := Open(db.DB, "ctrl", "slot").Markings().Read(ctx, name)
		for _, physical := range []string{st.Live.Physical, st.Building.Physical} {
			if k, ok := marks[physical]; err != nil || physical != "" && (!ok || k.Mark.Number != 0) {
				t.Errorf("the mark of %s: %+v, %v", physical, k, err)
			}
		}
	}
}
