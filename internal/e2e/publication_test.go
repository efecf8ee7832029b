package e2e

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// beside returns another file for the same database, control schema and publication, with a slot
// of its own and no index yet.
func (s *setup) beside(t testing.TB, slot string) *setup {
	t.Helper()
	other := *s
	other.slot, other.prefix, other.file = s.db.Unique(slot), s.search.NewPrefix(t), filepath.Join(t.TempDir(), "tidemark.yaml")
	other.indices, other.tables, other.options = make(map[string]string), make(map[string]string), make(map[string][]testenv.CheckOption)
	return &other
}

// TestPublicationOfTwo has two instances, each with a table of its own, and one publication: both
// stay in sync through starts and ends of the other.
func TestPublicationOfTwo(t *testing.T) {
	t.Parallel()
	first := newSetup(t, shared(t))
	first.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'a' || i FROM generate_series(1, 200) i`,
		`CREATE TABLE b (id int PRIMARY KEY, v text)`, `INSERT INTO b SELECT i, 'b' || i FROM generate_series(1, 200) i`)
	first.index("a", "a", "")
	second := first.beside(t, "second")
	second.index("b", "b", "")
	change := func(v string) {
		t.Helper()
		first.db.Exec(t, `UPDATE a SET v = '`+v+`' WHERE id % 2 = 0; INSERT INTO a SELECT max(id) + 1, '`+v+`' FROM a; DELETE FROM a WHERE id = (SELECT min(id) FROM a)`,
			`UPDATE b SET v = '`+v+`' WHERE id % 2 = 0; INSERT INTO b SELECT max(id) + 1, '`+v+`' FROM b; DELETE FROM b WHERE id = (SELECT min(id) FROM b)`)
	}
	inSync := func(s *setup, i *instance) {
		t.Helper()
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
	}

	one := first.start(t, "run")
	first.awaitComplete(t, one)
	two := second.start(t, "run")
	second.awaitComplete(t, two)
	change("both run")
	inSync(first, one)
	inSync(second, two)

	two.stop(t)
	change("one runs")
	inSync(first, one)
	two = second.start(t, "run")
	two.awaitLog(t, "following the slot")
	change("it is back")
	inSync(first, one)
	inSync(second, two)

	one.stop(t)
	change("the other runs")
	one = first.start(t, "run")
	one.awaitLog(t, "following the slot")
	inSync(first, one)
	inSync(second, two)

	// None of that looked like a loss, after which all is filled anew.
	for _, log := range []string{one.log(), two.log()} {
		for line := range strings.Lines(log) {
			var said struct{ Msg string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "made a physical index for a backfill" {
				t.Error("an index was filled anew")
			}
		}
	}

	two.stop(t)
	must(t, dbsync.Teardown(t.Context(), dbsync.WithPGConnStr(second.postgresURL), dbsync.WithReplicationSlot(second.slot)))
	change("the other is gone")
	inSync(first, one)
	var published string
	must(t, first.db.DB.QueryRowContext(t.Context(), `SELECT string_agg(prrelid::regclass::text, ' ' ORDER BY 1) FROM pg_publication_rel`).Scan(&published))
	if published != "a dbsync_ctrl.dbsync_wmtable" {
		t.Errorf("published are %s", published)
	}
}

// TestPublicationLeavesChildrenAlone maps a table from which another one inherits that has no key.
// The application's updates of that one are never refused because of it.
func TestPublicationLeavesChildrenAlone(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE base (id int PRIMARY KEY, v text)`, `CREATE TABLE child () INHERITS (base)`,
		`INSERT INTO base SELECT i, 'base' FROM generate_series(1, 100) i`, `INSERT INTO child SELECT i, 'child' FROM generate_series(1001, 1100) i`)
	s.index("base", "base", "")
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	s.db.Exec(t, `UPDATE child SET v = 'changed'`, `DELETE FROM child WHERE id > 1050`, `UPDATE base SET v = 'changed' WHERE id % 2 = 0`)
	s.awaitCaughtUp(t, i)
	i.stop(t)

	// An earlier version has published it with the table: it is taken out at the start.
	s.db.Exec(t, `ALTER PUBLICATION dbsync_mypub ADD TABLE child`)
	if _, err := s.db.DB.ExecContext(t.Context(), `UPDATE child SET v = 'refused'`); err == nil {
		t.Fatal("an update of a published table without a key is not refused")
	}
	i = s.start(t, "run")
	i.awaitLog(t, "following the slot")
	s.db.Exec(t, `UPDATE child SET v = 'changed again'`)
	s.awaitCaughtUp(t, i)
}

// TestPublicationIsPutBack alters the publication while an instance runs: it is put right, and what
// was missed meanwhile is caught up.
func TestPublicationIsPutBack(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]string{
		"a-table":        `ALTER PUBLICATION dbsync_mypub DROP TABLE a`,
		"the-watermarks": `ALTER PUBLICATION dbsync_mypub DROP TABLE dbsync_ctrl.dbsync_wmtable`,
		"kinds":          `ALTER PUBLICATION dbsync_mypub SET (publish = 'update')`,
		"a-row-filter":   `ALTER PUBLICATION dbsync_mypub DROP TABLE a; ALTER PUBLICATION dbsync_mypub ADD TABLE a WHERE (id < 0)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, shared(t))
			s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'a' || i FROM generate_series(1, 200) i`)
			s.index("a", "a", "")
			i := s.start(t, "run")
			s.awaitComplete(t, i)
			s.db.Exec(t, `UPDATE a SET v = 'before' WHERE id = 1`)
			s.awaitCaughtUp(t, i)
			s.db.Exec(t, alter, `INSERT INTO a VALUES (1000, 'missed')`, `DELETE FROM a WHERE id = 7`)
			i.awaitLog(t, "changed publication")
			s.db.Exec(t, `INSERT INTO a VALUES (1001, 'after')`, `UPDATE a SET v = 'after' WHERE id = 2`)
			i.poll(t, "the index is as the table", func(ctx context.Context) error { return s.equal(ctx) })
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
		})
	}
}
