package dbsync_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// setupError asserts a SetupError about reason, and returns it.
func setupError(t *testing.T, err error, reason string) *dbsync.SetupError {
	t.Helper()
	var e *dbsync.SetupError
	if !errors.As(err, &e) || !strings.Contains(err.Error(), reason) {
		t.Fatalf("got %v, want a SetupError about %s", err, reason)
	}
	if e.Hint == "" || !strings.Contains(err.Error(), e.Hint) {
		t.Errorf("%v: it does not say how to fix it", err)
	}
	return e
}

// publishedTables lists what a publication has.
func publishedTables(t *testing.T, db *testenv.Database, publication string) string {
	t.Helper()
	return query[string](t, db, `SELECT coalesce(string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename), '')
		FROM pg_publication_tables WHERE pubname = $1`, publication)
}

func TestSetupIsRepeatable(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(3))
	s := newSyncer(t, db, "t")
	before := query[string](t, db, "SELECT string_agg(oid::text, ' ' ORDER BY oid) FROM pg_class WHERE relnamespace = 'dbsync_ctrl'::regnamespace")
	generation := s.Generation()
	system, timeline := s.System()
	if system != query[string](t, db, "SELECT system_identifier::text FROM pg_control_system()") || timeline != 1 {
		t.Errorf("the database system is %s, timeline %d", system, timeline)
	}
	s.open(t)
	after := query[string](t, db, "SELECT string_agg(oid::text, ' ' ORDER BY oid) FROM pg_class WHERE relnamespace = 'dbsync_ctrl'::regnamespace")
	if before != after || generation == "" || s.Generation() != generation {
		t.Error("the second start has made something anew")
	}
	found, err := dbsync.Inspect(t.Context(), s.opts...)
	if err != nil || len(found.Wrong) > 0 || len(found.Steps) > 0 || found.Lost != nil || found.Generation != generation {
		t.Errorf("an inspection finds %+v, %v", found, err)
	}
}

// What an inspection says is what the setup does, from whatever is there.
func TestPlan(t *testing.T) {
	t.Parallel()
	const schema, watermarks, notes = "make control schema dbsync_ctrl", "make table dbsync_ctrl.dbsync_wmtable", "make table dbsync_ctrl.dbsync_slots"
	for name, test := range map[string]struct {
		before string // $SLOT is the slot
		made   bool   // everything was there before that
		opts   []dbsync.SyncerOpt
		want   []string // $SLOT is the slot
	}{
		"nothing is there": {"", false, nil, []string{schema, watermarks, notes, "make publication dbsync_mypub for 2 tables", "make slot $SLOT"}},
		"a schema":         {"CREATE SCHEMA dbsync_ctrl", false, nil, []string{watermarks, notes, "make publication dbsync_mypub for 2 tables", "make slot $SLOT"}},
		"a slot of a user's": {"SELECT pg_create_logical_replication_slot('$SLOT', 'pgoutput')", false, nil,
			[]string{schema, watermarks, notes, "make publication dbsync_mypub for 2 tables"}},
		"everything":    {"", true, nil, nil},
		"another table": {"CREATE TABLE u (id int PRIMARY KEY)", true, []dbsync.SyncerOpt{dbsync.ForTables("u")}, []string{"change publication dbsync_mypub: add 1 tables, remove 0"}},
		"no watermarks": {"DROP TABLE dbsync_ctrl.dbsync_wmtable", true, nil, []string{watermarks, "change publication dbsync_mypub: add 1 tables, remove 0"}},
		"no note":       {"DELETE FROM dbsync_ctrl.dbsync_slots", true, nil, nil},
		"a lost slot":   {"SELECT pg_drop_replication_slot('$SLOT')", true, []dbsync.SyncerOpt{dbsync.WithNewSlot()}, []string{"make slot $SLOT anew"}},
		"a lost publication": {"DROP PUBLICATION dbsync_mypub", true, []dbsync.SyncerOpt{dbsync.WithNewSlot()},
			[]string{"make publication dbsync_mypub for 2 tables", "make slot $SLOT anew"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, table(3))
			s := &syncer{db: db, slot: db.Unique("slot"), store: newStore(), opts: options(t, db, "t")}
			if test.made {
				s.open(t)
				s.Close()
			}
			if test.before != "" {
				db.Exec(t, strings.ReplaceAll(test.before, "$SLOT", s.slot))
			}
			s.opts = append(s.opts, test.opts...)
			inspect := func(want string) {
				t.Helper()
				found, err := dbsync.Inspect(t.Context(), s.opts...)
				if err != nil || len(found.Wrong) > 0 {
					t.Fatalf("an inspection finds %+v, %v", found, err)
				}
				if got := strings.Join(found.Steps, "\n"); got != want {
					t.Errorf("an inspection says\n%s\nwant\n%s", got, want)
				}
			}
			want := strings.ReplaceAll(strings.Join(test.want, "\n"), "$SLOT", s.slot)
			inspect(want)
			inspect(want) // it has changed nothing
			s.open(t)
			inspect("")
		})
	}
}

