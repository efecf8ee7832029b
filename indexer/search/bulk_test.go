package search_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

func TestWrite(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		for name, compression := range map[string]search.Compression{"plain": search.CompressNever, "gzip": search.CompressGzip} {
			t.Run(name, func(t *testing.T) {
				ctx := searchtest.Within(t, time.Minute)
				_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
				w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{Compression: compression})
				strange := "a\"b\\c/ü|~\u0001 \U0001F600"
				routed := searchtest.Store(index, "routed", 10, `{"id":3}`)
				routed.Routing = "tenant \"7\""
				steps := [][]dbsync.Operation{
					{searchtest.Store(index, "1", 10, `{"id":1}`), searchtest.Store(index, strange, 10, `{"id":2}`), routed, searchtest.Store(index, "gone", 10, `{"id":4}`)},
					{searchtest.Store(index, "1", 20, `{"id":11}`), searchtest.Remove(index, "gone", 20), searchtest.Remove(index, "never there", 20)},
					{searchtest.Store(index, "1", 20, `{"id":11}`)},                                                  // the same again, as after a crash
					{searchtest.Store(index, "1", 15, `{"id":15}`), searchtest.Store(index, "gone", 15, `{"id":4}`)}, // late: something newer is there
				}
				for _, ops := range steps {
					if err := w.Write(ctx, ops); err != nil {
						t.Fatal(err)
					}
				}
				got := map[string]string{}
				for id, d := range s.Documents(t, index) {
					got[id] = fmt.Sprintf("%d %s %s", d.Version, d.Routing, d.Source)
				}
				version := func(commit pglogrepl.LSN) string {
					v, err := search.VersionOf(searchtest.Store("", "", commit, ""))
					if err != nil {
						t.Fatal(err)
					}
					return fmt.Sprint(v)
				}
				want := map[string]string{"1": version(20) + `  {"id":11}`, strange: version(10) + `  {"id":2}`, "routed": version(10) + ` tenant "7" {"id":3}`}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				st := w.Stats()
				if st.Stored.Load() != 6 || st.Deleted.Load() != 2 || st.Superseded.Load() != 2 || st.Refused.Load() != 0 || st.Requests.Load() != 4 {
					t.Errorf("stored %d, deleted %d, superseded %d, refused %d, requests %d", st.Stored.Load(), st.Deleted.Load(), st.Superseded.Load(), st.Refused.Load(), st.Requests.Load())
				}
				if r := w.Alarm.Reasons(); len(r) > 0 {
					t.Errorf("alarm: %v", r)
				}
			})
		}
	})
}

func TestWriteLargeBatch(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		_, other := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		ops := searchtest.Products(index, 3000)
		for i := range ops {
			if i%3 == 0 {
				ops[i].Index = other // the index is named line by line then
			}
		}
		w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{Requests: 3, Bytes: 200 << 10, Compression: search.CompressGzip})
		if err := w.Write(searchtest.Within(t, time.Minute), ops); err != nil {
			t.Fatal(err)
		}
		if a, b := len(s.Documents(t, index)), len(s.Documents(t, other)); a != 2000 || b != 1000 {
			t.Errorf("%d and %d documents, want 2000 and 1000", a, b)
		}
		if n := w.Stats().Requests.Load(); n < 3 {
			t.Errorf("%d requests", n)
		}
	})
}

