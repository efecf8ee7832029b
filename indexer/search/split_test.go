package search

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
		indices := rapid.IntRange(1, 3000).Draw(t, "operations of an index in a row")
		for i := range ops {
			ops[i] = dbsync.Operation{Kind: dbsync.Delete, Index: strconv.Itoa(i / indices % 3), ID: "1", Version: pglogrepl.LSN(i)}
			if i%every == 0 {
				ops[i].Body = make([]byte, large)
			}
		}
		next := 0
		for _, part := range partsOf(t, b, ops) {
			if want := partOf(part.ops); part.bytes != want.bytes || part.index != want.index {
				t.Fatalf("part of %d bytes for index %q, want %d for %q", part.bytes, part.index, want.bytes, want.index)
			}
			if len(part.ops) == 0 || len(part.ops) > b.o.Documents || part.bytes > b.o.Bytes && len(part.ops) > 1 {
				t.Fatalf("part of %d operations, %d bytes", len(part.ops), part.bytes)
			}
			for _, op := range part.ops {
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

// partsOf returns operations as they are sent, none of which is refused.
func partsOf(t rapid.TB, b *Bulk, ops []dbsync.Operation) []part {
	t.Helper()
	var s survey
	if err := s.look(ops); err != nil || len(s.refused) > 0 {
		t.Fatalf("%v, %d operations are refused", err, len(s.refused))
	}
	return s.split(b.o.Requests, b.o.Bytes, b.o.Documents)
}

// What cannot be sent is taken out, and what is handed in stays as it is.
func TestSurveyRefuses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := make([]dbsync.Operation, rapid.IntRange(1, 20).Draw(t, "operations"))
		var want, refused []string
		for i := range ops {
			ops[i] = dbsync.Operation{Index: "index", ID: strconv.Itoa(i), Version: 1, Body: []byte("{}")}
			if rapid.Bool().Draw(t, "refused") {
				ops[i].Kind, ops[i].Err = dbsync.Refused, errors.New("it cannot be made")
				refused = append(refused, ops[i].ID)
			} else {
				want = append(want, ops[i].ID)
			}
		}
		before := slices.Clone(ops)
		var s survey
		if err := s.look(ops); err != nil {
			t.Fatal(err)
		}
		var got, gone []string
		for _, part := range s.split(2, 1000, 3) {
			for _, op := range part.ops {
				got = append(got, op.ID)
			}
		}
		for _, r := range s.refused {
			gone = append(gone, r.Operation.ID)
		}
		if !slices.Equal(got, want) || !slices.Equal(gone, refused) {
			t.Fatalf("%q are sent and %q refused, want %q and %q", got, gone, want, refused)
		}
		if diff := cmp.Diff(before, ops, cmpopts.EquateErrors()); diff != "" {
			t.Fatalf("the operations were changed (-want +got):\n%s", diff)
		}
	})
}

// What is not for the search server is an error, and nothing is written.
func TestSurveyOfOtherKinds(t *testing.T) {
	for _, kind := range []dbsync.Kind{dbsync.Reread, dbsync.Truncate, dbsync.Related} {
		op := dbsync.Operation{Kind: kind, Index: "index", ID: "1", Version: 1, Body: []byte("{}")}
		if err := new(survey).look([]dbsync.Operation{op}); err == nil || !strings.Contains(err.Error(), "index/1: its kind is "+kind.String()) {
			t.Errorf("%s: %v", kind, err)
		}
	}
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
			ops[i] = dbsync.Operation{ID: "1", Body: make([]byte, test.size)}
		}
		var got []int
		for _, part := range partsOf(t, b, ops) {
			got = append(got, len(part.ops))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%d operations of %d bytes in parts of %v, want %v", test.operations, test.size, got, test.want)
		}
	}
}
