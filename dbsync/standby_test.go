package dbsync_test

import (
	"fmt"
	"strings"
	"testing"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// A standby that is down holds up the stream of a slot with failover, and Status says so.
func TestStandbyHoldsUpStream(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"17", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartPostgres(t, testenv.PostgresOptions{Version: version})
			db := server.NewDatabase(t)
			db.Exec(t, table(3))
			slot := db.Unique("slot")
			db.Exec(t, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput', false, false, true)", slot),
				"SELECT pg_create_physical_replication_slot('standby_a', true)")
			set := func(value string) {
				t.Helper()
				db.Exec(t, fmt.Sprintf("ALTER SYSTEM SET synchronized_standby_slots = '%s'", value), "SELECT pg_reload_conf()")
			}
			s := newSyncer(t, db, "t")
			s.run(t)
			s.settle(t)
			if wait := s.Status().StandbyWait; wait != nil {
				t.Errorf("nothing is set, and it waits: %s", wait.Text)
			}
			set("standby_a, standby_b")
			await(t, "the setting is read", func() bool {
				return query[string](t, db, "SHOW synchronized_standby_slots") != ""
			})
			db.Exec(t, "INSERT INTO t VALUES (7, 'held up')")
			await(t, "it says what it waits for", func() bool { return s.Status().StandbyWait != nil })
			text := s.Status().StandbyWait.Text
			for _, part := range []string{"synchronized_standby_slots", slot, "no standby is connected to slot standby_a", "there is no slot standby_b", "hint: "} {
				if !strings.Contains(text, part) {
					t.Errorf("it does not say %q: %s", part, text)
				}
			}
			if s.store.value("7") != nil {
				t.Error("the change has come all the same")
			}
			if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || !strings.Contains(found.Standbys, "standby_a") {
				t.Errorf("an inspection says %q, %v", found.Standbys, err)
			}
			set("")
			await(t, "the change has come", func() bool { return s.store.value("7") != nil })
			await(t, "it waits no more", func() bool { return s.Status().StandbyWait == nil })
			if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || found.Standbys != "" {
				t.Errorf("an inspection says %q, %v", found.Standbys, err)
			}
		})
	}
}
