package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"tidemark/testenv"
)

// TestAdopt has names of indices that are taken: by an index, and by an alias of somebody
// else's. Both are left alone until it is asked for.
func TestAdopt(t *testing.T) {
	t.Parallel()
	eachEngine(t, adopt)
}

func adopt(t *testing.T, e testenv.Engine) {
	s := newSetup(t, testenv.SharedSearch(t, e))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'v' || i FROM generate_series(1, 100) i`)
	for _, name := range []string{"a", "b"} {
		s.index(name, "a", "")
	}
	request := func(method, path, body string) {
		t.Helper()
		if status, answer, err := s.search.Do(t.Context(), method, path, []byte(body)); err != nil || status >= 300 {
			t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
		}
	}
	taken, foreign := s.alias("a"), s.prefix+"foreign"
	request(http.MethodPut, "/"+taken+"/_doc/old?refresh=true", `{"v": "of somebody else"}`)
	request(http.MethodPut, "/"+foreign+"/_doc/old?refresh=true", `{"v": "of somebody else"}`)
	request(http.MethodPost, "/_aliases", `{"actions": [{"add": {"index": "`+foreign+`", "alias": "`+s.alias("b")+`"}}]}`)

	s.start(t, "run", "--once").fail(t, 2, taken+" is an index of the cluster already", "--adopt")
	delete(s.indices, "a")
	s.start(t, "run", "--once").fail(t, 1, "the alias stands for "+foreign, "--adopt")
	if got := s.search.Documents(t, s.alias("b")); len(got) != 1 {
		t.Errorf("the alias of somebody else has %d documents", len(got))
	}
	s.index("a", "a", "")
	s.once(t, "--adopt")
	s.checkIndices(t, "a", "b")
	if got := s.search.Documents(t, foreign); len(got) != 1 {
		t.Errorf("the index of somebody else has %d documents", len(got))
	}
	if log := s.once(t).log(); strings.Contains(log, "made a physical index") {
		t.Error("the next start fills them anew")
	}
	s.checkIndices(t, "a", "b")
}

// TestOtherDatabase runs a second database with the file of the first one: a staging file with the
// production's URL.
func TestOtherDatabase(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		production, staging := newSetup(t, testenv.SharedSearch(t, e)), newSetup(t, testenv.SharedSearch(t, e))
		for n, s := range map[int]*setup{500: production, 3: staging} {
			s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, fmt.Sprintf(`INSERT INTO a SELECT i, 'v' || i FROM generate_series(1, %d) i`, n))
			s.index("a", "a", "")
		}
		staging.prefix = production.prefix
		i := production.start(t, "run")
		production.awaitCaughtUp(t, i)
		before := production.physical(t, "a")
		for _, args := range [][]string{{"run", "--once"}, {"run"}, {"run", "--once", "--reindex", "all"}, {"check"}, {"reindex", production.alias("a")}} {
			staging.start(t, args...).fail(t, 1, "slot "+production.slot+" of database", "--adopt")
		}
		var slots int
		must(t, staging.db.DB.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", staging.slot).Scan(&slots))
		if slots != 0 {
			t.Error("a slot was made")
		}
		production.db.Exec(t, `UPDATE a SET v = 'later' WHERE id < 100`)
		production.awaitCaughtUp(t, i)
		production.checkIndices(t, "a")
		if now := production.physical(t, "a"); now != before {
			t.Errorf("the alias stands for %s", now)
		}

		// It is taken over while the first one runs: that one says so, and overwrites nothing.
		staging.once(t, "--adopt")
		staging.checkIndices(t, "a")
		i.awaitReady(t, http.StatusServiceUnavailable, "alias "+production.alias("a"))
		if n := len(production.search.Documents(t, before)); n != 500 {
			t.Errorf("the index of the first one has %d documents", n)
		}
		i.stop(t)
		production.start(t, "run").fail(t, 1, "slot "+staging.slot+" of database")
		staging.once(t)
		staging.checkIndices(t, "a")
	})
}