// What the plan cannot be made without is refused before anything is made.
func TestPlanIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ lose, reason string }{
		"the schema":     {"REVOKE USAGE ON SCHEMA dbsync_ctrl FROM $ROLE", "may not make its tables in control schema"},
		"the slot table": {"REVOKE SELECT ON dbsync_ctrl.dbsync_slots FROM $ROLE", "may not use table dbsync_ctrl.dbsync_slots"},
		"the watermarks": {"REVOKE UPDATE ON dbsync_ctrl.dbsync_wmtable FROM $ROLE", "may not use table dbsync_ctrl.dbsync_wmtable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, table(3))
			role := db.Unique("role")
			newSyncer(t, db, "t")
			db.Exec(t, strings.ReplaceAll(`CREATE ROLE $ROLE LOGIN REPLICATION; GRANT USAGE, CREATE ON SCHEMA dbsync_ctrl TO $ROLE;
				GRANT ALL ON ALL TABLES IN SCHEMA dbsync_ctrl TO $ROLE`, "$ROLE", role), strings.ReplaceAll(test.lose, "$ROLE", role))
			defer db.Exec(t, fmt.Sprintf("DROP OWNED BY %[1]s CASCADE; DROP ROLE %[1]s", role))
			u, err := url.Parse(db.URL)
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.User(role)
			s := &syncer{db: db, slot: db.Unique("another"), store: newStore(), opts: append(options(t, db, "t"), dbsync.WithPGConnStr(u.String()))}
			s.opts = append(s.opts, dbsync.WithReplicationSlot(s.slot))
			e := setupError(t, s.tryOpen(t), test.reason)
			if query[int](t, db, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", s.slot) != 0 {
				t.Error("the slot was made")
			}
			found, err := dbsync.Inspect(t.Context(), s.opts...)
			if err != nil || len(found.Wrong) != 1 || found.Wrong[0].Error() != e.Error() {
				t.Errorf("an inspection finds %+v, %v; want %v", found, err, e)
			}
			db.Exec(t, e.Hint)
			s.open(t)
		})
	}
}

// Two processes that start at once make everything once.
func TestSetupAtOnce(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(3))
	opts := options(t, db, "t")
	type made struct {
		s   *dbsync.Syncer
		err error
	}
	all := make(chan made)
	for range 4 {
		go func() {
			s, err := dbsync.NewSyncerContext(t.Context(), opts...)
			all <- made{s, err}
		}()
	}
	generations := make(map[string]bool)
	for range 4 {
		m := receive(t, "a Syncer", all)
		if m.err != nil {
			t.Error(m.err)
			continue
		}
		generations[m.s.Generation()] = true
		if err := m.s.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(generations) != 1 {
		t.Errorf("they have %d generations", len(generations))
	}
}

