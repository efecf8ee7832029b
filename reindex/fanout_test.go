package reindex

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
	"tidemark/testenv"
)

// A fanned is a rig with an index of products, of which very many have the same category.
type fanned struct {
	*rig
	proxy *testenv.SearchProxy
}

const fannedQuery = `SELECT p.id, json_build_object('id', p.id, 'c', p.c, 'name', (SELECT name FROM c WHERE c.id = p.c), 'owners', (SELECT coalesce(json_agg(o.name ORDER BY o.id), '[]') FROM l JOIN o ON o.id = l.o WHERE l.c = p.c)) FROM p`

// newFanned has n products of category 1, and 20 of category 2. Categories have an owner each, through
// a table that links both.
func newFanned(t *testing.T, n int, more string) *fanned {
	t.Helper()
	r := newRig(t, `PREFIXp: {table: p, include: {name: {table: c, on: {c: id}, value: name}, owners: {table: o, through: {table: l, on: {c: c}, to: {o: id}}, value: name, order_by: id}}`+more+`}`,
		`CREATE TABLE c (id int PRIMARY KEY, name text)`, `INSERT INTO c VALUES (1, 'one'), (2, 'two')`, `ALTER TABLE c REPLICA IDENTITY FULL`,
		`CREATE TABLE o (id int PRIMARY KEY, name text)`, `INSERT INTO o VALUES (1, 'Ann'), (2, 'Bob')`, `ALTER TABLE o REPLICA IDENTITY FULL`,
		`CREATE TABLE l (c int, o int, PRIMARY KEY (c, o))`, `INSERT INTO l VALUES (1, 1), (2, 2)`, `CREATE INDEX ON l (o)`,
		`CREATE TABLE p (id int PRIMARY KEY, c int)`, `CREATE INDEX ON p (c)`,
		fmt.Sprintf(`INSERT INTO p SELECT i, 1 FROM generate_series(1, %d) i`, n), `INSERT INTO p SELECT 1000000 + i, 2 FROM generate_series(1, 20) i`)
	f := &fanned{rig: r, proxy: r.search.NewProxy(t)}
	r.searchURL = f.proxy.URL
	return f
}

func (f *fanned) awaitFanned(t *testing.T) {
	t.Helper()
	f.awaitCheck(t, "p", testenv.WithQuery(fannedQuery))
}

// fanOuts are those of the rig's slot.
func (r *rig) fanOuts() *control.FanOuts {
	return control.Open(r.db.DB, mapping.DefaultControlSchema, r.slot).FanOuts()
}

// open returns what is not done.
func (f *fanned) open(t *testing.T) []control.FanOutStatus {
	t.Helper()
	open, err := f.fanOuts().Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return open
}

// awaitNone waits until everything is done, and nothing is left of it.
func (f *fanned) awaitNone(t *testing.T) {
	t.Helper()
	await(t, "no documents are to be stored again", func() bool { return len(f.open(t)) == 0 })
	if n := query[int](t, f.db, `SELECT count(*) FROM dbsync_ctrl.fan_out_passes`); n != 0 {
		t.Errorf("%d passes are left", n)
	}
}

// sent counts the documents that are sent with a text in them. It is asked before hold is.
func (f *fanned) sent(text string) *atomic.Int64 {
	n := new(atomic.Int64)
	f.proxy.Inject(testenv.Watch(func(q *testenv.Request) bool {
		n.Add(int64(with(q, text)))
		return false
	}))
	return n
}

// hold holds requests back with documents that have a text in them, after so many have passed.
func (f *fanned) hold(text string, passed int) *testenv.Fault {
	var mu sync.Mutex
	return f.proxy.Inject(testenv.Hold(0, func(q *testenv.Request) bool {
		n := with(q, text)
		mu.Lock()
		defer mu.Unlock()
		if n == 0 || passed >= n {
			passed -= n
			return false
		}
		passed = 0
		return true
	}))
}

// with counts the documents of a request that have a text in them.
func with(q *testenv.Request, text string) (n int) {
	for _, item := range q.Items {
		if strings.Contains(string(item.Body), text) {
			n++
		}
	}
	return n
}

// hits waits until a fault has hit a request.
func hits(t *testing.T, f *testenv.Fault) {
	t.Helper()
	if err := f.Await(within(t, patience), 1); err != nil {
		t.Fatal(err)
	}
}

