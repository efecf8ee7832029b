package dbsync_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// However a slot came to lack changes: the next start says so, and WithNewSlot begins
// again, under another generation.
func TestLostSlot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lose   string // $SLOT is the slot
		reason string
		want   any
	}{
		"dropped":   {"SELECT pg_drop_replication_slot('$SLOT')", "does not exist any more", new(*dbsync.SlotLostError)},
		"recreated": {"SELECT pg_drop_replication_slot('$SLOT'); SELECT pg_create_logical_replication_slot('$SLOT', 'pgoutput')", "made anew", new(*dbsync.SlotLostError)},
		"advanced": {"INSERT INTO t VALUES (7); SELECT pg_replication_slot_advance('$SLOT', pg_current_wal_lsn())", "moved by somebody else",
			new(*dbsync.SlotLostError)},
		"consumed": {"INSERT INTO t VALUES (7); SELECT count(*) FROM pg_logical_slot_get_binary_changes('$SLOT', NULL, NULL, 'proto_version', '1', 'publication_names', 'dbsync_mypub')",
			"moved by somebody else", new(*dbsync.SlotLostError)},
		"other system":   {"UPDATE dbsync_ctrl.dbsync_slots SET system_identifier = '7'", "made in database system 7", new(*dbsync.ClusterChangedError)},
		"other timeline": {"UPDATE dbsync_ctrl.dbsync_slots SET timeline = 9", "made on timeline 9", new(*dbsync.ClusterChangedError)},
		"publication dropped": {"INSERT INTO t VALUES (7); DROP PUBLICATION dbsync_mypub; INSERT INTO t VALUES (8)", "publication dbsync_mypub",
			new(*dbsync.SlotLostError)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSyncer(t, newDatabase(t, table(3)), "t")
			s.run(t)
			s.settle(t)
			s.Stop()
			s.inactive(t)
			generation := s.Generation()
			s.db.Exec(t, strings.ReplaceAll(test.lose, "$SLOT", s.slot))

			for range 2 { // not only once
				err := s.tryOpen(t)
				if !errors.As(err, test.want) || !strings.Contains(err.Error(), test.reason) {
					t.Fatalf("got %v, want %T, %s", err, test.want, test.reason)
				}
			}
			found, err := dbsync.Inspect(t.Context(), s.opts...)
			if err != nil || !errors.As(found.Lost, test.want) {
				t.Errorf("an inspection finds %v, %v", found.Lost, err)
			}
			s.open(t, dbsync.WithNewSlot())
			if s.Generation() == generation {
				t.Error("the new slot has the old generation")
			}
			s.run(t)
			s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
			s.db.Exec(t, "INSERT INTO t VALUES (10)")
			s.check(t, "t")
			s.Stop()
			generation = s.Generation()
			s.open(t, dbsync.WithNewSlot()) // which nothing asks for any more
			if s.Generation() != generation {
				t.Error("a slot that is there was made anew")
			}
		})
	}
}

// While it runs a slot is lost when the process is cut off, and finds another one, or
// none, when it comes back.
func TestSlotIsLostWhileRunning(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lose func(t *testing.T, s *syncer)
		want any
	}{
		"dropped": {func(t *testing.T, s *syncer) {
			s.db.Exec(t, "SELECT pg_drop_replication_slot('"+s.slot+"')")
		}, new(*dbsync.SlotLostError)},
		"recreated": {func(t *testing.T, s *syncer) {
			s.db.Exec(t, strings.ReplaceAll("SELECT pg_drop_replication_slot('$SLOT'); SELECT pg_create_logical_replication_slot('$SLOT', 'pgoutput')", "$SLOT", s.slot))
		}, new(*dbsync.SlotLostError)},
		"made anew by another process": {func(t *testing.T, s *syncer) {
			other := &syncer{db: s.db, slot: s.slot, store: s.store, opts: append(s.opts[:len(s.opts):len(s.opts)], dbsync.WithPGConnStr(s.db.URL))}
			s.db.Exec(t, "SELECT pg_drop_replication_slot('"+s.slot+"')")
			other.open(t, dbsync.WithNewSlot())
		}, new(*dbsync.SlotLostError)},
		"note is gone": {func(t *testing.T, s *syncer) {
			s.db.Exec(t, "DELETE FROM dbsync_ctrl.dbsync_slots")
		}, new(*dbsync.SlotLostError)},
		"other system": {func(t *testing.T, s *syncer) {
			s.db.Exec(t, "UPDATE dbsync_ctrl.dbsync_slots SET system_identifier = '7'")
		}, new(*dbsync.ClusterChangedError)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSyncer(t, newDatabase(t, table(3)), "t")
			proxy := s.db.Postgres.NewProxy(t)
			s.opts = append(s.opts, dbsync.WithPGConnStr(proxy.URL(s.db.URL)))
			s.open(t)
			done := s.start(t)
			s.settle(t)
			proxy.CutOff()
			s.inactive(t)
			test.lose(t, s)
			proxy.Restore()
			err := receive(t, "Run ends", done)
			if !errors.As(err, test.want) || !errors.As(s.Err(), test.want) {
				t.Errorf("Run returned %v, want %T", err, test.want)
			}
			if err := s.OpenWindowErr(t); !errors.Is(err, dbsync.ErrNotRunning) {
				t.Errorf("a window after that: %v", err)
			}
		})
	}
}

