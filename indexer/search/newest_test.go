package search_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// The document that was written last is found, on whichever shard it is, however many were written to
// other shards.
func TestNewest(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		physical, index := searchtest.NewIndex(t, s, `{"settings":{"number_of_shards":3,"number_of_replicas":0,"refresh_interval":"-1"},"mappings":{"dynamic":false}}`)
		c := searchtest.Connect(t, s.URL)
		w := searchtest.NewWriter(t, c, search.BulkOptions{})
		if d, err := c.Newest(ctx, physical); err != nil || d.Found {
			t.Errorf("of an empty index: %+v, %v", d, err)
		}
		// All of one shard, but for one document that is neither the last nor has the highest number.
		var ops []dbsync.Operation
		for i := range 200 {
			op := searchtest.Store(index, fmt.Sprint(i), pglogrepl.LSN(1000+i), `{}`)
			op.Routing = "a"
			ops = append(ops, op)
		}
		other := "b" // how routings are spread is each release's own
		for shardOf(t, s, physical, other) == shardOf(t, s, physical, "a") && len(other) < 50 {
			other += "b"
		}
		ops[0].Routing, ops[0].Version = other, 1<<40*searchtest.CommitStep
		if err := w.Write(ctx, ops); err != nil {
			t.Fatal(err)
		}
		if d, err := c.Newest(ctx, physical); err != nil || !d.Found || d.ID != "0" || search.Position(d.Version, 0) != 1<<40*searchtest.CommitStep {
			t.Errorf("got %+v, %v", d, err)
		}
	})
}

// shardOf returns what the server says of the shard that a routing leads to.
func shardOf(t *testing.T, s *testenv.SearchServer, index, routing string) string {
	t.Helper()
	_, answer, err := s.Do(t.Context(), http.MethodGet, "/"+index+"/_search_shards?filter_path=shards.shard&routing="+routing, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// Who finds a newer version in place of his own is told which one it is, of deletions too; and what he
// makes of it ends the writing.
func TestNewerVersion(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		c := searchtest.Connect(t, s.URL)
		strange := "current version [7] "
		var told []string
		stop := errors.New("stop")
		w := searchtest.NewWriter(t, c, search.BulkOptions{Newer: func(_ context.Context, op *dbsync.Operation, version int64) error {
			commit := search.Position(version, op.Base) / searchtest.CommitStep
			told = append(told, fmt.Sprintf("%s %d %d", op.ID, op.Version/searchtest.CommitStep, commit))
			if commit == 1<<40 {
				return stop
			}
			return nil
		}})
		write := func(want string, ops ...dbsync.Operation) {
			t.Helper()
			told = nil
			if err := w.Write(ctx, ops); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(told, ", "); got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		write("", searchtest.Store(index, "1", 20, `{}`), searchtest.Store(index, strange, 30, `{}`), searchtest.Remove(index, "gone", 40))
		write("", searchtest.Store(index, "1", 20, `{}`))
		write("1 10 20", searchtest.Store(index, "1", 10, `{}`))
		write("gone 12 40", searchtest.Store(index, "1", 10, `{}`), searchtest.Store(index, strange, 11, `{}`), searchtest.Store(index, "gone", 12, `{}`))
		write(strange+" 11 30", searchtest.Store(index, strange, 11, `{}`))
		write("1 10 20", searchtest.Remove(index, "1", 10))
		write("", searchtest.Store(index, "far", 1<<40, `{}`))
		if err := w.Write(ctx, []dbsync.Operation{searchtest.Store(index, "far", 50, `{}`), searchtest.Store(index, "near", 50, `{}`)}); !errors.Is(err, stop) {
			t.Errorf("Write returned %v", err)
		}
	})
}
