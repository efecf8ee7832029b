package topic

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/dbsync"
	"tidemark/indexer/search"
)

// readReports returns the first n reports.
func readReports(t testing.TB, c *Client, n int) (all []Reported) {
	t.Helper()
	err := c.Reports(t.Context(), 0, func(_ context.Context, reports []Reported) error {
		if all = append(all, reports...); len(all) >= n {
			return errTest
		}
		return nil
	})
	if !errors.Is(err, errTest) {
		t.Fatal(err)
	}
	return all
}

// What a worker reports is what the instance reads, of each kind.
func TestReport(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	op := dbsync.Operation{Index: "products-1", ID: "a/1", Routing: "r", Version: 0x16B374848, Group: 7, Base: 0x1000, Body: []byte(`{"text":"<b>&</b>"}`)}
	removal := op
	removal.Kind, removal.Body = dbsync.Delete, nil
	broken := op
	broken.Body = []byte(`{"text":`)
	refused := func(op dbsync.Operation) search.Refused {
		return search.Refused{Operation: op, Err: &search.DocError{Index: op.Index, ID: op.ID, Status: 400, Type: "mapper_parsing_exception", Reason: "failed to parse"}}
	}
	reports := []Report{
		{Kind: ReportBegin, Instance: "an instance"},
		RefusedReport(refused(op)),
		RefusedReport(refused(removal)),
		RefusedReport(refused(broken)),
		NewerReport(&op, 99),
		{Kind: ReportUnanswered, Indices: []string{"products-1", "orders-1"}},
		{Kind: ReportMissing, Index: "products-1"},
		{Kind: ReportLost, Partition: 3, From: 5, To: 8},
	}
	if end, err := c.ReportsEnd(t.Context()); err != nil || end != 0 {
		t.Error(end, err)
	}
	last, err := c.Report(t.Context(), reports...)
	if err != nil || last != int64(len(reports)-1) {
		t.Fatal(last, err)
	}
	if end, err := c.ReportsEnd(t.Context()); err != nil || end != int64(len(reports)) {
		t.Error(end, err)
	}
	read := readReports(t, c, len(reports))
	for i := range reports {
		if read[i].Offset != int64(i) || !reflect.DeepEqual(read[i].Report, reports[i]) {
			t.Errorf("%d: %+v, want %+v", i, read[i], reports[i])
		}
	}
	// What the search server refused is whole again, but for a document that is none.
	for i, want := range map[int]dbsync.Operation{1: op, 2: removal, 3: broken} {
		got, err := read[i].Refused()
		if i == 3 {
			want.Body = nil
		}
		if err != nil || !reflect.DeepEqual(got.Operation, want) || *got.Err != *refused(want).Err {
			t.Errorf("%+v, want %+v, %v", got, want, err)
		}
	}
	if got, err := read[4].Operation(); err != nil || got.Index != op.Index || got.ID != op.ID || got.Routing != op.Routing || got.Version != op.Version || got.Group != op.Group || got.Base != op.Base || read[4].Found != 99 {
		t.Errorf("%+v, %v", got, err)
	}

	// From an offset on, and what comes while they are read.
	var offsets []int64
	err = c.Reports(t.Context(), 6, func(ctx context.Context, more []Reported) error {
		for _, r := range more {
			switch offsets = append(offsets, r.Offset); r.Offset {
			case 7:
				if _, err := c.Report(ctx, reports[0]); err != nil {
					t.Error(err)
				}
			case 8:
				return errTest
			}
		}
		return nil
	})
	if !errors.Is(err, errTest) || !reflect.DeepEqual(offsets, []int64{6, 7, 8}) {
		t.Error(offsets, err)
	}
	ctx, end := ended(t)
	err = c.Reports(ctx, 8, func(context.Context, []Reported) error { end(); return nil })
	if !errors.Is(err, errTest) {
		t.Error(err)
	}
}

// randomText returns a text of so many letters that no compression makes small.
func randomText(letters int) string {
	text := make([]byte, letters)
	for i := range text {
		text[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[rand.IntN(64)]
	}
	return string(text)
}

// refusedBy is a document that a search server does not take, with a text of so many letters.
func refusedBy(id string, letters int) search.Refused {
	op := store(id, 1000)
	op.Body = []byte(`"` + randomText(letters) + `"`)
	return search.Refused{Operation: op, Err: &search.DocError{Status: 400, Reason: "no"}}
}

// A document that the topic of reports does not take is left out, and reports that it does not take together
// come one by one.
func TestReportLarge(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c) // records of 1 MiB
	report := func(id string, bytes int) Report { return RefusedReport(refusedBy(id, bytes)) }
	if _, err := c.Report(t.Context(), report("1", 600<<10), report("2", 600<<10), report("3", 1<<20)); err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]int)
	end, err := c.ReportsEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readReports(t, c, int(end)) {
		ids[r.ID] = len(r.Body)
		if r.ID == "3" && (r.Reason != "no (the document has 1048578 bytes, more than the topic of reports takes: max.message.bytes)") {
			t.Error(r.Reason)
		}
	}
	if ids["1"] != 600<<10+2 || ids["2"] != 600<<10+2 || ids["3"] != 0 || len(ids) != 3 {
		t.Error(ids)
	}
}

// Reports that are gone, or never were, are not passed over in silence.
func TestReportsAreGone(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	for range 5 {
		if _, err := c.Report(t.Context(), Report{Kind: ReportMissing, Index: "i"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := cluster.DeleteRecords("ops.reports", 0, 3); err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{0, 2, 6, 1000} {
		err := c.Reports(t.Context(), from, func(_ context.Context, reports []Reported) error {
			t.Errorf("from %d on: %+v", from, reports)
			return errTest
		})
		var gone *GoneError
		if !errors.As(err, &gone) || gone.Topic != "ops.reports" || gone.Partition != 0 {
			t.Errorf("from %d on: %v", from, err)
		}
	}
	if err := c.Reports(t.Context(), 3, func(_ context.Context, reports []Reported) error { return errTest }); !errors.Is(err, errTest) {
		t.Error(err)
	}
}

func TestReportsRefuse(t *testing.T) {
	for name, r := range map[string]*kgo.Record{
		"no JSON":        {Value: []byte("hello"), Headers: []kgo.RecordHeader{{Key: "tm", Value: []byte("1")}}},
		"no format":      {Value: []byte("{}")},
		"a later format": {Value: []byte("{}"), Headers: []kgo.RecordHeader{{Key: "tm", Value: []byte("2")}}},
	} {
		r.Topic, r.Offset = "ops.reports", 7
		_, err := decodeReport(r)
		var refused *RecordError
		if !errors.As(err, &refused) || refused.Offset != 7 || !dbsync.IsPermanent(err) || !strings.Contains(err.Error(), "ops.reports") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
