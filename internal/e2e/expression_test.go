package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tidemark/testenv"
)

// goods is an index whose rows are documents unless they are deleted or drafts.
const (
	goods = `, where: 'deleted_at == nil and not (note startsWith "draft")', fields: {deleted_at: false, note: false, country: false, price_cents: false,
		sort_key: {expr: "lower(trim(title))", type: keyword}, maker: {expr: 'join([brand, country], ", ")'}, price: {expr: price_cents / 100.0}, length: {expr: len(note)}}`
	goodsQuery = `SELECT id, json_build_object('id', id, 'title', title, 'brand', brand, 'n', n, 'sort_key', lower(btrim(title)), 'maker', concat_ws(', ', brand, country),
		'price', price_cents / 100.0::float8, 'length', length(note)) FROM goods WHERE deleted_at IS NULL AND NOT starts_with(note, 'draft')`
)

// newGoods has rows whose notes are too large to be in the log again when they do not
// change, unless they are short; a row in ten is deleted, another one a draft, others have
// no note, so that it is not known whether they are drafts.
func newGoods(t *testing.T, search *testenv.SearchServer, rows int) *setup {
	t.Helper()
	s := newSetup(t, search)
	s.db.Exec(t, `CREATE TABLE goods (id int PRIMARY KEY, title text, brand text, country text, price_cents int, n int, note text, deleted_at timestamptz)`,
		fmt.Sprintf(`INSERT INTO goods SELECT i, '  Title ' || i || ' ', nullif('brand ' || i %% 3, 'brand 0'), CASE WHEN i %% 2 = 0 THEN 'no' END, i * 7, i,
			CASE i %% 5 WHEN 0 THEN NULL WHEN 1 THEN 'short' WHEN 2 THEN 'draft' || %s ELSE %[1]s END, CASE WHEN i %% 10 = 3 THEN now() END FROM generate_series(1, %[2]d) i`, large("i::text"), rows))
	s.index("goods", "goods", goods, testenv.WithQuery(goodsQuery))
	return s
}

// TestExpressions has rows become documents and cease to be some, and values that are made
// of columns.
func TestExpressions(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newGoods(t, testenv.SharedSearch(t, e), 300)
		i := s.start(t, "run")
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
		for _, change := range []struct{ name, sql string }{
			{"soft delete", `UPDATE goods SET deleted_at = now() WHERE id <= 20`},
			{"and back, and once more in one transaction", `UPDATE goods SET deleted_at = NULL WHERE id <= 40; BEGIN; UPDATE goods SET deleted_at = now() WHERE id <= 20; UPDATE goods SET deleted_at = NULL WHERE id <= 20;
				UPDATE goods SET deleted_at = now() WHERE id BETWEEN 11 AND 30; COMMIT;
				UPDATE goods SET deleted_at = NULL WHERE id = 11; UPDATE goods SET deleted_at = now() WHERE id = 11; UPDATE goods SET deleted_at = NULL, title = 'third' WHERE id = 11`},
			{"a large value that did not change", `UPDATE goods SET title = ' Other ' || id WHERE id BETWEEN 50 AND 90`},
			{"a large value that does", `UPDATE goods SET note = 'draft ' || note WHERE id BETWEEN 100 AND 110`},
			{"and back again", `UPDATE goods SET note = substr(note, 7) WHERE id BETWEEN 100 AND 110`},
			{"a large value that becomes short, and NULL", `UPDATE goods SET note = 'small' WHERE id BETWEEN 120 AND 130; UPDATE goods SET note = NULL WHERE id BETWEEN 125 AND 135`},
			{"values made of columns", `UPDATE goods SET brand = NULL, country = ' ünï "quoted" ', price_cents = -5, title = '  Ä "x" ' WHERE id BETWEEN 140 AND 150;
				UPDATE goods SET country = NULL, price_cents = NULL, title = NULL WHERE id BETWEEN 145 AND 149`},
			{"new rows, of which some are none", `INSERT INTO goods (id, title, note, deleted_at) SELECT i, 'new', CASE i % 2 WHEN 0 THEN 'draft' ELSE 'ready' END, CASE i % 3 WHEN 0 THEN now() END FROM generate_series(1000, 1020) i`},
			{"other keys", `UPDATE goods SET id = -id, deleted_at = now() WHERE id BETWEEN 160 AND 165; UPDATE goods SET id = -id WHERE id BETWEEN 166 AND 180; UPDATE goods SET id = -id, deleted_at = NULL WHERE id BETWEEN -165 AND -160`},
			{"gone", `UPDATE goods SET deleted_at = now() WHERE id BETWEEN 190 AND 200; DELETE FROM goods WHERE id BETWEEN 185 AND 195; INSERT INTO goods (id, note) VALUES (192, 'back')`},
			{"none of them, but a few", `UPDATE goods SET deleted_at = now(); UPDATE goods SET deleted_at = NULL WHERE id > 200`},
		} {
			t.Run(strings.ReplaceAll(change.name, " ", "-"), func(t *testing.T) {
				s.db.Exec(t, change.sql)
				s.awaitCaughtUp(t, i)
				s.checkSynced(t)
			})
		}
		i.stop(t)
		// Between runs, and when an index is filled anew.
		s.db.Exec(t, `UPDATE goods SET deleted_at = now() WHERE id % 3 = 0`)
		s.once(t)
		s.checkSynced(t)
		s.once(t, "--reindex", "all")
		s.checkSynced(t)
		if kept := s.deadLetters(t); len(kept) > 0 {
			t.Errorf("dead letters: %v", kept)
		}
	})
}

