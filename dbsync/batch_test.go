package dbsync_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"tidemark/dbsync"
)

// What arrives while a batch is being written joins one batch, however many transactions
// it comes in: all of it is translated before that batch is stored.
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
	const transactions = 300
	inserts, translated := 0, make(chan struct{})
	s.mirror.hook = func(event string) error {
		if strings.HasPrefix(event, "insert") {
			if inserts++; inserts == 1+transactions {
				close(translated)
			}
		}
		return nil
	}
	s.run(t)
	db.Exec(t, "INSERT INTO t VALUES (0, 'first')")
	receive(t, "a batch", writing)
	for i := range transactions {
		if _, err := db.DB.ExecContext(t.Context(), "INSERT INTO t VALUES ($1, $2)", i+1, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, "the end of what came while the first batch was being written", translated)
	close(goOn)
	s.check(t, "t")
}
