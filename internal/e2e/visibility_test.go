package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// A hanging transaction has its commit in the log, and is not visible to others: it waits
// for a standby that does not exist.
type hanging struct {
	setup *setup
	done  chan error
}

// newHangingSetup has a server on which commits can be made to hang.
func newHangingSetup(t *testing.T) *setup {
	t.Helper()
	return newSetupOn(t, testenv.StartPostgres(t, testenv.PostgresOptions{}), shared(t))
}

// hang makes a change that hangs in its commit, until release.
func (s *setup) hang(t *testing.T, change string) *hanging {
	t.Helper()
	s.db.Exec(t, `ALTER SYSTEM SET synchronous_standby_names = 'nobody'`, `SELECT pg_reload_conf()`)
	for s.commits(t) { // the setting comes into effect by and by
	}
	h := &hanging{setup: s, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := pgx.Connect(ctx, s.db.URL)
		if err == nil {
			_, err = conn.Exec(ctx, change)
			err = errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
		}
		h.done <- err
	}()
	t.Cleanup(func() {
		h.reset(t, context.WithoutCancel(t.Context()))
		cancel()
		<-h.done
	})
	deadline := time.Now().Add(patience)
	for {
		var n int
		must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'`).Scan(&n))
		if n == 1 {
			return h
		}
		select {
		case err := <-h.done:
			h.done <- err
			t.Fatalf("the change does not hang: %v", err)
		case <-time.After(pollInterval):
		}
		if time.Now().After(deadline) {
			t.Fatal("the change does not come to its commit")
		}
	}
}

// commits reports whether a commit gets through without a standby.
func (s *setup) commits(t *testing.T) bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.db.URL)
	must(t, err)
	pid := conn.PgConn().PID()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = conn.Exec(ctx, `SELECT pg_logical_emit_message(true, 'e2e', '')`)
	if err == nil {
		must(t, conn.Close(t.Context()))
		return true
	}
	if ctx.Err() == nil {
		t.Fatal(err)
	}
	// The connection is closed, and the server has not noticed.
	s.db.Exec(t, fmt.Sprintf(`SELECT pg_terminate_backend(%d, 30000)`, pid))
	return false
}

func (h *hanging) reset(t *testing.T, ctx context.Context) {
	for _, statement := range []string{`ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`} {
		if _, err := h.setup.db.DB.ExecContext(ctx, statement); err != nil {
			t.Errorf("let the commit go: %v", err)
		}
	}
}

// release lets the commit return.
func (h *hanging) release(t *testing.T) {
	t.Helper()
	h.reset(t, t.Context())
	select {
	case err := <-h.done:
		h.done <- err
		must(t, err)
	case <-time.After(patience):
		t.Fatal("the commit does not return")
	}
}

// hangs fails the test if the change is visible.
func (h *hanging) hangs(t *testing.T) {
	t.Helper()
	select {
	case err := <-h.done:
		h.done <- err
		t.Fatalf("the change hangs no more: %v", err)
	default:
	}
}

func (s *setup) source(t *testing.T, name, id string) string {
	t.Helper()
	return string(s.search.Documents(t, s.alias(name))[id].Source)
}

// primed makes a change and waits until the stream has brought it: what a table is like is
// learned with its first change, and that waits until the change is visible.
func (s *setup) primed(t *testing.T, i *instance) {
	t.Helper()
	i.awaitLog(t, "following the slot")
	s.db.Exec(t, `UPDATE a SET v = 'primed' WHERE id = 1`)
	i.poll(t, "the first change is stored", func(ctx context.Context) error {
		indices, err := s.search.Indices(ctx, s.alias("a")+"*")
		if err != nil || len(indices) == 0 {
			return errors.Join(errors.New("no index"), err)
		}
		status, answer, err := s.search.Do(ctx, http.MethodGet, "/"+indices[0].Name+"/_doc/1", nil)
		if err == nil && !strings.Contains(string(answer), "primed") {
			err = fmt.Errorf("status %d: %s", status, answer)
		}
		return err
	})
}

