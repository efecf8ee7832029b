package dbsync_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// startStandbyOf starts a primary with table t and a standby of it that can have slots.
func startStandbyOf(t *testing.T, version string, settings map[string]string) (db *testenv.Database, standby *testenv.Database) {
	t.Helper()
	primary := testenv.StartPostgres(t, testenv.PostgresOptions{Version: version})
	db = primary.NewDatabase(t)
	db.Exec(t, table(3))
	return db, testenv.StartStandby(t, primary, testenv.StandbyOptions{Slot: "sb", Settings: settings}).Database(t, db.Name)
}

// standbySyncer makes options of a Syncer whose slot is on the standby.
func standbySyncer(t *testing.T, db, standby *testenv.Database) *syncer {
	t.Helper()
	s := &syncer{db: db, store: newStore(), slot: db.Unique("slot")}
	s.opts = append(options(t, db, "t"), dbsync.WithReplicationSlot(s.slot), dbsync.WithReplicationConnStr(standby.URL))
	return s
}

func slots(t *testing.T, db *testenv.Database, name string) int {
	t.Helper()
	return query[int](t, db, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", name)
}

// The slot is on a standby, and everything else on the primary: rows and changes come, also those that are made while
// nobody follows it. Another slot that shares the publication leaves the tables in it.
func TestSlotOnStandby(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"16", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			db, standby := startStandbyOf(t, version, map[string]string{"hot_standby_feedback": "on"})
			s := standbySyncer(t, db, standby)
			if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || len(found.Wrong) > 0 || !strings.Contains(strings.Join(found.Steps, "\n"), "make slot "+s.slot) {
				t.Errorf("an inspection finds %+v, %v", found, err)
			}
			s.open(t) // an idle primary says by itself never which transactions are open
			if here, there := slots(t, db, s.slot), slots(t, standby, s.slot); here != 0 || there != 1 {
				t.Errorf("the primary has %d such slots, the standby %d", here, there)
			}
			s.run(t)
			s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
			s.db.Exec(t, "INSERT INTO t SELECT i, 'new' FROM generate_series(10, 300) i", "UPDATE t SET v = 'changed' WHERE id = 1", "DELETE FROM t WHERE id = 2")
			s.check(t, "t")
			if err := s.HoldsSlot(t.Context()); err != nil {
				t.Error(err)
			}
			await(t, "what the slot keeps on the standby is known", func() bool { wal := s.Status().SlotWAL; return wal != nil && wal.Status == "reserved" })
			from, err := s.ReplayStart(t.Context())
			if end := logEnd(t, db); err != nil || from == 0 || from > end {
				t.Errorf("the slot can begin again at %s, %v; the log ends at %s", from, err, end)
			}
			generation := s.Generation()
			s.Stop()
			s.db.Exec(t, "INSERT INTO t VALUES (1000, 'while nobody followed')", "CREATE TABLE u (id int PRIMARY KEY, v text)")

			other := &syncer{db: db, store: newStore(), slot: db.Unique("other")}
			other.opts = append(options(t, db, "u"), dbsync.WithReplicationSlot(other.slot))
			other.open(t)
			if n := query[int](t, db, "SELECT count(*) FROM pg_publication_tables WHERE pubname = 'dbsync_mypub' AND tablename IN ('t', 'u')"); n != 2 {
				t.Errorf("%d of the two tables that the slots need are published", n)
			}
			s.open(t)
			if s.Generation() != generation {
				t.Error("the slot has another generation")
			}
			s.run(t)
			s.check(t, "t")
			s.Stop()
			if err := dbsync.Teardown(t.Context(), s.opts...); err != nil || slots(t, standby, s.slot) != 0 {
				t.Errorf("the standby has the slot after the teardown, %v", err)
			}
		})
	}
}

