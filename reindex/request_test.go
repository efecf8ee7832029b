package reindex

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
	"tidemark/testenv"
)

// requests are those of the rig's slot.
func (r *rig) requests(t testing.TB) *control.Requests {
	t.Helper()
	return r.schema().Requests()
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

// TestRequestsOfOtherSlots are not ours: several instances share a control schema.
func TestRequestsOfOtherSlots(t *testing.T) {
	t.Parallel()
	db := testenv.NewDatabase(t)
	db.Exec(t, `CREATE SCHEMA dbsync_ctrl`)
	mine, other := control.Open(db.DB, mapping.DefaultControlSchema, "mine").Requests(), control.Open(db.DB, mapping.DefaultControlSchema, "other").Requests()
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

func TestRequestLife(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(50))
	var backfills atomic.Int64
	o := options{serve: true, begin: func(string, verify.Rows) { backfills.Add(1) }}
	p := r.start(t, o)
	p.complete(t)
	_, before := r.physical(t, "t")

	id := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	r.ended(t, id, control.PhaseDone, "")
	r.settled(t, "t")
	_, now := r.physical(t, "t")
	if now == before || backfills.Load() != 2 {
		t.Errorf("%s after %s, backfilled %d times", now, before, backfills.Load())
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
	backfills.Store(0)
	r.start(t, o).complete(t)
	for _, id := range ids {
		r.ended(t, id, control.PhaseDone, "")
	}
	if n := backfills.Load(); n != 1 {
		t.Errorf("backfilled %d times for three who asked", n)
	}

	// A process that ended after the rebuild, before it noted the end of the request.
	r.crashAll(t)
	r.db.Exec(t, fmt.Sprintf(`UPDATE dbsync_ctrl.requests SET phase = 'running', finished_at = NULL WHERE id = %d`, ids[0]))
	backfills.Store(0)
	r.start(t, o).complete(t)
	r.ended(t, ids[0], control.PhaseDone, "")
	if n := backfills.Load(); n != 0 {
		t.Errorf("backfilled %d times more", n)
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
		t.Errorf("the alias stands for %s, and %s was being built", live, building)
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
		if want := []indexer.Target{{Alias: search.WriteAlias(r.prefix+"t", before), Base: r.state(t, "t").Live.Base}}; !slices.Equal(p.documents[0].Targets(), want) {
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
	r.put(t, http.MethodPut, "/"+strings.Replace(before, "-2", "-3", 1), r.bodyOf(t, before))
	p = r.start(t, options{serve: true})
	p.complete(t)
	given(p)
}

// TestCancelOfWhatHasJustBegun asks to cancel a rebuild that a worker has begun with since the requests
// were read: it is not said to be cancelled, and is looked at again.
func TestCancelOfWhatHasJustBegun(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	p := r.start(t, options{}) // nobody serves requests
	p.complete(t)
	x := p.manager.indices[0]
	id, cancel := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"}), r.ask(t, control.Request{Kind: control.KindCancel, Index: "t"})
	read, q := r.request(t, id), r.request(t, cancel)
	r.db.Exec(t, fmt.Sprintf(`UPDATE dbsync_ctrl.requests SET phase = 'running' WHERE id = %d`, id))
	left, err := p.manager.cancelRebuild(t.Context(), x, q, []*control.Request{read})
	if err != nil || len(left) != 2 || r.request(t, id).Phase != control.PhaseRunning || r.request(t, cancel).Phase != control.PhaseWaiting {
		t.Errorf("%d requests are left, %v; the rebuild is %s, its cancellation %s", len(left), err, r.request(t, id).Phase, r.request(t, cancel).Phase)
	}
	r.db.Exec(t, fmt.Sprintf(`UPDATE dbsync_ctrl.requests SET phase = 'waiting' WHERE id = %d`, id))
	left, err = p.manager.cancelRebuild(t.Context(), x, q, []*control.Request{read})
	if err != nil || len(left) != 0 || r.request(t, id).Phase != control.PhaseCancelled || r.request(t, cancel).Phase != control.PhaseDone {
		t.Errorf("%d requests are left, %v; the rebuild is %s, its cancellation %s", len(left), err, r.request(t, id).Phase, r.request(t, cancel).Phase)
	}
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