// A publication of ours is kept equal to ForTables.
func TestPublicationOfOurs(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE SCHEMA s; CREATE TABLE s.c (id int PRIMARY KEY)`)
	open := func(tables ...string) error {
		t.Helper()
		s, err := dbsync.NewSyncerContext(t.Context(), options(t, db, tables...)...)
		if err == nil {
			err = s.Close()
		}
		return err
	}
	for _, test := range []struct{ tables, want string }{
		{"a b", "dbsync_ctrl.dbsync_wmtable public.a public.b"},
		{"b s.c", "dbsync_ctrl.dbsync_wmtable public.b s.c"},
		{"", "dbsync_ctrl.dbsync_wmtable public.b s.c"}, // nobody asks for any
		{"public.a public.b s.c", "dbsync_ctrl.dbsync_wmtable public.a public.b s.c"},
	} {
		if err := open(strings.Fields(test.tables)...); err != nil {
			t.Errorf("%s: %v", test.tables, err)
		}
		if got := publishedTables(t, db, "dbsync_mypub"); got != test.want {
			t.Errorf("%s: published are %s, want %s", test.tables, got, test.want)
		}
	}
	// What somebody took out is put in again.
	db.Exec(t, "ALTER PUBLICATION dbsync_mypub DROP TABLE dbsync_ctrl.dbsync_wmtable, b")
	if err := open("a", "b"); err != nil {
		t.Error(err)
	}
	if got := publishedTables(t, db, "dbsync_mypub"); got != "dbsync_ctrl.dbsync_wmtable public.a public.b" {
		t.Errorf("published are %s", got)
	}
	setupError(t, open("a", "nothing"), `"nothing"`)
}

// A publication that the user made is checked and never changed; each hint works.
func TestPublicationOfUser(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(3)+"; CREATE TABLE u (id int PRIMARY KEY, v text); CREATE PUBLICATION \"Mine, 'all'\" FOR TABLE u WITH (publish = 'insert, update')")
	s := &syncer{db: db, slot: db.Unique("slot"), store: newStore(), opts: append(options(t, db, "t", "u"), dbsync.WithPublication("Mine, 'all'"))}
	for _, reason := range []string{"leaves out some kinds of change", "lacks"} {
		e := setupError(t, s.tryOpen(t), reason)
		db.Exec(t, e.Hint)
	}
	s.open(t)
	if got := publishedTables(t, db, "Mine, 'all'"); got != "dbsync_ctrl.dbsync_wmtable public.t public.u" {
		t.Errorf("published are %s", got)
	}
	s.run(t)
	db.Exec(t, "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'x' WHERE id = 2")
	s.settle(t)
	if s.store.value("2") != "x" {
		t.Error("the change was not stored")
	}
	s.Stop()
	// One of all tables lacks nothing.
	db.Exec(t, "CREATE PUBLICATION everything FOR ALL TABLES")
	s.opts = append(s.opts, dbsync.WithPublication("everything"), dbsync.WithReplicationSlot(db.Unique("second")))
	s.open(t)
}

// Names may be whatever Postgres allows.
func TestNames(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, `CREATE SCHEMA "My ""Schema"""; CREATE TABLE "My ""Schema"""."T.1" (id int PRIMARY KEY, v text); CREATE TABLE "Ünïcode" (id int PRIMARY KEY, v text)`)
	s := &syncer{db: db, slot: db.Unique("slot"), store: newStore(), opts: append(options(t, db, `"My ""Schema"""."T.1"`, `"Ünïcode"`),
		dbsync.WithCtrlNamespace(`Ctrl "1"`), dbsync.WithWMTable("Water.marks"), dbsync.WithPublication(`Pub'"$`))}
	s.open(t)
	s.open(t) // finds what it has made
	s.run(t)
	db.Exec(t, `INSERT INTO "My ""Schema"""."T.1" VALUES (1, 'a')`, `INSERT INTO "Ünïcode" VALUES (2, 'b')`)
	s.mirror.table = "T.1"
	s.stored(t, s.window(t, s.selectOf(t, `"My ""Schema"""."T.1"`, `SELECT * FROM "My ""Schema"""."T.1"`)))
	s.settle(t)
	if got := s.store.rows("T.1"); len(got) != 1 {
		t.Errorf("documents are %v", got)
	}
	if got := s.store.rows("Ünïcode"); len(got) != 1 {
		t.Errorf("documents are %v", got)
	}
}

