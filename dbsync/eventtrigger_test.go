package dbsync_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// listener is a mirror that is told of messages, too.
type listener struct{ rowMirror }

func (l listener) HandleLogicalMessage(idx int, msg *pglogrepl.LogicalDecodingMessage) error {
	if msg.Prefix == dbsync.CatalogPrefix && msg.Transactional {
		return l.event("announced %s", msg.Content)
	}
	return l.event("message %t %s %s", msg.Transactional, msg.Prefix, msg.Content)
}

// An ear hears what a Syncer's handler is told.
type ear struct {
	*syncer
	mu    sync.Mutex
	begun bool // a transaction of which nothing was told yet
	heard []string
}

// listen has the Syncer run with a handler that is told of messages.
func listen(t *testing.T, s *syncer) *ear {
	t.Helper()
	e := &ear{syncer: s}
	numbers := regexp.MustCompile(`^(begin|commit|insert|update|delete|truncate) \d+`)
	s.mirror.hook = func(event string) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		switch event = numbers.ReplaceAllString(event, "$1"); {
		case event == "begin":
			e.begun = true
			return nil
		case e.begun && event == "commit":
			e.begun = false
			return nil
		case e.begun:
			e.begun = false
			e.heard = append(e.heard, "begin")
		}
		e.heard = append(e.heard, event)
		return nil
	}
	s.MessageHandler = listener{rowMirror{s.mirror}}
	s.run(t)
	return e
}

// since returns what was heard since the last time, of all that is committed by now. Transactions of
// which nothing was told, as those of watermarks, are left out.
func (e *ear) since(t *testing.T) string {
	t.Helper()
	e.settle(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	text := strings.Join(e.heard, ", ")
	e.heard = nil
	return text
}

// announced returns which commands were announced since the last time.
func (e *ear) announced(t *testing.T) string {
	t.Helper()
	var tags []string
	for event := range strings.SplitSeq(e.since(t), ", ") {
		if tag, ok := strings.CutPrefix(event, "announced "); ok {
			tags = append(tags, tag)
		}
	}
	return strings.Join(tags, ", ")
}

// newRole makes a role, and returns its name and the URL by which it connects.
func newRole(t *testing.T, db *testenv.Database, attributes string) (role, connStr string) {
	t.Helper()
	role = db.Unique("role")
	db.Exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN %s", role, attributes))
	t.Cleanup(func() {
		if _, err := db.DB.ExecContext(context.WithoutCancel(t.Context()), fmt.Sprintf("DROP OWNED BY %[1]s CASCADE; DROP ROLE %[1]s", role)); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return role, u.String()
}

// as is a session of another role.
func as(t *testing.T, connStr string) *session {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), connStr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return &session{t, conn}
}

// eventTriggers lists the event triggers of a database.
func eventTriggers(t *testing.T, db *testenv.Database) string {
	t.Helper()
	return query[string](t, db, `SELECT coalesce(string_agg(evtname || ' ' || evtevent || ' ' || evtenabled::text, ', ' ORDER BY evtname), '') FROM pg_event_trigger`)
}

const bothTriggers = "dbsync_ctrl_ddl_command_end ddl_command_end A, dbsync_ctrl_sql_drop sql_drop A"

// withEventTriggers makes a Syncer with event triggers.
func withEventTriggers(t *testing.T, db *testenv.Database, tables ...string) *syncer {
	t.Helper()
	s := &syncer{db: db, store: newStore(), slot: db.Unique("slot")}
	s.opts = append(options(t, db, tables...), dbsync.WithReplicationSlot(s.slot), dbsync.WithEventTriggers())
	s.open(t)
	return s
}

// What anybody does to the catalog comes down the stream in its place, with every version of
// Postgres; what nobody else can see, or does not change what rows are, does not.
func TestEventTriggers(t *testing.T) {
	t.Parallel()
	shared := testenv.SharedPostgres(t).NewDatabase(t)
	for _, version := range []string{"15", "16", "17", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			db := shared
			if !strings.HasPrefix(query[string](t, shared, "SHOW server_version"), version+".") {
				db = testenv.StartPostgres(t, testenv.PostgresOptions{Version: version}).NewDatabase(t)
			}
			testEventTriggers(t, db)
		})
	}
}

