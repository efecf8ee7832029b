package reindex

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/testenv"
)

// requests are those of the rig's slot.
func (r *rig) requests(t testing.TB) *control.Requests {
	t.Helper()
	return control.NewRequests(r.db.DB, mapping.DefaultControlSchema, r.db.Unique("slot"))
}

// ask makes a request and returns its number.
func (r *rig) ask(t testing.TB, q control.Request) int64 {
	t.Helper()
	q.Index = r.prefix + q.Index
	id, err := r.requests(t).Add(t.Context(), &q)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (r *rig) request(t testing.TB, id int64) *control.Request {
	t.Helper()
	q, err := r.requests(t).Get(t.Context(), id)
	if err != nil || q == nil {
		t.Fatalf("request %d: %v, %v", id, q, err)
	}
	return q
}

// ended waits for the end of a request, which must be as wanted, and have the text in its
// message.
func (r *rig) ended(t testing.TB, id int64, want control.Phase, message string) *control.Request {
	t.Helper()
	await(t, fmt.Sprintf("request %d ends", id), func() bool { return r.request(t, id).Ended() })
	q := r.request(t, id)
	if q.Phase != want || !strings.Contains(q.Message, message) || message == "" && q.Message != "" || q.FinishedAt.IsZero() {
		t.Errorf("request %d, %s of %s: %s %q at %v, want %s %q", id, q.Kind, q.Index, q.Phase, q.Message, q.FinishedAt, want, message)
	}
	return q
}

// building waits until some rows are in a physical index that is being filled, and returns
// the state.
func (r *rig) building(t testing.TB, index string) (st *control.State) {
	t.Helper()
	await(t, "a chunk of "+index+" is stored", func() bool {
		st = r.state(t, index)
		return st != nil && st.Building.Physical != "" && st.Done > 0
	})
	return st
}

// document returns a stored document, nil if there is none, and its version.
func (r *rig) document(t testing.TB, index, id string) (source map[string]any, version int64) {
	t.Helper()
	status, answer, err := r.search.Do(t.Context(), http.MethodGet, "/"+index+"/_doc/"+id, nil)
	if err != nil || status != http.StatusOK && status != http.StatusNotFound {
		t.Fatalf("document %s of %s: %d %s %v", id, index, status, answer, err)
	}
	var got struct {
		Source  map[string]any `json:"_source"`
		Version int64          `json:"_version"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Fatal(err)
	}
	return got.Source, got.Version
}

// slow are options of an index that takes ten seconds for 500 rows.
const slow = `reindex: {chunk: 20, max_rows_per_second: 50}`

func TestRequestLife(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(50))
	var fillings atomic.Int64
	o := options{serve: true, begin: func(string, int64, int64) { fillings.Add(1) }}
	p := r.start(t, o)
	p.complete(t)
	_, before := r.physical(t, "t")

	id := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	r.ended(t, id, control.PhaseDone, "")
	r.settled(t, "t")
	_, now := r.physical(t, "t")
	if now == before || fillings.Load() != 2 {
		t.Errorf("%s after %s, filled %d times", now, before, fillings.Load())
	}
	r.db.Exec(t, `INSERT INTO t VALUES (1000, 'after')`)
	p.settle(t)
	r.check(t, "t")

	r.ended(t, r.ask(t, control.Request{Kind: control.KindReindex, Index: "other"}), control.PhaseFailed, "the running mapping has no index "+r.prefix+"other")
	r.ended(t, r.ask(t, control.Request{Kind: control.KindCancel, Index: "t"}), control.PhaseFailed, "not being rebuilt")
	r.ended(t, r.ask(t, control.Request{Kind: control.KindRefresh, Index: "t", Condition: "no_column = 1"}), control.PhaseFailed, "no_column")
	r.ended(t, r.ask(t, control.Request{Kind: control.KindRefresh, Index: "t", Condition: "1 / (id - 20) = 7"}), control.PhaseFailed, "division by zero")
	r.ended(t, r.ask(t, control.Request{Kind: "dance", Index: "t"}), control.PhaseFailed, "dance")
	if q := r.ended(t, r.ask(t, control.Request{Kind: control.KindRefresh, Index: "t", Condition: "id <= 7"}), control.PhaseDone, ""); q.Rows != 7 {
		t.Errorf("%d rows were refreshed", q.Rows)
	}
	recent, err := r.requests(t).Recent(t.Context(), 3)
	if err != nil || len(recent) != 3 || recent[0].ID < recent[1].ID {
		t.Errorf("recent: %v %v", recent, err)
	}
	if _, after := r.physical(t, "t"); after != now {
		t.Errorf("%s after %s", after, now)
	}

	// Nobody runs: the next one does it, one rebuild for all who have asked.
	r.crashAll(t)
	ids := []int64{r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"}), r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"}), r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})}
	fillings.Store(0)
	r.start(t, o).complete(t)
	for _, id := range ids {
		r.ended(t, id, control.PhaseDone, "")
	}
	if n := fillings.Load(); n != 1 {
		t.Errorf("filled %d times for three who asked", n)
	}

	// A process that ended after the rebuild, before it noted the end of the request.
	r.crashAll(t)
	r.db.Exec(t, fmt.Sprintf(`UPDATE dbsync_ctrl.requests SET phase = 'running', finished_at = NULL WHERE id = %d`, ids[0]))
	fillings.Store(0)
	r.start(t, o).complete(t)
	r.ended(t, ids[0], control.PhaseDone, "")
	if n := fillings.Load(); n != 0 {
		t.Errorf("filled %d times more", n)
	}
	r.settled(t, "t")
	r.check(t, "t")
}

// TestLostNotification has a request of which nobody is notified.
func TestLostNotification(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(5))
	r.start(t, options{serve: true}).complete(t)
	r.db.Exec(t, fmt.Sprintf(`INSERT INTO dbsync_ctrl.requests (slot, kind, index_name) VALUES ('%s', 'reindex', '%st')`, r.db.Unique("slot"), r.prefix))
	r.ended(t, 1, control.PhaseDone, "")
}

// TestRequestOutlivesProcesses ends processes in the middle of a rebuild that was asked for.
func TestRequestOutlivesProcesses(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 10}}`, tableT, rowsT(200))
	r.start(t, options{serve: true}).complete(t)
	_, before := r.physical(t, "t")
	id := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	building := r.building(t, "t").Building.Physical
	for range 3 {
		r.crashAll(t)
		if q := r.request(t, id); q.Phase != control.PhaseRunning {
			t.Fatalf("after a crash in the middle: %s %s", q.Phase, q.Message)
		}
		if _, live := r.physical(t, "t"); live != before {
			t.Fatalf("the alias stands for %s", live)
		}
		stored := make(chan struct{})
		var once sync.Once
		r.start(t, options{serve: true, stored: func(int64) { once.Do(func() { close(stored) }) }})
		<-stored
	}
	r.crashAll(t)
	p := r.start(t, options{serve: true})
	r.ended(t, id, control.PhaseDone, "")
	p.complete(t)
	r.settled(t, "t")
	r.check(t, "t")
	if _, live := r.physical(t, "t"); live != building {
		t.Errorf("the alias stands for %s, and %s was filled", live, building)
	}
}

// TestCancel gives up rebuilds that were asked for, by a request, at the start, and before a
// crash.
func TestCancel(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(500))
	r.start(t, options{serve: true}).complete(t)
	r.crashAll(t)
	r.indices = `PREFIXt: {table: t, ` + slow + `}`
	p := r.start(t, options{serve: true})
	p.complete(t)
	_, before := r.physical(t, "t")
	given := func(p *process) {
		t.Helper()
		r.settled(t, "t")
		all, live := r.physical(t, "t")
		if live != before || len(all) != 1 {
			t.Errorf("%v, the alias stands for %s", all, live)
		}
		if want := []string{search.WriteAlias(r.prefix+"t", before)}; !slices.Equal(p.documents[0].Targets(), want) {
			t.Errorf("documents are written to %v", p.documents[0].Targets())
		}
		// A write to what was dropped would hold everything up.
		r.db.Exec(t, `UPDATE t SET v = v || '.' WHERE id % 7 = 0`)
		p.settle(t)
		r.check(t, "t")
	}

	first := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	r.building(t, "t")
	second := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"}) // waits
	r.db.Exec(t, `UPDATE t SET v = v || '!'`)                                  // is in a batch meanwhile
	r.ended(t, r.ask(t, control.Request{Kind: control.KindCancel, Index: "t"}), control.PhaseDone, "")
	r.ended(t, first, control.PhaseCancelled, "")
	r.ended(t, second, control.PhaseCancelled, "")
	given(p)

	// At once: the rebuild has hardly begun.
	first = r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	r.ended(t, r.ask(t, control.Request{Kind: control.KindCancel, Index: "t"}), control.PhaseDone, "")
	r.ended(t, first, control.PhaseCancelled, "")
	given(p)

	// The process that goes on with it is asked while it does.
	first = r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	r.building(t, "t")
	r.crashAll(t)
	p = r.start(t, options{serve: true})
	r.ended(t, r.ask(t, control.Request{Kind: control.KindCancel, Index: "t"}), control.PhaseDone, "")
	r.ended(t, first, control.PhaseCancelled, "")
	p.complete(t)
	given(p)

	// A process that ended before it dropped the index.
	r.crashAll(t)
	r.put(t, http.MethodPut, "/"+strings.Replace(before, "-2", "-3", 1), ``)
	p = r.start(t, options{serve: true})
	p.complete(t)
	given(p)
}

