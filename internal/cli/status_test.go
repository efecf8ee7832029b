package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"tidemark/internal/admin"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// TestStatusReport has the report as JSON, by the keys that docs/reindex.md lists, and for
// people.
func TestStatusReport(t *testing.T) {
	expected, documents := int64(1_000_000), int64(3)
	r := &statusReport{
		Slot: slotStatus{Name: "shop", Exists: true, Active: true, WALStatus: "reserved"},
		Indices: []indexStatus{
			{IndexPage: admin.IndexPage{Index: "orders", State: admin.Missing}, Mapping: "unknown"},
			{IndexPage: admin.IndexPage{Index: "products", State: admin.Rebuilding, Physical: "products-1", Building: "products-2", DeadLetters: 2, RowsDone: 412_000, RowsExpected: &expected, Documents: &documents},
				Mapping: "differs"},
		},
		Requests: []requestStatus{}, Problems: []string{}, Notes: []string{},
	}
	r.Indices[0].Expect(0)
	r.Indices[1].Expect(18_200)
	got, err := json.Marshal(r)
	const want = `{"slot":{"name":"shop","exists":true,"active":true,"wal_status":"reserved"},` +
		`"indices":[{"index":"orders","state":"missing","dead_letters":0,"rows_done":0,"mapping":"unknown"},` +
		`{"index":"products","state":"rebuilding","physical":"products-1","building":"products-2","documents":3,"dead_letters":2,"rows_done":412000,"rows_expected":1000000,` +
		`"rows_per_second":18200,"remaining_seconds":32,"mapping":"differs"}],"requests":[],"problems":[],"notes":[]}`
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}

	const rebuilt = "\nproducts: backfill of products-2: 412000 rows of about 1000000 (41 %), 18200 rows/s, about 32s left\n"
	const table = `slot shop: an instance follows it

index     state       documents  dead letters  physical index
orders    missing     -          0             -
products  rebuilding  3          2             products-1
` + rebuilt + `
products: the mapping or its tables differ from those of the index: the next start sees to it, tidemark check says how
`
	if got := string(r.table()); got != table {
		t.Errorf("got\n%s\nwant\n%s", got, table)
	}
	r.Indices[1].FanOut = &admin.FanOutPage{RelatedRows: 2, Since: time.Date(2026, 11, 27, 2, 13, 0, 0, time.Local), DocumentsStored: 12_000}
	if got := string(r.table()); !strings.Contains(got, rebuilt+"\nproducts: the documents of 2 related rows are stored again beside the stream since 2026-11-27 02:13:00, 12000 of them so far\n") {
		t.Errorf("documents that are stored again:\n%s", got)
	}
	at := time.Date(2026, 11, 27, 2, 13, 0, 0, time.Local)
	r.prove(&r.Indices[1], admin.Proof{Proof: control.Proof{Index: "products", Last: control.Walk{Number: 1, BeganAt: at, FinishedAt: at.Add(time.Hour), Rows: 1_000_000, Documents: 1_000_000}}})
	if first := "products: equal to its tables as of 2026-11-27 02:13 (1,000,000 rows and 1,000,000 documents compared, 0 differences)\n\nslot shop: "; !strings.HasPrefix(string(r.table()), first) || len(r.Problems) > 0 {
		t.Errorf("got\n%s\nwant first\n%s", r.table(), first)
	}
	if got, err := json.Marshal(r.Indices[1]); err != nil || !strings.Contains(string(got), `"proof":{"equal_as_of":`) {
		t.Errorf("%s %v", got, err)
	}
	r.prove(&r.Indices[0], admin.Proof{Proof: control.Proof{Index: "orders", Last: control.Walk{Number: 1, BeganAt: at, FinishedAt: at.Add(time.Hour), Found: 3, Repaired: 1}}})
	if got := string(r.table()); len(r.Problems) != 1 || !strings.Contains(got, "\nproblem: index orders: 2 documents differ from its tables as of 2026-11-27 02:13; hint: tidemark verify orders") {
		t.Errorf("differences that were not repaired are no problem:\n%s", got)
	}
	r.Slot.Active = false
	if got := string(r.table()); !strings.Contains(got, "no instance follows it") || !strings.Contains(got, "backfill of products-2, which the next instance goes on with: 412000 rows") {
		t.Errorf("while no instance runs:\n%s", got)
	}
}

// An index in use is live, and being rebuilt, only when it misses no changes.
func TestStateOfAnIndex(t *testing.T) {
	version := func(physical, generation string) control.Version {
		return control.Version{Physical: physical, Generation: generation}
	}
	for _, test := range []struct {
		state control.State
		want  admin.State
	}{
		{control.State{}, admin.Missing},
		{control.State{Building: version("i-1", "g")}, admin.Backfilling},
		{control.State{Live: version("i-1", "g")}, admin.Live},
		{control.State{Live: version("i-1", "g"), Building: version("i-2", "g")}, admin.Rebuilding},
		{control.State{Live: version("i-1", ""), Building: version("i-2", "g")}, admin.Incomplete},
		{control.State{Live: version("i-1", "")}, admin.Incomplete},
	} {
		if got := statusOf(&mapping.Index{Name: "i"}, &test.state, nil, nil).State; got != test.want {
			t.Errorf("%+v is %s, want %s", test.state, got, test.want)
		}
	}
}