func testEventTriggers(t *testing.T, db *testenv.Database) {
	role, connStr := newRole(t, db, "")
	db.Exec(t, table(0), fmt.Sprintf("CREATE SCHEMA app AUTHORIZATION %s", role),
		"GRANT TEMPORARY, CREATE ON DATABASE "+db.Name+" TO "+role,
		// Whoever hardens a server takes rights away from everybody: ours are those of the function's owner.
		`DO $$ DECLARE f regprocedure; BEGIN
			FOR f IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP EXECUTE 'REVOKE EXECUTE ON FUNCTION ' || f || ' FROM PUBLIC'; END LOOP;
		END $$`)
	e := listen(t, withEventTriggers(t, db, "t"))
	if got := eventTriggers(t, db); got != bothTriggers {
		t.Errorf("there are %s", got)
	}

	app := as(t, connStr)
	app.exec("SET search_path = app")
	admin := newSession(t, db)
	for _, test := range []struct {
		who  *session
		sql  string // one transaction for each, or several commands with semicolons in one
		want string
	}{
		{app, "CREATE TABLE a (id int PRIMARY KEY, n int, x text)", "CREATE TABLE"},
		{app, "CREATE TABLE IF NOT EXISTS a (id int)", ""},
		{app, "INSERT INTO a SELECT i, i FROM generate_series(1, 10) i", ""},
		{app, "TRUNCATE a", ""}, // the stream tells of it
		{app, "ALTER TABLE a ADD COLUMN c int NOT NULL DEFAULT 7", "ALTER TABLE"},
		{app, "ALTER TABLE a ALTER n TYPE int USING n * 100", "ALTER TABLE"},
		{app, "ALTER TABLE a ALTER n TYPE bigint", "ALTER TABLE"},
		{app, "ALTER TABLE a RENAME n TO m", "ALTER TABLE"},
		{app, "ALTER TABLE a DROP COLUMN c", "ALTER TABLE, ALTER TABLE"},
		{app, "ALTER TABLE a REPLICA IDENTITY FULL", "ALTER TABLE"},
		{app, "ALTER TABLE a SET UNLOGGED", "ALTER TABLE"},
		{app, "ALTER TABLE a ENABLE ROW LEVEL SECURITY", "ALTER TABLE"},
		{app, "CREATE POLICY mine ON a USING (true)", "CREATE POLICY"},
		{app, "DROP POLICY mine ON a", "DROP POLICY"},
		{app, "CREATE TABLE b (LIKE a INCLUDING ALL); ALTER TABLE a RENAME TO a_old; ALTER TABLE b RENAME TO a", "CREATE TABLE, ALTER TABLE, ALTER TABLE"},
		{app, "DROP TABLE a_old", "DROP TABLE"},
		{app, "CREATE TABLE made AS SELECT 1 AS one", "CREATE TABLE AS"},
		{app, "SELECT 1 AS one INTO selected", "SELECT INTO"},
		{app, "CREATE TABLE kid () INHERITS (a)", "CREATE TABLE"},
		{app, "ALTER TABLE kid NO INHERIT a", "ALTER TABLE"},
		{app, "CREATE TABLE part (id int) PARTITION BY RANGE (id); CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (9)", "CREATE TABLE, CREATE TABLE"},
		{app, "ALTER TABLE part DETACH PARTITION part1 CONCURRENTLY", "ALTER TABLE"},
		{app, "ALTER TABLE part ATTACH PARTITION part1 FOR VALUES FROM (0) TO (9)", "ALTER TABLE"},
		{app, "CREATE INDEX CONCURRENTLY part1_id ON part1 (id)", "CREATE INDEX"},
		{app, "REINDEX INDEX CONCURRENTLY part1_id", ""},
		{app, "DROP INDEX CONCURRENTLY part1_id", "DROP INDEX"},
		{app, "CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TYPE"},
		{app, "ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'", "ALTER TYPE"},
		{app, "ALTER TYPE mood ADD VALUE 'glad'", "ALTER TYPE"},
		{app, "CREATE DOMAIN d AS int; ALTER DOMAIN d ADD CHECK (VALUE > 0)", "CREATE DOMAIN, ALTER DOMAIN"},
		{app, "CREATE TYPE pair AS (l int, r int)", "CREATE TYPE"},
		{app, "ALTER TYPE pair RENAME ATTRIBUTE r TO s", "ALTER TYPE"},
		{app, "CREATE VIEW v AS SELECT 1 AS one", "CREATE VIEW"},
		{app, "CREATE OR REPLACE VIEW v AS SELECT 2 AS one", "CREATE VIEW"},
		{app, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE FUNCTION"},
		{app, "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'", "CREATE FUNCTION"},
		{app, "CREATE PUBLICATION theirs FOR TABLE made", "CREATE PUBLICATION"},
		{app, "ALTER PUBLICATION theirs ADD TABLE selected", "ALTER PUBLICATION"},
		{app, "ALTER PUBLICATION theirs SET (publish = 'insert')", "ALTER PUBLICATION"},
		{app, "ALTER PUBLICATION theirs DROP TABLE made", "ALTER PUBLICATION"},
		{app, "DROP PUBLICATION theirs", "DROP PUBLICATION"},
		{app, "CREATE SCHEMA more; CREATE TABLE more.x (id int); ALTER TABLE made SET SCHEMA more", "CREATE SCHEMA, CREATE TABLE, ALTER TABLE"},
		{app, "ALTER SCHEMA more RENAME TO less", "ALTER SCHEMA"},
		{app, "DROP SCHEMA less CASCADE", "DROP SCHEMA"},
		{app, "DO $$ BEGIN CREATE TABLE by_code (id int); EXECUTE 'DROP TABLE by_code'; END $$", "CREATE TABLE, DROP TABLE"},
		{admin, "CREATE EXTENSION citext", "CREATE EXTENSION"},
		{admin, "DROP EXTENSION citext", "DROP EXTENSION"},
		{admin, "ALTER TABLE t OWNER TO CURRENT_USER", "ALTER TABLE"},
		// Postgres tells event triggers of none of these.
		{admin, "VACUUM FULL t", ""},
		{admin, "CLUSTER t USING t_pkey", ""},

		// What is rolled back never was.
		{app, "BEGIN; ALTER TABLE a ADD COLUMN never int; ROLLBACK", ""},
		{app, "BEGIN; SAVEPOINT s; ALTER TABLE a ADD COLUMN never int; ROLLBACK TO s; ALTER TABLE a ADD COLUMN ever int; COMMIT", "ALTER TABLE"},
		{app, "DO $$ BEGIN ALTER TABLE a ADD COLUMN never int; RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN NULL; END $$", ""},

		// What no other session can see, and what does not change what rows are.
		{app, "CREATE TEMP TABLE tmp (id serial PRIMARY KEY, t text DEFAULT 'x')", ""},
		{app, "CREATE TEMP TABLE IF NOT EXISTS tmp (id int)", ""},
		{app, "ALTER TABLE tmp ADD COLUMN u int; CREATE INDEX ON tmp (u)", ""},
		{app, "ALTER TABLE tmp DROP COLUMN u", ""},
		{app, "CREATE RULE r AS ON DELETE TO tmp DO INSTEAD NOTHING", "CREATE RULE"}, // Postgres tells no schema of it
		{app, "DROP TABLE tmp", ""},                                                  // and it goes with the table
		{app, "BEGIN; CREATE TEMP TABLE tmp ON COMMIT DROP AS SELECT 1 AS one; COMMIT", ""},
		{app, "GRANT SELECT ON a TO PUBLIC", ""},
		{app, "COMMENT ON TABLE a IS 'x'", ""},
		{app, "CREATE MATERIALIZED VIEW mat AS SELECT 1 AS one", "CREATE MATERIALIZED VIEW"},
		{app, "CREATE UNIQUE INDEX ON mat (one)", "CREATE INDEX"},
		{app, "REFRESH MATERIALIZED VIEW CONCURRENTLY mat", ""},
		{admin, "CREATE TABLE dbsync_ctrl.another (id int); ALTER TABLE dbsync_ctrl.another ADD n int; DROP TABLE dbsync_ctrl.another", ""},
		{admin, "CREATE EVENT TRIGGER zzz ON ddl_command_end EXECUTE FUNCTION dbsync_ctrl.dbsync_announce(); DROP EVENT TRIGGER zzz", ""},

		// Restores and other replication have triggers off.
		{admin, "SET session_replication_role = replica; CREATE TABLE restored (id int); RESET session_replication_role", "CREATE TABLE"},
		// Whoever is on the way has no say in what the function calls.
		{admin, `CREATE FUNCTION public.pg_logical_emit_message(boolean, text, text) RETURNS pg_lsn LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'mine'; END $$`, "CREATE FUNCTION"},
		{admin, "SET search_path = public, pg_catalog; DROP FUNCTION public.pg_logical_emit_message(boolean, text, text)", "DROP FUNCTION"},
		{admin, "SET search_path = public, pg_catalog; DROP TABLE restored", "DROP TABLE"},

		{app, "DROP OWNED BY CURRENT_USER", "DROP OWNED"},
	} {
		test.who.exec(test.sql)
		if got := e.announced(t); got != test.want {
			t.Errorf("%s\nannounces %q, want %q", test.sql, got, test.want)
		}
	}

	// In order, within the transaction.
	admin.exec("BEGIN; INSERT INTO t VALUES (1, 'before'); CREATE TABLE u (id int); INSERT INTO t VALUES (2, 'after'); COMMIT")
	if got, want := e.since(t), "begin, insert 1, announced CREATE TABLE, insert 2, commit"; got != want {
		t.Errorf("the stream brings %s, want %s", got, want)
	}
	// Other messages, too.
	admin.exec("INSERT INTO t VALUES (3, 'c'); SELECT pg_logical_emit_message(true, 'theirs', 'x')", "SELECT pg_logical_emit_message(false, '', 'y')",
		"SELECT pg_logical_emit_message(true, 'long', repeat('z', 20000000)) IS NULL")
	got := strings.ReplaceAll(e.since(t), strings.Repeat("z", 20000000), "Z")
	if want := "begin, insert 3, message true theirs x, commit, message false  y, begin, message true long Z, commit"; got != want {
		t.Errorf("the stream brings %.1000s, want %s", got, want)
	}
	// After a broken connection as well.
	e.terminate(t)
	admin.exec("DROP TABLE u")
	if got, want := e.announced(t), "DROP TABLE"; got != want {
		t.Errorf("after a broken connection the stream brings %s, want %s", got, want)
	}
	e.check(t, "t")
}

// said runs a statement in a session of its own, and returns what the server logged for it.
func said(t *testing.T, db *testenv.Database, statement string) string {
	t.Helper()
	config, err := pgx.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { lines = append(lines, n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	(&session{t, conn}).exec("SET client_min_messages = log", statement)
	return strings.Join(lines, "\n")
}

// Whatever is wrong with the function, the commands of others go on.
func TestEventTriggersDoNoHarm(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"15", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartPostgres(t, testenv.PostgresOptions{Version: version})
			db := server.NewDatabase(t)
			db.Exec(t, table(0))
			e := listen(t, withEventTriggers(t, db, "t"))

			// Its owner may not do what it does any more.
			role, _ := newRole(t, db, "")
			db.Exec(t, `DO $$ DECLARE f regprocedure; BEGIN
					FOR f IN SELECT oid FROM pg_proc WHERE proname ~ '^(pg_logical_emit_message|pg_event_trigger_ddl_commands)$' LOOP EXECUTE 'REVOKE EXECUTE ON FUNCTION ' || f || ' FROM PUBLIC'; END LOOP;
				END $$`, fmt.Sprintf("GRANT CREATE ON SCHEMA dbsync_ctrl TO %[1]s; ALTER FUNCTION dbsync_ctrl.dbsync_announce() OWNER TO %[1]s", role))
			e.since(t)
			db.Exec(t, "ALTER TABLE t ALTER id TYPE bigint", "ALTER TABLE t ALTER id TYPE int", "CREATE TABLE u (id int)", "DROP TABLE u", "INSERT INTO t VALUES (1, 'v')")
			if got := e.announced(t); got != "" {
				t.Errorf("announced are %s, though the owner of the function may not", got)
			}
			const drops = "CREATE TABLE v (id int); DROP TABLE v"
			if got := said(t, db, drops); !strings.Contains(got, "dbsync_announce does not know what CREATE TABLE did: permission denied for function pg_event_trigger_ddl_commands") ||
				!strings.Contains(got, "dbsync_announce has not announced DROP TABLE: it may not") {
				t.Errorf("the server says %s", got)
			}
			e.check(t, "t")
			e.Stop()

			// A server that keeps less in its log.
			db.Exec(t, "SELECT pg_drop_replication_slot('"+e.slot+"')", "ALTER SYSTEM SET wal_level = replica")
			db.DB.SetMaxIdleConns(0)
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := said(t, db, drops+"; ALTER TABLE t ALTER v TYPE varchar"); got != "" {
				t.Errorf("where nobody could read a message the server says %s", got)
			}

			// What is dropped by hand is gone as a whole.
			db.Exec(t, "DROP SCHEMA dbsync_ctrl CASCADE", "ALTER TABLE t ADD COLUMN w int", "DROP TABLE t", "CREATE TABLE t (id int)")
			if got := eventTriggers(t, db); got != "" {
				t.Errorf("there are %s still", got)
			}
		})
	}
}

