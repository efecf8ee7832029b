package dbsync_test

import (
	"errors"
	"fmt"
	"testing"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// A process that cannot know that its connection to the slot has ended does not hold the slot any
// more when another one follows it.
func TestHoldsSlot(t *testing.T) {
	t.Parallel()
	server := testenv.SharedPostgres(t)
	db := newDatabase(t, table(0))
	proxy := server.NewProxy(t)
	s := newSyncer(t, db, "t")
	s.opts = append(s.opts, dbsync.WithPGConnStr(proxy.URL(db.URL)))
	s.open(t)
	notHeld := func(err error) bool {
		lost, ok := errors.AsType[*dbsync.SlotNotHeldError](err)
		return ok && lost.Slot == s.slot && !dbsync.IsPermanent(err)
	}
	if err := s.HoldsSlot(t.Context()); !notHeld(err) {
		t.Errorf("before it runs: %v", err)
	}
	s.run(t)
	s.settle(t)
	if err := s.HoldsSlot(t.Context()); err != nil {
		t.Errorf("while it follows the slot: %v", err)
	}

	proxy.Freeze()
	db.Exec(t, fmt.Sprintf("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '%s'", s.slot))
	second := &syncer{db: s.db, slot: s.slot, store: s.store, opts: append(s.opts[:len(s.opts):len(s.opts)], dbsync.WithPGConnStr(db.URL))}
	second.open(t)
	second.run(t)
	second.settle(t)
	if !s.Status().Connected {
		t.Error("the first one has noticed, which this is not about")
	}
	await(t, "it does not hold the slot", func() bool { return notHeld(s.HoldsSlot(t.Context())) })
	if err := second.HoldsSlot(t.Context()); err != nil {
		t.Errorf("the second one: %v", err)
	}
	proxy.Thaw()
	await(t, "it has noticed", func() bool { return !s.Status().Connected })
	second.Stop()
	await(t, "it holds the slot again", func() bool { return s.HoldsSlot(t.Context()) == nil })
	s.check(t, "t")
}
