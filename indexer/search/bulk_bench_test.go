package search_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

func BenchmarkEncode(b *testing.B) {
	ops := searchtest.Products("products-20260131T120000Z", 10_000)
	for _, level := range []struct {
		name  string
		level int
	}{{"none", gzip.NoCompression}, {"stateless", gzip.StatelessCompression}, {"huffman", gzip.HuffmanOnly}, {"1", 1}, {"2", 2}, {"3", 3}} {
		b.Run(level.name, func(b *testing.B) {
			encode := search.NewEncoder(level.level)
			b.ReportAllocs()
			var raw, sent int
			for b.Loop() {
				var err error
				if raw, sent, err = encode(ops); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(raw))
			b.ReportMetric(float64(sent)/float64(raw), "ratio")
		})
	}
}

// BenchmarkCut is what happens to 10,000 operations between a batch and the encoder.
func BenchmarkCut(b *testing.B) {
	ops := searchtest.Products("products-20260131T120000Z", 10_000)
	bulk, err := search.NewBulk(&search.Client{}, search.BulkOptions{Compression: search.CompressNever, Logger: searchtest.Logger(b), OnRefused: func(context.Context, []search.Refused) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := bulk.Cut(ops); err != nil {
			b.Fatal(err)
		}
	}
}

// newSink is a server that takes every bulk request and answers as a search server
// does when all went well.
func newSink(t testing.TB) *httptest.Server {
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, `{"cluster_name":"sink","tagline":"You Know, for Search","version":{"number":"8.15.5"}}`)
			return
		}
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			var err error
			if body, err = gzip.NewReader(r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		lines := 0
		buf := make([]byte, 64<<10)
		for {
			n, err := body.Read(buf)
			lines += bytes.Count(buf[:n], []byte{'\n'})
			if err != nil {
				break
			}
		}
		out := bufio.NewWriter(w)
		defer out.Flush()
		out.WriteString(`{"errors":false,"items":[`)
		for i := range lines / 2 {
			if i > 0 {
				out.WriteByte(',')
			}
			out.WriteString(`{"index":{"status":201}}`)
		}
		out.WriteString(`]}`)
	}))
	t.Cleanup(sink.Close)
	return sink
}

// BenchmarkWrite writes 10,000 documents a time, into nothing and into a real server.
func BenchmarkWrite(b *testing.B) {
	const n = 10_000
	write := func(b *testing.B, url, index string, o search.BulkOptions) {
		c := searchtest.Connect(b, url)
		o.Logger = slog.New(slog.DiscardHandler)
		o.OnRefused = func(_ context.Context, r []search.Refused) error { return r[0].Err }
		bulk, err := search.NewBulk(c, o)
		if err != nil {
			b.Fatal(err)
		}
		ops := searchtest.Products(index, n)
		b.ReportAllocs()
		before := processorTime()
		for b.Loop() {
			for i := range ops {
				ops[i].Version += n
			}
			if err := bulk.Write(b.Context(), ops); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "docs/s")
		b.ReportMetric((processorTime()-before).Seconds()*1e5/n/float64(b.N), "cpu-s/100k-docs")
		b.ReportMetric(float64(bulk.Stats().Requests.Load())/float64(b.N), "requests/op")
	}
	names := map[search.Compression]string{search.CompressNever: "plain", search.CompressGzip: "gzip"}
	for _, compression := range []search.Compression{search.CompressNever, search.CompressGzip} {
		b.Run("sink/"+names[compression], func(b *testing.B) {
			write(b, newSink(b).URL, "products-20260131T120000Z", search.BulkOptions{Compression: compression})
		})
	}
	for _, engine := range testenv.Engines(b) {
		for _, compression := range []search.Compression{search.CompressNever, search.CompressGzip} {
			b.Run(string(engine)+"/"+names[compression], func(b *testing.B) {
				s := testenv.SharedSearch(b, engine)
				_, index := searchtest.NewIndex(b, s, searchtest.ProductMapping)
				write(b, s.URL, index, search.BulkOptions{Compression: compression})
			})
		}
	}
}

// processorTime is what this process has used: against a real server the client's
// share, with the sink both sides'.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