// TestFanOut changes a row that more documents have in them than the stream waits for: its position is
// confirmed while they are stored, and they are stored beside it, once. Rows of the same batch that
// few documents have in them do not wait.
func TestFanOut(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 3000, "")
	p := f.start(t, options{serve: true, fanOut: 100})
	p.complete(t)
	f.awaitFanned(t)
	all, small := f.sent("uno"), f.sent("due")
	g := f.hold("uno", 1000)
	f.db.Exec(t, `BEGIN; UPDATE c SET name = 'uno' WHERE id = 1; UPDATE c SET name = 'due' WHERE id = 2; COMMIT`)
	hits(t, g)
	if doc, _ := f.document(t, f.prefix+"p", "1000001"); doc["name"] != "due" {
		t.Errorf("the document of another row is %v", doc)
	}
	if s := p.manager.FanOut(f.prefix + "p"); s.Related != 1 || s.Since.IsZero() {
		t.Errorf("while it is under way: %+v", s)
	}
	g.Lift()
	f.awaitFanned(t)
	f.awaitNone(t)
	p.settle(t)
	if a, s := all.Load(), small.Load(); a != 3000 || s != 20 {
		t.Errorf("%d and %d documents were sent, want each once", a, s)
	}
	await(t, "nothing is shown any more", func() bool { return p.manager.FanOut(f.prefix+"p").Related == 0 })
	f.db.Exec(t, `UPDATE o SET name = 'Eve' WHERE id = 1`, `DELETE FROM l WHERE c = 1`, `TRUNCATE c`)
	p.settle(t)
	f.awaitFanned(t)
	f.awaitNone(t)
	f.check(t, "p", testenv.WithQuery(fannedQuery))
}

// TestFanOutsBecomeOne changes a row again and again while its documents are stored: that takes
// one more pass.
func TestFanOutsBecomeOne(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 3000, "")
	p := f.start(t, options{serve: true, fanOut: 100})
	p.complete(t)
	all, g := f.sent("again"), f.hold("again", 0)
	f.db.Exec(t, `UPDATE c SET name = 'again 0' WHERE id = 1`)
	hits(t, g)
	for i := range 50 { // which the stream brings while the first window is not stored yet
		f.db.Exec(t, fmt.Sprintf(`UPDATE c SET name = 'again %d' WHERE id = 1`, i+1))
	}
	g.Lift()
	f.awaitFanned(t)
	f.awaitNone(t)
	if n := all.Load(); n > 3*3000 {
		t.Errorf("%d documents were sent for 3000 and 51 changes", n)
	}
}

// TestFanOutAfterACrash ends the process in the middle of a pass: the next one goes on with it, and
// does not begin anew.
func TestFanOutAfterACrash(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 6000, "")
	p := f.start(t, options{serve: true, fanOut: 100})
	p.complete(t)
	g := f.hold("uno", 3000)
	f.db.Exec(t, `UPDATE c SET name = 'uno' WHERE id = 1`)
	hits(t, g)
	await(t, "some of it is noted", func() bool {
		return query[int](t, f.db, `SELECT coalesce(sum(rows_done), 0) FROM dbsync_ctrl.fan_out_passes`) >= 2000
	})
	p.end(errCrash)
	g.Lift()
	p.crash()
	if len(f.open(t)) != 1 {
		t.Fatalf("after the crash there is %v", f.open(t))
	}
	all := f.sent("uno")
	p = f.start(t, options{serve: true, fanOut: 100})
	f.awaitFanned(t)
	f.awaitNone(t)
	if n := all.Load(); n > 4000 {
		t.Errorf("%d of 6000 documents were sent again after 2000 had been noted", n)
	}
	// Whoever was there before has no say any more.
	f.db.Exec(t, `UPDATE c SET name = 'eins' WHERE id = 1`)
	f.awaitFanned(t)
	p.serves(t)
}

// TestFanOutOfAnotherProcess is taken over: who had it before notes nothing of it any more.
func TestFanOutOfAnotherProcess(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 3000, "")
	p := f.start(t, options{serve: true, fanOut: 100})
	p.complete(t)
	g := f.hold("uno", 1000)
	f.db.Exec(t, `UPDATE c SET name = 'uno' WHERE id = 1`)
	hits(t, g)
	pass, err := f.fanOuts().Begin(t.Context(), f.open(t)[0].FanOutGroup, "another process")
	if err != nil || len(pass.Keys) != 1 || pass.Keys[0][0] != "1" {
		t.Fatalf("%+v, %v", pass, err)
	}
	g.Lift()
	if err := <-p.serving; !is[*control.TakenOverError](err) {
		t.Errorf("Manager.Serve: %v", err)
	}
	if open := f.open(t); len(open) != 1 {
		t.Errorf("what is asked for: %v", open)
	}
}

