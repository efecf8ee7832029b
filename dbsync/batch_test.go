package dbsync_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/dbsync"
)

// What arrives while a batch is being written joins one batch, however many transactions
// it comes in: all of it is translated before that batch is stored.
func TestBatchGrowsWhileAnotherIsWritten(t *testing.T) {
	db := newDatabase(t, table(0))
	s := newSyncer(t, db, "t")
	writing, goOn := make(chan struct{}, 1), make(chan struct{})
	s.store.before = func(ctx context.Context, _ []dbsync.Operation) error {
		select {
		case writing <- struct{}{}:
		default:
		}
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	const transactions = 300
	inserts, translated := 0, make(chan struct{})
	s.mirror.hook = func(event string) error {
		if strings.HasPrefix(event, "insert") {
			if inserts++; inserts == 1+transactions {
				close(translated)
			}
		}
		return nil
	}
	s.run(t)
	db.Exec(t, "INSERT INTO t VALUES (0, 'first')")
	receive(t, "a batch", writing)
	for i := range transactions {
		if _, err := db.DB.ExecContext(t.Context(), "INSERT INTO t VALUES ($1, $2)", i+1, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, "the end of what came while the first batch was being written", translated)
	close(goOn)
	s.check(t, "t")
}

// lines are operations in text, in their order.
func lines(ops []dbsync.Operation) (lines []string) {
	for _, op := range ops {
		line := fmt.Sprintf("%s %s/%s@%s %s", op.Kind, op.Index, op.ID, op.Routing, op.Body)
		if op.Kind == dbsync.Related {
			line += fmt.Sprintf("%v %q of %d", op.Origin, op.Key, op.Xid)
		}
		lines = append(lines, line)
	}
	return lines
}

// A batch has what is left when each operation takes out the earlier one of its document, or
// those that a truncation makes void, which become deletions, and stands in the place of that one.
func TestNewBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.SampledFrom([]string{"", "a", "ab", "b"})
		key := rapid.SampledFrom([][][]byte{nil, {nil}, {{}}, {[]byte("a")}, {nil, nil}, {[]byte("a"), nil}, {nil, []byte("a")}, {[]byte("\x00")}})
		var ops, want []dbsync.Operation
		for i := range rapid.IntRange(0, 30).Draw(t, "operations") {
			op := dbsync.Operation{Kind: rapid.SampledFrom([]dbsync.Kind{dbsync.Store, dbsync.Store, dbsync.Delete, dbsync.Reread, dbsync.Refused, dbsync.Truncate, dbsync.Related}).Draw(t, "kind"),
				Index: few.Draw(t, "index"), Xid: uint32(i / 10)}
			at, gone := -1, []dbsync.Operation(nil)
			switch op.Kind {
			case dbsync.Truncate:
				op.ID = few.Draw(t, "prefix")
				for _, o := range want {
					if o.Kind != dbsync.Related && o.Kind != dbsync.Truncate && o.Index == op.Index && strings.HasPrefix(o.ID, op.ID) {
						gone = append(gone, dbsync.Operation{Kind: dbsync.Delete, Index: o.Index, ID: o.ID, Routing: o.Routing})
					}
				}
				want = slices.DeleteFunc(want, func(o dbsync.Operation) bool {
					return o.Kind != dbsync.Related && o.Index == op.Index && strings.HasPrefix(o.ID, op.ID)
				})
			case dbsync.Related:
				op.Origin, op.Key = origin(few.Draw(t, "origin")), key.Draw(t, "key")
				at = slices.IndexFunc(want, func(o dbsync.Operation) bool {
					return o.Kind == dbsync.Related && cmp.Equal(o, op)
				})
			default:
				op.ID, op.Routing, op.Body = few.Draw(t, "id"), few.Draw(t, "routing"), fmt.Append(nil, i)
				at = slices.IndexFunc(want, func(o dbsync.Operation) bool {
					return o.Kind != dbsync.Related && o.Kind != dbsync.Truncate && o.Index == op.Index && o.ID == op.ID && o.Routing == op.Routing
				})
			}
			ops = append(ops, op)
			if at < 0 {
				want = append(append(want, op), gone...)
			} else {
				want[at] = op
			}
		}
		batch := dbsync.NewBatch(ops...)
		got := batch.Operations()
		if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
			t.Fatalf("the batch (-want +got):\n%s", diff)
		}
		document := func(op dbsync.Operation) bool { return op.Kind != dbsync.Truncate && op.Kind != dbsync.Related }
		twice := false
		for i := range got {
			op := &got[i]
			others := slices.ContainsFunc(got, func(o dbsync.Operation) bool {
				return document(o) && document(*op) && o.Index == op.Index && o.ID == op.ID && o.Routing != op.Routing
			})
			twice = twice || others
			moved := op.Kind == dbsync.Delete && slices.ContainsFunc(got, func(o dbsync.Operation) bool {
				return document(o) && o.Kind != dbsync.Delete && o.Index == op.Index && o.ID == op.ID
			})
			if batch.Rerouted(op) != moved {
				t.Fatalf("Rerouted(%s) is %t", lines(got[i : i+1])[0], !moved)
			}
		}
		ready := !slices.ContainsFunc(ops, func(op dbsync.Operation) bool { return !op.Kind.Ready() })
		if batch.Plain() != (ready && !twice) {
			t.Fatalf("Plain is %t of %q", batch.Plain(), lines(got))
		}
	})
}

// An operation that awaits visibility makes a batch not plain.
func TestBatchThatAwaits(t *testing.T) {
	for _, awaits := range []bool{false, true} {
		batch := dbsync.NewBatch(dbsync.Operation{Kind: dbsync.Delete, Index: "i", ID: "1", AwaitVisible: awaits})
		if batch.Plain() == awaits {
			t.Errorf("Plain is %t of a batch whose AwaitVisible is %t", batch.Plain(), awaits)
		}
	}
}

// BenchmarkBatch puts 8192 operations together, one in four of which replaces another.
func BenchmarkBatch(b *testing.B) {
	body := []byte(strings.Repeat("x", 450))
	ops := make([]dbsync.Operation, 8192)
	for i := range ops {
		ops[i] = dbsync.Operation{Index: "products-20260131T120000Z", ID: fmt.Sprint(i % 6144), Version: 1, Body: body}
	}
	s := dbsync.NewMarker()
	b.ReportAllocs()
	for b.Loop() {
		for i := range ops {
			s.MarkOperation(ops[i])
		}
		s.ResetBatch()
	}
}