// OpenWindowErr returns the error of a window on t.
func (s *syncer) OpenWindowErr(t *testing.T) error {
	t.Helper()
	_, err := s.OpenWindow(t.Context(), s.selectT(t, "SELECT * FROM t"))
	return err
}

// The server gives up a slot for which it would have to keep too much of its log.
func TestInvalidatedSlot(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t, testenv.PostgresOptions{Settings: map[string]string{
		"max_slot_wal_keep_size": "1MB", "wal_keep_size": "0", "min_wal_size": "32MB", "max_wal_size": "32MB"}})
	db := server.NewDatabase(t)
	db.Exec(t, table(3), "CREATE TABLE other (v text)")
	s := newSyncer(t, db, "t")
	proxy := server.NewProxy(t)
	s.opts = append(s.opts, dbsync.WithPGConnStr(proxy.URL(db.URL)))
	s.open(t)
	done := s.start(t)
	s.settle(t)
	proxy.CutOff()
	s.inactive(t)
	await(t, "the slot is invalidated", func() bool {
		db.Exec(t, "INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 1000)", "SELECT pg_switch_wal()", "CHECKPOINT")
		return query[string](t, db, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", s.slot) == "lost"
	})
	proxy.Restore()
	lost := func(err error) {
		t.Helper()
		var e *dbsync.SlotLostError
		if !errors.As(err, &e) || !strings.Contains(e.Reason, "max_slot_wal_keep_size") || e.Slot != s.slot || e.Confirmed == 0 {
			t.Errorf("got %v", err)
		}
	}
	lost(receive(t, "Run ends", done))
	lost(s.tryOpen(t))
	s.open(t, dbsync.WithNewSlot())
	s.run(t)
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
	s.check(t, "t")
}

// A slot that somebody else uses otherwise is left alone.
func TestForeignSlot(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(3))
	refused := func(slot, reason string) {
		t.Helper()
		_, err := dbsync.NewSyncerContext(t.Context(), append(options(t, db, "t"), dbsync.WithReplicationSlot(slot))...)
		var setup *dbsync.SetupError
		if !errors.As(err, &setup) || !strings.Contains(err.Error(), reason) || setup.Hint == "" {
			t.Errorf("slot %s: got %v, want %s", slot, err, reason)
		}
	}
	other := newDatabase(t, table(3))
	other.Exec(t, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", db.Unique("elsewhere")))
	refused(db.Unique("elsewhere"), other.Name)
	db.Exec(t, fmt.Sprintf("SELECT pg_create_physical_replication_slot('%s')", db.Unique("physical")))
	defer db.Exec(t, fmt.Sprintf("SELECT pg_drop_replication_slot('%s')", db.Unique("physical")))
	refused(db.Unique("physical"), "physical")
}

// A slot that the user made is used from where it stands, also when the publication is
// younger.
func TestSlotOfUser(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"slot", "publication"} {
		t.Run(first+" first", func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, table(3))
			s := &syncer{db: db, slot: db.Unique("slot"), store: newStore(), opts: options(t, db, "t")}
			slot := fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", s.slot)
			if first == "publication" {
				s.open(t)
				db.Exec(t, fmt.Sprintf("SELECT pg_drop_replication_slot('%s'); DELETE FROM dbsync_ctrl.dbsync_slots", s.slot))
				s.Close()
			}
			db.Exec(t, slot, "INSERT INTO t VALUES (4, 'after the slot')")
			s.open(t)
			if s.Generation() == "" {
				t.Error("the slot has no generation")
			}
			s.run(t)
			s.settle(t)
			if got := s.store.value("4"); first == "publication" && got != "after the slot" {
				t.Errorf("what came after the slot is %v", got)
			}
			s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
			s.db.Exec(t, "INSERT INTO t VALUES (5, 'later')")
			s.check(t, "t")
		})
	}
}