// A slot on a standby that a conflict has invalidated is lost, and one of a standby that is not as it has to be is refused.
func TestSlotOnStandbyIsLost(t *testing.T) {
	t.Parallel()
	db, standby := startStandbyOf(t, "18", map[string]string{"hot_standby_feedback": "on"})
	s := standbySyncer(t, db, standby)
	s.open(t)
	done := s.start(t)
	s.settle(t)
	// Without the feedback the primary removes rows of the catalog that the slot needs.
	standby.Exec(t, "ALTER SYSTEM SET hot_standby_feedback = off", "SELECT pg_reload_conf()")
	await(t, "the primary knows of no rows that are needed", func() bool {
		return query[bool](t, db, "SELECT xmin IS NULL AND catalog_xmin IS NULL FROM pg_replication_slots WHERE slot_name = 'sb'")
	})
	await(t, "the slot is invalidated", func() bool {
		db.Exec(t, "CREATE TABLE gone (v text)", "DROP TABLE gone", "VACUUM pg_class, pg_attribute, pg_type, pg_depend")
		return query[string](t, standby, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", s.slot) == "lost"
	})
	db.Exec(t, "INSERT INTO t VALUES (7, 'x')")
	isLost := func(err error) {
		t.Helper()
		if lost := (*dbsync.SlotLostError)(nil); !errors.As(err, &lost) || !strings.Contains(lost.Reason, "rows_removed") || !strings.Contains(lost.Reason, "hot_standby_feedback") {
			t.Errorf("got %v, want a slot that a conflict has invalidated", err)
		}
	}
	isLost(receive(t, "Run ends", done))
	if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || len(found.Wrong) != 1 || !strings.Contains(found.Wrong[0].Text, "hot_standby_feedback is off") {
		t.Errorf("an inspection finds %+v, %v", found, err)
	}
	if err := s.tryOpen(t); err == nil || !strings.Contains(err.Error(), "hot_standby_feedback is off") {
		t.Errorf("a standby without feedback is taken: %v", err)
	}
	standby.Exec(t, "ALTER SYSTEM SET hot_standby_feedback = on", "SELECT pg_reload_conf()")
	await(t, "the setting is read", func() bool { return query[string](t, standby, "SHOW hot_standby_feedback") == "on" })
	isLost(s.tryOpen(t))
	s.open(t, dbsync.WithNewSlot())
	s.run(t)
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
	s.db.Exec(t, "INSERT INTO t VALUES (8, 'y')")
	s.check(t, "t")
}

// Nobody has a slot on a server that cannot have one, or that has another log.
func TestSlotOnUnfitServer(t *testing.T) {
	t.Parallel()
	db, standby := startStandbyOf(t, "15", map[string]string{"hot_standby_feedback": "on"})
	s := standbySyncer(t, db, standby)
	if err := s.tryOpen(t); err == nil || !strings.Contains(err.Error(), "16 is the first") {
		t.Errorf("a standby of Postgres 15 is taken: %v", err)
	}
	other := newDatabase(t, "")
	s.opts = append(s.opts, dbsync.WithReplicationConnStr(other.URL))
	if err := s.tryOpen(t); err == nil || !strings.Contains(err.Error(), "is of database system") {
		t.Errorf("another database is taken for a standby: %v", err)
	}
}

// The primary fails, another standby takes its place, and the standby with the slot follows that one: the slot is gone
// on with, which nobody had to copy.
func TestPromotionBesideSlotOnStandby(t *testing.T) {
	t.Parallel()
	primary := testenv.StartPostgres(t, testenv.PostgresOptions{Version: "18"})
	db := primary.NewDatabase(t)
	db.Exec(t, table(3))
	heir := testenv.StartStandby(t, primary, testenv.StandbyOptions{Slot: "heir", Settings: map[string]string{"hot_standby_feedback": "on"}})
	standby := testenv.StartStandby(t, primary, testenv.StandbyOptions{Slot: "sb", Settings: map[string]string{"hot_standby_feedback": "on"}}).Database(t, db.Name)
	s := standbySyncer(t, db, standby)
	s.opts = append(s.opts, dbsync.WithPGConnStr(strings.Replace(db.URL, primary.Addr(), primary.Addr()+","+heir.Addr(), 1)+"&target_session_attrs=read-write"))
	s.open(t)
	done := s.start(t)
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
	s.db.Exec(t, "INSERT INTO t VALUES (7, 'before')")
	s.check(t, "t")
	new := heir.Database(t, db.Name)
	caughtUp := func() bool {
		return query[bool](t, new, "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", logEnd(t, db).String()) &&
			query[pglogrepl.LSN](t, standby, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1", s.slot) <= lsn(t, query[string](t, new, "SELECT confirmed::text FROM dbsync_ctrl.dbsync_slots"))
	}
	await(t, "the standbys have it all", caughtUp)
	p := &pair{primary: primary, standby: heir, db: db}
	s.db = p.failOver(t)
	host, port, _ := strings.Cut(heir.Addr(), ":")
	standby.Exec(t, "ALTER SYSTEM SET primary_slot_name = ''", "ALTER SYSTEM SET primary_conninfo = 'host="+host+" port="+port+" user=postgres password=tidemark'", "SELECT pg_reload_conf()")
	var promoted *dbsync.PromotedError
	if err := receive(t, "Run ends", done); !errors.As(err, &promoted) {
		t.Fatalf("Run ends with %v, want a promotion", err)
	}
	s.db.Exec(t, "INSERT INTO t VALUES (8, 'after')")
	await(t, "the standby follows the new primary", func() bool { return s.tryOpen(t) == nil })
	if s.Promotion() == nil {
		t.Error("there was no promotion")
	}
	s.run(t)
	s.check(t, "t")
}

// The primary never says by itself which transactions are open, as on one where nothing is written: it is asked to, and
// the slot is made.
func TestSlotOnStandbyOfIdlePrimary(t *testing.T) {
	t.Parallel()
	db, standby := startStandbyOf(t, "18", map[string]string{"hot_standby_feedback": "on"})
	writer := query[int](t, db, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'")
	if err := syscall.Kill(writer, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(writer, syscall.SIGCONT) }) // the server cannot end otherwise
	s := standbySyncer(t, db, standby)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	made, err := dbsync.NewSyncerContext(ctx, s.opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Close(); err != nil {
		t.Error(err)
	}
}

// The standby is behind while the publication is made. The slot is made when it has that: it would read changes of
// before otherwise, at which there was none, and Postgres 16 ends the stream there.
func TestSlotWaitsForPublicationOnStandby(t *testing.T) {
	t.Parallel()
	db, standby := startStandbyOf(t, "16", map[string]string{"hot_standby_feedback": "on"})
	standby.Exec(t, "SELECT pg_wal_replay_pause()")
	await(t, "the standby is behind", func() bool { return query[string](t, standby, "SELECT pg_get_wal_replay_pause_state()") == "paused" })
	// What a slot that is made too early begins with.
	db.Exec(t, "SELECT pg_log_standby_snapshot()", "SELECT txid_current()", "SELECT pg_log_standby_snapshot()", "INSERT INTO t VALUES (5, 'before')")
	s := standbySyncer(t, db, standby)
	opened := make(chan error, 1)
	go func() { opened <- s.tryOpen(t) }()
	await(t, "the publication is made", func() bool { return query[int](t, db, "SELECT count(*) FROM pg_publication") == 1 })
	await(t, "somebody waits for the standby, or makes the slot there", func() bool {
		return query[int](t, standby, "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%pg_last_wal_replay_lsn()%' OR query LIKE '%pg_create_logical_replication_slot%' AND pid <> pg_backend_pid()") > 0
	})
	standby.Exec(t, "SELECT pg_wal_replay_resume()")
	if err := receive(t, "the slot is made", opened); err != nil {
		t.Fatal(err)
	}
	s.run(t)
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
	s.db.Exec(t, "INSERT INTO t VALUES (6, 'after')")
	s.check(t, "t")
}
