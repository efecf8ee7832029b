package dbsync_test

import "testing"

func TestRun(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.db.Exec(t, "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) i")
	s.run(t)
	s.db.Exec(t, "UPDATE t SET v = v || '!' WHERE id % 3 = 0", "UPDATE t SET id = -id WHERE id % 5 = 0", "DELETE FROM t WHERE id % 7 = 0")
	s.check(t, "t")
	s.db.Exec(t, "INSERT INTO t VALUES (5000, NULL)")
	s.check(t, "t")
	s.db.Exec(t, "TRUNCATE t; INSERT INTO t VALUES (1, 'again')")
	s.check(t, "t")
}

func TestRunSpreadsLargeTransactions(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.MaxMessagesToRead = 100
	s.run(t)
	s.db.Exec(t, "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i; UPDATE t SET v = id::text")
	s.check(t, "t")
	if s.store.batches < 100 {
		t.Errorf("%d batches, want one per 100 messages or more", s.store.batches)
	}
}
