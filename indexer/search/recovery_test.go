package search_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// A restart of the search server shows at the shards, and so does what durability they have.
func TestRecoveries(t *testing.T) {
	for _, engine := range testenv.Engines(t) {
		t.Run(string(engine), func(t *testing.T) {
			s := testenv.StartSearch(t, engine, testenv.SearchOptions{Heap: "512m"})
			ctx := searchtest.Within(t, 5*time.Minute)
			c := searchtest.Connect(t, s.URL)
			physical, _ := searchtest.NewIndex(t, s, `{"settings":{"number_of_shards":2,"number_of_replicas":0}}`)
			if ok, err := c.AwaitAllocated(ctx, physical, time.Minute); !ok || err != nil {
				t.Fatal(ok, err)
			}
			before, err := c.Recoveries(ctx, physical)
			if err != nil || len(before) != 2 || before[0].Type != search.RecoveredEmpty || before[1].Type != search.RecoveredEmpty || time.Since(before[1].At).Abs() > time.Hour {
				t.Fatalf("of a new index: %v, %v", before, err)
			}
			if again, err := c.Recoveries(ctx, physical); err != nil || fmt.Sprint(again) != fmt.Sprint(before) {
				t.Errorf("%v, then %v, %v", before, again, err)
			}
			if err := s.Kill(ctx); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if ok, err := c.AwaitAllocated(ctx, physical, time.Minute); !ok || err != nil {
				t.Fatal(ok, err)
			}
			after, err := c.Recoveries(ctx, physical)
			if err != nil || len(after) != 2 || after[0].Type != search.RecoveredExisting || !after[1].At.After(before[1].At) {
				t.Errorf("after a restart: %v, %v", after, err)
			}
		})
	}
}

// How durable an index is, by its own settings, by the mapping's, or by a template.
func TestDurability(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		c := searchtest.Connect(t, s.URL)
		for settings, want := range map[string]search.Durability{
			`{}`:                                    search.DurableRequest,
			`{"index.translog.durability":"async"}`: search.DurableAsync,
			`{"translog.durability":"ASYNC"}`:       search.DurableAsync,
			`{"index":{"translog":{"durability":"async"}}}`: search.DurableAsync,
			`{"index":{"translog.durability":"request"}}`:   search.DurableRequest,
		} {
			body := `{"settings":` + settings + `}`
			physical, _ := searchtest.NewIndex(t, s, body)
			if got, err := c.Durability(ctx, physical); err != nil || got != want {
				t.Errorf("%s: got %s, %v", settings, got, err)
			}
			if got, err := c.DurabilityOfNew(ctx, physical, []byte(body)); err != nil || got != want {
				t.Errorf("%s of a new one: got %s, %v", settings, got, err)
			}
		}
		prefix := s.NewPrefix(t)
		name := strings.Trim(prefix, "-")
		do := func(method, body string) {
			t.Helper()
			if status, answer, err := s.Do(ctx, method, "/_index_template/"+name, []byte(body)); err != nil || status != http.StatusOK {
				t.Fatal(status, string(answer), err)
			}
		}
		do(http.MethodPut, `{"index_patterns":["`+prefix+`*"],"priority":1000,"template":{"settings":{"index.translog.durability":"async"}}}`)
		defer do(http.MethodDelete, "")
		if got, err := c.DurabilityOfNew(ctx, prefix+"x", []byte(`{"settings":{}}`)); err != nil || got != search.DurableAsync {
			t.Errorf("by a template: got %s, %v", got, err)
		}
		if got, err := c.DurabilityOfNew(ctx, prefix+"x", []byte(`{"settings":{"index.translog.durability":"request"}}`)); err != nil || got != search.DurableRequest {
			t.Errorf("by a template and the mapping: got %s, %v", got, err)
		}
	})
}

// Who wants to know is told of the operations of a request of which it is not known what became, and of
// no others.
func TestUnanswered(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		proxy := s.NewProxy(t)
		for name, test := range map[string]struct {
			fault *testenv.Fault
			want  int
		}{
			"answered":                  {testenv.Watch(testenv.Bulk), 0},
			"answer lost":               {testenv.LoseAnswer(1, testenv.Bulk), 1},
			"request lost":              {testenv.Drop(1, testenv.Bulk), 1}, // which looks alike
			"too busy, says the server": {testenv.AnswerItems(http.StatusTooManyRequests, 1, func(testenv.Item) bool { return true }), 0},
			"refused by the server":     {testenv.Answer(http.StatusServiceUnavailable, 1, testenv.Bulk), 0},
		} {
			var told atomic.Int64
			w := searchtest.NewWriter(t, searchtest.Connect(t, proxy.URL), search.BulkOptions{Unanswered: func(ops []dbsync.Operation) {
				if len(ops) != 2 || ops[0].Index != index {
					t.Errorf("%s: told of %v", name, ops)
				}
				told.Add(1)
			}})
			fault := proxy.Inject(test.fault)
			err := w.Write(searchtest.Within(t, time.Minute), []dbsync.Operation{searchtest.Store(index, "1", 1, `{}`), searchtest.Remove(index, "2", 1)})
			fault.Lift()
			if err != nil || int(told.Load()) != test.want {
				t.Errorf("%s: told %d times, %v", name, told.Load(), err)
			}
		}
	})
}
