package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/testenv"
)

// newCatalog has three tables in one index, two of them in indices of their own as well,
// and tables whose rows are in documents of two indices.
func newCatalog(t *testing.T, search *testenv.SearchServer, rows int) *setup {
	t.Helper()
	s := newSetup(t, search)
	s.db.Exec(t, `CREATE TABLE book (id int PRIMARY KEY, title text, shelf int)`, `CREATE TABLE film (id int PRIMARY KEY, title text, shelf int)`, `CREATE INDEX ON book (shelf)`,
		`CREATE TABLE issue (region text, no int, title text, PRIMARY KEY (region, no))`, `CREATE TABLE shelf (id int PRIMARY KEY, place text)`,
		`INSERT INTO shelf SELECT i, 'place ' || i FROM generate_series(0, 9) i`,
		fmt.Sprintf(`INSERT INTO book SELECT i, 'book ' || i, i %% 10 FROM generate_series(1, %d) i`, rows),
		fmt.Sprintf(`INSERT INTO film SELECT i, 'film ' || i, i %% 10 FROM generate_series(1, %d) i`, rows),
		fmt.Sprintf(`INSERT INTO issue SELECT CASE i %% 3 WHEN 0 THEN 'a|~' WHEN 1 THEN '' ELSE '{x}' END, i, 'issue ' || i FROM generate_series(1, %d) i`, rows))
	const shelf = `include: {shelf: {table: shelf, on: {shelf: id}, value: place}}`
	s.index("media", "media", "", testenv.WithQuery(`
		SELECT 'book-' || id, json_build_object('kind', 'book', 'title', title, 'shelf', (SELECT place FROM shelf s WHERE s.id = shelf)) FROM book UNION ALL
		SELECT 'film:' || id || ':', json_build_object('kind', 'film', 'title', title, 'shelf', (SELECT place FROM shelf s WHERE s.id = shelf)) FROM film UNION ALL
		SELECT 'issue-' || replace(replace(region, '~', '~~'), '-', '~-') || '-' || no, json_build_object('kind', 'issue', 'title', title) FROM issue`))
	s.indices["media"] = `{tables: [` +
		`{table: book, id: "book-{id}", fields: {id: false, kind: {constant: book}, shelf: false}, ` + shelf + `}, ` +
		`{table: film, id: "film:{id}:", fields: {id: false, kind: {constant: film}, shelf: false}, ` + shelf + `}, ` +
		`{table: issue, id: "issue-{region}-{no}", fields: {region: false, no: false, kind: {constant: issue}}}], reindex: {chunk: 500}}`
	s.index("book", "book", "")
	s.index("shelf", "shelf", `, include: {books: {table: book, on: {id: shelf}, value: title}}`, testenv.WithQuery(
		`SELECT id, json_build_object('id', id, 'place', place, 'books', coalesce((SELECT json_agg(title ORDER BY b.id) FROM book b WHERE b.shelf = s.id), '[]')) FROM shelf s`))
	s.db.Exec(t, `ALTER TABLE book REPLICA IDENTITY FULL`)
	return s
}

// TestSources has several tables in one index, one table in several indices, and related
// tables that indices share.
func TestSources(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newCatalog(t, testenv.SharedSearch(t, e), 300)
		i := s.start(t, "run")
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
		for _, change := range []struct{ name, sql string }{
			{"the same key in each", `UPDATE book SET title = 'new' WHERE id = 7; UPDATE film SET title = 'other' WHERE id = 7; DELETE FROM film WHERE id = 8; DELETE FROM book WHERE id = 9`},
			{"changed keys", `UPDATE book SET id = -id WHERE id BETWEEN 20 AND 30; UPDATE film SET id = id + 1000 WHERE id BETWEEN 25 AND 35; UPDATE issue SET region = 'b-c', no = -no WHERE no BETWEEN 40 AND 60`},
			{"a related row of all", `UPDATE shelf SET place = 'moved' WHERE id = 3; DELETE FROM shelf WHERE id = 4; UPDATE shelf SET id = 40 WHERE id = 5`},
			{"a row that is a document, and in others", `UPDATE book SET shelf = 1, title = 'moved' WHERE shelf = 2; INSERT INTO book VALUES (5000, 'late', 40)`},
			{"one of the tables truncated", `TRUNCATE film; INSERT INTO film VALUES (1, 'the only one', 1)`},
			{"another one, in a transaction with changes of others", `BEGIN; UPDATE book SET title = 'within' WHERE id < 10; INSERT INTO issue VALUES ('x', 1, 'gone'); TRUNCATE issue; INSERT INTO issue VALUES ('x', 2, 'kept'); UPDATE film SET title = 'kept'; COMMIT`},
			{"the one with a prefix that is in an index of its own", `TRUNCATE book; INSERT INTO book SELECT i, 'again', 1 FROM generate_series(290, 310) i`},
			{"all of them", `TRUNCATE book, film, issue, shelf`},
		} {
			t.Run(strings.ReplaceAll(change.name, " ", "-"), func(t *testing.T) {
				s.db.Exec(t, change.sql)
				s.awaitCaughtUp(t, i)
				s.checkSynced(t)
			})
		}
		i.stop(t)
	})
}

// TestSourcesKilled kills the command in the middle of each table of an index: it goes on
// in the one where it was.
func TestSourcesKilled(t *testing.T) {
	t.Parallel()
	s := newCatalog(t, shared(t), 2500)
	delete(s.indices, "book")
	delete(s.indices, "shelf")
	// Small steps, one by one.
	proxy := s.search.NewProxy(t)
	s.searchURL = proxy.URL
	slow := proxy.Inject(testenv.Delay(50*time.Millisecond, 0, testenv.Bulk))
	for _, source := range []int{0, 1, 2} {
		i := s.start(t, "run")
		i.poll(t, fmt.Sprintf("table %d is being read", source), func(ctx context.Context) error {
			var there bool
			err := s.db.DB.QueryRowContext(ctx, `SELECT live <> '' OR source > $1 OR source = $1 AND cursor IS NOT NULL FROM dbsync_ctrl.indices`, source).Scan(&there)
			if err == nil && !there {
				err = errors.New("not yet")
			}
			return err
		})
		i.kill()
		if made := strings.Contains(i.log(), "made a physical index"); made != (source == 0) {
			t.Errorf("started in table %d, it begins anew: %t", source, made)
		}
		s.db.Exec(t, fmt.Sprintf(`UPDATE book SET title = 'after %d' WHERE id %% 100 = %[1]d; UPDATE film SET title = 'after %[1]d' WHERE id %% 100 = %[1]d; DELETE FROM issue WHERE no %% 100 = %[1]d`, source))
	}
	slow.Lift()
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}
