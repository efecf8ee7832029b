package reindex

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/reindex/control"
	"tidemark/testenv"
)

// beside makes a rig whose indices have the same names on the same cluster: a staging file with the
// production's URL.
func (r *rig) beside(t testing.TB, statements ...string) *rig {
	t.Helper()
	other := newRig(t, r.indices, statements...)
	other.prefix = r.prefix
	return other
}

// refused waits for the end of a process that may not work on the index, and makes sure that the
// error names whose it is.
func (p *process) refused(t testing.TB, owner string) {
	t.Helper()
	select {
	case err := <-p.ran:
		if !dbsync.IsPermanent(err) || !strings.Contains(err.Error(), owner) || !strings.Contains(err.Error(), "--adopt") {
			t.Errorf("%s: Syncer.Run: %v, want a permanent error that names %s and the hint", p.name, err, owner)
		}
	case err := <-p.built:
		t.Errorf("%s: Manager.Run: %v", p.name, err)
	case <-time.After(patience):
		t.Errorf("%s: waited in vain for an error", p.name)
	}
	p.crash()
}

func (r *rig) database(t testing.TB) string {
	t.Helper()
	return "database " + query[string](t, r.db, "SELECT current_database()::text")
}

// Two databases have an index of the same name on one cluster. The second one to come makes, moves
// and deletes nothing, unless it is told to take the name over; and even then nothing of the first
// one is deleted, which from then on is refused itself.
func TestTwoDatabases(t *testing.T) {
	t.Parallel()
	production := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(100))
	p := production.start(t, options{serve: true})
	p.complete(t)
	staging := production.beside(t, tableT, rowsT(7))
	staging.start(t, options{}).refused(t, production.database(t))
	if st := staging.state(t, "t"); st != nil {
		t.Errorf("the second one has noted %+v", st)
	}
	production.settled(t, "t")
	production.db.Exec(t, `UPDATE t SET v = 'later' WHERE id < 10`)
	p.settle(t)
	production.check(t, "t")

	// The first one is stopped, and its index is taken over.
	before := production.state(t, "t").Live.Physical
	production.crashAll(t)
	q := staging.start(t, options{adopt: true})
	q.complete(t)
	if err := q.manager.failures(); err != nil {
		t.Errorf("when it was taken over there is the alarm %v", err)
	}
	staging.check(t, "t")
	all, live := staging.physical(t, "t")
	if len(all) != 2 || !slices.Contains(all, before) || live == before {
		t.Errorf("there are %v, the alias stands for %s", all, live)
	}
	if n := len(production.search.Documents(t, before)); n != 100 {
		t.Errorf("%d documents of the first one are left", n)
	}
	staging.crashAll(t)
	production.start(t, options{}).refused(t, staging.database(t))
	if _, now := staging.physical(t, "t"); now != live {
		t.Errorf("the alias stands for %s", now)
	}
	staging.start(t, options{}).complete(t) // it need not be said again
	staging.check(t, "t")
	if again, _ := staging.physical(t, "t"); !slices.Equal(again, all) {
		t.Errorf("there are %v", again)
	}
}

// Two slots of one database, which share a control schema, want the same index.
func TestTwoSlots(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	p := r.start(t, options{})
	p.complete(t)
	before := r.state(t, "t")
	first := r.slot
	r.slot += "_other"
	r.start(t, options{}).refused(t, "slot "+first)
	if now := r.state(t, "t"); now.Live != before.Live || now.Building != before.Building {
		t.Errorf("the state was %+v and is %+v", before, now)
	}
	r.slot = first
	r.db.Exec(t, `UPDATE t SET v = 'later'`)
	p.settle(t)
	r.settled(t, "t")
	r.check(t, "t")
}

// The database was copied with its control schema, which names the index that the other one keeps.
func TestRestoredDump(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	p := r.start(t, options{})
	p.complete(t)
	st := r.state(t, "t")
	copied := r.beside(t, tableT, rowsT(5))
	copied.start(t, options{}).refused(t, r.database(t)) // it has made its control schema
	note := func() {
		t.Helper()
		copied.db.Exec(t, fmt.Sprintf(`INSERT INTO dbsync_ctrl.indices (name, live, live_generation, live_fingerprint, live_mapping, live_tables) VALUES ('%st', '%s', 'g', '%s', '', '')
			ON CONFLICT (name) DO UPDATE SET live = excluded.live`, r.prefix, st.Live.Physical, st.Live.Fingerprint))
	}
	note()
	// The alias is gone, so that the note alone leads there.
	r.put(t, http.MethodDelete, "/"+st.Live.Physical+"/_alias/"+r.prefix+"t", ``)
	copied.start(t, options{}).refused(t, r.database(t))
	note()
	copied.start(t, options{adopt: true}).complete(t)
	copied.check(t, "t")
	// The note comes back when the name is the copy's: it is no way to the other one's index.
	own := copied.state(t, "t").Live.Physical
	copied.crashAll(t)
	note()
	copied.start(t, options{}).refused(t, r.database(t))
	copied.db.Exec(t, fmt.Sprintf(`UPDATE dbsync_ctrl.indices SET live = '%s'`, own))
	copied.start(t, options{}).complete(t)
	copied.db.Exec(t, `DELETE FROM t`)
	copied.running[len(copied.running)-1].settle(t)
	if n := len(r.search.Documents(t, st.Live.Physical)); n != 20 {
		t.Errorf("the other one's index has %d documents", n)
	}
}

