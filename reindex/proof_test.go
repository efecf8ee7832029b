package reindex

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

func TestWalkDue(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return start.Add(-d) }
	live := control.State{Name: "p", Live: control.Version{Physical: "p-1"}, StartedAt: ago(101 * time.Hour), FinishedAt: ago(100 * time.Hour)}
	building := live
	building.Building.Physical = "p-2"
	fresh := live
	fresh.FinishedAt = ago(time.Hour)
	underWay := control.Walk{Number: 2, BeganAt: ago(time.Hour)}
	last := func(began time.Duration) control.Walk {
		return control.Walk{Number: 1, BeganAt: ago(began), FinishedAt: ago(began - time.Minute)}
	}
	doubt := func(noted time.Duration) control.Doubt {
		return control.Doubt{Since: ago(noted), Noted: ago(noted), Why: "because"}
	}
	proof := func(d control.Doubt, walk, last control.Walk) control.Proof {
		return control.Proof{Index: "p", Physical: "p-1", Unproven: d, Walk: walk, Last: last}
	}
	daily, never, often := mapping.Verify{Every: 24 * time.Hour}, mapping.Verify{}, mapping.Verify{Every: time.Second}
	none, calm := control.Walk{}, control.Doubt{}
	atOnce := time.Time{}
	for _, test := range []struct {
		name    string
		proof   control.Proof
		state   control.State
		how     mapping.Verify
		end     until
		altered bool
		asked   bool
		want    time.Time
		not     bool
	}{
		{name: "never compared, filled long ago", proof: proof(calm, none, none), state: live, how: daily, want: start.Add(startPause)},
		{name: "never compared, just filled", proof: proof(calm, none, none), state: fresh, how: daily, want: start.Add(23 * time.Hour)},
		{name: "compared", proof: proof(calm, none, last(3*time.Hour)), state: live, how: daily, want: start.Add(21 * time.Hour)},
		{name: "compared before it was filled", proof: proof(calm, none, last(50*time.Hour)), state: fresh, how: daily, want: start.Add(23 * time.Hour)},
		{name: "overdue", proof: proof(calm, none, last(30*time.Hour)), state: live, how: daily, want: start.Add(startPause)},
		{name: "overdue, and soon again", proof: proof(calm, none, last(30*time.Hour)), state: live, how: often, want: start.Add(time.Second)},
		{name: "never again", proof: proof(calm, none, last(30*time.Hour)), state: live, how: never, not: true},
		{name: "an earlier process has begun", proof: proof(calm, underWay, last(30*time.Hour)), state: live, how: daily, want: atOnce},
		{name: "an earlier process has begun, and it is switched off now", proof: proof(calm, underWay, none), state: live, how: never, not: true},
		{name: "an earlier process has begun, and this one is to end soon", proof: proof(calm, underWay, none), state: live, how: daily, end: untilIdle, not: true},
		{name: "unproven", proof: proof(doubt(2*time.Hour), none, last(3*time.Hour)), state: live, how: daily, want: atOnce},
		{name: "unproven, and nothing periodic", proof: proof(doubt(2*time.Hour), none, none), state: live, how: never, want: atOnce},
		{name: "unproven, and to end soon", proof: proof(doubt(2*time.Hour), none, none), state: live, how: never, end: untilIdle, want: atOnce},
		{name: "unproven, and being compared", proof: proof(doubt(2*time.Hour), underWay, none), state: live, how: never, want: atOnce},
		{name: "unproven, and not all could be compared", proof: proof(doubt(2*time.Hour), none, last(time.Hour)), state: live, how: daily, want: ago(59 * time.Minute).Add(undecidedPause)},
		{name: "unproven, not all could be compared, and to end soon", proof: proof(doubt(2*time.Hour), none, last(time.Hour)), state: live, how: daily, end: untilIdle, not: true},
		{name: "asked for, and nothing periodic", proof: proof(calm, none, last(time.Hour)), state: live, how: never, asked: true, want: atOnce},
		{name: "asked for, and being filled", proof: proof(calm, none, none), state: building, how: daily, asked: true, not: true},
		{name: "being filled", proof: proof(doubt(2*time.Hour), none, none), state: building, how: daily, not: true},
		{name: "not filled yet", proof: proof(doubt(2*time.Hour), none, none), state: control.State{Name: "p"}, how: daily, not: true},
		{name: "altered", proof: proof(doubt(2*time.Hour), none, none), state: live, how: daily, altered: true, not: true},
		{name: "a walk of the index before", proof: control.Proof{Index: "p", Physical: "p-0", Walk: underWay}, state: fresh, how: daily, want: start.Add(23 * time.Hour)},
	} {
		x := &index{known: &test.state, runDone: true, altered: test.altered, asked: test.asked, proof: test.proof}
		if at, ok := x.walkDue(test.how, start, test.end); ok == test.not || ok && !at.Equal(test.want) {
			t.Errorf("%s: %v %t, want %v", test.name, at, ok, test.want)
		}
	}
}