// Setup makes event triggers as this version has them, from whatever is there, and leaves no others.
func TestEventTriggersAreKept(t *testing.T) {
	t.Parallel()
	const function, owner, trigger, always = "CREATE OR REPLACE FUNCTION", "ALTER FUNCTION", "CREATE EVENT TRIGGER", "ALTER EVENT TRIGGER"
	for name, test := range map[string]struct {
		before string
		want   []string // how each statement begins
	}{
		"everything":            {"SELECT", nil},
		"an older form":         {"CREATE OR REPLACE FUNCTION dbsync_ctrl.dbsync_announce() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN END'", []string{function, owner}},
		"its rights":            {"ALTER FUNCTION dbsync_ctrl.dbsync_announce() SECURITY INVOKER", []string{function, owner}},
		"its search path":       {"ALTER FUNCTION dbsync_ctrl.dbsync_announce() RESET search_path", []string{function, owner}},
		"one is disabled":       {"ALTER EVENT TRIGGER dbsync_ctrl_sql_drop DISABLE", []string{always}},
		"one is not for all":    {"ALTER EVENT TRIGGER dbsync_ctrl_sql_drop ENABLE", []string{always}},
		"one is missing":        {"DROP EVENT TRIGGER dbsync_ctrl_ddl_command_end", []string{trigger, always}},
		"the function is gone":  {"DROP FUNCTION dbsync_ctrl.dbsync_announce() CASCADE", []string{function, owner, trigger, always, trigger, always}},
		"one has another name":  {"ALTER EVENT TRIGGER dbsync_ctrl_sql_drop RENAME TO other", nil},
		"one is for some tags":  {"DROP EVENT TRIGGER dbsync_ctrl_sql_drop; CREATE EVENT TRIGGER only_tables ON sql_drop WHEN TAG IN ('DROP VIEW') EXECUTE FUNCTION dbsync_ctrl.dbsync_announce()", []string{trigger, always}},
		"somebody's function":   {"DROP EVENT TRIGGER dbsync_ctrl_sql_drop; GRANT CREATE ON SCHEMA dbsync_ctrl TO pg_monitor; ALTER FUNCTION dbsync_ctrl.dbsync_announce() OWNER TO pg_monitor", []string{function, owner, trigger, always}},
		"the note of it":        {"UPDATE dbsync_ctrl.dbsync_slots SET event_triggers = false", nil},
		"the slot and its note": {"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database(); DELETE FROM dbsync_ctrl.dbsync_slots", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, table(1))
			s := withEventTriggers(t, db, "t")
			s.Close()
			db.Exec(t, test.before)
			found, err := dbsync.Inspect(t.Context(), s.opts...)
			if err != nil || len(found.Wrong) > 0 {
				t.Fatalf("an inspection finds %+v, %v", found, err)
			}
			var steps []string
			for _, step := range found.Steps {
				if says, statements, ok := strings.Cut(step, ":\n"); ok && says == "make event triggers, which announce changes of the catalog in the stream" {
					steps = append(steps, strings.Split(strings.TrimSuffix(statements, ";"), ";\n")...)
				}
			}
			// The function's text has lines that end so, too.
			var starts []string
			for _, step := range steps {
				for _, start := range []string{function, owner, trigger, always} {
					if strings.HasPrefix(step, start+" ") {
						starts = append(starts, start)
					}
				}
			}
			if got, want := strings.Join(starts, ", "), strings.Join(test.want, ", "); got != want {
				t.Errorf("an inspection says %s, want %s", got, want)
			}
			s.open(t)
			e := listen(t, s)
			db.Exec(t, "CREATE TABLE u (id int); DROP TABLE u")
			if got := e.announced(t); !strings.HasSuffix(got, "CREATE TABLE, DROP TABLE") { // after what setup did itself
				t.Errorf("announced are %s", got)
			}
			if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || len(found.Wrong)+len(found.Steps) > 0 {
				t.Errorf("after it an inspection finds %+v, %v", found, err)
			}
			if got := query[string](t, db, "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'dbsync_announce'"); got == "pg_monitor" {
				t.Error("somebody else may replace the function")
			}
		})
	}
}

