package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"tidemark/testenv"
)

// newRefusing has an index that takes only numbers for a column of text.
func newRefusing(t *testing.T, search *testenv.SearchServer) *setup {
	t.Helper()
	s := newSetup(t, search)
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, n text, big text)`, `INSERT INTO a SELECT i, i, `+large("i::text")+` FROM generate_series(1, 300) i`)
	s.index("a", "a", ", fields: {n: {type: integer}}")
	return s
}

// deadLetters returns what is kept of an index: ID, operation and status, in order.
func (s *setup) deadLetters(t *testing.T) []string {
	t.Helper()
	rows, err := s.db.DB.QueryContext(t.Context(), `SELECT format('%s %s %s', doc_id, operation, status) FROM dbsync_ctrl.dead_letters ORDER BY id`)
	must(t, err)
	defer rows.Close()
	var all []string
	for rows.Next() {
		var one string
		must(t, rows.Scan(&one))
		all = append(all, one)
	}
	must(t, rows.Err())
	return all
}

// TestRefused has documents that the cluster refuses among many that it takes, from the
// table and from the stream: they are kept, and the rest goes on.
func TestRefused(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newRefusing(t, testenv.SharedSearch(t, e))
		s.db.Exec(t, `UPDATE a SET n = 'not a number' WHERE id = 7`)
		s.options["a"] = []testenv.CheckOption{testenv.WithRefused("7", "20", "30", "40")}
		i := s.start(t, "run")
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
		s.db.Exec(t, `UPDATE a SET n = 'twenty' WHERE id IN (20, 40)`, // read again: a large value did not change
			`INSERT INTO a VALUES (400, 'four hundred', ''), (401, '401', '')`, `DELETE FROM a WHERE id = 400`,
			`UPDATE a SET big = '', n = 'x' WHERE id = 30`, `UPDATE a SET big = '' WHERE id > 250`)
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
		kept := s.deadLetters(t)
		t.Log(kept)
		found := make(map[string]bool)
		for _, d := range kept {
			found[d] = true
		}
		for _, id := range []int{7, 20, 30, 40} {
			if !found[fmt.Sprintf("%d index 400", id)] {
				t.Errorf("document %d was refused and is not kept: %v", id, kept)
			}
		}
		// A later version that is taken is what counts.
		s.db.Exec(t, `UPDATE a SET n = id WHERE id IN (7, 20, 30, 40)`)
		s.options["a"] = nil
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
		// What was fixed in the index is had by retrying. That drops letters, too, whose
		// documents were stored since.
		s.db.Exec(t, `UPDATE a SET n = 'x' WHERE id IN (7, 50)`, `UPDATE a SET n = 'x', big = '' WHERE id = 60`)
		s.options["a"] = []testenv.CheckOption{testenv.WithRefused("7", "50", "60")}
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
		s.start(t, "dead-letters", "retry", s.alias("a")).fail(t, 1, "3 documents were refused again")
		status, answer, err := s.search.Do(t.Context(), http.MethodPut, "/"+s.alias("a")+"/_mapping", []byte(`{"properties":{"n":{"type":"integer","ignore_malformed":true}}}`))
		if err != nil || status != http.StatusOK {
			t.Fatalf("%d %s %v", status, answer, err)
		}
		s.start(t, "dead-letters", "retry", "all").succeed(t)
		s.options["a"] = nil
		s.checkSynced(t)
		if kept := s.deadLetters(t); len(kept) > 0 {
			t.Errorf("dead letters are left: %v", kept)
		}
		i.stop(t)
	})
}

func TestRefusedStops(t *testing.T) {
	t.Parallel()
	s := newRefusing(t, shared(t))
	s.top = "on_error: stop"
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.db.Exec(t, `UPDATE a SET big = '', n = 'not a number' WHERE id = 123`)
	i.fail(t, 1, "on_error is stop", s.alias("a"), "123")
	s.start(t, "run", "--once").fail(t, 1, "on_error is stop", s.alias("a"), "123")
	s.db.Exec(t, `UPDATE a SET n = '5' WHERE id = 123`)
	s.top = ""
	s.once(t)
	s.checkSynced(t)
}