// proof reads what the control schema has of an index.
func (r *rig) proof(t testing.TB, index string) control.Proof {
	t.Helper()
	p, err := r.schema().Proofs().Read(t.Context(), r.prefix+index)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// compared waits until a walk has come to its end, and returns what is noted of it. A walk waits for
// the slot several times.
func (r *rig) compared(t testing.TB, index string, number int64) (p control.Proof) {
	t.Helper()
	awaitFor(t, 4*patience, fmt.Sprintf("walk %d of %s ends", number, index), func() bool {
		p = r.proof(t, index)
		return p.Last.Number >= number
	})
	return p
}

// Whatever makes the documents of an index others than its tables have ends its walk, and none
// begins before that is over.
func TestStopWalk(t *testing.T) {
	live := control.State{Name: "p", Live: control.Version{Physical: "p-1"}}
	building := live
	building.Building.Physical = "p-2"
	m := New(Options{Alarm: retry.NewAlarm(slog.New(slog.NewTextHandler(t.Output(), nil)))})
	for name, test := range map[string]struct{ begin, end func(x *index) }{
		"it is filled anew": {func(x *index) { x.set(building) }, func(x *index) { x.set(live) }},
		"a table was altered": {(*index).setAltered, func(x *index) {
			if x.takeAltered(); x.canBeWalked() {
				t.Error("it can be walked through while it is not as its table is")
			}
			x.endConform()
		}},
		"no documents can be made": {func(x *index) {
			x.setMissed(true) // as is noted already
			if err := m.hold(t.Context(), x, "because"); err != nil {
				t.Error(err)
			}
		}, func(x *index) {
			x.setMissed(false)
			m.release(x)
		}},
	} {
		x := &index{Index: &mapping.Index{Name: "p"}, documents: new(indexer.Documents), known: &live, runDone: true}
		walk, done, _, _, ok := x.startWalk(t.Context())
		if !ok || walk.Err() != nil {
			t.Fatalf("%s: it cannot be walked through before", name)
		}
		test.begin(x)
		if context.Cause(walk) != errWalkStopped {
			t.Errorf("%s: the walk goes on", name)
		}
		done()
		if _, _, _, _, ok := x.startWalk(t.Context()); ok {
			t.Errorf("%s: another walk begins", name)
		}
		test.end(x)
		if _, done, _, _, ok := x.startWalk(t.Context()); !ok {
			t.Errorf("%s: no walk begins when it is over", name)
		} else {
			done()
		}
	}
}

// differ plants three differences in the documents of rowsT, of each kind one.
func (r *rig) differ(t testing.TB) {
	t.Helper()
	r.put(t, http.MethodPost, "/"+r.prefix+"t/_bulk", `{"delete":{"_id":"3"}}
{"index":{"_id":"4"}}
{"id":4,"v":"other"}
{"index":{"_id":"1000"}}
{"id":1000,"v":"extra"}
`)
}

// An index that may differ is compared at once, without anybody's asking; what differs is made anew.
func TestUnprovenIsCompared(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(500))
	p := r.start(t, options{serve: true, verify: mapping.Verify{OnDifference: mapping.OnDifferenceRepair, RowsPerSecond: 40}})
	p.complete(t)
	if s := p.manager.Proof(r.prefix + "t"); s.IsUnproven() || s.Last.Number != 0 || s.Walk.UnderWay() {
		t.Errorf("just filled: %+v", s)
	}
	r.differ(t)
	x := p.manager.byName[r.prefix+"t"]
	if err := p.manager.unprove(t.Context(), x, "the file of its table is another one"); err != nil {
		t.Fatal(err)
	}
	if !x.owesWalk() {
		t.Error("it does not know that the index is unproven")
	}
	of := r.compared(t, "t", 1)
	if l := of.Last; of.IsUnproven() || l.Rows != 500 || l.Documents != 501 || l.Found != 3 || l.Repaired != 3 {
		t.Errorf("%+v", of)
	} else if took := l.FinishedAt.Sub(l.BeganAt); took < 22*time.Second { // a second's worth may go at once, of rows and of documents
		t.Errorf("1000 rows and documents were compared in %s, at 40 a second", took)
	}
	await(t, "the process knows", func() bool {
		s := p.manager.Proof(r.prefix + "t")
		return s.Last.Number == 1 && s.Found == 3 && s.Repaired == 3
	})
	r.check(t, "t")
	p.serves(t)
}

