package dbsync_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// A process that waits for the slot has the server log no error, and takes over when it is free.
func TestWaitingIsQuiet(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t, testenv.PostgresOptions{})
	db := server.NewDatabase(t)
	db.Exec(t, table(3))
	first := newSyncer(t, db, "t")
	first.run(t)
	first.settle(t)
	second := &syncer{db: db, slot: first.slot, store: newStore(), opts: first.opts}
	second.open(t, dbsync.WithSlotTimeout(2*time.Second)) // it looks again and again until then
	if err := second.Run(t.Context()); !errors.Is(err, dbsync.ErrSlotInUse) {
		t.Fatalf("Run returned %v", err)
	}
	if log := server.Log(); strings.Contains(log, "ERROR") {
		t.Errorf("the server's log has errors of the wait:\n%s", log)
	}
	second.open(t)
	second.run(t)
	first.Stop()
	db.Exec(t, "INSERT INTO t VALUES (7)")
	second.settle(t)
	if second.store.len() != 1 {
		t.Error("it has not taken over")
	}
}