// failures returns the dead letters: ID, status and reason, each once, in the order of the ID.
func (s *setup) failures(t *testing.T) []string {
	t.Helper()
	rows, err := s.db.DB.QueryContext(t.Context(), `SELECT DISTINCT format('%s %s %s', doc_id, status, reason) AS kept FROM dbsync_ctrl.dead_letters ORDER BY kept`)
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

// wantFailures fails the test unless exactly these documents are dead letters, for a reason
// with the text in it.
func (s *setup) wantFailures(t *testing.T, reason string, ids ...string) {
	t.Helper()
	var got []string
	kept := s.failures(t)
	for _, line := range kept {
		id, why, _ := strings.Cut(line, " ")
		if !strings.Contains(why, reason) {
			t.Errorf("dead letter %q, want the reason %q", line, reason)
		}
		if !slices.Contains(got, id) {
			got = append(got, id)
		}
	}
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		t.Errorf("dead letters of documents %v, want %v: %q", got, ids, kept)
	}
}

// TestUnmadeDocuments has rows of which no document can be made: they are kept by their
// keys, with the reason, wherever they come from, and everything else goes on.
func TestUnmadeDocuments(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, index, query string
		reason             string
	}{
		{
			name:   "value",
			index:  `, fields: {big: false, m: {expr: 100 % n}}`,
			query:  `SELECT id, json_build_object('id', id, 'n', n, 'v', v, 'm', CASE WHEN n <> 0 THEN 100 % n END) FROM a`,
			reason: "divide by zero",
		}, {
			name:   "value of rows that are read again",
			index:  `, fields: {m: {expr: 100 % n}}`,
			query:  `SELECT id, json_build_object('id', id, 'n', n, 'v', v, 'big', big, 'm', CASE WHEN n <> 0 THEN 100 % n END) FROM a`,
			reason: "divide by zero",
		}, {
			name:   "condition",
			index:  `, where: 100 % n < 101, fields: {big: false}`,
			query:  `SELECT id, json_build_object('id', id, 'n', n, 'v', v) FROM a`,
			reason: "where",
		}, {
			name:   "condition with related rows",
			index:  `, where: 100 % n < 101, fields: {big: false}, include: {bs: {table: b, on: {id: a_id}, value: v}}`,
			query:  `SELECT id, json_build_object('id', id, 'n', n, 'v', v, 'bs', coalesce((SELECT json_agg(b.v ORDER BY b.id) FROM b WHERE a_id = a.id), '[]')) FROM a`,
			reason: "where",
		}, {
			name:   "condition in SQL on related rows",
			index:  `, fields: {big: false}, include: {bs: {table: b, on: {id: a_id}, aggregate: count, where: 10 / n > 0}}`,
			query:  `SELECT id, json_build_object('id', id, 'n', n, 'v', v, 'bs', (SELECT count(*) FROM b WHERE a_id = a.id)) FROM a`,
			reason: "division by zero",
		},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, shared(t))
			s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, n int, v text, big text)`, `INSERT INTO a SELECT i, i, 'v', repeat(md5(i::text), 200) FROM generate_series(1, 1200) i`,
				`ALTER TABLE a ALTER big SET STORAGE EXTERNAL`, `UPDATE a SET big = big || 'x' WHERE id <= 500`,
				`CREATE TABLE b (id int PRIMARY KEY, a_id int, n int DEFAULT 1, v text)`, `ALTER TABLE b REPLICA IDENTITY FULL`, `CREATE INDEX ON b (a_id)`, `INSERT INTO b SELECT i, i FROM generate_series(1, 1200) i`)
			// What makes a row of a bad is in it, or in its row of b.
			table := "a"
			if strings.Contains(test.index, "10 / n") {
				table = "b"
			}
			change := func(n string, ids ...string) {
				s.db.Exec(t, fmt.Sprintf(`UPDATE %s SET n = %s WHERE id IN (%s)`, table, n, strings.Join(ids, ", ")))
			}
			chunk := []string{"1", "600", "601", "1200"}
			change("0", chunk...)
			s.index("a", "a", test.index, testenv.WithQuery(test.query), testenv.WithRefused(chunk...))
			i := s.start(t, "run")
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			s.wantFailures(t, test.reason, chunk...)
			if len(s.search.Documents(t, s.alias("a"))) != 1200-len(chunk) {
				t.Error("a row of which no document can be made has one")
			}

			// In the stream, among others; and rows whose related rows change.
			stream := []string{"7", "8", "100", "1100"}
			change("0", stream...)
			s.db.Exec(t, `UPDATE a SET v = 'new' WHERE id BETWEEN 5 AND 300`, `UPDATE b SET v = 'new' WHERE id BETWEEN 90 AND 610`, `DELETE FROM a WHERE id = 50`, `INSERT INTO a VALUES (4000, 5, 'new', 'short')`)
			bad := append(slices.Clone(chunk), stream...)
			s.options["a"] = []testenv.CheckOption{testenv.WithQuery(test.query), testenv.WithRefused(bad...)}
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			s.wantFailures(t, test.reason, bad...)

			// A fixed row has its document; one that is gone has none.
			s.db.Exec(t, `DELETE FROM a WHERE id = 8`)
			change("3", bad...)
			s.options["a"] = []testenv.CheckOption{testenv.WithQuery(test.query)}
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			i.stop(t)
		})
	}
}

// TestUnmadeDocumentsStop has on_error: stop hold at a row of which no document can be made.
func TestUnmadeDocumentsStop(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, n int)`, `INSERT INTO a SELECT i, i FROM generate_series(1, 300) i`)
	s.index("a", "a", ", fields: {m: {expr: 100 % n}}", testenv.WithQuery(`SELECT id, json_build_object('id', id, 'n', n, 'm', 100 % n) FROM a`))
	s.top = "on_error: stop"
	s.once(t)
	s.db.Exec(t, `UPDATE a SET n = 0 WHERE id = 123`)
	for range 2 {
		s.start(t, "run", "--once").fail(t, 1, "on_error is stop", s.alias("a"), "123", "divide by zero")
	}
	s.db.Exec(t, `UPDATE a SET n = 5 WHERE id = 123`)
	s.top = ""
	s.once(t)
	s.checkSynced(t)
}
