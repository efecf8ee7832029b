package reindex

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/testenv"
)

// TestRefresh stores documents again, of rows by a condition and by their keys, and no
// others.
func TestRefresh(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, where: 'v != "draft"', include: {notes: {table: b, on: {id: t_id}, value: note}}, reindex: {chunk: 3}}`, tableT, rowsT(20),
		`CREATE TABLE b (id int PRIMARY KEY, t_id int, note text)`, `ALTER TABLE b REPLICA IDENTITY FULL`, `CREATE INDEX ON b (t_id)`,
		`INSERT INTO b SELECT i, 1 + i % 20, 'note ' || i FROM generate_series(1, 40) i`, `UPDATE t SET v = 'draft' WHERE id IN (4, 14)`)
	want := testenv.WithQuery(`SELECT id, json_build_object('id', id, 'v', v, 'notes', coalesce((SELECT json_agg(note ORDER BY b.id) FROM b WHERE t_id = t.id), '[]')) FROM t WHERE v <> 'draft'`)
	p := r.start(t, options{serve: true})
	p.complete(t)
	r.check(t, "t", want)
	_, live := r.physical(t, "t")
	versions := func() map[int]int64 {
		all := make(map[int]int64)
		for id := 1; id <= 20; id++ {
			if doc, version := r.document(t, live, strconv.Itoa(id)); doc != nil {
				all[id] = version
			}
		}
		return all
	}
	for _, test := range []struct {
		name string
		q    control.Request
		rows []int // that it is about
	}{
		{"condition", control.Request{Condition: "id BETWEEN 2 AND 9 -- some"}, []int{2, 3, 4, 5, 6, 7, 8, 9}},
		{"condition over other tables", control.Request{Condition: "id IN (SELECT t_id FROM b WHERE note = 'note 5')"}, []int{6}},
		{"keys", control.Request{Keys: [][]string{{"1"}, {"4"}, {"7"}, {"12"}, {"14"}, {"20"}}}, []int{1, 4, 7, 12, 14, 20}},
		{"keys that are not there", control.Request{Keys: [][]string{{"-1"}, {"8"}}}, []int{8}},
		{"no row", control.Request{Condition: "false"}, nil},
		{"all", control.Request{}, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}},
	} {
		// Documents that are gone, wrong, and too many, in all of the index.
		var wrong []int
		for _, id := range []int{4, 6, 7, 8, 11, 12, 13, 14, 20} {
			r.put(t, http.MethodPut, "/"+live+"/_doc/"+strconv.Itoa(id), `{"id": 0, "v": "wrong", "notes": []}`)
			wrong = append(wrong, id)
		}
		before := versions()
		test.q.Kind, test.q.Index = control.KindRefresh, "t"
		r.ended(t, r.ask(t, test.q), control.PhaseDone, "")
		p.settle(t)
		after := versions()
		for id := 1; id <= 20; id++ {
			doc, _ := r.document(t, live, strconv.Itoa(id))
			switch draft, about := id == 4 || id == 14, slices.Contains(test.rows, id); {
			case about && draft && doc != nil:
				t.Errorf("%s: row %d is no document, and there is %v", test.name, id, doc)
			case about && !draft && (doc == nil || doc["v"] != "v"+strconv.Itoa(id) || len(doc["notes"].([]any)) != 2 || after[id] <= before[id]):
				t.Errorf("%s: document %d is %v, its version %d after %d", test.name, id, doc, after[id], before[id])
			case !about && after[id] != before[id]:
				t.Errorf("%s: document %d, which it is not about, has version %d after %d", test.name, id, after[id], before[id])
			case !about && slices.Contains(wrong, id) && (doc == nil || doc["v"] != "wrong"):
				t.Errorf("%s: document %d is %v", test.name, id, doc)
			}
		}
	}
	r.db.Exec(t, `UPDATE t SET v = v || '.' WHERE id % 2 = 0`)
	p.settle(t)
	r.check(t, "t", testenv.WithQuery(`SELECT id, json_build_object('id', id, 'v', v, 'notes', coalesce((SELECT json_agg(note ORDER BY b.id) FROM b WHERE t_id = t.id), '[]')) FROM t WHERE v <> 'draft'`))
}

// TestRefreshOfSources names the table that the condition is about, and of several sources
// of one table the one that keys are of.
func TestRefreshOfSources(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {tables: [{table: t, id: "t-{id}"}, {table: u, id: "u-{id}"}, {table: t, id: "again-{id}"}]}`, tableT, rowsT(10),
		`CREATE TABLE u (id int PRIMARY KEY, n int)`, `INSERT INTO u SELECT i, i FROM generate_series(1, 10) i`)
	p := r.start(t, options{serve: true})
	p.complete(t)
	_, live := r.physical(t, "t")
	ids := []string{"t-3", "u-3", "again-3"}
	for _, test := range []struct {
		request control.Request
		rows    int64
		there   []string
	}{
		{control.Request{Source: "public.u", Condition: "n = 3"}, 1, []string{"u-3"}},
		{control.Request{Source: "public.t", Condition: "id = 3"}, 2, []string{"t-3", "again-3"}},
		{control.Request{Source: "public.t again-", Keys: [][]string{{"3"}}}, 1, []string{"again-3"}},
		{control.Request{Condition: "id = 3"}, 1, []string{"t-3"}},
	} {
		for _, id := range ids {
			if status, answer, err := r.search.Do(t.Context(), http.MethodDelete, "/"+live+"/_doc/"+id, nil); err != nil || status != http.StatusOK && status != http.StatusNotFound {
				t.Fatalf("%d %s %v", status, answer, err)
			}
		}
		test.request.Kind, test.request.Index = control.KindRefresh, "t"
		q := r.ended(t, r.ask(t, test.request), control.PhaseDone, "")
		p.settle(t)
		var there []string
		for _, id := range ids {
			if doc, _ := r.document(t, live, id); doc != nil {
				there = append(there, id)
			}
		}
		if q.Rows != test.rows || !slices.Equal(there, test.there) {
			t.Errorf("%+v: %d rows, %v", test.request, q.Rows, there)
		}
	}
	r.ended(t, r.ask(t, control.Request{Kind: control.KindRefresh, Index: "t", Source: "public.other", Condition: "true"}), control.PhaseFailed, "has no documents of public.other")
}

