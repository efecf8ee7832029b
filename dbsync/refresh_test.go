package dbsync_test

import (
	"strings"
	"testing"

	"tidemark/dbsync"
)

func TestRefresh(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(1000)+"; CREATE TABLE bare (n int)"), "t")
	s.MessageHandler = s.mirror
	refuses := func(query, reason string) {
		t.Helper()
		if s.Refresh(query) {
			t.Errorf("Refresh(%q) returned true", query)
		}
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("Refresh(%q): got error %v, want %q", query, err, reason)
		}
	}
	refuses("SELECT * FROM t", "not running")
	s.run(t)
	refuses("SELECT * FROM nothing", `relation "nothing" does not exist`)
	refuses("SELECT", "no column")
	refuses("SELECT 1", "no column")
	refuses("SELECT v FROM t", "does not give column id")
	refuses("SELECT id AS v, v AS id FROM t", "does not give column id")
	refuses("SELECT * FROM bare", "no replica identity")

	g := shutGate(t, s.db, 1)
	if !s.Refresh(g.query()) {
		t.Fatal(s.Err())
	}
	g.arrived()
	refuses("SELECT * FROM t", "under way")
	g.open()
	await(t, "the rows are stored", func() bool { return s.store.len() == 1000 })
	await(t, "another may begin", func() bool { return s.Refresh("SELECT v, id FROM t WHERE id <= 600") })
	await(t, "the rows came again", func() bool { s.settle(t); return s.mirror.refreshed.Load() >= 1600 })
	s.check(t, "t")
}

// A handler that takes no rows does not have to be there.
func TestRefreshWithoutHandler(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(3)), "t")
	s.MessageHandler, s.Batcher = nil, nil
	s.run(t)
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
}

func TestRefreshOfCompositeKeys(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, `CREATE TABLE t (b text, v text, a int, PRIMARY KEY (a, b));
		INSERT INTO t VALUES ('x|y', 'one', 1), ('~', 'two', 2)`), "t")
	s.MessageHandler = s.mirror
	s.run(t)
	if !s.Refresh("SELECT a, b, v FROM t") {
		t.Fatal(s.Err())
	}
	await(t, "the rows are stored", func() bool { return s.store.len() == 2 })
	s.db.Exec(t, "UPDATE t SET v = v || '!'") // of the same documents
	s.settle(t)
	if got := s.store.rows("t"); len(got) != 2 || got[`x~|y|1`] == "" || got[`~~|2`] == "" {
		t.Errorf("documents are %v", got)
	}
	if got := s.store.value(`~~|2`); got != "two!" {
		t.Errorf("the update is %v", got)
	}
}

var _ dbsync.MessageHandler = (*mirror)(nil)
