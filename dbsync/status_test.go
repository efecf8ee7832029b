package dbsync_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"tidemark/dbsync"
)

// awaitTrouble waits until the Syncer has one trouble, and returns it.
func (s *syncer) awaitTrouble(t *testing.T) dbsync.Trouble {
	t.Helper()
	await(t, "a trouble", func() bool { return len(s.Status().Troubles) > 0 })
	troubles := s.Status().Troubles
	if len(troubles) != 1 || troubles[0].Times < 5 || troubles[0].Since.IsZero() {
		t.Fatalf("troubles %+v", troubles)
	}
	return troubles[0]
}

// What Postgres cannot decode ends each connection at the same place, at once. That is seen all
// the time, between the attempts as well, until it goes on.
func TestUndecodableChangeIsATrouble(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, `CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE t (id int PRIMARY KEY, v text, unused mood); INSERT INTO t VALUES (1, 'a', 'sad')`), "t")
	s.run(t)
	s.settle(t)
	s.db.Exec(t, `DELETE FROM pg_enum WHERE enumlabel = 'sad'`, `UPDATE t SET v = 'b'`)

	first := s.awaitTrouble(t)
	if first.What != "read slot "+s.slot || !strings.Contains(first.Err, "invalid internal value for enum …") {
		t.Errorf("trouble %+v", first)
	}
	for more := first.Times; more < first.Times+3; {
		now := s.Status().Troubles
		if len(now) != 1 || !now[0].Since.Equal(first.Since) {
			t.Fatalf("the trouble is not steady: %+v", now)
		}
		more = now[0].Times
	}

	s.Stop()
	if n := s.Status().Troubles; len(n) != 0 {
		t.Errorf("a Syncer that does not run has troubles %+v", n)
	}
}

// A batch that is refused again and again is a trouble until it is stored.
func TestRefusedBatchIsATrouble(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	var cured atomic.Bool
	s.store.before = func(context.Context, []dbsync.Operation) error {
		if cured.Load() {
			return nil
		}
		return errors.New("the store is full")
	}
	s.run(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
	if got := s.awaitTrouble(t); got.What != "write a batch" || got.Err != "the store is full" {
		t.Errorf("trouble %+v", got)
	}
	cured.Store(true)
	s.check(t, "t")
	if got := s.Status().Troubles; len(got) > 0 {
		t.Errorf("after the batch is stored: %+v", got)
	}
}
