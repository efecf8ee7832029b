package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"tidemark/testenv"
)

// A revenant is a setup whose database is set back to what it was, as a volume is that is restored from
// a snapshot: system identifier and timeline, slot and control schema are as they were.
type revenant struct {
	*setup
	server *testenv.Postgres
}

func newRevenant(t *testing.T, rows int) *revenant {
	t.Helper()
	server := testenv.StartPostgres(t, testenv.PostgresOptions{})
	s := &revenant{newSetupOn(t, server, shared(t)), server}
	s.db.DB.SetMaxIdleConns(0) // the server is stopped now and then, and ends those that there are
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, v text)`, fmt.Sprintf(`INSERT INTO items SELECT i, 'first ' || i FROM generate_series(1, %d) i`, rows))
	s.index("items", "items", "", testenv.WithQuery(`SELECT id, json_build_object('id', id, 'v', v) FROM items`))
	return s
}

func (s *revenant) step(t *testing.T, steps ...func(context.Context) error) {
	t.Helper()
	for _, step := range steps {
		err := step(t.Context())
		if errors.Is(err, errors.ErrUnsupported) && os.Getenv("TIDEMARK_TEST_REQUIRE") != "1" {
			t.Skip(err)
		}
		must(t, err)
	}
}

// save keeps what the database is now.
func (s *revenant) save(t *testing.T) {
	t.Helper()
	s.step(t, s.server.Stop, s.server.Snapshot, s.server.Start)
}

// setBack sets the database back to what was saved.
func (s *revenant) setBack(t *testing.T) {
	t.Helper()
	s.step(t, s.server.Stop, s.server.SetBack, s.server.Start)
}

// writeLog has the log grow by changes that are not followed.
func (s *revenant) writeLog(t *testing.T, megabytes int) {
	t.Helper()
	s.db.Exec(t, `CREATE TABLE IF NOT EXISTS elsewhere (v text)`, fmt.Sprintf(`INSERT INTO elsewhere SELECT repeat('x', 1000) FROM generate_series(1, %d)`, 1000*megabytes))
}

// begins anew with every index, and ends equal.
func (s *revenant) beginAnew(t *testing.T) {
	t.Helper()
	s.top = "on_slot_lost: reindex"
	s.once(t)
	s.checkSynced(t)
	s.db.Exec(t, `UPDATE items SET v = 'last' WHERE id % 3 = 0`, `DELETE FROM items WHERE id % 7 = 0`)
	s.once(t)
	s.checkSynced(t)
}

// The database is set back between two runs. The documents that the index has of the future that was
// lost say so, before anything is written.
func TestSetBackBetweenRuns(t *testing.T) {
	t.Parallel()
	s := newRevenant(t, 1000)
	s.once(t)
	s.save(t)
	s.writeLog(t, 5)
	s.db.Exec(t, `UPDATE items SET v = 'future' WHERE id <= 100`, `INSERT INTO items SELECT i, 'future' FROM generate_series(2001, 2150) i`)
	s.once(t)
	s.checkSynced(t)
	s.setBack(t)

	const said = "the database was set back: a document of "
	before := s.confirmed(t)
	if out, code := s.command(t, "check"); code != 1 || !strings.Contains(out, "run stops: ") || !strings.Contains(out, said) {
		t.Errorf("check ends with %d and says\n%s", code, out)
	}
	for range 2 {
		s.start(t, "run", "--once").fail(t, 1, said, "on_slot_lost: reindex")
	}
	if after := s.confirmed(t); after != before {
		t.Errorf("the slot has moved from %s to %s", before, after)
	}
	s.beginAnew(t)
}

// Who wants it begins anew at once.
func TestSetBackBeginsAnew(t *testing.T) {
	t.Parallel()
	s := newRevenant(t, 100)
	s.once(t)
	s.save(t)
	s.writeLog(t, 5)
	s.db.Exec(t, `UPDATE items SET v = 'future' WHERE id <= 50`)
	s.once(t)
	s.setBack(t)
	s.beginAnew(t)
}

// The database is set back between two runs, and the index has nothing left of the future that was lost
// but deletions, which no search finds: the first operation that meets one says so.
func TestSetBackToBeforeDeletions(t *testing.T) {
	t.Parallel()
	s := newRevenant(t, 1000)
	s.once(t)
	s.save(t)
	s.writeLog(t, 5)
	s.db.Exec(t, `DELETE FROM items WHERE id <= 250`)
	s.once(t)
	s.checkSynced(t)
	s.setBack(t)
	s.db.Exec(t, `UPDATE items SET v = 'again' WHERE id = 100`)
	s.start(t, "run", "--once").fail(t, 1, "was set back", "on_slot_lost: reindex")
	s.start(t, "run", "--once").fail(t, 1, "was set back") // it is known from now on, whatever is changed
	s.beginAnew(t)
}

// Nothing is changed after the database was set back: the comparison in the background finds it.
func TestSetBackIsFoundByComparison(t *testing.T) {
	t.Parallel()
	s := newRevenant(t, 300)
	s.once(t)
	s.save(t)
	s.writeLog(t, 5)
	s.db.Exec(t, `DELETE FROM items WHERE id <= 50`)
	s.once(t)
	s.setBack(t)
	s.top = "verify: {every: 1s}"
	s.start(t, "run").fail(t, 1, "was set back")
	s.beginAnew(t)
}

// A document that differs from its row, and whose version no change of the row can come up to, is no
// difference like others, for verify and for an instance that only reports.
func TestDocumentAheadOfTheLog(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, v text)`, `INSERT INTO items SELECT i, 'v' FROM generate_series(1, 100) i`)
	s.index("items", "items", "")
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.plant(t, "items", `{"index":{"_id":"7","version":4611686018427387904,"version_type":"external_gte"}}`, `{"id":7,"v":"of a future"}`)
	if v := s.verify(t, s.alias("items")); v.code != 1 || v.found["items 7"] != "differs v" || !strings.Contains(v.said, "was set back") {
		t.Errorf("verify ends with %d, has found %v and says\n%s", v.code, v.found, v.said)
	}
	i.stop(t)
	s.start(t, "run").fail(t, 1, "was set back: a document of") // as it starts
}