// An index is compared when somebody asks for it, once, though nothing is due; not while it cannot be.
func TestComparedWhenAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(500))
	p := r.start(t, options{serve: true, verify: mapping.Verify{OnDifference: mapping.OnDifferenceRepair}})
	x := p.manager.byName[r.prefix+"t"]
	p.complete(t)
	r.differ(t)
	if err := p.manager.Compare(r.prefix + "t"); err != nil {
		t.Fatal(err)
	}
	if l := r.compared(t, "t", 1).Last; l.Rows != 500 || l.Repaired != 3 {
		t.Errorf("%+v", l)
	}
	await(t, "it is done", func() bool {
		_, due := x.walkDue(mapping.Verify{}, time.Now(), untilStopped)
		return !due
	})
	r.check(t, "t")
	if err := p.manager.Compare("other"); err == nil || !strings.Contains(err.Error(), "has no index other") {
		t.Errorf("an index that is not there: %v", err)
	}
	st := x.state()
	st.Building.Physical = st.Live.Physical + "-2"
	if err := (&index{Index: x.Index, known: &st}).ask(); err == nil || !strings.Contains(err.Error(), "is being filled") {
		t.Errorf("an index that is being filled: %v", err)
	}
	if err := (&index{Index: x.Index, known: x.known, missed: true}).ask(); err == nil || !strings.Contains(err.Error(), "misses changes") {
		t.Errorf("an index that misses changes: %v", err)
	}
	if changes, rows := p.manager.Written(r.prefix + "t"); changes != 0 || rows != 500 {
		t.Errorf("%d changes and %d rows were written", changes, rows)
	}
	p.serves(t)
}

// With on_difference: report what differs stays, and is known.
func TestDifferencesAreReported(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(500))
	p := r.start(t, options{serve: true, verify: mapping.Verify{Every: time.Second, OnDifference: mapping.OnDifferenceReport}})
	p.complete(t)
	r.differ(t)
	number := r.proof(t, "t").Last.Number
	of := r.compared(t, "t", number+2) // the next one may be under way
	if l := of.Last; l.Found != 3 || l.Repaired != 0 || l.Left() != 3 {
		t.Errorf("%+v", of)
	}
	if source, _ := r.document(t, r.prefix+"t", "4"); source["v"] != "other" {
		t.Errorf("the document is %v", source)
	}
	p.serves(t)
}