// TestFanOutWhileRebuilt has the index rebuilt, and that given up, while documents are to be stored
// again: both physical indices get them, and of the one that is gone nothing is left.
func TestFanOutWhileRebuilt(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 400, ", reindex: {chunk: 20, max_rows_per_second: 50}")
	p := f.start(t, options{serve: true, fanOut: 100})
	p.complete(t)
	rebuild := f.ask(t, control.Request{Kind: control.KindReindex, Index: "p"})
	st := f.building(t, "p")
	f.db.Exec(t, `UPDATE c SET name = 'uno' WHERE id = 1`)
	await(t, "both are asked for", func() bool { return len(f.open(t)) == 2 })
	await(t, "documents of the index in use are stored again", func() bool {
		doc, _ := f.document(t, st.Live.Physical, "1")
		return doc != nil && doc["name"] == "uno"
	})
	if now := f.state(t, "p"); now.Building.Physical != st.Building.Physical {
		t.Error("the rebuild has ended: the documents in use have waited for it")
	}
	f.ended(t, rebuild, control.PhaseDone, "")
	f.awaitFanned(t)
	f.awaitNone(t)

	rebuild = f.ask(t, control.Request{Kind: control.KindReindex, Index: "p"})
	f.building(t, "p")
	f.db.Exec(t, `UPDATE c SET name = 'eins' WHERE id = 1`)
	await(t, "both are asked for", func() bool { return len(f.open(t)) == 2 })
	f.ended(t, f.ask(t, control.Request{Kind: control.KindCancel, Index: "p"}), control.PhaseDone, "")
	f.ended(t, rebuild, control.PhaseCancelled, "")
	f.awaitFanned(t)
	f.awaitNone(t)
	p.settle(t)
	f.settled(t, "p")
}

// TestFanOutUntilIdle does not end before the documents are stored, and says what keeps them from it.
func TestFanOutUntilIdle(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 3000, "")
	p := f.start(t, options{serve: true, fanOut: 100})
	p.complete(t)
	p.crash()
	f.db.Exec(t, `UPDATE c SET name = 'uno' WHERE id = 1`)
	p = f.start(t, options{fanOut: 100})
	if err := p.manager.ServeUntilIdle(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	f.put(t, http.MethodPost, "/"+f.prefix+"p/_refresh", "")
	f.check(t, "p", testenv.WithQuery(fannedQuery))
}

// TestFanOutOfAnotherMapping is of a path that the mapping does not have any more.
func TestFanOutOfAnotherMapping(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 300, "")
	p := f.start(t, options{serve: true, fanOut: 100})
	p.complete(t)
	st := f.state(t, "p")
	if err := f.fanOuts().Ask(t.Context(), []control.FanOut{{FanOutGroup: control.FanOutGroup{Index: st.Name, Physical: st.Live.Physical, Source: "public.p ", Path: "public.gone(a=b)"}, Key: []string{"1"}},
		{FanOutGroup: control.FanOutGroup{Index: st.Name, Physical: "an index that is gone", Source: "public.p ", Path: "public.c(c=id)"}, Key: []string{"1"}}}); err != nil {
		t.Fatal(err)
	}
	p.manager.fanOuts.wake.raise()
	f.awaitNone(t)
	await(t, "the index was compared", func() bool { return p.manager.Proof(st.Name).Last.Number > 0 })
	p.serves(t)
}

// A window has as many rows as are stored in some time, and grows by steps.
func TestPaced(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		n, bound int
		took     time.Duration
		want     int
	}{
		{400, 400, fanOutTime, 400},
		{400, 400, fanOutTime * 4 / 3, 300},
		{400, 400, fanOutTime / 100, 800},
		{900, 900, fanOutTime / 2, mostFanOutRows},
		{1000, 1000, time.Minute, leastFanOutRows},
		{1, 400, 2 * fanOutTime, leastFanOutRows},
		{200, 400, fanOutTime / 2, 400}, // the last of a page
		{200, 200, 0, 400},
	} {
		if got := paced(test.n, test.bound, test.took); got != test.want {
			t.Errorf("after %d of %d rows in %s: %d, want %d", test.n, test.bound, test.took, got, test.want)
		}
	}
}