// A running instance that only reports what differs ends as well.
func TestDocumentAheadOfTheLogInTheBackground(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, v text)`, `INSERT INTO items SELECT i, 'v' FROM generate_series(1, 100) i`)
	s.index("items", "items", "")
	s.top = "verify: {every: 2s, on_difference: report}"
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.plant(t, "items", `{"index":{"_id":"7","version":4611686018427387904,"version_type":"external_gte"}}`, `{"id":7,"v":"of a future"}`)
	i.fail(t, 1, "was set back: a document of")
}

// The database is set back while an instance follows it: that one ends, and nothing is confirmed that is
// not in the log, also where the log has grown beyond what was stored before.
func TestSetBackWhileRunning(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]int{"the log is shorter": 0, "the log has grown beyond it": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newRevenant(t, 1000)
			proxy := s.server.NewProxy(t)
			s.postgresURL = proxy.URL(s.db.URL)
			i := s.start(t, "run")
			s.awaitCaughtUp(t, i)
			s.save(t)
			s.writeLog(t, 5)
			s.db.Exec(t, `UPDATE items SET v = 'future' WHERE id <= 250`)
			s.awaitCaughtUp(t, i)
			proxy.CutOff()
			s.setBack(t)
			s.writeLog(t, after)
			proxy.Restore()
			i.fail(t, 1, "was set back", "on_slot_lost: reindex")
			var beyond bool
			must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT confirmed_flush_lsn > pg_current_wal_flush_lsn() FROM pg_replication_slots WHERE slot_name = $1`, s.slot).Scan(&beyond))
			if beyond {
				t.Error("the slot stands beyond the end of the log")
			}
			s.start(t, "run", "--once").fail(t, 1, "was set back")
			s.beginAnew(t)
		})
	}
}

// confirmed is where the slot stands.
func (s *revenant) confirmed(t *testing.T) (lsn string) {
	t.Helper()
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, s.slot).Scan(&lsn))
	return lsn
}