func TestBadOptions(t *testing.T) {
	long := strings.Repeat("x", 64)
	for name, opt := range map[string]dbsync.SyncerOpt{
		"WithCtrlNamespace":   dbsync.WithCtrlNamespace(""),
		"WithWMTable":         dbsync.WithWMTable(long),
		"WithPublication":     dbsync.WithPublication(long),
		"WithReplicationSlot": dbsync.WithReplicationSlot("Upper-Case"),
		"ForTables":           dbsync.ForTables("a.b.c"),
		"connection string":   dbsync.WithPGConnStr("postgres://localhost:notaport/x"),
	} {
		if _, err := dbsync.NewSyncer(opt); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What a role may not do is said with the exact hint.
func TestRights(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(3))
	role := db.Unique("role")
	db.Exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'secret pass'", role))
	defer db.Exec(t, fmt.Sprintf("DROP OWNED BY %[1]s CASCADE; DROP ROLE %[1]s", role))
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "secret pass")
	s := &syncer{db: db, slot: db.Unique("slot"), store: newStore(), opts: append(options(t, db, "t"), dbsync.WithPGConnStr(u.String()))}

	e := setupError(t, s.tryOpen(t), "may not open a replication connection")
	sql, _, _ := strings.Cut(e.Hint, ";")
	db.Exec(t, sql)
	e = setupError(t, s.tryOpen(t), "may not make control schema")
	if !strings.Contains(e.Hint, `CREATE SCHEMA "dbsync_ctrl"`) {
		t.Errorf("the hint is %s", e.Hint)
	}
	db.Exec(t, fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", db.Name, role))
	e = setupError(t, s.tryOpen(t), "may not make publication")
	if strings.Contains(e.Error(), "secret") {
		t.Errorf("%v: the password is in it", e)
	}
	// As the hint says: the owner of the tables, or a superuser, makes the publication.
	_, sql, ok := strings.Cut(e.Hint, ": ")
	if !ok {
		t.Fatalf("the hint is %s", e.Hint)
	}
	db.Exec(t, sql, "GRANT SELECT ON t TO "+role)
	s.open(t)
	s.run(t)
	defer s.Stop() // before the role is taken away
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
	s.check(t, "t")
}

// A table whose rows a policy hides gives an error, not fewer rows.
func TestRowSecurity(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(3)+"; ALTER TABLE t ENABLE ROW LEVEL SECURITY")
	role := db.Unique("role")
	db.Exec(t, fmt.Sprintf("CREATE ROLE %[1]s LOGIN REPLICATION; GRANT CREATE ON DATABASE %[2]s TO %[1]s; GRANT SELECT ON t TO %[1]s", role, db.Name))
	defer db.Exec(t, fmt.Sprintf("DROP OWNED BY %[1]s CASCADE; DROP ROLE %[1]s", role))
	admin := newSyncer(t, db, "t")
	db.Exec(t, fmt.Sprintf("GRANT USAGE ON SCHEMA dbsync_ctrl TO %[1]s; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA dbsync_ctrl TO %[1]s", role))
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	s := &syncer{db: db, slot: admin.slot, store: newStore(), opts: append(options(t, db, "t"), dbsync.WithPGConnStr(u.String()))}
	s.open(t)
	s.run(t)
	defer s.Stop() // before the role is taken away
	if _, err := s.OpenWindow(t.Context(), s.selectT(t, "SELECT * FROM t")); err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("got %v", err)
	}
}