// One document that the index cannot hold is refused, and its neighbours are stored.
func TestWriteRefusesOneDocument(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{})
		err := w.Write(searchtest.Within(t, time.Minute), []dbsync.Operation{
			searchtest.Store(index, "1", 1, `{"id":1}`),
			searchtest.Store(index, "not a number", 1, `{"id":"abc"}`),
			searchtest.Store(index, "not JSON", 1, `{"id":`),
			searchtest.Store(index, "", 1, `{"id":1}`),
			searchtest.Store(index, strings.Repeat("x", 513), 1, `{"id":1}`),
			searchtest.Store(index, "two lines", 1, "{\"id\":\n1}"),
			searchtest.Store(index, "\xff", 1, `{"id":1}`),
			{Index: index, ID: "no body", Version: 1},
			searchtest.Remove(index, "", 1),
			searchtest.Store(index, "2", 1, `{"id":2}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		w.WantRefused(t, "", strings.Repeat("x", 513), "two lines", "\xff", "no body", "", "not a number", "not JSON")
		if got := slices.Sorted(maps.Keys(s.Documents(t, index))); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("documents %q", got)
		}
		last := w.Refused()[len(w.Refused())-2].Err
		if last.Status != 400 || !strings.Contains(last.Type, "parsing_exception") || !strings.Contains(last.Reason, "abc") || last.Index != index {
			t.Errorf("refused as %+v", last)
		}
	})
}

// The server refuses a whole request for the sake of one operation in it: that one is
// found, and only that one refused. The check before sending is passed by on purpose.
func TestWriteFindsTheCulprit(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{})
		ops := searchtest.Products(index, 100)
		ops[42].ID = strings.Repeat("x", 600)
		if err := w.WritePart(searchtest.Within(t, time.Minute), ops); err != nil {
			t.Fatal(err)
		}
		w.WantRefused(t, ops[42].ID)
		if n := len(s.Documents(t, index)); n != 99 {
			t.Errorf("%d documents, want 99", n)
		}
	})
}

// What is wrong with the index as a whole holds everything back, until it is fixed.
// No document is refused, and nothing is created by the writes.
func TestWriteHoldsBack(t *testing.T) {
	do := func(t *testing.T, s *testenv.SearchServer, method, path, body string) {
		t.Helper()
		status, answer, err := s.Do(context.Background(), method, path, []byte(body))
		if err != nil || status != 200 {
			t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
		}
	}
	settings := func(text string) func(*testing.T, *testenv.SearchServer, string) {
		return func(t *testing.T, s *testenv.SearchServer, physical string) {
			do(t, s, "PUT", "/"+physical+"/_settings", text)
		}
	}
	cases := []struct {
		name, alarm string
		harm, hint  func(t *testing.T, s *testenv.SearchServer, physical string)
	}{
		{"deleted", "is missing",
			func(t *testing.T, s *testenv.SearchServer, physical string) { do(t, s, "DELETE", "/"+physical, "") },
			func(t *testing.T, s *testenv.SearchServer, physical string) {
				if found, err := s.Indices(context.Background(), physical[:len(physical)-10]+"*"); err != nil || len(found) > 0 {
					t.Errorf("the writes made %v (%v)", found, err)
				}
				alias := physical[:len(physical)-16] + strings.ToUpper(physical[len(physical)-16:])
				if err := searchtest.Connect(t, s.URL).CreateIndex(context.Background(), physical, alias, []byte(searchtest.ProductMapping)); err != nil {
					t.Fatal(err)
				}
			}},
		{"closed", "is closed",
			func(t *testing.T, s *testenv.SearchServer, physical string) {
				do(t, s, "POST", "/"+physical+"/_close", "")
			},
			func(t *testing.T, s *testenv.SearchServer, physical string) {
				do(t, s, "POST", "/"+physical+"/_open", "")
			}},
		{"write block", "is blocked", settings(`{"index.blocks.write":true}`), settings(`{"index.blocks.write":null}`)},
		{"read only", "is blocked", settings(`{"index.blocks.read_only":true}`), settings(`{"index.blocks.read_only":null}`)},
		{"pipeline missing", "has an ingest pipeline that is missing", settings(`{"index.default_pipeline":"no-such-pipeline"}`), settings(`{"index.default_pipeline":null}`)},
		{"last pipeline missing", "has an ingest pipeline that is missing", settings(`{"index.final_pipeline":"no-such-pipeline"}`), settings(`{"index.final_pipeline":null}`)},
		{"disk full", "is blocked", settings(`{"index.blocks.read_only_allow_delete":true}`), settings(`{"index.blocks.read_only_allow_delete":null}`)},
	}
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				ctx := searchtest.Within(t, time.Minute)
				physical, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
				_, healthy := searchtest.NewIndex(t, s, searchtest.ProductMapping)
				w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{})
				c.harm(t, s, physical)
				done := w.Start(ctx, []dbsync.Operation{searchtest.Store(index, "1", 5, `{"id":1}`), searchtest.Remove(index, "2", 5), searchtest.Store(healthy, "1", 5, `{"id":1}`)})
				if line := w.Lines.Await(t, ctx, c.alarm); !strings.Contains(line, "hint: ") {
					t.Errorf("no hint in %q", line)
				}
				// Meanwhile other indices are written.
				if n := len(s.Documents(t, healthy)); n != 1 {
					t.Errorf("%d documents in the index that is well", n)
				}
				select {
				case err := <-done:
					t.Fatalf("Write returned %v while the index was %s", err, c.name)
				default:
				}
				c.hint(t, s, physical)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				w.WantRefused(t)
				w.Lines.Await(t, ctx, "writing goes on")
				if r := w.Alarm.Reasons(); len(r) > 0 {
					t.Errorf("alarm after the hint: %v", r)
				}
				if n := len(s.Documents(t, index)); n != 1 {
					t.Errorf("%d documents, want 1", n)
				}
			})
		}
	})
}

// Whatever happens to a request on its way, everything is stored in the end.
func TestWriteSurvives(t *testing.T) {
	faults := map[string]func() *testenv.Fault{
		"no effect":         func() *testenv.Fault { return testenv.Drop(2, testenv.Bulk) },
		"answer lost":       func() *testenv.Fault { return testenv.LoseAnswer(2, testenv.Bulk) },
		"429":               func() *testenv.Fault { return testenv.Answer(429, 5, testenv.Bulk) },
		"503":               func() *testenv.Fault { return testenv.Answer(503, 5, testenv.Bulk) },
		"502":               func() *testenv.Fault { return testenv.Answer(502, 5, testenv.Bulk) },
		"408":               func() *testenv.Fault { return testenv.Answer(408, 2, testenv.Bulk) },
		"401":               func() *testenv.Fault { return testenv.Answer(401, 2, testenv.Bulk) },
		"403":               func() *testenv.Fault { return testenv.Answer(403, 2, testenv.Bulk) },
		"404 of a proxy":    func() *testenv.Fault { return testenv.Answer(404, 2, testenv.Bulk) },
		"400 to everything": func() *testenv.Fault { return testenv.Answer(400, 30, testenv.Bulk) },
		"400 once more":     func() *testenv.Fault { return testenv.Answer(400, 31, testenv.Bulk) },
	}
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				proxy := s.NewProxy(t)
				_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
				w := searchtest.NewWriter(t, searchtest.Connect(t, proxy.URL), search.BulkOptions{})
				f := proxy.Inject(fault())
				ops := append(searchtest.Products(index, 50), searchtest.Remove(index, "no such", 1))
				if err := w.Write(searchtest.Within(t, time.Minute), ops); err != nil {
					t.Fatal(err)
				}
				if f.Hits() < 2 {
					t.Errorf("the fault was met %d times", f.Hits())
				}
				if n := len(s.Documents(t, index)); n != 50 {
					t.Errorf("%d documents, want 50", n)
				}
				w.WantRefused(t)
				if r := w.Alarm.Reasons(); len(r) > 0 {
					t.Errorf("alarm: %v", r)
				}
				if n := w.Stats().Stored.Load(); n != 50 {
					t.Errorf("counted %d stored documents, want 50", n)
				}
			})
		}
	})
}

// Only the operations that were answered with 429 are sent again.
func TestWriteRepeatsOnlyWhatFailed(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		for _, status := range []int{429, 503, 500} {
			t.Run(fmt.Sprint(status), func(t *testing.T) {
				proxy := s.NewProxy(t)
				_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
				w := searchtest.NewWriter(t, searchtest.Connect(t, proxy.URL), search.BulkOptions{})
				var sizes []int
				seen := proxy.Inject(testenv.Watch(func(r *testenv.Request) bool {
					if r.IsBulk() {
						sizes = append(sizes, len(r.Items)) // requests come one after the other
					}
					return r.IsBulk()
				}))
				proxy.Inject(testenv.AnswerItems(status, 4, func(i testenv.Item) bool { return i.ID == "7" || i.ID == "9" }))
				if err := w.Write(searchtest.Within(t, time.Minute), searchtest.Products(index, 20)); err != nil {
					t.Fatal(err)
				}
				if want := []int{20, 2, 2, 2, 1, 1}; !slices.Equal(sizes, want) || seen.Hits() != len(want) {
					t.Errorf("requests of %v operations, want %v", sizes, want)
				}
				if n := len(s.Documents(t, index)); n != 20 {
					t.Errorf("%d documents, want 20", n)
				}
				w.Lines.Await(t, searchtest.Within(t, time.Second), "does not take bulk requests")
				if n := w.Stats().Retried.Sum(); n != 8 {
					t.Errorf("counted %d repetitions, want 8", n)
				}
			})
		}
	})
}

func TestWriteSplitsWhatIsTooLarge(t *testing.T) {
	const limit = 5000
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		proxy := s.NewProxy(t)
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		w := searchtest.NewWriter(t, searchtest.Connect(t, proxy.URL), search.BulkOptions{})
		proxy.Inject(testenv.Answer(413, 0, func(r *testenv.Request) bool { return r.IsBulk() && len(r.Body) > limit }))
		ops := searchtest.Products(index, 100)
		ops[40].Body = fmt.Appendf(nil, `{"id":40,"title":"%s"}`, strings.Repeat("x", limit))
		if err := w.Write(searchtest.Within(t, time.Minute), ops); err != nil {
			t.Fatal(err)
		}
		w.WantRefused(t, "40")
		if w.Refused()[0].Err.Status != 413 {
			t.Errorf("refused as %+v", w.Refused()[0].Err)
		}
		if n := len(s.Documents(t, index)); n != 99 {
			t.Errorf("%d documents, want 99", n)
		}
	})
}

// A server that is set to 1 MB says so in its own way, with and without compression.
func TestWriteOverTheServersLimit(t *testing.T) {
	for _, engine := range testenv.Engines(t) {
		t.Run(string(engine), func(t *testing.T) {
			s := testenv.StartSearch(t, engine, testenv.SearchOptions{Heap: "512m", Settings: map[string]string{"http.max_content_length": "1mb"}})
			for name, compression := range map[string]search.Compression{"plain": search.CompressNever, "gzip": search.CompressGzip} {
				t.Run(name, func(t *testing.T) {
					_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
					w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{Requests: 1, Compression: compression})
					ops := searchtest.Products(index, 4000)
					ops[40].Body = fmt.Appendf(nil, `{"id":40,"title":"%s"}`, strings.Repeat("x", 3<<20))
					if err := w.Write(searchtest.Within(t, 2*time.Minute), ops); err != nil {
						t.Fatal(err)
					}
					w.WantRefused(t, "40")
					t.Logf("refused as %v", w.Refused()[0].Err)
					if n := len(s.Documents(t, index)); n != 3999 {
						t.Errorf("%d documents, want 3999", n)
					}
					// Batches are cut by what was found out, the second one by what the first one has.
					var failed int64
					for range 2 {
						before := w.Stats().Failed.Load()
						if err := w.Write(searchtest.Within(t, time.Minute), ops[41:]); err != nil {
							t.Fatal(err)
						}
						failed = w.Stats().Failed.Load() - before
					}
					if failed > 0 {
						t.Errorf("%d requests failed, of %d bytes at most", failed, w.Pace().Bytes)
					}
				})
			}
		})
	}
}

// A server that closes the connection on what is too large, and answers all else.
func TestWriteSuspectsTheSize(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		proxy := s.NewProxy(t)
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		w := searchtest.NewWriter(t, searchtest.Connect(t, proxy.URL), search.BulkOptions{Compression: search.CompressGzip})
		proxy.Inject(testenv.Drop(0, func(r *testenv.Request) bool { return r.IsBulk() && len(r.Body) > search.SuspectBytes }))
		ops := searchtest.Products(index, 20)
		ops[10].Body = fmt.Appendf(nil, `{"id":10,"title":"%s"}`, strings.Repeat("x", 2*search.SuspectBytes))
		if err := w.Write(searchtest.Within(t, time.Minute), ops); err != nil {
			t.Fatal(err)
		}
		w.WantRefused(t, "10")
		if n := len(s.Documents(t, index)); n != 19 {
			t.Errorf("%d documents, want 19", n)
		}
	})
}

// A request that is not answered in time is sent again in halves.
func TestWriteTimesOut(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		proxy := s.NewProxy(t)
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		w := searchtest.NewWriter(t, searchtest.ConnectWith(t, search.Options{URLs: []string{proxy.URL}, RequestTimeout: 500 * time.Millisecond}), search.BulkOptions{})
		f := proxy.Inject(testenv.Hold(0, func(r *testenv.Request) bool { return r.IsBulk() && len(r.Items) > 25 }))
		if err := w.Write(ctx, searchtest.Products(index, 100)); err != nil {
			t.Fatal(err)
		}
		if f.Hits() != 3 { // 100, and 50 twice
			t.Errorf("%d requests were too large, want 3", f.Hits())
		}
		if n := len(s.Documents(t, index)); n != 100 {
			t.Errorf("%d documents, want 100", n)
		}
	})
}

func TestWriteEndsWithItsContext(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		stopped := errors.New("told to stop")
		proxy := s.NewProxy(t)
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		w := searchtest.NewWriter(t, searchtest.Connect(t, proxy.URL), search.BulkOptions{})
		for _, c := range []struct {
			name  string
			fault *testenv.Fault
			hits  int
		}{
			{"while a request is under way", testenv.Hold(0, testenv.Bulk), 4},
			{"between two attempts", testenv.Answer(429, 0, testenv.Bulk), 4*retry.Patience + 4}, // the alarm is up
		} {
			f := c.fault
			t.Run(c.name, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(searchtest.Within(t, time.Minute))
				proxy.Inject(f)
				defer f.Lift()
				done := w.Start(ctx, searchtest.Products(index, 2000))
				if err := f.Await(ctx, c.hits); err != nil {
					t.Fatal(err)
				}
				cancel(stopped)
				if err := <-done; !errors.Is(err, stopped) {
					t.Errorf("Write returned %v", err)
				}
				if r := w.Alarm.Reasons(); len(r) > 0 {
					t.Errorf("alarm: %v", r)
				}
			})
		}
	})
}

// An error of OnRefused ends Write, which tells both.
func TestWriteStopsWhenRefusalsAreNotTaken(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		full := errors.New("no place to keep it")
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{OnRefused: func(context.Context, []search.Refused) error { return full }})
		ops := searchtest.Products(index, 2000)
		ops[1500].Body = []byte(`{"id":"abc"}`)
		err := w.Write(searchtest.Within(t, time.Minute), ops)
		if refusal, ok := errors.AsType[*search.DocError](err); !errors.Is(err, full) || !ok || refusal.ID != "1500" {
			t.Errorf("Write returned %v", err)
		}
	})
}

func TestNewBulkRefuses(t *testing.T) {
	take := func(context.Context, []search.Refused) error { return nil }
	for want, o := range map[string]search.BulkOptions{
		"bulk requests is 65":      {Requests: 65, OnRefused: take},
		"bulk requests is -1":      {Requests: -1, OnRefused: take},
		"bulk bytes is 10":         {Bytes: 10, OnRefused: take},
		"bulk documents is 100001": {Documents: 100_001, OnRefused: take},
		"OnRefused is missing":     {},
		"bulk backoff":             {MinBackoff: time.Minute, MaxBackoff: time.Second, OnRefused: take},
		"bulk compression":         {Compression: 9, OnRefused: take},
	} {
		o.Logger = searchtest.Logger(t)
		if _, err := search.NewBulk(&search.Client{}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewBulk: %v, want %q", err, want)
		}
	}
}

// What a server rejects goes again at once where less is asked for since, and is counted.
func TestWriteAsksForLess(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		proxy := s.NewProxy(t)
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		w := searchtest.NewWriter(t, searchtest.Connect(t, proxy.URL), search.BulkOptions{MinBackoff: time.Hour, MaxBackoff: time.Hour})
		if got := w.Pace(); got.Requests != 4 || got.Bytes != 8<<20 {
			t.Errorf("begins with %+v", got)
		}
		proxy.Inject(testenv.Answer(429, 1, testenv.Bulk))
		if err := w.Write(searchtest.Within(t, time.Minute), searchtest.Products(index, 10)); err != nil {
			t.Fatal(err)
		}
		if got := w.Pace(); got.Requests != 2 || w.Stats().Rejected.Load() != 1 {
			t.Errorf("goes on with %+v, %d requests were rejected, want 2 and 1", got, w.Stats().Rejected.Load())
		}
	})
}

// A server whose queue is full rejects for real. It is given less, and then more again.
func TestWriteFollowsTheQueue(t *testing.T) {
	for _, engine := range testenv.Engines(t) {
		t.Run(string(engine), func(t *testing.T) {
			s := testenv.StartSearch(t, engine, testenv.SearchOptions{Heap: "512m", Settings: map[string]string{"node.processors": "1", "thread_pool.write.queue_size": "1"}})
			ctx := searchtest.Within(t, 3*time.Minute)
			_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
			w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{})
			written, low := 0, w.Pace().Requests
			write := func() int {
				ops := searchtest.Products(index, 4000)
				for i := range ops {
					ops[i].ID = fmt.Sprint(written)
					written++
				}
				if err := w.Write(ctx, ops); err != nil {
					t.Fatal(err)
				}
				return w.Pace().Requests
			}
			for w.Stats().Rejected.Load() == 0 || low >= 4 {
				low = min(low, write())
			}
			for {
				now := write()
				if low = min(low, now); now > low {
					break
				}
			}
			w.WantRefused(t)
			if n := len(s.Documents(t, index)); n != written {
				t.Errorf("%d documents, want %d", n, written)
			}
			t.Logf("%d batches, %d of %d requests rejected", written/4000, w.Stats().Rejected.Load(), w.Stats().Requests.Load())
		})
	}
}

// Requests of a Bulk beside another one are counted among those of that one.
func TestWriteBeside(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		proxy := s.NewProxy(t)
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		client := searchtest.Connect(t, proxy.URL)
		first := searchtest.NewWriter(t, client, search.BulkOptions{Requests: 1})
		second := searchtest.NewWriter(t, client, search.BulkOptions{Beside: first.Bulk})
		seen := proxy.Inject(testenv.Watch(testenv.Bulk))
		held := proxy.Inject(testenv.Hold(1, testenv.Bulk))
		one := first.Start(ctx, []dbsync.Operation{searchtest.Store(index, "1", 1, `{"id":1}`)})
		if err := held.Await(ctx, 1); err != nil {
			t.Fatal(err)
		}
		two := second.Start(ctx, []dbsync.Operation{searchtest.Store(index, "2", 1, `{"id":2}`)})
		if err := first.AwaitWaiting(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if n := seen.Hits(); n != 1 {
			t.Errorf("%d requests were sent, want 1", n)
		}
		held.Lift()
		for _, done := range []<-chan error{one, two} {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
