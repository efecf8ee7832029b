package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"tidemark/testenv"
)

// canary is in every value of a row but its key; nobody may see it who reads logs and status.
const canary = "S3cr3tCanary"

// quiet fails the test where an instance shows the canary.
func (i *instance) quiet(t *testing.T) {
	t.Helper()
	for line := range strings.SplitSeq(i.log(), "\n") {
		if strings.Contains(line, canary) {
			t.Errorf("a row's value is in the log: %s", line)
		}
	}
}

// pages fetches what the admin server shows, and fails the test where that has the canary.
func (i *instance) pages(t *testing.T) {
	t.Helper()
	for _, page := range []string{"/status", "/readyz", "/healthz", "/metrics", "/"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+i.admin(t)+page, nil)
		must(t, err)
		answer, err := http.DefaultClient.Do(request)
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		must(t, err)
		answer.Body.Close()
		if strings.Contains(string(body), canary) {
			t.Errorf("a row's value is on %s: %s", page, body)
		}
	}
}

// TestNoValueInTheLog has rows go wrong in every way that leads to a line in the log, at level debug: neither
// server's words show what is in them. The dead letters have all of it.
func TestNoValueInTheLog(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newSetup(t, testenv.SharedSearch(t, e))
		s.db.Exec(t, fmt.Sprintf(`CREATE TABLE a (id int PRIMARY KEY, n text, d text, ok text, place text, big text, doc jsonb);
			INSERT INTO a SELECT i, CASE WHEN i %% 3 = 0 THEN '%[1]s' ELSE '1' END, '2026-02-03', 'true', '1,2', %[2]s, '{"a": "%[1]s"}' FROM generate_series(1, 60) i`, canary, large("i::text")))
		s.index("a", "a", ", fields: {n: {type: integer}, d: {type: date}, ok: {type: boolean}, place: {type: geo_point}, doc: {type: object}, len: {column: n, expr: 'n == \"x\" ? int(big) : 1'}}")
		i := s.start(t, "run")
		s.awaitComplete(t, i)
		s.db.Exec(t, fmt.Sprintf(`UPDATE a SET n = 'x' WHERE id = 10; UPDATE a SET d = '%[1]s' WHERE id IN (11, 22)`, canary),
			fmt.Sprintf(`UPDATE a SET ok = '%[1]s' WHERE id IN (13, 23); UPDATE a SET place = '%[1]s' WHERE id IN (14, 25)`, canary),
			fmt.Sprintf(`UPDATE a SET big = '', n = '%[1]s' WHERE id = 16; UPDATE a SET doc = '"%[1]s"' WHERE id = 17`, canary),
			fmt.Sprintf(`INSERT INTO a VALUES (100, '%[1]s', '%[1]s', '%[1]s', '%[1]s', '%[1]s', '[1]')`, canary),
			`UPDATE a SET n = 'x', big = '`+canary+`' WHERE id = 10`)
		i.poll(t, "dead letters", func(ctx context.Context) error {
			var n int
			err := s.db.DB.QueryRowContext(ctx, `SELECT count(*) FROM dbsync_ctrl.dead_letters WHERE doc_id IN ('11', '13', '14', '16', '17', '100') AND reason LIKE '%'||$1||'%'`, canary).Scan(&n)
			if err == nil && n < 4 {
				err = fmt.Errorf("%d quote the value", n)
			}
			return err
		})
		i.awaitLog(t, "the search server refuses a document")
		i.pages(t)
		i.quiet(t)
		// The other commands, and an end that is forced.
		v := s.start(t, "verify", s.alias("a"))
		v.wait(t)
		v.quiet(t)
		again := s.start(t, "dead-letters", "retry", s.alias("a"))
		again.wait(t)
		again.quiet(t)
		rebuild := s.start(t, "reindex", s.alias("a"))
		rebuild.wait(t)
		rebuild.quiet(t)
		i.pages(t)
		i.quiet(t)
		i.stop(t)
		i.quiet(t)

		s.top = "on_error: stop"
		stopped := s.start(t, "run", "--reindex", "all")
		if code := stopped.wait(t); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		stopped.quiet(t)
	})
}

// TestNoValueOfALockHolder has a statement with a value in it hold up the reading of rows.
func TestNoValueOfALockHolder(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a VALUES (1, 'x')`)
	s.index("a", "a", "")
	tx, err := s.db.DB.BeginTx(t.Context(), nil)
	must(t, err)
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	_, err = tx.ExecContext(t.Context(), `LOCK TABLE a IN ACCESS EXCLUSIVE MODE`)
	must(t, err)
	_, err = tx.ExecContext(t.Context(), `INSERT INTO a VALUES (2, '`+canary+`')`)
	must(t, err)
	reindex := s.start(t, "reindex", s.alias("a"))
	i.awaitLog(t, "waiting for a lock")
	i.awaitReady(t, http.StatusServiceUnavailable, "ACCESS EXCLUSIVE on a: INSERT INTO")
	i.pages(t)
	must(t, tx.Commit())
	reindex.succeed(t)
	i.quiet(t)
	i.stop(t)
}