// A walk goes on in the next process where the one before has noted it, and one that was noted
// by another order of rows begins anew.
func TestWalkGoesOn(t *testing.T) {
	t.Parallel()
	const rows = 3_000
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(rows))
	p := r.start(t, options{serve: true})
	p.complete(t)
	proofs := r.schema().Proofs()
	begin := func(cursor, key []string) {
		t.Helper()
		st := r.state(t, "t")
		noted, err := proofs.Begin(t.Context(), st, 2*rows)
		if err != nil {
			t.Fatal(err)
		}
		w := noted.Walk
		w.Cursor, w.Key, w.Rows, w.Found, w.Repaired = cursor, key, 2_000, 7, 6
		if err := proofs.Advance(t.Context(), st.Name, &w); err != nil {
			t.Fatal(err)
		}
	}
	for i, test := range []struct {
		cursor, key []string
		rows        int64
	}{
		{[]string{"2000"}, []string{"id"}, rows},
		{[]string{"x"}, []string{"v"}, rows + 2_000},
	} {
		r.crashAll(t)
		begin(test.cursor, test.key)
		p = r.start(t, options{serve: true, verify: mapping.Verify{Every: time.Hour, RowsPerSecond: 1_000_000}})
		p.complete(t)
		of := r.compared(t, "t", int64(i+1))
		if l := of.Last; l.Rows != test.rows || l.Documents != rows || l.Found != 7 || l.Repaired != 6 {
			t.Errorf("from %v by %v: %+v", test.cursor, test.key, l)
		}
	}
	// In the list of documents, too.
	r.crashAll(t)
	begin(nil, nil)
	w := r.proof(t, "t").Walk
	w.Phase, w.NextSeqNo, w.LastSeqNo, w.Rows, w.Documents = control.WalkDocuments, 2_500, rows-1, rows, 2_500
	if err := proofs.Advance(t.Context(), r.prefix+"t", &w); err != nil {
		t.Fatal(err)
	}
	p = r.start(t, options{serve: true, verify: mapping.Verify{Every: time.Hour, RowsPerSecond: 1_000_000}})
	if l := r.compared(t, "t", 3).Last; l.Rows != rows || l.Documents != rows {
		t.Errorf("in the list of documents: %+v", l)
	}
	p.serves(t)
}

// A doubt that comes while the index is compared has it compared from the beginning; a rebuild
// ends the walk, and what was unproven before it is no more.
func TestWalkIsEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(500))
	p := r.start(t, options{serve: true, verify: mapping.Verify{RowsPerSecond: 10}}) // takes minutes
	p.complete(t)
	m, x := p.manager, p.manager.byName[r.prefix+"t"]
	unprove := func(why string) {
		t.Helper()
		if err := m.unprove(t.Context(), x, why); err != nil {
			t.Fatal(err)
		}
	}
	unprove("one")
	await(t, "a walk begins", func() bool { return r.proof(t, "t").Walk.Number == 1 })
	unprove("two")
	await(t, "another walk begins", func() bool { return r.proof(t, "t").Walk.Number == 2 })
	// One that is not told finds out when it is noted next, after ten seconds.
	if second := r.proof(t, "t"); second.Walk.BeganAt.Sub(second.Unproven.Noted) > 7*time.Second {
		t.Errorf("the second walk began %s after the doubt", second.Walk.BeganAt.Sub(second.Unproven.Noted))
	}
	before := r.state(t, "t").Live.Physical
	if err := m.ask(within(t, patience), &control.Request{Kind: control.KindReindex, Index: r.prefix + "t"}); err != nil {
		t.Fatal(err)
	}
	if now := r.state(t, "t").Live.Physical; now == before {
		t.Fatalf("%s is still in use", now)
	}
	await(t, "the walk of the one before has ended", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.walking == nil
	})
	if s := m.Proof(r.prefix + "t"); s.IsUnproven() || s.OwesWalk() || s.Walk.UnderWay() || s.Last.Number != 0 {
		t.Errorf("of the new physical index: %+v", s)
	}
	// And the next doubt is about the new one.
	unprove("three")
	await(t, "a walk of the new one begins", func() bool {
		p := r.proof(t, "t")
		return p.Walk.Number == 3 && p.Physical != before && p.Unproven.Why == "three"
	})
	p.serves(t)
}