// TestCancelAmidABatch gives up a rebuild while a batch with changes for it is being
// written: it must not be dropped before, or they would be held up for ever.
func TestCancelAmidABatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(500))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	r.indices = `PREFIXt: {table: t, ` + slow + `}`
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	p := r.start(t, options{serve: true})
	p.complete(t)
	id := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	building := r.building(t, "t").Building.Physical
	held := proxy.Inject(testenv.Hold(-1, func(q *testenv.Request) bool {
		return slices.ContainsFunc(q.Items, func(i testenv.Item) bool { return i.ID == "499" }) // the chunks are not there yet
	}))
	r.db.Exec(t, `UPDATE t SET v = 'changed' WHERE id = 499`)
	if err := held.Await(within(t, patience), 1); err != nil {
		t.Fatal(err)
	}
	cancel := r.ask(t, control.Request{Kind: control.KindCancel, Index: "t"})
	await(t, "it is given up", func() bool { return r.state(t, "t").Building.Physical == "" })
	time.Sleep(300 * time.Millisecond) // for what must not happen
	if all, _ := r.physical(t, "t"); !slices.Contains(all, building) {
		t.Errorf("%s is dropped while it is written to: %v", building, all)
	}
	held.Lift()
	r.ended(t, cancel, control.PhaseDone, "")
	r.ended(t, id, control.PhaseCancelled, "")
	p.settle(t)
	r.settled(t, "t")
	r.check(t, "t")
}