// TestRequestsOfOtherSlots are not ours: several instances share a control schema.
func TestRequestsOfOtherSlots(t *testing.T) {
	t.Parallel()
	db := testenv.NewDatabase(t)
	db.Exec(t, `CREATE SCHEMA dbsync_ctrl`)
	mine, other := control.NewRequests(db.DB, mapping.DefaultControlSchema, "mine"), control.NewRequests(db.DB, mapping.DefaultControlSchema, "other")
	ctx := t.Context()
	if err := control.Migrate(ctx, db.DB, mapping.DefaultControlSchema, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	id, err := other.Add(ctx, &control.Request{Kind: control.KindRefresh, Index: "i", Source: "s", Keys: [][]string{{"a", `"b"`}, {"c", "d,{}"}}})
	if err != nil {
		t.Fatal(err)
	}
	if open, err := mine.Open(ctx); err != nil || len(open) != 0 {
		t.Errorf("%v %v", open, err)
	}
	if q, err := mine.Get(ctx, id); err != nil || q != nil {
		t.Errorf("%v %v", q, err)
	}
	q, err := other.Get(ctx, id)
	if err != nil || fmt.Sprint(q.Keys) != `[[a "b"] [c d,{}]]` || q.Phase != control.PhaseWaiting || q.Ended() {
		t.Errorf("%+v %v", q, err)
	}
	if open, err := other.Begin(ctx, id); err != nil || !open {
		t.Error(open, err)
	}
	if err := other.End(ctx, id, control.PhaseCancelled, ""); err != nil {
		t.Error(err)
	}
	if open, err := other.Begin(ctx, id); err != nil || open {
		t.Error("a request that has ended begins again:", open, err)
	}
	if err := other.End(ctx, id, control.PhaseDone, "late"); err != nil {
		t.Error(err)
	}
	if q, err = other.Get(ctx, id); err != nil || q.Phase != control.PhaseCancelled {
		t.Errorf("%+v %v", q, err)
	}
}
