package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"tidemark/testenv"
)

// A search server that is killed has lost what an index with durability async had answered; whoever
// follows the slot then, or comes later, compares the index with its tables.
func TestAsyncDurability(t *testing.T) {
	t.Parallel()
	search := testenv.StartSearch(t, testenv.Engines(t)[0], testenv.SearchOptions{Heap: "512m"})
	s := newSetup(t, search)
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, v text)`, `INSERT INTO items SELECT i, 'v' FROM generate_series(1, 500) i`)
	s.index("items", "items", `, settings: {index.translog.durability: async, index.translog.sync_interval: 10m}`)
	kill := func() {
		t.Helper()
		must(t, search.Kill(t.Context()))
		must(t, search.Start(t.Context()))
	}
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.db.Exec(t, `INSERT INTO items SELECT i, 'new' FROM generate_series(501, 1000) i`, `UPDATE items SET v = 'changed' WHERE id <= 100`, `DELETE FROM items WHERE id BETWEEN 101 AND 200`)
	s.awaitCaughtUp(t, i)
	kill()
	i.awaitLog(t, "what it had answered may be gone")
	i.awaitLog(t, "an index was compared with its tables")
	s.checkSynced(t)

	// And while nobody runs.
	s.db.Exec(t, `INSERT INTO items SELECT i, 'newer' FROM generate_series(1001, 1500) i`)
	s.awaitCaughtUp(t, i)
	i.stop(t)
	kill()
	s.once(t)
	s.checkSynced(t)
	if out, _ := s.command(t, "check"); !strings.Contains(out, "translog.durability is async") {
		t.Errorf("check does not say it:\n%s", out)
	}
}

// A request has no answer, and the search server is started again within the hour: what it has deleted
// since it does not remember, so that a late copy may have brought a document back. Without such a
// request a restart is no reason to compare.
func TestRestartAfterLostAnswer(t *testing.T) {
	t.Parallel()
	search := testenv.StartSearch(t, testenv.Engines(t)[0], testenv.SearchOptions{Heap: "512m"})
	s := newSetup(t, search)
	proxy := search.NewProxy(t)
	s.searchURL = proxy.URL
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, v text)`, `INSERT INTO items SELECT i, 'v' FROM generate_series(1, 100) i`,
		`CREATE TABLE calm (id int PRIMARY KEY, v text)`, `INSERT INTO calm SELECT i, 'v' FROM generate_series(1, 100) i`)
	s.index("items", "items", "")
	s.index("calm", "calm", "")
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	lost := proxy.Inject(testenv.LoseAnswer(1, testenv.Bulk))
	s.db.Exec(t, `UPDATE items SET v = 'changed' WHERE id <= 10`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, lost.Await(ctx, 1))
	s.awaitCaughtUp(t, i)
	i.stop(t)
	must(t, search.Restart(t.Context()))
	s.db.Exec(t, `DELETE FROM items WHERE id = 5`)
	i = s.start(t, "run")
	i.awaitLog(t, "a bulk request had no answer")
	i.awaitLog(t, "an index was compared with its tables")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	var unproven int
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM dbsync_ctrl.proofs WHERE index_name = $1`, s.alias("calm")).Scan(&unproven))
	if unproven > 0 {
		t.Error("an index without a request that had no answer was compared")
	}
}

// A standby that synchronized_standby_slots names is down: nothing comes down the stream of a slot with
// failover, and that is said everywhere; nothing is taken for lost.
func TestStandbyIsDown(t *testing.T) {
	t.Parallel()
	s := newSetupOn(t, testenv.StartPostgres(t, testenv.PostgresOptions{Version: "17"}), shared(t))
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, v text)`, `INSERT INTO items SELECT i, 'v' FROM generate_series(1, 100) i`,
		`SELECT pg_create_physical_replication_slot('standby_a', true)`, `SELECT pg_create_logical_replication_slot('`+s.slot+`', 'pgoutput', false, false, true)`)
	s.index("items", "items", "")
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.db.Exec(t, `ALTER SYSTEM SET synchronized_standby_slots = 'standby_a'`, `SELECT pg_reload_conf()`, `UPDATE items SET v = 'held up'`)
	i.awaitReady(t, http.StatusServiceUnavailable, "no standby is connected to slot standby_a")
	i.awaitLog(t, "standbys hold up the stream")
	if out, code := s.command(t, "status"); code != 1 || !strings.Contains(out, "no standby is connected to slot standby_a") || !strings.Contains(out, "synchronized_standby_slots") {
		t.Errorf("status ends with %d and says\n%s", code, out)
	}
	s.db.Exec(t, `ALTER SYSTEM RESET synchronized_standby_slots`, `SELECT pg_reload_conf()`)
	i.awaitReady(t, http.StatusOK, "")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
}

// A cluster that does not say how shards were recovered has indices compared more often, and is told of
// by check, as is a durability that only a new index would have.
func TestRecoveriesAreForbidden(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	proxy := s.search.NewProxy(t)
	s.searchURL = proxy.URL
	proxy.Inject(testenv.Answer(http.StatusForbidden, 0, func(r *testenv.Request) bool { return strings.HasSuffix(r.Path, "/_recovery") }))
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, v text)`, `INSERT INTO items SELECT i, 'v' FROM generate_series(1, 100) i`,
		`CREATE TABLE calm (id int PRIMARY KEY, v text)`, `INSERT INTO calm SELECT i, 'v' FROM generate_series(1, 100) i`)
	s.index("items", "items", `, settings: {index.translog.durability: async}`)
	s.index("calm", "calm", "")
	s.write(t)
	if out, code := s.command(t, "check"); code != 0 || strings.Count(out, "translog.durability will be async") != 1 {
		t.Errorf("before the first run check ends with %d and says\n%s", code, out)
	}
	s.once(t)
	if out, code := s.command(t, "check"); code != 0 || strings.Count(out, "translog.durability is async") != 1 || strings.Count(out, "the cluster does not say when shards are started again") != 2 {
		t.Errorf("check ends with %d and says\n%s", code, out)
	}
	i := s.start(t, "run") // it does not know what has happened in between
	i.awaitLog(t, "has translog.durability async, and the cluster does not say")
	i.awaitLog(t, "an index was compared with its tables")
	lost := proxy.Inject(testenv.LoseAnswer(1, testenv.Bulk))
	s.db.Exec(t, `UPDATE calm SET v = 'changed'`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, lost.Await(ctx, 1))
	i.awaitLog(t, "a bulk request had no answer, and the cluster does not say")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
}