// An index that differs in more documents than it pays to repair is rebuilt.
func TestTooDifferentIsRebuilt(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(500))
	r.start(t, options{serve: true}).complete(t)
	r.crashAll(t)
	r.differ(t)
	before := r.state(t, "t")
	proofs := r.schema().Proofs()
	noted, err := proofs.Begin(t.Context(), before, 1000)
	if err != nil {
		t.Fatal(err)
	}
	w := noted.Walk
	w.Found, w.Repaired = 99_998, 99_998
	if err := proofs.Advance(t.Context(), before.Name, &w); err != nil {
		t.Fatal(err)
	}
	p := r.start(t, options{serve: true, verify: mapping.Verify{Every: time.Hour}})
	p.complete(t)
	await(t, "another physical index is in use", func() bool {
		st := r.state(t, "t")
		return st.Live.Physical != before.Live.Physical && st.Building.Physical == ""
	})
	r.check(t, "t")
	if s := p.manager.Proof(r.prefix + "t"); s.Last.Number != 0 || s.Walk.UnderWay() {
		t.Errorf("of the new one: %+v", s)
	}
	p.serves(t)
}

// A walk that was under way when walks were switched off is not gone on with, nor said to be.
func TestWalkIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(10))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	if _, err := r.schema().Proofs().Begin(t.Context(), r.state(t, "t"), 20); err != nil {
		t.Fatal(err)
	}
	p := r.start(t, options{serve: true})
	p.complete(t)
	if of := r.proof(t, "t"); of.Walk.UnderWay() || of.Last.Number != 0 {
		t.Errorf("%+v", of)
	}
	p.serves(t)
}

// A walk that fails is tried again, raises an alarm, and ends nothing else.
func TestWalkThatFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(500))
	p := r.start(t, options{serve: true})
	p.complete(t)
	alarmed := func() bool {
		for _, reason := range p.manager.o.Alarm.Reasons() {
			if strings.Contains(reason.Key, "compare index "+r.prefix+"t") {
				return true
			}
		}
		return false
	}
	other := r.prefix + "other"
	r.put(t, http.MethodPost, "/_aliases", fmt.Sprintf(`{"actions":[{"add":{"index":"%s","alias":"%s"}},{"remove":{"index":"%s","alias":"%s"}}]}`, r.state(t, "t").Live.Physical, other, r.state(t, "t").Live.Physical, r.prefix+"t"))
	if err := p.manager.unprove(t.Context(), p.manager.byName[r.prefix+"t"], "because"); err != nil {
		t.Fatal(err)
	}
	await(t, "an alarm", alarmed)
	r.db.Exec(t, `INSERT INTO t VALUES (1000, 'new')`)
	p.settle(t)
	r.put(t, http.MethodPost, "/_aliases", fmt.Sprintf(`{"actions":[{"add":{"index":"%s","alias":"%s"}}]}`, r.state(t, "t").Live.Physical, r.prefix+"t"))
	r.compared(t, "t", 1)
	await(t, "no alarm any more", func() bool { return !alarmed() })
	r.check(t, "t")
	p.serves(t)
}

// Who serves until nothing is left to do waits for an index that is unproven, and not for the
// next periodic walk.
func TestServeUntilIdleCompares(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(500))
	first := r.start(t, options{})
	first.complete(t)
	r.crashAll(t)
	r.differ(t)
	if _, err := r.schema().Proofs().Unprove(t.Context(), r.state(t, "t"), "because"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p := r.start(t, options{verify: mapping.Verify{Every: time.Hour, OnDifference: mapping.OnDifferenceRepair}})
		if err := p.manager.ServeUntilIdle(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		if of := r.proof(t, "t"); of.IsUnproven() || of.Last.Number != 1 || of.Last.Repaired != 3 || of.Walk.UnderWay() {
			t.Errorf("%+v", of)
		}
		r.check(t, "t")
		r.crashAll(t)
	}
}
