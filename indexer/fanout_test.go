package indexer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// TestDeferred has batches that concern more documents than they wait for: only the rows are deferred
// that are in too many, and of many rows that are in one document each, none is.
func TestDeferred(t *testing.T) {
	db := testenv.NewDatabase(t)
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	db.Exec(t, `CREATE TABLE g (id int PRIMARY KEY, v text); INSERT INTO g SELECT i, 'old' FROM generate_series(1, 31) i`,
		`CREATE TABLE r (id int PRIMARY KEY, g int); INSERT INTO r SELECT i, i FROM generate_series(1, 30) i; INSERT INTO r SELECT i, 31 FROM generate_series(31, 80) i`)
	s := newStream(t, db, "r: {table: r, include: {v: {table: g, on: {g: id}, value: v}}}\n")
	proxy := engine.NewProxy(t)
	s.writeTo(t, proxy.URL, search.BulkOptions{})
	alias := s.documentsOf(t, engine, "r", loose)
	seen, r := watch(proxy), s.record()
	s.run(t)
	s.handler.o.FanOut = 10
	for _, test := range []struct {
		name, change string
		written      int
		deferred     string // path and rows
	}{
		{"one row of few documents", `UPDATE g SET v = 'a' WHERE id = 1`, 1, ""},
		{"many rows of one document each", `UPDATE g SET v = 'b' WHERE id <= 30`, 30, ""},
		{"one row of many", `UPDATE g SET v = 'c' WHERE id = 31`, 0, `"public"."g"("g"="id") [31]`},
		{"one of many among them", `UPDATE g SET v = 'd'`, 30, `"public"."g"("g"="id") [31]`},
		{"every row", `TRUNCATE g`, 0, "every"},
	} {
		var deferred []string
		s.handler.o.Defer = func(_ context.Context, f *FanOut) error {
			for _, part := range f.Related() {
				if lookups, ok := part.Lookups(f.Source); !ok || len(lookups) != min(1, len(part.Rows)) {
					t.Errorf("%s: %v is not what was deferred", test.name, part)
				}
				if part.Path == "" {
					deferred = append(deferred, "every")
					continue
				}
				rows := make([]string, len(part.Rows))
				for i, row := range part.Rows {
					rows[i] = strings.Join(row, ",")
				}
				deferred = append(deferred, fmt.Sprintf("%s %v", part.Path, rows))
			}
			if len(f.Targets) != 1 || f.Targets[0].Alias != alias {
				t.Errorf("%s: deferred for %v", test.name, f.Targets)
			}
			return nil
		}
		db.Exec(t, test.change)
		s.settle(t)
		batch := r.operations()
		before := len(seen.lines(alias))
		s.write(t, batch)
		if got := strings.Join(deferred, "; "); got != test.deferred {
			t.Errorf("%s: deferred %s, want %s", test.name, got, test.deferred)
		}
		if got := len(seen.lines(alias)) - before; got != test.written {
			t.Errorf("%s: %d documents were written, want %d", test.name, got, test.written)
		}
		if test.deferred == "" {
			continue
		}
		// What cannot be noted is not stored.
		failed := errors.New("not noted")
		s.handler.o.Defer = func(context.Context, *FanOut) error { return failed }
		ctx := searchtest.Within(t, 30*time.Second)
		if err := s.handler.BatchOperations(ctx, dbsync.NewBatch(batch...)); !errors.Is(err, failed) {
			t.Errorf("%s: %v", test.name, err)
		}
		s.handler.o.Defer = nil
		if err := s.handler.BatchOperations(ctx, dbsync.NewBatch(batch...)); !dbsync.IsPermanent(err) {
			t.Errorf("%s, where nobody notes it: %v", test.name, err)
		}
	}
}
