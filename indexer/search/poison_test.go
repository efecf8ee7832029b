package search_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// pipe puts an ingest pipeline before an index, with one processor, and returns what takes it off.
func pipe(t *testing.T, s *testenv.SearchServer, physical, processor string) (off func()) {
	t.Helper()
	do := func(method, path, body string) {
		t.Helper()
		status, answer, err := s.Do(context.Background(), method, path, []byte(body))
		if strings.Contains(string(answer), "No processor type exists") {
			t.Skip("the server has no module of ingest processors")
		}
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
		}
	}
	do(http.MethodPut, "/_ingest/pipeline/"+physical, `{"processors":[`+processor+`]}`)
	t.Cleanup(func() { do(http.MethodDelete, "/_ingest/pipeline/"+physical, "") })
	do(http.MethodPut, "/"+physical+"/_settings", `{"index.default_pipeline":"`+physical+`"}`)
	off = func() { do(http.MethodPut, "/"+physical+"/_settings", `{"index.default_pipeline":null}`) }
	t.Cleanup(off)
	return off
}

// A document that alone the server answers with an error of its own is refused after a time, and
// not before; all others are stored at once.
func TestWriteFindsPoison(t *testing.T) {
	const fails = `{"fail":{"if":"ctx.title == 'poison'","message":"it is poison"}}`
	hasPoison := func(r *testenv.Request) bool {
		return r.IsBulk() && slices.ContainsFunc(r.Items, func(i testenv.Item) bool { return strings.Contains(string(i.Body), "poison") })
	}
	tests := []struct {
		name      string
		processor string
		fault     func() *testenv.Fault
		status    int
	}{
		{"by an item", fails, nil, 500},
		{"by a request", "", func() *testenv.Fault { return testenv.Answer(502, 0, hasPoison) }, 502},
		{"by no answer", "", func() *testenv.Fault { return testenv.Hold(0, hasPoison) }, 0},
		{"by a broken connection", "", func() *testenv.Fault { return testenv.Drop(0, hasPoison) }, 0},
	}
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				ctx := searchtest.Within(t, time.Minute)
				proxy := s.NewProxy(t)
				physical, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
				if test.processor != "" {
					pipe(t, s, physical, test.processor)
				}
				if test.fault != nil {
					f := proxy.Inject(test.fault())
					defer f.Lift()
				}
				client := searchtest.ConnectWith(t, search.Options{URLs: []string{proxy.URL}, RequestTimeout: 2 * time.Second})
				ops := searchtest.Products(index, 50)
				ops[7].Body = []byte(`{"id":7,"title":"poison"}`)

				patient := searchtest.NewWriter(t, client, search.BulkOptions{PoisonAfter: time.Hour})
				trying, stop := context.WithCancel(ctx)
				defer stop()
				done := patient.Start(trying, ops)
				patient.Lines.Await(t, ctx, "does not take bulk requests")
				for n := 0; n < 49; n = len(s.Documents(t, index)) {
					if ctx.Err() != nil {
						t.Fatalf("%d documents are stored while one fails, want 49", n)
					}
				}
				stop()
				<-done
				patient.WantRefused(t)

				w := searchtest.NewWriter(t, client, search.BulkOptions{PoisonAfter: 300 * time.Millisecond})
				begin := time.Now()
				if err := w.Write(ctx, ops); err != nil {
					t.Fatal(err)
				}
				w.WantRefused(t, "7")
				if why := w.Refused()[0].Err; why.Status != test.status || why.Type != "poison" || !strings.Contains(why.Reason, "while the server takes others") {
					t.Errorf("refused as %+v", why)
				}
				if took := time.Since(begin); took < 300*time.Millisecond {
					t.Errorf("refused after %s", took)
				}
				if r := w.Alarm.Reasons(); len(r) > 0 {
					t.Errorf("alarm: %v", r)
				}
			})
		}
	})
}

