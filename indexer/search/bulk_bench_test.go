package search

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/klauspost/compress/gzip"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// products makes n operations with documents of about 450 bytes, as different from
// each other as rows of a shop are.
func products(index string, n int) []dbsync.Operation {
	words := []string{"amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbor", "indigo", "juniper", "krypton",
		"lagoon", "marble", "nectar", "onyx", "pepper", "quartz", "raven", "saffron", "tundra", "umber", "velvet", "willow", "zephyr"}
	random := rand.New(rand.NewPCG(1, 2))
	sentence := func(n int) []byte {
		var b []byte
		for range n {
			b = append(append(b, words[random.IntN(len(words))]...), ' ')
		}
		return b
	}
	ops := make([]dbsync.Operation, n)
	for i := range ops {
		body := fmt.Sprintf(`{"id":%d,"sku":"%016x","title":"%s","description":"%s","price":%d.%02d,"stock":%d,"tenant_id":%d,"created_at":"2026-0%d-1%dT12:%02d:00Z","email":"%x@example.com","active":%t}`,
			i, random.Uint64(), sentence(4), sentence(30), random.IntN(900), random.IntN(100), random.IntN(1000), random.IntN(50),
			1+random.IntN(9), random.IntN(10), random.IntN(60), random.Uint64(), random.IntN(2) == 0)
		ops[i] = dbsync.Operation{Index: index, ID: strconv.Itoa(i), Version: pglogrepl.LSN(1000 + i), Body: []byte(body)}
	}
	return ops
}

func BenchmarkEncode(b *testing.B) {
	ops := products("products-20260131T120000Z", 10_000)
	for _, level := range []struct {
		name  string
		level int
	}{{"none", gzip.NoCompression}, {"stateless", gzip.StatelessCompression}, {"huffman", gzip.HuffmanOnly}, {"1", 1}, {"2", 2}, {"3", 3}} {
		b.Run(level.name, func(b *testing.B) {
			r := newBulkRequest(level.level)
			b.ReportAllocs()
			all := partOf(ops)
			for b.Loop() {
				if err := r.encode(all); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(r.raw))
			b.ReportMetric(float64(r.body.Len())/float64(r.raw), "ratio")
		})
	}
}

// BenchmarkCut is what happens to 10,000 operations between a batch and the encoder.
func BenchmarkCut(b *testing.B) {
	ops := products("products-20260131T120000Z", 10_000)
	bulk, err := NewBulk(&Client{}, BulkOptions{Compression: CompressNever, Logger: testLogger(b), OnRefused: func(context.Context, []Refused) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := bulk.cut(ops); err != nil {
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
	write := func(b *testing.B, url, index string, o BulkOptions) {
		c := connect(b, url)
		o.Logger = slog.New(slog.DiscardHandler)
		o.OnRefused = func(_ context.Context, r []Refused) error { return r[0].Err }
		bulk, err := NewBulk(c, o)
		if err != nil {
			b.Fatal(err)
		}
		ops := products(index, n)
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
	names := map[Compression]string{CompressNever: "plain", CompressGzip: "gzip"}
	for _, compression := range []Compression{CompressNever, CompressGzip} {
		b.Run("sink/"+names[compression], func(b *testing.B) {
			write(b, newSink(b).URL, "products-20260131T120000Z", BulkOptions{Compression: compression})
		})
	}
	for _, engine := range testenv.Engines(b) {
		for _, compression := range []Compression{CompressNever, CompressGzip} {
			b.Run(string(engine)+"/"+names[compression], func(b *testing.B) {
				s := testenv.SharedSearch(b, engine)
				_, index := newIndex(b, s, productMapping)
				write(b, s.URL, index, BulkOptions{Compression: compression})
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
