package search

import (
	"slices"
	"testing"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"

	"tidemark/dbsync"
)

// Parts are within the limits, and together they are the batch.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Bulk{o: BulkOptions{
			Requests:  rapid.IntRange(1, 8).Draw(t, "requests"),
			Bytes:     rapid.IntRange(1000, 100_000).Draw(t, "bytes"),
			Documents: rapid.IntRange(1, 3000).Draw(t, "documents"),
		}}
		ops := make([]dbsync.Operation, rapid.IntRange(0, 10_000).Draw(t, "operations"))
		large := rapid.IntRange(0, 5000).Draw(t, "size")
		every := rapid.IntRange(1, 100).Draw(t, "every")
		for i := range ops {
			ops[i].Version = pglogrepl.LSN(i)
			if i%every == 0 {
				ops[i].Body = make([]byte, large)
			}
		}
		next := 0
		parts := b.split(ops)
		for _, part := range parts {
			if len(part) == 0 || len(part) > b.o.Documents || sizeOf(part) > b.o.Bytes && len(part) > 1 {
				t.Fatalf("part of %d operations, %d bytes", len(part), sizeOf(part))
			}
			for _, op := range part {
				if op.Version != pglogrepl.LSN(next) {
					t.Fatalf("operation %d at %d", op.Version, next)
				}
				next++
			}
		}
		if next != len(ops) {
			t.Fatalf("%d of %d operations", next, len(ops))
		}
	})
}

func TestSplitUsesAllRequests(t *testing.T) {
	b := &Bulk{o: BulkOptions{Requests: 4, Bytes: 8 << 20, Documents: 5000}}
	for _, test := range []struct {
		operations, size int
		want             []int
	}{
		{1, 450, []int{1}},
		{999, 450, []int{999}},
		{1000, 450, []int{500, 500}},
		{10_000, 450, []int{2500, 2500, 2500, 2500}},
		{30_000, 450, []int{3750, 3750, 3750, 3750, 3750, 3750, 3750, 3750}},
		{8, 3 << 20, []int{2, 2, 2, 2}},
	} {
		ops := make([]dbsync.Operation, test.operations)
		for i := range ops {
			ops[i].Body = make([]byte, test.size)
		}
		var got []int
		for _, part := range b.split(ops) {
			got = append(got, len(part))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%d operations of %d bytes in parts of %v, want %v", test.operations, test.size, got, test.want)
		}
	}
}
