package e2e

import (
	"slices"
	"testing"

	"tidemark/testenv"
)

// TestEveryEngine has the main way of a document gone through on every search server that there is,
// whichever of them the rest of the tests runs against: it is filled in, changed, moved by its routing,
// deleted; one is refused, and had again; the index is rebuilt, and its alias moves; all is compared.
// A server that is not there yet is started for this test, one after the other.
func TestEveryEngine(t *testing.T) {
	t.Parallel()
	given := testenv.Engines(t)
	for _, e := range testenv.AllEngines() {
		t.Run(string(e), func(t *testing.T) {
			var search *testenv.SearchServer
			if slices.Contains(given, e) {
				search = testenv.SharedSearch(t, e)
			} else {
				search = testenv.StartSearch(t, e, testenv.SearchOptions{Heap: "512m"})
			}
			smoke(t, newSetup(t, search))
		})
	}
}

func smoke(t *testing.T, s *setup) {
	t.Helper()
	s.db.Exec(t, `CREATE TABLE goods (id int PRIMARY KEY, shop text NOT NULL, title text, price numeric(10,2), stock text, parts int[])`, `ALTER TABLE goods REPLICA IDENTITY FULL`,
		`INSERT INTO goods SELECT i, 'shop ' || i % 7, 'title ' || i, i / 100.0, i, ARRAY[i, i + 1] FROM generate_series(1, 2000) i`)
	s.index("goods", "goods", `, routing: shop, fields: {stock: {type: integer}}, settings: {number_of_shards: 3}`, testenv.WithRouting("shop"))
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t) // the backfill

	s.db.Exec(t, `UPDATE goods SET title = upper(title), price = NULL WHERE id <= 300`,
		`UPDATE goods SET shop = 'another shop' WHERE id BETWEEN 200 AND 400`,
		`UPDATE goods SET id = id + 10000 WHERE id BETWEEN 500 AND 520`,
		`DELETE FROM goods WHERE id BETWEEN 1000 AND 1100`,
		`INSERT INTO goods SELECT i, 'new', 'new', 1, 1, '{}' FROM generate_series(3000, 3100) i`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t) // the stream

	s.db.Exec(t, `UPDATE goods SET stock = 'many' WHERE id = 7`)
	s.awaitCaughtUp(t, i)
	if kept := s.deadLetters(t); !slices.Equal(kept, []string{"7 index 400"}) {
		t.Errorf("dead letters: %q", kept)
	}
	s.db.Exec(t, `UPDATE goods SET stock = '7' WHERE id = 7`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)

	before := s.awaitAtRest(t.Context(), t)
	s.start(t, "reindex", s.alias("goods")).succeed(t)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	if after := s.awaitAtRest(t.Context(), t); slices.Equal(before, after) {
		t.Errorf("the index is still %q after a rebuild", after)
	}
	i.stop(t)
	status, answer, err := s.search.Do(t.Context(), "DELETE", "/"+s.alias("goods")+"/_doc/1?routing=shop+1", nil)
	if err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	if v := s.verify(t, s.alias("goods")); v.code != 1 || len(v.found) != 1 {
		t.Errorf("verify ends with %d and finds %v, of one document that is missing; it said %s", v.code, v.found, v.said)
	}
	if v := s.verify(t, "--repair", s.alias("goods")); v.code != 0 {
		t.Errorf("verify --repair ends with %d: %s", v.code, v.said)
	}
	s.checkSynced(t)
}