// A command that is at its end, and about to call the function, goes on whatever setup does.
func TestEventTriggersGoWhileACommandEnds(t *testing.T) {
	t.Parallel()
	const key = 4712
	db := newDatabase(t, table(1)+fmt.Sprintf(`; CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
			IF current_setting('my.gate', true) = 'shut' THEN PERFORM pg_advisory_xact_lock_shared(%d); END IF;
		END $$; CREATE EVENT TRIGGER a_first ON ddl_command_end EXECUTE FUNCTION hold()`, key))
	with := withEventTriggers(t, db, "t")
	with.Close()
	older := "CREATE OR REPLACE FUNCTION dbsync_ctrl.dbsync_announce() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN END'"
	for name, meanwhile := range map[string]func(t *testing.T){
		"it is removed": func(t *testing.T) {
			without := &syncer{db: db, slot: with.slot, store: newStore(), opts: append(options(t, db, "t"), dbsync.WithReplicationSlot(with.slot))}
			without.open(t)
			without.Close()
			if got := eventTriggers(t, db); got != "a_first ddl_command_end O" {
				t.Errorf("there are %s", got)
			}
		},
		"it is replaced": func(t *testing.T) {
			db.Exec(t, older)
			with.open(t)
			with.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			with.open(t)
			with.Close()
			g := shutGate(t, db, key)
			s := newSession(t, db)
			s.exec("SET my.gate = 'shut'")
			done := make(chan error, 1)
			go func() {
				_, err := s.conn.PgConn().Exec(t.Context(), "ALTER TABLE t ALTER v SET DEFAULT 'x'").ReadAll()
				done <- err
			}()
			g.arrived()
			meanwhile(t)
			g.open()
			if err := receive(t, "the command ends", done); err != nil {
				t.Error(err)
			}
		})
	}
}