// TestPassive has a second process that waits for the slot, with an older mapping file: what
// is asked for is none of its business.
func TestPassive(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(30))
	r.start(t, options{serve: true}).complete(t)
	r.indices = `PREFIXu: {table: t}`
	r.start(t, options{serve: true})
	for range 5 {
		r.ended(t, r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"}), control.PhaseDone, "")
	}
	r.ended(t, r.ask(t, control.Request{Kind: control.KindReindex, Index: "u"}), control.PhaseFailed, "the running mapping has no index "+r.prefix+"u")
	r.settled(t, "t")
	r.check(t, "t")
}

// TestNothingToGoBackTo refuses to give up what has no index to go back to.
func TestNothingToGoBackTo(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, `+slow+`}`, tableT, rowsT(500))
	r.start(t, options{serve: true})
	r.building(t, "t")
	r.ended(t, r.ask(t, control.Request{Kind: control.KindCancel, Index: "t"}), control.PhaseFailed, "filled for the first time")
	r.crashAll(t)
	r.indices = `PREFIXt: {table: t}`
	r.start(t, options{serve: true}).complete(t)
	r.crashAll(t)
	r.indices = `PREFIXt: {table: t, fields: {v: {type: keyword}}, ` + slow + `}`
	r.start(t, options{serve: true})
	r.building(t, "t")
	r.ended(t, r.ask(t, control.Request{Kind: control.KindCancel, Index: "t"}), control.PhaseFailed, "put the mapping back")
	if st := r.state(t, "t"); st.Building.Physical == "" || st.Live.Physical == "" {
		t.Errorf("%+v", st)
	}
}

// TestTwoAtATime rebuilds two of three indices at the same time, and their tables change.
func TestTwoAtATime(t *testing.T) {
	t.Parallel()
	const fast = "PREFIXt: {table: t}\nPREFIXu: {table: u}\nPREFIXw: {table: w}"
	r := newRig(t, fast, tableT, rowsT(150), `CREATE TABLE u AS TABLE t`, `ALTER TABLE u ADD PRIMARY KEY (id)`, `CREATE TABLE w AS TABLE t`, `ALTER TABLE w ADD PRIMARY KEY (id)`)
	r.start(t, options{serve: true}).complete(t)
	r.crashAll(t)
	r.indices = strings.ReplaceAll(fast, "}", ", reindex: {chunk: 20, max_rows_per_second: 50}}")
	p := r.start(t, options{serve: true})
	p.complete(t)
	var ids []int64
	for _, name := range []string{"t", "u", "w"} {
		ids = append(ids, r.ask(t, control.Request{Kind: control.KindReindex, Index: name}))
	}
	await(t, "two are filled at a time", func() bool {
		return query[int](t, r.db, `SELECT count(*) FROM dbsync_ctrl.indices WHERE building <> '' AND rows_done > 0`) == 2
	})
	r.db.Exec(t, `UPDATE t SET v = 'changed' WHERE id % 3 = 0`, `DELETE FROM u WHERE id % 5 = 0`, `UPDATE w SET id = -id WHERE id % 7 = 0`)
	for _, id := range ids {
		r.ended(t, id, control.PhaseDone, "")
	}
	p.settle(t)
	for _, name := range []string{"t", "u", "w"} {
		r.check(t, name)
		r.settled(t, name)
	}
}

// TestMissingDocument removes documents of the index that is being filled: it must not get
// behind the alias.
func TestMissingDocument(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 20}}`, tableT, rowsT(100))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	_, before := r.physical(t, "t")
	var sabotage atomic.Bool
	o := options{serve: true, stored: func(int64) {
		st := r.state(t, "t")
		if sabotage.Load() && st.Done >= 20 {
			_, _, _ = r.search.Do(t.Context(), http.MethodDelete, "/"+st.Building.Physical+"/_doc/7?refresh=true", nil) // the count tells
		}
	}}
	p := r.start(t, o)
	p.complete(t)
	sabotage.Store(true)
	const says = "has 99 documents for 100 rows"
	r.ended(t, r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"}), control.PhaseFailed, says)
	r.settled(t, "t")
	if _, live := r.physical(t, "t"); live != before {
		t.Errorf("the alias stands for %s", live)
	}
	r.db.Exec(t, `UPDATE t SET v = 'changed' WHERE id = 8`)
	p.settle(t)
	r.check(t, "t")

	// At the start it ends the process; the next one begins anew.
	r.crashAll(t)
	o.rebuild = func(string) bool { return true }
	err := r.start(t, o).filled(t)
	if wrong, ok := errors.AsType[*CountError](err); !ok || wrong.Rows != 100 || wrong.Documents != 99 {
		t.Errorf("Run: %v", err)
	}
	r.crashAll(t)
	r.settled(t, "t")
	sabotage.Store(false)
	r.start(t, o).complete(t)
	r.settled(t, "t")
	r.check(t, "t")
	if _, live := r.physical(t, "t"); live == before {
		t.Error("it was not rebuilt")
	}
}

