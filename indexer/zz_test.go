package indexer

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"tidemark/testenv"
)

func BenchmarkZ(b *testing.B) {
	for _, engine := range testenv.Engines(b) {
		for _, req := range []int{1, 2, 4} {
			for _, level := range []int{0, -2, 1} {
				b.Run(fmt.Sprintf("%s/req%d/level%d", engine, req, level), func(b *testing.B) {
					s := testenv.SharedSearch(b, engine)
					_, index := newIndex(b, s, productMapping)
					c := connect(b, s.URL)
					bulk, err := NewBulk(c, BulkOptions{Requests: req, Documents: 2500, Compression: CompressNever, Logger: slog.New(slog.DiscardHandler), OnRefused: func(_ context.Context, r []Refused) error { return r[0].Err }})
					if err != nil {
						b.Fatal(err)
					}
					bulk.level = level
					ops := products(index, 10000)
					before := processorTime()
					for b.Loop() {
						for i := range ops {
							ops[i].Version += 10000
						}
						if err := bulk.Write(b.Context(), ops); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(10000*float64(b.N)/b.Elapsed().Seconds(), "docs/s")
					b.ReportMetric((processorTime()-before).Seconds()*1e5/10000/float64(b.N), "cpu-s/100k-docs")
				})
			}
		}
	}
}
