package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"tidemark/testenv"
)

// A group is a second cluster that is fed from the same slot.
type group struct {
	s      *setup
	name   string
	search *testenv.SearchServer
}

// addGroup has a second cluster fed. It is called once, before anything is started.
func (s *setup) addGroup(t testing.TB, name string, search *testenv.SearchServer) *group {
	t.Helper()
	s.kafka.more += fmt.Sprintf(", groups: {%s: {search: {urls: [%q]}}}", name, search.URL)
	return &group{s, name, search}
}

// worker starts one that writes to the cluster.
func (g *group) worker(t testing.TB) *instance {
	t.Helper()
	return g.s.startBinary(t, binary(t), "apply", "--group", g.name)
}

// awaitSynced waits until its indices are complete and everything is applied, and compares them with the tables.
func (g *group) awaitSynced(t testing.TB, i *instance) {
	t.Helper()
	i.poll(t, "the indices of group "+g.name+" are complete", func(ctx context.Context) error {
		var n int
		err := g.s.db.DB.QueryRowContext(ctx, `SELECT count(*) FROM dbsync_ctrl_`+g.name+`.indices WHERE live <> '' AND building = '' AND live_generation <> ''`).Scan(&n)
		if err == nil && n < len(g.s.indices) {
			err = fmt.Errorf("%d of %d are", n, len(g.s.indices))
		}
		return err
	})
	g.s.start(t, "wait", "--group", g.name, "--timeout", patience.String()).succeed(t)
	for name := range g.s.indices {
		testenv.CheckSynced(t, g.s.db, g.search, g.s.alias(name), g.s.tables[name], g.s.options[name]...)
	}
}

// TestGroups feeds two clusters from one slot. One of them is away for a while, and when the instance starts as well:
// the other one goes on meanwhile, and it has everything when it is back.
func TestGroups(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.throughKafka(t, 1)
	there := testenv.StartSearch(t, testenv.Engines(t)[0], testenv.SearchOptions{Heap: "512m"})
	eu := s.addGroup(t, "eu", there)
	s.db.Exec(t, `CREATE TABLE parts (id int PRIMARY KEY, thing int, v text)`, `CREATE INDEX ON parts (thing); ALTER TABLE parts REPLICA IDENTITY FULL`, `INSERT INTO parts SELECT i, i % 1000, 'p' FROM generate_series(1, 3000) i`,
		`CREATE TABLE things (id int PRIMARY KEY, v text)`, `INSERT INTO things SELECT i, 'first' FROM generate_series(1, 2000) i`)
	s.index("things", "things", `, include: {parts: {table: parts, on: {id: thing}, value: v, order_by: id}}`,
		testenv.WithQuery(`SELECT id, json_build_object('id', id, 'v', v, 'parts', (SELECT coalesce(json_agg(p.v ORDER BY p.id), '[]') FROM parts p WHERE p.thing = t.id)) FROM things t`))
	i := s.start(t, "run")
	worker := eu.worker(t)
	s.awaitCaughtUp(t, i)
	eu.awaitSynced(t, i)
	s.checkSynced(t)

	// Away: the first one does not wait for it.
	must(t, there.Stop(t.Context()))
	s.db.Exec(t, `UPDATE things SET v = 'while it is away' WHERE id % 2 = 0`, `UPDATE parts SET v = 'away' WHERE id % 5 = 0`, `DELETE FROM things WHERE id % 7 = 0`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.awaitReady(t, http.StatusOK, "")
	i.stop(t)
	i = s.start(t, "run") // which begins without it
	s.db.Exec(t, `UPDATE things SET v = 'still away' WHERE id % 3 = 0`, `INSERT INTO things SELECT i, 'new' FROM generate_series(5001, 5100) i`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)

	must(t, there.Start(t.Context()))
	eu.awaitSynced(t, i)

	// Each has rebuilds of its own.
	before := s.awaitAtRest(t.Context(), t)
	s.start(t, "reindex", "--group", "eu", s.alias("things")).succeed(t)
	s.db.Exec(t, `UPDATE things SET v = 'rebuilt' WHERE id % 11 = 0`)
	s.awaitCaughtUp(t, i)
	eu.awaitSynced(t, i)
	s.checkSynced(t)
	if after := s.awaitAtRest(t.Context(), t); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the rebuild of one cluster has built an index in the other: %v, then %v", before, after)
	}
	s.start(t, "verify", "--group", "eu", s.alias("things")).succeed(t)
	worker.stop(t)
	i.stop(t)
	s.kafka.running[0].stop(t)

	// Everything goes with the slot.
	s.start(t, "teardown", "--indices", "--topics", "--yes").succeed(t)
	var left int
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'dbsync_ctrl%'`).Scan(&left))
	indices, err := there.Indices(t.Context(), s.prefix+"*")
	must(t, err)
	if left > 0 || len(indices) > 0 {
		t.Errorf("%d control schemas and %d indices are left", left, len(indices))
	}
}

// TestGroupFromOneEngineToAnother moves from one cluster to another while both are fed, and back: docs/cookbook.md.
func TestGroupFromOneEngineToAnother(t *testing.T) {
	t.Parallel()
	engines := testenv.Engines(t)
	if len(engines) < 2 {
		t.Skip("it takes two engines, and one is asked for")
	}
	s := newSetup(t, testenv.SharedSearch(t, engines[0]))
	s.throughKafka(t, 1)
	l := newLoad(t, s.db, s.newLoadTables(t, 3000)...)
	l.connections, l.pause = 1, 100*time.Millisecond
	next := s.addGroup(t, "next", testenv.SharedSearch(t, engines[1]))
	i := s.start(t, "run")
	next.worker(t)
	s.awaitComplete(t, i)
	end := l.begin(t)
	i.poll(t, "the other cluster is filled while rows change", func(ctx context.Context) error {
		var n int
		err := s.db.DB.QueryRowContext(ctx, `SELECT count(*) FROM dbsync_ctrl_next.indices WHERE live <> ''`).Scan(&n)
		if err == nil && n < len(s.indices) {
			err = errors.New("not yet")
		}
		return err
	})
	end()
	s.awaitCaughtUp(t, i)
	next.awaitSynced(t, i)
	s.checkSynced(t) // and back: searchers may ask either
	i.stop(t)
}
