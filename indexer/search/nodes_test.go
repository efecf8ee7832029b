package search_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// twoWays returns two proxies before one server, and a client that has the URLs of both, with what it logs.
func twoWays(t *testing.T, s *testenv.SearchServer, timeout time.Duration) (a, b *testenv.SearchProxy, c *search.Client, lines *searchtest.LogLines) {
	t.Helper()
	a, b = s.NewProxy(t), s.NewProxy(t)
	lines = searchtest.NewLogLines(t)
	c = searchtest.ConnectLogging(t, search.Options{URLs: []string{a.URL, b.URL}, RequestTimeout: timeout}, lines)
	return a, b, c, lines
}

// askUntil sends requests, by which nodes that were left out are asked whether they are back, until a
// line with that text was logged.
func askUntil(t *testing.T, ctx context.Context, c *search.Client, lines *searchtest.LogLines, text string) {
	t.Helper()
	for !lines.Has(text) {
		if _ = c.Ping(ctx); ctx.Err() != nil {
			t.Fatalf("no log line with %q", text)
		}
	}
}

// A node goes away while documents are written: they all come to be stored by the other, no request goes to the
// dead one but those that ask whether it is back, and then it has its share again.
func TestFailover(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		for _, test := range []struct {
			name       string
			fail, come func(*testenv.SearchProxy)
			timeout    time.Duration
		}{
			{"connections are refused", func(p *testenv.SearchProxy) { p.CutOff() }, func(p *testenv.SearchProxy) { p.Restore() }, time.Minute},
			{"nothing passes", func(p *testenv.SearchProxy) { p.Freeze() }, func(p *testenv.SearchProxy) { p.Thaw() }, time.Second},
		} {
			t.Run(test.name, func(t *testing.T) {
				ctx := searchtest.Within(t, time.Minute)
				physical, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
				a, b, c, lines := twoWays(t, s, test.timeout)
				bulksOf := func(p *testenv.SearchProxy) *testenv.Fault { return p.Inject(testenv.Watch(testenv.Bulk)) }
				atA, atB := bulksOf(a), bulksOf(b)
				w := searchtest.NewWriter(t, c, search.BulkOptions{Requests: 2, Documents: 50})
				ops := searchtest.Products(index, 3000)
				write := func(from, to int) {
					t.Helper()
					if err := w.Write(ctx, ops[from:to]); err != nil {
						t.Fatal(err)
					}
				}
				write(0, 1000)
				if atA.Hits() == 0 || atB.Hits() == 0 {
					t.Fatalf("%d and %d requests went to the nodes", atA.Hits(), atB.Hits())
				}
				test.fail(a)
				before := atA.Hits()
				write(1000, 2000)
				lines.Await(t, ctx, "does not answer, requests go to the others")
				if n := atA.Hits() - before; n > 0 {
					t.Errorf("%d requests have come to the node that is dead", n)
				}
				test.come(a)
				askUntil(t, ctx, c, lines, "answers again")
				before = atA.Hits()
				write(2000, 3000)
				if atA.Hits() == before {
					t.Error("the node that is back gets nothing")
				}
				if n := len(s.Documents(t, index)); n != 3000 {
					t.Errorf("%d documents are stored", n)
				}
				w.WantRefused(t)

				// Whoever may not write does so by no node.
				shut := errors.New("shut")
				fenced := c.Fenced(func(context.Context) error { return shut })
				for range 4 {
					err := fenced.PutSettings(ctx, physical, map[string]any{"index.refresh_interval": "7s"})
					if stopped, ok := errors.AsType[*search.FencedError](err); !ok || !errors.Is(stopped, shut) {
						t.Errorf("behind a fence: %v", err)
					}
				}
			})
		}
	})
}

// A node whose proxy says that nobody is behind it is left out, too. When all are, requests go to one all the same.
func TestNodeWithoutServer(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		a, b, c, lines := twoWays(t, s, time.Minute)
		gone := a.Inject(testenv.Answer(503, 0, nil))
		var failed int
		for range 10 {
			if c.Ping(ctx) != nil {
				failed++
			}
		}
		if failed != 1 || gone.Hits() > 3 {
			t.Errorf("%d of 10 requests failed, and %d came to the node", failed, gone.Hits())
		}
		if line := lines.Await(t, ctx, "requests go to the others"); !strings.Contains(line, a.URL) || !strings.Contains(line, "503") {
			t.Errorf("logged: %s", line)
		}
		b.Inject(testenv.Answer(502, 3, nil))
		for range 3 {
			if c.Ping(ctx) == nil {
				t.Error("there is an answer where no node has one")
			}
		}
		gone.Lift()
		askUntil(t, ctx, c, lines, "answers again")
		if err := c.Ping(ctx); err != nil {
			t.Error(err)
		}
	})
}

// URLs of two clusters would have each of them get a part of the documents.
func TestNodesOfTwoClusters(t *testing.T) {
	one := httptest.NewServer(rootPage(200, elasticsearchPage))
	t.Cleanup(one.Close)
	other := httptest.NewServer(rootPage(200, strings.Replace(elasticsearchPage, `"cluster_uuid":"u"`, `"cluster_uuid":"another"`, 1)))
	t.Cleanup(other.Close)
	_, err := search.Connect(searchtest.Within(t, time.Minute), search.Options{URLs: []string{one.URL, other.URL}, Logger: searchtest.Logger(t)})
	failure, ok := errors.AsType[*search.ConnectError](err)
	if !ok || failure.Kind != search.BadOptions || !strings.Contains(err.Error(), "is of the cluster c (another)") {
		t.Errorf("Connect: %v", err)
	}
}
