package indexer

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// step is between the commits of operations that are made up.
const step = searchtest.CommitStep

// truncation writes the truncation of an index, by a handler without a stream.
func truncation(t testing.TB, url string) (write func(op dbsync.Operation) error) {
	t.Helper()
	client := searchtest.Connect(t, url)
	h := NewHandler(HandlerOptions{Writer: Direct{searchtest.NewWriter(t, client, search.BulkOptions{}).Bulk, client, searchtest.Logger(t)}, Logger: searchtest.Logger(t)})
	return func(op dbsync.Operation) error {
		op.Kind = dbsync.Truncate
		return h.BatchOperations(searchtest.Within(t, time.Minute), dbsync.NewBatch(op))
	}
}

// fill stores n documents with the ids prefix0, prefix1, …
func fill(t testing.TB, url, index, prefix string, n int, change func(i int, op *dbsync.Operation)) {
	t.Helper()
	ops := make([]dbsync.Operation, n)
	for i := range ops {
		ops[i] = searchtest.Store(index, fmt.Sprint(prefix, i), 100, `{}`)
		change(i, &ops[i])
	}
	w := searchtest.NewWriter(t, searchtest.Connect(t, url), search.BulkOptions{})
	if err := w.Write(searchtest.Within(t, time.Minute), ops); err != nil {
		t.Fatal(err)
	}
}

func unchangedOperation(int, *dbsync.Operation) {}

func TestTruncate(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		physical, index := searchtest.NewIndex(t, engine, strings.Replace(loose, `"number_of_shards": 1`, `"number_of_shards": 3, "refresh_interval": "-1"`, 1))
		fill(t, engine.URL, index, "plain", 6000, unchangedOperation)
		fill(t, engine.URL, index, "routed", 6000, func(i int, op *dbsync.Operation) { op.Routing = fmt.Sprint("tenant \"", i%7, `" ü/,`) })
		fill(t, engine.URL, index, "odd \"id\" ü /?,|", 1, unchangedOperation)
		// What the same group has stored came after the truncation, or it would not have been written.
		fill(t, engine.URL, index, "same", 2, func(i int, op *dbsync.Operation) { op.Version = 200 * step })
		// What came with a later transaction, before a crash had the truncation repeated.
		fill(t, engine.URL, index, "newer", 2, func(i int, op *dbsync.Operation) { op.Version = 201 * step })

		if err := truncation(t, engine.URL)(dbsync.Operation{Index: index, Version: 200 * step}); err != nil {
			t.Fatal(err)
		}
		got := slices.Sorted(maps.Keys(engine.Documents(t, physical)))
		if diff := cmp.Diff([]string{"newer0", "newer1", "same0", "same1"}, got); diff != "" {
			t.Errorf("documents left (-want +got):\n%s", diff)
		}
		// A late write of what was removed is refused, and one that is newer is not.
		fill(t, engine.URL, index, "plain", 1, func(i int, op *dbsync.Operation) { op.Version = 199 * step })
		got = slices.Sorted(maps.Keys(engine.Documents(t, physical)))
		if diff := cmp.Diff([]string{"newer0", "newer1", "same0", "same1"}, got); diff != "" {
			t.Errorf("documents after the truncation (-want +got):\n%s", diff)
		}
	})
}

func TestTruncateOfAnEmptyIndex(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		_, index := searchtest.NewIndex(t, engine, loose)
		if err := truncation(t, engine.URL)(dbsync.Operation{Index: index, Version: 200 * step}); err != nil {
			t.Fatal(err)
		}
	})
}

// Every request of a truncation fails once, without effect or with its answer lost.
func TestTruncateIsRepeated(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		_, index := searchtest.NewIndex(t, engine, loose)
		fill(t, engine.URL, index, "d", 12_000, func(i int, op *dbsync.Operation) { op.Routing = fmt.Sprint(i % 3) })
		proxy := engine.NewProxy(t)
		is := func(suffix string) func(*testenv.Request) bool {
			return func(r *testenv.Request) bool { return r.Method == http.MethodPost && strings.HasSuffix(r.Path, suffix) }
		}
		faults := map[string]*testenv.Fault{
			"refresh dropped":            testenv.Drop(1, is("/_refresh")),
			"refresh without its answer": testenv.LoseAnswer(1, is("/_refresh")),
			"first page refused":         testenv.Answer(http.StatusServiceUnavailable, 1, is("/_search")),
			"first page lost":            testenv.LoseAnswer(1, is("/_search")),
			"second page lost":           testenv.LoseAnswer(1, is("/_search/scroll")),
			"deletions refused":          testenv.Answer(http.StatusTooManyRequests, 1, testenv.Bulk),
			"deletions lost":             testenv.LoseAnswer(1, testenv.Bulk),
			"a deletion refused":         testenv.AnswerItems(http.StatusTooManyRequests, 1, func(i testenv.Item) bool { return i.ID == "d7" }),
		}
		for _, f := range faults {
			proxy.Inject(f)
		}
		if err := truncation(t, proxy.URL)(dbsync.Operation{Index: index, Version: 200 * step}); err != nil {
			t.Fatal(err)
		}
		for name, f := range faults {
			if f.Hits() != 1 {
				t.Errorf("%s: %d times", name, f.Hits())
			}
		}
		if docs := engine.Documents(t, index); len(docs) > 0 {
			t.Errorf("%d documents are left", len(docs))
		}
	})
}