// Where every document is refused, it is no document's fault, however long it takes: it is an
// alarm, all the time, until somebody has done something about it.
func TestWriteDoesNotTakeAnIndexForPoison(t *testing.T) {
	tests := []struct {
		name, processor, alarm string
		documents              int
	}{
		{"a pipeline that fails by 5xx", `{"fail":{"message":"always"}}`, "always", 3},
		{"a pipeline that fails by 5xx, one document", `{"fail":{"message":"always"}}`, "always", 1},
		{"a pipeline that fails by 5xx, but for an empty document", `{"fail":{"if":"ctx.id != null","message":"always"}}`, "always", 3},
		{"a pipeline that fails by 4xx", `{"set":{"field":"_id","value":"{{{id}}}","if":"throw new IllegalArgumentException('never')"}}`, "refuses every document", 500},
		{"a pipeline that calls another one", `{"pipeline":{"name":"no-such-pipeline"}}`, "has an ingest pipeline that is missing", 500},
	}
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				ctx := searchtest.Within(t, time.Minute)
				physical, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
				off := pipe(t, s, physical, test.processor)
				w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{PoisonAfter: 100 * time.Millisecond})
				done := w.Start(ctx, searchtest.Products(index, test.documents))
				w.Lines.Await(t, ctx, test.alarm)
				since := w.Alarm.Reasons()
				for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) { // ten times as long as a poisoned one takes
					if r := w.Alarm.Reasons(); len(r) != 1 || !r[0].Since.Equal(since[0].Since) {
						t.Fatalf("the alarm is not steady: %v, at first %v", r, since)
					}
				}
				select {
				case err := <-done:
					t.Fatalf("Write returned %v", err)
				default:
				}
				w.WantRefused(t)
				off()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if r := w.Refused(); len(r) > 0 {
					t.Errorf("%d are refused, the first because of %+v", len(r), r[0].Err)
				}
				if n := len(s.Documents(t, index)); n != test.documents {
					t.Errorf("%d documents, want %d", n, test.documents)
				}
				if r := w.Alarm.Reasons(); len(r) > 0 {
					t.Errorf("alarm: %v", r)
				}
			})
		}
	})
}

// Many bad documents are many dead letters, and no alarm: the index takes others.
func TestWriteRefusesMany(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		physical, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		pipe(t, s, physical, `{"set":{"field":"_id","value":"x","if":"if (ctx.title == 'bad') throw new IllegalArgumentException('never')"}}`)
		w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{})
		ops := searchtest.Products(index, 100)
		var want []string
		for i := range ops {
			ops[i].Body = []byte(`{"id":"abc"}`)
			if i%2 == 0 {
				ops[i].Body = []byte(`{"title":"bad"}`)
			}
			want = append(want, ops[i].ID)
		}
		var alike []dbsync.Operation
		for i := range ops {
			if i%2 == 0 {
				alike = append(alike, ops[i])
			}
		}
		for _, some := range [][]dbsync.Operation{alike, ops} {
			if err := w.Write(searchtest.Within(t, time.Minute), some); err != nil {
				t.Fatal(err)
			}
		}
		got := make(map[string]bool)
		for _, r := range w.Refused() {
			got[r.Operation.ID] = true
		}
		if len(got) != len(want) {
			t.Errorf("%d documents are refused, want %d", len(got), len(want))
		}
		if r := w.Alarm.Reasons(); len(r) > 0 {
			t.Errorf("alarm: %v", r)
		}
	})
}

// A request that is always answered with 429 asks for too much at a time, though the server does not
// say so: it is halved, down to one document.
func TestWriteHalvesWhatIsAlwaysTooMuch(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		for most, fault := range map[int]func(match func(*testenv.Request) bool) *testenv.Fault{
			10: func(match func(*testenv.Request) bool) *testenv.Fault { return testenv.Answer(429, 0, match) },
			1:  func(match func(*testenv.Request) bool) *testenv.Fault { return testenv.Answer(503, 0, match) },
		} {
			t.Run(fmt.Sprint(most), func(t *testing.T) {
				proxy := s.NewProxy(t)
				_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
				w := searchtest.NewWriter(t, searchtest.Connect(t, proxy.URL), search.BulkOptions{MinBackoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond})
				var largest []int
				proxy.Inject(testenv.Watch(func(r *testenv.Request) bool {
					if r.IsBulk() && len(r.Items) <= most {
						largest = append(largest, len(r.Items))
					}
					return false
				}))
				proxy.Inject(fault(func(r *testenv.Request) bool { return r.IsBulk() && len(r.Items) > most }))
				if err := w.Write(searchtest.Within(t, time.Minute), searchtest.Products(index, 100)); err != nil {
					t.Fatal(err)
				}
				w.WantRefused(t)
				if n := len(s.Documents(t, index)); n != 100 {
					t.Errorf("%d documents, want 100", n)
				}
				if slices.Max(largest) < (most+1)/2 {
					t.Errorf("requests of %v operations, although %d are taken", largest, most)
				}
				if r := w.Alarm.Reasons(); len(r) > 0 {
					t.Errorf("alarm: %v", r)
				}
			})
		}
	})
}