// Event triggers stay while any slot of the control schema wants them.
func TestEventTriggersOfSeveralSlots(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(1))
	a, b := withEventTriggers(t, db, "t"), withEventTriggers(t, db, "t")
	b.opts = append(b.opts, dbsync.WithReplicationSlot(db.Unique("b")))
	b.slot = db.Unique("b")
	b.open(t)
	off := func(s *syncer) {
		t.Helper()
		s.Close()
		s.opts = append(options(t, db, "t"), dbsync.WithReplicationSlot(s.slot))
		s.open(t)
		if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || len(found.Wrong)+len(found.Steps) > 0 {
			t.Errorf("an inspection finds %+v, %v", found, err)
		}
	}
	off(a)
	if got := eventTriggers(t, db); got != bothTriggers {
		t.Errorf("while another slot wants them there are %s", got)
	}
	// It is told of none, nor of other messages.
	e := listen(t, a)
	db.Exec(t, "ALTER TABLE t ADD COLUMN w int", "SELECT pg_logical_emit_message(true, 'x', 'y')", "INSERT INTO t VALUES (2, 'b')")
	if got := e.since(t); got != "begin, insert 2, commit" {
		t.Errorf("the stream brings %s", got)
	}
	a.Stop()
	off(b)
	if got := eventTriggers(t, db); got != "" {
		t.Errorf("when nobody wants them there are %s", got)
	}

	// A slot that is gone wants nothing.
	b.opts = append(b.opts, dbsync.WithEventTriggers())
	b.open(t)
	b.Close()
	b.inactive(t)
	db.Exec(t, "SELECT pg_drop_replication_slot('"+b.slot+"')")
	a.Close()
	a.open(t)
	if got := eventTriggers(t, db); got != "" {
		t.Errorf("when the slot that wanted them is gone there are %s", got)
	}
}

