package search_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// A slowServer stands before a search server and can make it a slower one, at any time.
type slowServer struct {
	URL    string
	rate   atomic.Int64 // bytes of a body per second, each request for itself: nodes that are slow, and many; 0: no bound
	places atomic.Int64 // requests at a time, further ones are answered with 429; 0: no bound
	inside atomic.Int64
}

func newSlowServer(t testing.TB, target string) *slowServer {
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	s := &slowServer{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(proxy.Transport.(*http.Transport).CloseIdleConnections)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.inside.Add(-1)
		if inside, places := s.inside.Add(1), s.places.Load(); places > 0 && inside > places {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of primary operation"},"status":429}`)
			return
		}
		if rate := s.rate.Load(); rate > 0 {
			time.Sleep(time.Duration(r.ContentLength) * time.Second / time.Duration(rate))
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// A sizing is how one writer of BenchmarkSizing makes its requests.
type sizing struct {
	requests, documents int
	fixed               bool
	bulk                *search.Bulk
	batches             []time.Duration // that each took
	at                  []string        // how many requests at a time, now and then
}

func (s *sizing) String() string {
	if !s.fixed {
		return "auto"
	}
	return fmt.Sprintf("%d x %d", s.requests, s.documents)
}

// took returns what all batches took.
func (s *sizing) took() (sum time.Duration) {
	for _, d := range s.batches {
		sum += d
	}
	return sum
}

// evenly returns the same without what single batches met: each counts for half as much again as
// is usual around it at the most.
func (s *sizing) evenly() (sum time.Duration) {
	for i, d := range s.batches {
		near := slices.Sorted(slices.Values(s.batches[max(0, i-4):min(i+5, len(s.batches))]))
		sum += min(d, near[len(near)/2]*3/2)
	}
	return sum
}

// BenchmarkSizing compares what a Bulk finds out by itself with fixed numbers of requests at a time
// and of documents in each. All write batches as large as those of the stream, in turn, into the
// same index, so that whatever else the machine does concerns them alike:
//
//	go test ./indexer/search -run '^$' -bench Sizing -benchtime 1x -timeout 60m
//
// "steady" is a server as it is. In the others it changes after a third of the batches, and is as
// it was after two thirds: in "slow" each request takes as long as its bytes do at 4 MB/s, however many there
// are; in "rejecting" it takes two requests at a time, and answers others with 429.
// SIZING_ROUNDS is how many batches each writes (default 150). One batch in twenty takes several
// times as long as the others, since the server merges segments, so that what one writer has
// differs by chance: three size themselves, each for itself, and their mean counts; and what all
// took evenly, see sizing, is told beside it.
func BenchmarkSizing(b *testing.B) {
	rounds := 150
	if text := os.Getenv("SIZING_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	for _, engine := range testenv.Engines(b) {
		s := testenv.SharedSearch(b, engine)
		for _, c := range []struct {
			name   string
			change func(s *slowServer, on bool)
			fixed  [][2]int
		}{
			{"steady", func(*slowServer, bool) {}, [][2]int{{1, 5000}, {1, 10000}, {2, 1000}, {2, 5000}, {3, 5000}, {4, 500}, {4, 1000}, {4, 5000}, {6, 5000}, {8, 5000}, {16, 5000}}},
			{"slow", func(s *slowServer, on bool) { s.rate.Store(4_000_000 * oneIf(on)) }, [][2]int{{1, 5000}, {2, 5000}, {3, 5000}, {4, 5000}, {8, 5000}, {16, 5000}}},
			{"rejecting", func(s *slowServer, on bool) { s.places.Store(2 * oneIf(on)) }, [][2]int{{1, 5000}, {2, 5000}, {3, 5000}, {4, 5000}, {8, 5000}, {16, 5000}}},
		} {
			b.Run(string(engine)+"/"+c.name, func(b *testing.B) {
				for b.Loop() {
					compareSizings(b, s, rounds, c.change, c.fixed)
				}
			})
		}
	}
}

func oneIf(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

func compareSizings(b *testing.B, s *testenv.SearchServer, rounds int, change func(*slowServer, bool), fixed [][2]int) {
	slow := newSlowServer(b, s.URL)
	_, index := searchtest.NewIndex(b, s, searchtest.ProductMapping)
	autos := []*sizing{{}, {}, {}}
	sizings := slices.Clone(autos)
	for _, f := range fixed {
		sizings = append(sizings, &sizing{requests: f[0], documents: f[1], fixed: true})
	}
	for _, z := range sizings {
		var err error
		z.bulk, err = search.NewBulk(searchtest.Connect(b, slow.URL), search.BulkOptions{Requests: z.requests, Documents: z.documents, Compression: search.CompressNever,
			Logger: slog.New(slog.DiscardHandler), OnRefused: func(_ context.Context, r []search.Refused) error { return r[0].Err }})
		if err != nil {
			b.Fatal(err)
		}
		if z.fixed {
			z.bulk.Fix()
		}
	}
	const batch = 8192
	ops := searchtest.Products(index, batch)
	written := 0
	write := func(z *sizing) time.Duration {
		for i := range ops {
			ops[i].ID, ops[i].Version = strconv.Itoa(written), pglogrepl.LSN(written+1)*searchtest.CommitStep
			written++
		}
		begin := time.Now()
		if err := z.bulk.Write(b.Context(), ops); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	}
	for range 10 {
		write(sizings[len(sizings)-1]) // the server is warm
	}
	random := rand.New(rand.NewPCG(1, 1))
	for round := range rounds {
		change(slow, round >= rounds/3 && round < 2*rounds/3)
		for _, i := range random.Perm(len(sizings)) { // what comes every so many bytes is to meet all alike
			sizings[i].batches = append(sizings[i].batches, write(sizings[i]))
		}
		if round%(max(1, rounds/12)) == 0 {
			for _, z := range autos {
				z.at = append(z.at, strconv.Itoa(z.bulk.Pace().Requests))
			}
		}
	}
	slices.SortFunc(sizings, func(a, b *sizing) int { return cmp.Compare(a.took(), b.took()) })
	var best, bestEvenly time.Duration // of the fixed ones
	for _, z := range sizings {
		if took, evenly := z.took(), z.evenly(); z.fixed {
			best, bestEvenly = min(cmp.Or(best, took), took), min(cmp.Or(bestEvenly, evenly), evenly)
		}
	}
	share := func(best, took time.Duration) float64 { return 100 * best.Seconds() / took.Seconds() }
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "requests x documents\tdocuments/s\tshare of the best fixed\tevenly\trequests\tfailed\t")
	for _, z := range sizings {
		st := z.bulk.Stats()
		fmt.Fprintf(table, "%s\t%.0f\t%.1f %%\t%.1f %%\t%d\t%d\t\n", z, float64(rounds)*batch/z.took().Seconds(), share(best, z.took()), share(bestEvenly, z.evenly()),
			st.Requests.Load(), st.Failed.Load())
	}
	_ = table.Flush()
	var took, evenly time.Duration
	for _, z := range autos {
		took, evenly = took+z.took()/time.Duration(len(autos)), evenly+z.evenly()/time.Duration(len(autos))
		fmt.Fprintf(&text, "auto had this many at a time: %s\n", strings.Join(z.at, " "))
	}
	b.Logf("%d batches of %d documents each\n%s", rounds, batch, text.String())
	b.ReportMetric(share(best, took), "%-of-best-fixed")
	b.ReportMetric(share(bestEvenly, evenly), "%-of-best-fixed-evenly")
}
