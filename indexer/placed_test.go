package indexer

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pglogrepl"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// regionsOf has an index for each of some values of the column region, and one of all rows, and a Handler that compiled their plans.
func regionsOf(t testing.TB, values ...string) (*Handler, *pglogrepl.RelationMessage) {
	t.Helper()
	text := &catalog.Type{OID: 25, Name: "text", Plain: "text", Schema: "pg_catalog", Kind: catalog.KindBase, Modifier: -1}
	table := &catalog.Table{OID: 1, Schema: "public", Name: "orders", PrimaryKey: []string{"id"},
		Columns: []catalog.Column{{Name: "id", Type: text, NotNull: true}, {Name: "region", Type: text}}}
	c, err := mapping.Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices:\n  all: {table: orders}\n  orders: {name: \"orders-{region}\", table: orders, max_indices: 1000}\n"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[mapping.ValueColumn][]mapping.Value)
	for of := range c.ValueColumns() {
		for _, v := range values {
			found[of] = append(found[of], mapping.Value{Text: v, Name: v})
		}
	}
	if c, err = c.ByValues(found, nil); err != nil {
		t.Fatal(err)
	}
	h := NewHandler(HandlerOptions{})
	msg := &pglogrepl.RelationMessage{RelationID: 1, Columns: []*pglogrepl.RelationMessageColumn{{Name: "id", Flags: 1, DataType: 25}, {Name: "region", Flags: 1, DataType: 25}}}
	for _, ix := range c.Indices {
		h.Add(&Documents{Index: ix})
	}
	if err := h.compileFor(msg, table, nil); err != nil {
		t.Fatal(err)
	}
	h.placed[1] = placePlans(h.plans[1])
	return h, msg
}

// orderIn is a row; nil is NULL, and a value that the stream does not carry is "toast".
func orderIn(region *string) *pglogrepl.TupleData {
	if region == nil {
		return RowOf([][]byte{[]byte("1"), nil})
	}
	row := RowOf([][]byte{[]byte("1"), []byte(*region)})
	if *region == "toast" {
		row.Columns[1].DataType = pglogrepl.TupleDataTypeToast
	}
	return row
}

// TestPlansFor hands rows to the indices that they are in and were in.
func TestPlansFor(t *testing.T) {
	is := func(region string) *string { return &region }
	for _, tt := range []struct {
		name      string
		row, old  *string // nil: NULL
		gone, had bool    // there is no row now; there is an old one
		now, left []string
		unplaced  int
	}{
		{name: "new", row: is("eu"), now: []string{"all", "orders-eu"}},
		{name: "another spelling", row: is("EU"), now: []string{"all", "orders-eu"}},
		{name: "NULL", now: []string{"all"}},
		{name: "a value without an index", row: is("mars"), now: []string{"all"}, unplaced: 1},
		{name: "no name", row: is("a/b"), now: []string{"all"}},
		{name: "empty", row: is(""), now: []string{"all"}},
		{name: "the same value", row: is("eu"), old: is("eu"), had: true, now: []string{"all", "orders-eu"}},
		{name: "moved", row: is("us"), old: is("eu"), had: true, now: []string{"all", "orders-us"}, left: []string{"orders-eu"}},
		{name: "moved between spellings", row: is("EU"), old: is("eu"), had: true, now: []string{"all", "orders-eu"}},
		{name: "to NULL", old: is("eu"), had: true, now: []string{"all"}, left: []string{"orders-eu"}},
		{name: "from NULL", row: is("eu"), had: true, now: []string{"all", "orders-eu"}},
		{name: "deleted", old: is("us"), gone: true, had: true, left: []string{"all", "orders-us"}},
		{name: "unknown", row: is("toast"), now: []string{"all", "orders-eu", "orders-us"}},
		{name: "unknown, was known", row: is("toast"), old: is("eu"), had: true, now: []string{"all", "orders-eu", "orders-us"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, _ := regionsOf(t, "EU", "eu", "us")
			unplaced := 0
			h.o.Unplaced = func(mapping.ValueColumn) { unplaced++ }
			var row, old *pglogrepl.TupleData
			if !tt.gone {
				row = orderIn(tt.row)
			}
			if tt.had {
				old = orderIn(tt.old)
			}
			names := func(plans []*streamPlan) (names []string) {
				for _, p := range plans {
					names = append(names, p.documents.Index.Name)
				}
				return names
			}
			for range 2 { // what is told once is not told again
				now, left := h.plansFor(1, row, old)
				if !slices.Equal(names(now), tt.now) || !slices.Equal(names(left), tt.left) {
					t.Errorf("now %v, left %v", names(now), names(left))
				}
			}
			if unplaced != tt.unplaced {
				t.Errorf("told of %d values", unplaced)
			}
		})
	}
}

// TestPlansForMany has a change concern as many indices of a thousand as it does of two, without looking at the others.
func TestPlansForMany(t *testing.T) {
	var values []string
	for i := range 1000 {
		values = append(values, fmt.Sprintf("r%d", i))
	}
	a, b := "r0", "r999"
	row, old := orderIn(&a), orderIn(&b)
	for _, n := range []int{2, 1000} {
		h, _ := regionsOf(t, append(values[:n-1:n-1], b)[:n]...)
		if now, left := h.plansFor(1, row, old); len(now) != 2 || len(left) != 1 {
			t.Errorf("of %d indices: now %d, left %d", n, len(now), len(left))
		}
		if allocations := testing.AllocsPerRun(100, func() { h.plansFor(1, row, old) }); allocations > 0 {
			t.Errorf("of %d indices: %g allocations", n, allocations)
		}
	}
}

// BenchmarkPlansFor shows that a change costs the same with 1 index and with 100.
func BenchmarkPlansFor(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var values []string
			for i := range n {
				values = append(values, fmt.Sprintf("r%d", i))
			}
			h, _ := regionsOf(b, values...)
			row := orderIn(&values[n-1])
			for b.Loop() {
				h.plansFor(1, row, row)
			}
		})
	}
}