// TestMaxRows holds a filling against its bound: of 300 rows, 100 in the first second.
func TestMaxRows(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {max_rows_per_second: 100}}`, tableT, rowsT(300))
	start := time.Now()
	r.start(t, options{}).complete(t)
	if took := time.Since(start); took < 1900*time.Millisecond {
		t.Errorf("300 rows took %s at 100 a second", took)
	}
	r.check(t, "t")
}

// TestOldMapping edits a mapping. Until the new index is complete, the one in use gets
// documents of the mapping before, also of another process.
func TestOldMapping(t *testing.T) {
	t.Parallel()
	const edited = `PREFIXt: {table: t, fields: {v: false, w: {column: v}}%s}`
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(300))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	r.indices = fmt.Sprintf(edited, ", "+slow)
	// want are the fields of a document in the index in use and in the one that is filled.
	want := func(p *process, id, value string) {
		t.Helper()
		p.settle(t)
		st := r.state(t, "t")
		if doc, _ := r.document(t, st.Live.Physical, id); doc == nil || doc["v"] != value || doc["w"] != nil {
			t.Errorf("document %s of the index in use is %v", id, doc)
		}
		if doc, _ := r.document(t, st.Building.Physical, id); doc == nil || doc["w"] != value || doc["v"] != nil {
			t.Errorf("document %s of the index that is filled is %v", id, doc)
		}
	}
	for _, value := range []string{"first process", "second process"} {
		p := r.start(t, options{serve: true})
		r.building(t, "t")
		r.db.Exec(t, `INSERT INTO t VALUES (1000, '`+value+`') ON CONFLICT (id) DO UPDATE SET v = excluded.v`,
			`UPDATE t SET v = '`+value+`' WHERE id IN (3, 299)`, `DELETE FROM t WHERE id = 5`)
		for _, id := range []string{"1000", "3", "299"} {
			want(p, id, value)
		}
		if doc, _ := r.document(t, r.state(t, "t").Live.Physical, "5"); doc != nil {
			t.Errorf("a deleted row is in the index in use: %v", doc)
		}
		r.crashAll(t)
	}
	r.indices = fmt.Sprintf(edited, ", reindex: {chunk: 20}")
	p := r.start(t, options{serve: true})
	p.complete(t)
	r.settled(t, "t")
	after := testenv.WithQuery(`SELECT id, json_build_object('id', id, 'w', v) FROM t`)
	r.check(t, "t", after)

	// Later rebuilds of this process have nothing to do with the mapping before.
	id := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	for n := 0; !r.request(t, id).Ended(); n++ {
		r.db.Exec(t, fmt.Sprintf(`UPDATE t SET v = 'changed %d' WHERE id = 3`, n))
		p.settle(t)
		_, live := r.physical(t, "t")
		if doc, _ := r.document(t, live, "3"); doc != nil && doc["v"] != nil {
			t.Fatalf("the index in use gets %v", doc)
		}
	}
	r.ended(t, id, control.PhaseDone, "")
	p.settle(t)
	r.check(t, "t", after)
}

// TestOldMappingIsGone edits a mapping that reads a table which is not followed any more:
// the index in use gets documents of the edited one.
func TestOldMappingIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, include: {bs: {table: b, on: {id: t_id}, value: note}}}`, tableT, rowsT(300),
		`CREATE TABLE b (id int PRIMARY KEY, t_id int, note text)`, `ALTER TABLE b REPLICA IDENTITY FULL`, `CREATE INDEX ON b (t_id)`, `INSERT INTO b VALUES (1, 3, 'note')`)
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	r.indices = `PREFIXt: {table: t, ` + slow + `}`
	p := r.start(t, options{serve: true})
	st := r.building(t, "t")
	r.db.Exec(t, `UPDATE t SET v = 'changed' WHERE id = 3`)
	p.settle(t)
	for _, physical := range []string{st.Live.Physical, st.Building.Physical} {
		if doc, _ := r.document(t, physical, "3"); doc == nil || doc["v"] != "changed" || doc["bs"] != nil {
			t.Errorf("document of %s: %v", physical, doc)
		}
	}
	r.crashAll(t)
	r.indices = `PREFIXt: {table: t}`
	r.start(t, options{serve: true}).complete(t)
	r.check(t, "t")
}
