package search_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// While the fence is shut nothing is sent that changes something, and all else is; a request that
// has begun does not come to its end. When it is open again everything goes on.
func TestFenced(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		physical, index := searchtest.NewIndex(t, engine, searchtest.ProductMapping)
		proxy := engine.NewProxy(t)
		arrived := proxy.Inject(testenv.Watch(func(r *testenv.Request) bool { return r.IsBulk() || r.Method == "PUT" || r.Method == "DELETE" }))
		shut := errors.New("shut")
		var asked, passes atomic.Int64 // passes: so often the fence is open, from now on
		fenced := searchtest.Connect(t, proxy.URL).Fenced(func(context.Context) error {
			asked.Add(1)
			if passes.Add(-1) < 0 {
				return shut
			}
			return nil
		})
		ctx := searchtest.Within(t, time.Minute)
		if _, err := fenced.GetIndex(ctx, physical); err != nil {
			t.Errorf("reading: %v", err)
		}
		if _, err := fenced.Count(ctx, index); err != nil {
			t.Errorf("counting: %v", err)
		}
		if asked.Load() != 0 {
			t.Errorf("the fence was asked %d times by who reads", asked.Load())
		}
		for name, err := range map[string]error{
			"settings": fenced.PutSettings(ctx, physical, map[string]any{"index.refresh_interval": "7s"}),
			"deletion": fenced.DropIndex(ctx, physical, searchtest.Owner),
		} {
			if stopped, ok := errors.AsType[*search.FencedError](err); !ok || !errors.Is(stopped, shut) || dbsync.IsPermanent(err) {
				t.Errorf("%s: %v", name, err)
			}
		}

		w := searchtest.NewWriter(t, fenced, search.BulkOptions{Requests: 1, Compression: search.CompressNever})
		ops := searchtest.Products(index, 1000)
		ops[0].Body = []byte(`{"id":1,"title":"` + strings.Repeat("long ", 400_000) + `"}`)
		passes.Store(3) // for the request, and the first pieces of its body
		done := w.Start(ctx, ops)
		if line := w.Lines.Await(t, ctx, "held back"); !strings.Contains(line, "shut") {
			t.Errorf("the alarm says %s", line)
		}
		if n := arrived.Hits(); n != 0 {
			t.Errorf("%d requests have arrived", n)
		}
		if n := len(engine.Documents(t, index)); n != 0 {
			t.Errorf("%d documents are stored", n)
		}
		passes.Store(1 << 40)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := len(engine.Documents(t, index)); n != 1000 || w.Stats().Refused.Load() != 0 {
			t.Errorf("%d documents are stored, %d refused", n, w.Stats().Refused.Load())
		}
	})
}