func TestServerSettings(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t, testenv.PostgresOptions{Settings: map[string]string{"wal_level": "replica", "max_replication_slots": "1"}})
	db := server.NewDatabase(t)
	e := setupError(t, func() error {
		_, err := dbsync.NewSyncerContext(t.Context(), options(t, db)...)
		return err
	}(), "wal_level is replica")
	sql, _, _ := strings.Cut(e.Hint, ";")
	db.Exec(t, sql)
	db.DB.SetMaxIdleConns(0)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	newSyncer(t, db)
	_, err := dbsync.NewSyncerContext(t.Context(), append(options(t, db), dbsync.WithReplicationSlot("another"))...)
	setupError(t, err, "in use")
}

// Rows of a partition are those of the root, in the stream and in windows.
func TestPartitionedTable(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, `CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
		CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (100); CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (100) TO (1000);
		INSERT INTO t SELECT i, 'v' FROM generate_series(50, 149) i`), "t")
	s.store.blind = true
	s.run(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'low'), (999, 'high')")
	g := shutGate(t, s.db, 1)
	window := s.window(t, s.selectT(t, g.query()))
	g.arrived()
	s.db.Exec(t, "UPDATE t SET id = id + 100, v = 'moved' WHERE id BETWEEN 50 AND 59", "DELETE FROM t WHERE id = 140", "INSERT INTO t_high VALUES (500, 'direct')")
	g.open()
	s.stored(t, window)
	s.check(t, "t")
}

// What everything else stands on holds with every version of Postgres.
func TestVersions(t *testing.T) {
	t.Parallel()
	shared := testenv.SharedPostgres(t).NewDatabase(t)
	for _, version := range []string{"15", "16", "17", "18"} {
		t.Run(version, func(t *testing.T) {
			db := shared
			if !strings.HasPrefix(query[string](t, shared, "SHOW server_version"), version+".") {
				db = testenv.StartPostgres(t, testenv.PostgresOptions{Version: version}).NewDatabase(t)
			}
			db.Exec(t, table(100), "CREATE TABLE g (id int PRIMARY KEY, n int, v text GENERATED ALWAYS AS ('n' || n) STORED)")
			s := newSyncer(t, db, "t", "g")
			s.run(t)
			db.Exec(t, "UPDATE t SET v = 'new' WHERE id % 2 = 0", "UPDATE t SET id = -id WHERE id % 5 = 0", "DELETE FROM t WHERE id % 7 = 0", "INSERT INTO g (id, n) VALUES (1, 2)")
			s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
			s.check(t, "t")
			db.Exec(t, "TRUNCATE t; INSERT INTO t VALUES (1, 'again')")
			s.check(t, "t")
			if version >= "18" && !strings.Contains(s.store.rows("g")["1"], "n2") {
				t.Errorf("the generated column is not in %v", s.store.rows("g"))
			}
			s.terminate(t)
			db.Exec(t, "INSERT INTO t VALUES (2, 'more')")
			s.check(t, "t")
			s.Stop()

			s.inactive(t)
			db.Exec(t, "SELECT pg_drop_replication_slot('"+s.slot+"')")
			var lost *dbsync.SlotLostError
			if err := s.tryOpen(t); !errors.As(err, &lost) {
				t.Errorf("the dropped slot: %v", err)
			}
			s.open(t, dbsync.WithNewSlot())

			// A publication that goes while it is used is noticed, too. Postgres 18 passes over
			// the changes with no more than a warning.
			done := s.start(t)
			s.settle(t)
			db.Exec(t, "DROP PUBLICATION dbsync_mypub", "INSERT INTO t VALUES (3, 'missing')")
			if err := receive(t, "Run ends", done); !errors.As(err, &lost) {
				t.Errorf("the dropped publication: %v", err)
			}
			// Also when it is there again: what was not published does not come.
			db.Exec(t, "CREATE PUBLICATION dbsync_mypub FOR TABLE t, g, dbsync_ctrl.dbsync_wmtable")
			if err := s.tryOpen(t); !errors.As(err, &lost) {
				t.Errorf("the publication that is there again: %v", err)
			}
			s.open(t, dbsync.WithNewSlot())
			s.run(t)
			s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
			s.check(t, "t")
		})
	}
}