// A list that the server has dropped, because writing was held back for long or the
// server was started again, is asked for anew.
func TestTruncateWhenTheListIsGone(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		_, index := searchtest.NewIndex(t, engine, loose)
		fill(t, engine.URL, index, "d", 6000, unchangedOperation)
		proxy := engine.NewProxy(t)
		gone := proxy.Inject(testenv.Answer(http.StatusNotFound, 1, func(r *testenv.Request) bool { return strings.HasSuffix(r.Path, "/_search/scroll") }))
		if err := truncation(t, proxy.URL)(dbsync.Operation{Index: index, Version: 200 * step}); err != nil {
			t.Fatal(err)
		}
		if gone.Hits() != 1 {
			t.Errorf("the list was gone %d times", gone.Hits())
		}
		if docs := engine.Documents(t, index); len(docs) > 0 {
			t.Errorf("%d documents are left", len(docs))
		}
	})
}

// An index that somebody has closed is waited for, with the alarm, as Bulk.Write does it.
func TestTruncateHoldsBack(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		physical, index := searchtest.NewIndex(t, engine, loose)
		fill(t, engine.URL, index, "d", 10, unchangedOperation)
		do := func(path string) {
			t.Helper()
			if status, answer, err := engine.Do(t.Context(), "POST", "/"+physical+path, nil); err != nil || status != 200 {
				t.Fatalf("%s: %d %s %v", path, status, answer, err)
			}
		}
		client := searchtest.Connect(t, engine.URL)
		w := searchtest.NewWriter(t, client, search.BulkOptions{})
		h := NewHandler(HandlerOptions{Writer: Direct{w.Bulk, client, searchtest.Logger(t)}, Logger: searchtest.Logger(t)})
		batch := dbsync.NewBatch(dbsync.Operation{Index: index, Version: 200 * step, Kind: dbsync.Truncate})
		do("/_close")
		ctx := searchtest.Within(t, time.Minute)
		done := make(chan error, 1)
		go func() { done <- h.BatchOperations(ctx, batch) }()
		if line := w.Lines.Await(t, ctx, "remove all documents of "+index); !strings.Contains(line, "_open") {
			t.Errorf("the alarm has no hint: %s", line)
		}
		do("/_open")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if docs := engine.Documents(t, index); len(docs) > 0 {
			t.Errorf("%d documents are left", len(docs))
		}
	})
}

// The whole way, from SQL to the index.
func TestTruncateStatement(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		db := testenv.NewDatabase(t)
		db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, tenant text); ALTER TABLE t REPLICA IDENTITY FULL;
			CREATE TABLE u (id int PRIMARY KEY)`)
		s := newStream(t, db, "t: {table: t, routing: tenant}\nu: {table: u}")
		s.writeTo(t, engine.URL, search.BulkOptions{})
		index, other := s.documentsOf(t, engine, "t", loose), s.documentsOf(t, engine, "u", loose)
		s.run(t)
		db.Exec(t, `INSERT INTO t SELECT i, CASE WHEN i % 3 > 0 THEN 'x' || i % 3 END FROM generate_series(1, 500) i`, `INSERT INTO u VALUES (1)`)
		s.settle(t)
		testenv.CheckSynced(t, db, engine, index, "t", testenv.WithRouting("tenant"))
		db.Exec(t, `BEGIN; INSERT INTO t SELECT i FROM generate_series(501, 600) i; TRUNCATE t; INSERT INTO t VALUES (7, 'y'), (601, NULL); COMMIT`)
		s.settle(t)
		testenv.CheckSynced(t, db, engine, index, "t", testenv.WithRouting("tenant"))
		db.Exec(t, `TRUNCATE t`)
		s.settle(t)
		testenv.CheckSynced(t, db, engine, index, "t", testenv.WithRouting("tenant"))
		testenv.CheckSynced(t, db, engine, other, "u")
	})
}