// TestFillingWhileACommitHangs fills an index from a table that does not show a change yet
// which the stream has brought already: the newer document stays.
func TestFillingWhileACommitHangs(t *testing.T) {
	t.Parallel()
	for _, streamed := range []string{"before the start", "while running"} {
		t.Run(strings.ReplaceAll(streamed, " ", "-"), func(t *testing.T) {
			s := newHangingSetup(t)
			s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'old' FROM generate_series(1, 3000) i`)
			s.index("a", "a", "")
			s.once(t)
			var i *instance
			var h *hanging
			change := `BEGIN; UPDATE a SET v = 'new' WHERE id = 5; DELETE FROM a WHERE id = 6; UPDATE a SET id = -7 WHERE id = 7; INSERT INTO a VALUES (4000, 'new'); COMMIT`
			if streamed == "before the start" {
				h = s.hang(t, change)
				i = s.start(t, "run", "--reindex", "all")
			} else {
				// An old instance takes the change from the stream, a new one fills the index.
				first := s.start(t, "run")
				s.primed(t, first)
				h = s.hang(t, change)
				first.poll(t, "the change is in the index", func(context.Context) error {
					if got := s.source(t, "a", "5"); !strings.Contains(got, "new") {
						return fmt.Errorf("it is %s", got)
					}
					return nil
				})
				s.awaitCaughtUp(t, first)
				first.stop(t)
				i = s.start(t, "run", "--reindex", "all")
			}
			i.awaitLog(t, "made a physical index")
			// The table shows the old rows all the while. Filling may wait for the commit; if it
			// does not, what the stream brought must be what is left.
			i.mayLog(t, "index is complete", 5*time.Second)
			h.hangs(t)
			if complete, err := s.complete(t.Context()); err == nil && complete {
				t.Log("the index was completed while the commit hung")
				if got := s.source(t, "a", "5"); !strings.Contains(got, "new") {
					t.Errorf("the newer document was overwritten: %s", got)
				}
			} else {
				t.Log("the backfill waits for the commit")
			}
			h.release(t)
			i.awaitLog(t, "index is complete")
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			i.stop(t)
		})
	}
}

// TestCommitHangsWhileFilling has the commit hang when part of the index is filled: rows
// that the stream has newer are dropped. Only if the commit was streamed between two
// chunks, when nobody notes keys, the backfill waits until it is visible.
func TestCommitHangsWhileFilling(t *testing.T) {
	t.Parallel()
	s := newHangingSetup(t)
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'old' FROM generate_series(1, 20000) i`)
	s.index("a", "a", ", reindex: {chunk: 200}")
	i := s.start(t, "run")
	s.primed(t, i)
	i.awaitLog(t, "stored a chunk")
	h := s.hang(t, `BEGIN; UPDATE a SET v = 'new' WHERE id = 19995; DELETE FROM a WHERE id = 19996; UPDATE a SET id = -7 WHERE id = 19997; INSERT INTO a VALUES (30000, 'new'); COMMIT`)
	if complete, err := s.complete(t.Context()); err != nil || complete {
		t.Skipf("the backfill was faster than the commit: %v", err)
	}
	i.mayLog(t, "index is complete", 10*time.Second)
	h.hangs(t)
	if complete, err := s.complete(t.Context()); err == nil && complete {
		if got := s.source(t, "a", "19995"); !strings.Contains(got, "new") {
			t.Errorf("the newer document was overwritten: %s", got)
		}
		for _, gone := range []string{"19996", "19997"} {
			if got := s.source(t, "a", gone); got != "" {
				t.Errorf("a deleted document is back: %s", got)
			}
		}
	} else {
		t.Log("the backfill waits for the commit")
	}
	h.release(t)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestReadAgainWhileACommitHangs has a row read again, because its large value was not in
// the log, that the table does not show yet.
func TestReadAgainWhileACommitHangs(t *testing.T) {
	t.Parallel()
	s := newHangingSetup(t)
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, big text, v text)`, `INSERT INTO a SELECT i, `+large("i::text")+`, 'old' FROM generate_series(1, 20) i`)
	s.index("a", "a", "")
	s.once(t)
	i := s.start(t, "run")
	s.primed(t, i)
	h := s.hang(t, `UPDATE a SET v = 'new' WHERE id = 5`)
	time.Sleep(time.Second) // a read that does not wait has written the old row by now
	h.hangs(t)
	if got := s.search.Documents(t, s.alias("a"))["5"]; !strings.Contains(string(got.Source), "old") {
		t.Errorf("a row that nobody sees is in the index: %.50s", got.Source)
	}
	h.release(t)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}