// The second one comes while the first one is being filled for the first time, when there is no alias
// yet; and one that takes the name over meanwhile is not overrun when the first one is complete.
func TestNameTakenOverWhileFilling(t *testing.T) {
	t.Parallel()
	first := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 20, readers: 1}}`, tableT, rowsT(200))
	taken := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(taken) })
	defer goOn()
	p := first.start(t, options{serve: true, stored: func(int64) { <-taken }}) // the backfill waits
	building := first.building(t, "t").Building.Physical
	second := first.beside(t, tableT, rowsT(7))
	second.indices = `PREFIXt: {table: t}`
	second.start(t, options{}).refused(t, first.database(t))
	second.start(t, options{adopt: true}).complete(t)
	goOn()
	if err := p.backfilled(t); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := p.manager.failures(); err == nil || !strings.Contains(err.Error(), second.database(t)) {
		t.Errorf("the index has the alarm %v", err)
	}
	second.check(t, "t")
	if all, _ := second.physical(t, "t"); !slices.Contains(all, building) {
		t.Errorf("there are %v, and %s is gone", all, building)
	}
}

// Two begin at once, and both have looked before either has made an index: not both go on.
func TestTwoBeginAtOnce(t *testing.T) {
	t.Parallel()
	first := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	second := first.beside(t, tableT, rowsT(7))
	proxy := first.search.NewProxy(t)
	first.searchURL = proxy.URL
	create := proxy.Inject(testenv.Hold(1, func(r *testenv.Request) bool { return r.Method == http.MethodPut }))
	p := first.start(t, options{})
	if err := create.Await(within(t, patience), 1); err != nil {
		t.Fatal(err)
	}
	second.start(t, options{}).complete(t)
	create.Lift()
	p.refused(t, second.database(t))
	if st := first.state(t, "t"); st.Building.Physical != "" || st.Live.Physical != "" {
		t.Errorf("the first one has noted %+v", st)
	}
	second.settled(t, "t")
	second.check(t, "t")
}

// An instance of a version that put no stamps into indices has made one: it is ours by the note of it,
// gets a stamp, and nothing is filled anew.
func TestUnstampedIndex(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	before := r.state(t, "t").Live.Physical
	unstamp := func() { r.put(t, http.MethodPut, "/"+before+"/_mapping", `{"_meta":{"team":"search"}}`) }
	unstamp()
	r.db.Exec(t, `UPDATE dbsync_ctrl.physical_indices SET mark_number = 0, mark = '', incarnation = ''`)
	p := r.start(t, options{serve: true})
	p.complete(t)
	if meta := r.bodyOf(t, before); !strings.Contains(meta, `"slot":"`+r.slot+`"`) || !strings.Contains(meta, `"team":"search"`) {
		t.Errorf("_meta is %s", meta)
	}
	if proof := p.manager.Proof(r.prefix + "t"); proof.IsUnproven() {
		t.Error("it has to be compared")
	}
	r.settled(t, "t")
	if now := r.state(t, "t").Live.Physical; now != before {
		t.Errorf("it was filled anew as %s", now)
	}

	// Without a note it is somebody else's.
	r.crashAll(t)
	unstamp()
	r.db.Exec(t, `DELETE FROM dbsync_ctrl.physical_indices`)
	r.start(t, options{}).refused(t, "which somebody else made")
}

// Somebody replaces _meta, and our stamp with it: the index is the same, so it is stamped again, and
// compared.
func TestStampTakenAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	p := r.start(t, options{serve: true, partitions: 50 * time.Millisecond})
	p.complete(t)
	live := r.state(t, "t").Live.Physical
	stamped := func() bool { return strings.Contains(r.bodyOf(t, live), `"slot":"`+r.slot+`"`) }
	proven := func() bool { proof := p.manager.Proof(r.prefix + "t"); return !proof.IsUnproven() }
	compared := func() time.Time { return p.manager.Proof(r.prefix + "t").Last.BeganAt }
	r.put(t, http.MethodPut, "/"+live+"/_mapping", `{"_meta":{"team":"search"}}`)
	await(t, "it is stamped again", stamped)
	await(t, "it is compared", func() bool { return !compared().IsZero() && proven() })
	r.crashAll(t)
	r.put(t, http.MethodPut, "/"+live+"/_mapping", `{"_meta":{"team":"search"}}`)
	before := compared()
	p = r.start(t, options{serve: true})
	p.complete(t)
	if !stamped() {
		t.Error("it is not stamped")
	}
	await(t, "it is compared", func() bool { return compared().After(before) && proven() })
	r.settled(t, "t")
}

// A proxy answers the move of the alias with a page: it did not happen, the index in use is not
// dropped, and the move is repeated.
func TestAliasMoveAnsweredByAProxy(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(100))
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	p := r.start(t, options{serve: true})
	p.complete(t)
	_, before := r.physical(t, "t")
	page := proxy.Inject(testenv.Page("<html>Sign in</html>", 0, func(r *testenv.Request) bool { return r.Method == http.MethodPost && r.Path == "/_aliases" }))
	request := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	if err := page.Await(within(t, patience), 3); err != nil {
		t.Fatal(err)
	}
	if all, live := r.physical(t, "t"); live != before || len(all) != 2 {
		t.Errorf("the alias stands for %s, there are %v", live, all)
	}
	page.Lift()
	r.ended(t, request, control.PhaseDone, "")
	r.settled(t, "t")
	if _, live := r.physical(t, "t"); live == before {
		t.Error("the alias was not moved")
	}
	r.check(t, "t")
}

// What operators have set at aliases is kept over a rebuild.
func TestAliasesAreKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, fields: {v: {type: keyword}}}`, tableT, rowsT(20))
	p := r.start(t, options{serve: true})
	p.complete(t)
	_, before := r.physical(t, "t")
	r.put(t, http.MethodPost, "/_aliases", strings.NewReplacer("I", before, "P", r.prefix).Replace(`{"actions":[
		{"add":{"index":"I","alias":"Pt","filter":{"term":{"v":"v7"}}}}, {"add":{"index":"I","alias":"Pshop","filter":{"term":{"v":"v8"}},"search_routing":"r"}}]}`))
	r.ended(t, r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"}), control.PhaseDone, "")
	_, after := r.physical(t, "t")
	for alias, want := range map[string]string{"t": `"v7"`, "shop": `"v8"`} {
		status, answer, err := r.search.Do(t.Context(), http.MethodGet, "/_alias/"+r.prefix+alias, nil)
		if err != nil || status != http.StatusOK || !strings.Contains(string(answer), want) || !strings.Contains(string(answer), after) || strings.Contains(string(answer), before) {
			t.Errorf("alias %s: %d %s %v", alias, status, answer, err)
		}
	}
	if after == before {
		t.Error("it was not rebuilt")
	}
}