// TestFanOutOfRefusedValues has values that the type of their column does not take any more: no row
// has them, and the others are done.
func TestFanOutOfRefusedValues(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 300, "")
	p := f.start(t, options{serve: true, fanOut: 100})
	p.complete(t)
	all := f.sent("one")
	st := f.state(t, "p")
	group := control.FanOutGroup{Index: st.Name, Physical: st.Live.Physical, Source: "public.p ", Path: `"public"."c"("c"="id")`}
	if err := f.fanOuts().Ask(t.Context(), []control.FanOut{{FanOutGroup: group, Key: []string{"n/a"}}, {FanOutGroup: group, Key: []string{"1"}}}); err != nil {
		t.Fatal(err)
	}
	p.manager.fanOuts.wake.raise()
	f.awaitNone(t)
	if n := all.Load(); n != 300 {
		t.Errorf("%d of 300 documents were sent", n)
	}
	if proof := p.manager.Proof(st.Name); proof.IsUnproven() {
		t.Errorf("the index is unproven: %s", proof.Unproven.Why)
	}
}

// TestFanOutWithoutTheSlot has a process note something that does not follow the slot any more.
func TestFanOutWithoutTheSlot(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 300, "")
	p := f.start(t, options{serve: true, fanOut: 100})
	p.complete(t)
	p.end(errCrash)
	p.parts.Wait()
	d := p.documents[0]
	err := p.manager.Defer(t.Context(), &indexer.FanOut{Documents: d, Source: d.Index.Sources[0], Targets: d.Targets()})
	if !is[*dbsync.SlotNotHeldError](err) {
		t.Errorf("Defer: %v", err)
	}
	if open := f.open(t); len(open) != 0 {
		t.Errorf("it has noted %v", open)
	}
}

// TestKeysInUse has windows on one table by the same key at a time, and by another one when those are
// done.
func TestKeysInUse(t *testing.T) {
	t.Parallel()
	var keys keysInUse
	table, ctx := catalog.TableName{Schema: "public", Name: "t"}, t.Context()
	use := func(ctx context.Context, table catalog.TableName, columns ...string) func() {
		t.Helper()
		done, err := keys.use(ctx, table, columns)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	first, second := use(ctx, table, "a", "b"), use(ctx, table, "a", "b")
	use(ctx, catalog.TableName{Schema: "public", Name: "u"}, "c")()
	other := make(chan func())
	go func() {
		done, err := keys.use(ctx, table, []string{"b"})
		if err != nil {
			t.Error(err)
		}
		other <- done
	}()
	first()
	ended, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := keys.use(ended, table, []string{"b"}); err == nil {
		t.Error("two keys are in use")
	}
	second()
	(<-other)()
	use(ctx, table, "a", "b")()
}

// TestFanOutIsVerifiedLater compares an index while documents are to be stored again: those are looked at
// when that is done.
func TestFanOutIsVerifiedLater(t *testing.T) {
	t.Parallel()
	f := newFanned(t, 300, "")
	p := f.start(t, options{fanOut: 100}) // which does nothing of what is asked for
	p.complete(t)
	st := f.state(t, "p")
	f.put(t, http.MethodPut, "/"+st.Live.Physical+"/_doc/7?refresh", `{"id": 7, "c": 1, "name": "before", "owners": []}`)
	f.db.Exec(t, `UPDATE c SET name = 'uno' WHERE id = 1`)
	await(t, "it is asked for", func() bool { return len(f.open(t)) == 1 })
	config := f.config(t)
	verified := make(chan error, 1)
	go func() {
		result, err := verify.Run(t.Context(), config.Indices[0], verify.Options{DB: p.syncer.DB(), Client: p.manager.o.Client, Schema: mapping.DefaultControlSchema, Slot: f.slot,
			Tables: p.manager.o.Catalog.Tables(), Progress: verify.NoProgress{}, Logger: p.manager.o.Logger, Found: func(verify.Difference) error { return nil }})
		if err == nil && (result.Rows != 320 || result.Differences() > 0) {
			err = fmt.Errorf("%+v", result)
		}
		verified <- err
	}()
	select {
	case err := <-verified:
		t.Fatalf("it was compared while documents were to be stored again: %v", err)
	case <-time.After(2 * time.Second):
	}
	serve, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.manager.Serve(serve) }()
	if err := <-verified; err != nil {
		t.Error(err)
	}
	f.awaitNone(t)
	end()
	<-served
}