// A role that may not make event triggers says what has to be run, by a superuser and once.
func TestEventTriggersTakeASuperuser(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "18"} {
		t.Run(cmp.Or(version, "default"), func(t *testing.T) {
			t.Parallel()
			server := testenv.SharedPostgres(t)
			if version != "" {
				server = testenv.StartPostgres(t, testenv.PostgresOptions{Version: version})
			}
			db := server.NewDatabase(t)
			role, connStr := newRole(t, db, "REPLICATION")
			db.Exec(t, fmt.Sprintf("GRANT CREATE ON DATABASE %[2]s TO %[1]s; GRANT CREATE ON SCHEMA public TO %[1]s", role, db.Name))
			as(t, connStr).exec(table(1))
			s := &syncer{db: db, slot: db.Unique("slot"), store: newStore(), opts: append(options(t, db, "t"), dbsync.WithPGConnStr(connStr), dbsync.WithEventTriggers())}
			s.opts = append(s.opts, dbsync.WithReplicationSlot(s.slot))
			inspect := func() *dbsync.SetupError {
				t.Helper()
				found, err := dbsync.Inspect(t.Context(), s.opts...)
				if err != nil || len(found.Wrong) != 1 {
					t.Fatalf("an inspection finds %+v, %v", found, err)
				}
				return found.Wrong[0]
			}
			e := setupError(t, inspect(), "may not make event triggers")
			hint := e.Hint
			// Setup tries it, as a provider may allow it, and leaves no function that is the role's own behind.
			if e = setupError(t, s.tryOpen(t), "may not make event triggers"); e.Err == nil || e.Hint != hint {
				t.Errorf("setup says %v", e)
			}
			if query[bool](t, db, "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'dbsync_announce')") {
				t.Error("the function was made")
			}
			// One that was, by whatever, is not trusted.
			as(t, connStr).exec("CREATE FUNCTION dbsync_ctrl.dbsync_announce() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''mine''; END'")
			db.Exec(t, inspect().Hint)
			if owner := query[string](t, db, "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'dbsync_announce'"); owner == role {
				t.Errorf("%s may replace what an event trigger of a superuser calls", owner)
			}
			s.open(t)
			if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || len(found.Wrong)+len(found.Steps) > 0 {
				t.Errorf("an inspection finds %+v, %v", found, err)
			}
			l := listen(t, s)
			as(t, connStr).exec("ALTER TABLE t ADD COLUMN w int")
			db.Exec(t, "ALTER TABLE t ADD COLUMN x int")
			if got := l.announced(t); got != "ALTER TABLE, ALTER TABLE" {
				t.Errorf("announced are %s", got)
			}
			s.Close()

			// A form of another version takes a superuser again.
			db.Exec(t, "CREATE OR REPLACE FUNCTION dbsync_ctrl.dbsync_announce() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
			db.Exec(t, setupError(t, inspect(), "may not make event triggers").Hint)
			s.open(t)
			s.Close()

			// What is a superuser's to drop stays, and does not keep the role from going on.
			var log strings.Builder
			s.opts = append(options(t, db, "t"), dbsync.WithPGConnStr(connStr), dbsync.WithReplicationSlot(s.slot), dbsync.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || len(found.Wrong)+len(found.Steps) > 0 {
				t.Errorf("an inspection finds %+v, %v", found, err)
			}
			s.open(t)
			if !strings.Contains(log.String(), `hint="DROP EVENT TRIGGER \"dbsync_ctrl_ddl_command_end\"; DROP EVENT TRIGGER \"dbsync_ctrl_sql_drop\";"`) {
				t.Errorf("setup says %s", log.String())
			}
			if got := eventTriggers(t, db); got != bothTriggers {
				t.Errorf("there are %s still", got)
			}
		})
	}
}

// Names of control schemas may be whatever Postgres allows, and each has event triggers of its own.
func TestEventTriggerNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 31)
	db := newDatabase(t, table(1)+`; CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
		CREATE EVENT TRIGGER taken_sql_drop ON sql_drop EXECUTE FUNCTION f()`)
	seen := make(map[string]bool)
	for _, schema := range []string{`Ctrl "1", '$dbsync$'`, long, long + "x", "dbsync_ctrl"} {
		s := &syncer{db: db, slot: db.Unique(fmt.Sprint("s", len(seen))), store: newStore()}
		s.opts = append(options(t, db, "t"), dbsync.WithCtrlNamespace(schema), dbsync.WithReplicationSlot(s.slot), dbsync.WithPublication(s.slot), dbsync.WithEventTriggers())
		s.open(t)
		if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || len(found.Wrong)+len(found.Steps) > 0 {
			t.Errorf("%s: an inspection finds %+v, %v", schema, found, err)
		}
		seen[schema] = true
		if got := query[int](t, db, "SELECT count(*) FROM pg_event_trigger WHERE evtname <> 'taken_sql_drop'"); got != 2*len(seen) {
			t.Errorf("%s: there are %d event triggers: %s", schema, got, eventTriggers(t, db))
		}
		e := listen(t, s)
		db.Exec(t, fmt.Sprintf("ALTER TABLE t ADD COLUMN c%d int", len(seen)))
		if got := e.announced(t); strings.Count(got, "ALTER TABLE") != len(seen) {
			t.Errorf("%s: announced are %s", schema, got)
		}
		s.Stop()
	}

	// A name that somebody else has is not taken away.
	opts := append(options(t, db, "t"), dbsync.WithCtrlNamespace("taken"), dbsync.WithPublication("taken"), dbsync.WithEventTriggers())
	_, err := dbsync.NewSyncerContext(t.Context(), opts...)
	e := setupError(t, err, "event trigger taken_sql_drop is there, and is none of ours")
	found, err := dbsync.Inspect(t.Context(), opts...)
	if err != nil || len(found.Wrong) != 1 || found.Wrong[0].Error() != e.Error() {
		t.Errorf("an inspection finds %+v, %v; want %v", found, err, e)
	}
	db.Exec(t, e.Hint)
	s, err := dbsync.NewSyncerContext(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