// Changes are missing after the slot was lost, and the rebuild fails: the index in use is not
// complete, in memory as in the control schema, until another one is filled to its end.
func TestIncompleteAfterAFailedRebuild(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 20}}`, tableT, rowsT(100))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	if st := r.state(t, "t"); st.Incomplete() || st.Live.Generation == "" {
		t.Errorf("when it was filled: %+v", st)
	}
	r.db.Exec(t, `SELECT pg_drop_replication_slot('`+r.slot+`')`, `DELETE FROM t WHERE id > 90`, `UPDATE t SET v = 'missed' WHERE id < 50`)
	var sabotage atomic.Bool
	sabotage.Store(true)
	o := options{serve: true, syncer: []dbsync.SyncerOpt{dbsync.WithNewSlot()}, stored: func(int64) {
		st := r.state(t, "t")
		if !st.Incomplete() || st.Building.Generation == "" {
			t.Errorf("while another one is filled: %+v", st)
		}
		if sabotage.Load() && st.Done >= 20 {
			_, _, _ = r.search.Do(t.Context(), http.MethodDelete, "/"+st.Building.Physical+"/_doc/7?refresh=true", nil) // the count tells
		}
	}}
	p := r.start(t, o)
	if err := p.backfilled(t); err != nil {
		t.Errorf("Run: %v", err)
	}
	incomplete := func(when string) {
		t.Helper()
		if st := r.state(t, "t"); !st.Incomplete() || st.Building.Physical != "" {
			t.Errorf("%s: %+v", when, st)
		}
		if !p.manager.Incomplete(r.prefix+"t") || p.manager.State(r.prefix+"t").Live.Generation != "" {
			t.Errorf("%s it is called complete", when)
		}
	}
	incomplete("after the rebuild failed")
	// The next process begins as if nothing had been done.
	r.crashAll(t)
	o.syncer = nil
	p = r.start(t, o)
	if err := p.backfilled(t); err != nil {
		t.Errorf("Run: %v", err)
	}
	incomplete("after it failed again")
	sabotage.Store(false)
	r.crashAll(t)
	p = r.start(t, o)
	p.complete(t)
	if st := r.state(t, "t"); st.Incomplete() || p.manager.Incomplete(r.prefix+"t") {
		t.Errorf("when it was filled anew: %+v", st)
	}
	r.check(t, "t")
}
