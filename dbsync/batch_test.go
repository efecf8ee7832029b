package dbsync_test

import (
	"context"
	"fmt"
	"testing"

	"tidemark/dbsync"
)

// What arrives while a batch is being written joins one batch, however many transactions
// it comes in.
func TestBatchGrowsWhileAnotherIsWritten(t *testing.T) {
	db := newDatabase(t, table(0))
	s := newSyncer(t, db, "t")
	writing, goOn := make(chan struct{}, 1), make(chan struct{})
	s.store.before = func(ctx context.Context, _ []dbsync.Operation) error {
		select {
		case writing <- struct{}{}:
		default:
		}
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	s.run(t)
	db.Exec(t, "INSERT INTO t VALUES (0, 'first')")
	receive(t, "a batch", writing)

	const transactions = 300
	for i := range transactions {
		if _, err := db.DB.ExecContext(t.Context(), "INSERT INTO t VALUES ($1, $2)", i+1, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	// Three messages each, and those of the first.
	await(t, "all messages are here", func() bool { return s.Status().Messages >= 3*transactions })
	close(goOn)
	s.check(t, "t")
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	// The first, one of all that came meanwhile, and what the check adds.
	if got := s.store.batches; got > 4 {
		t.Errorf("%d transactions came in %d batches while one was being written", transactions, got)
	}
}
