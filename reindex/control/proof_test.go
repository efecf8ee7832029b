package control

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/indexer/search/searchtest"
)

func newProofs(t *testing.T) (*Proofs, *sql.DB) {
	t.Helper()
	db := newMigrated(t)
	return Open(db.DB, "ctrl", "slot").Proofs(), db.DB
}

// A walk is noted as it goes, taken up by another process, and comes to its end.
func TestProofOfAWalk(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	proofs, _ := newProofs(t)
	p, err := proofs.Read(ctx, "p")
	if err != nil || !cmp.Equal(p, Proof{Index: "p"}) {
		t.Fatalf("before there is anything: %+v, %v", p, err)
	}
	st := &State{Name: "p", Live: Version{Physical: "p-1"}}
	if p, err = proofs.Begin(ctx, st, 30); err != nil {
		t.Fatal(err)
	}
	w := p.Walk
	if !w.UnderWay() || w.Number != 1 || w.BeganAt.IsZero() || w.Phase != WalkRows || w.Share() != 0 || p.Physical != "p-1" {
		t.Fatalf("begun: %+v", p)
	}
	w.Source, w.Cursor, w.Key, w.Rows, w.Found, w.Repaired = 1, []string{"a", "2"}, []string{"x", "y"}, 15, 3, 2
	if err := proofs.Advance(ctx, "p", &w); err != nil {
		t.Fatal(err)
	}
	if p, err = proofs.Read(ctx, "p"); err != nil || !cmp.Equal(p.Walk, w) || w.Share() != 0.5 {
		t.Fatalf("advanced: %v %v", err, cmp.Diff(w, p.Walk))
	}
	w.Phase, w.NextSeqNo, w.LastSeqNo, w.Documents = WalkDocuments, 7, 9, 16
	if err := proofs.Advance(ctx, "p", &w); err != nil {
		t.Fatal(err)
	}
	if p, err = proofs.Read(ctx, "p"); err != nil || !cmp.Equal(p.Walk, w) || w.Share() != 0.99 {
		t.Fatalf("advanced: %v %v", err, cmp.Diff(w, p.Walk))
	}
	if p, err = proofs.Finish(ctx, "p", &w); err != nil {
		t.Fatal(err)
	}
	if l := p.Last; p.Walk.UnderWay() || l.UnderWay() || l.Number != 1 || !l.BeganAt.Equal(w.BeganAt) || l.FinishedAt.Before(l.BeganAt) || l.Rows != 15 || l.Documents != 16 || l.Left() != 1 || l.Share() != 1 {
		t.Fatalf("finished: %+v", p)
	}
	// The one who comes second has nothing to say.
	if _, err := proofs.Finish(ctx, "p", &w); !errors.Is(err, ErrWalkOver) {
		t.Errorf("finished twice: %v", err)
	}
	if err := proofs.Advance(ctx, "p", &w); !errors.Is(err, ErrWalkOver) {
		t.Errorf("advanced when it was over: %v", err)
	}
	if p, err = proofs.Begin(ctx, st, -1); err != nil || p.Walk.Number != 2 || p.Walk.Rows != 0 || p.Walk.Cursor != nil || p.Walk.Share() != -1 || p.Last.Rows != 15 {
		t.Errorf("the next one: %+v, %v", p, err)
	}
	if err := proofs.Advance(ctx, "p", &w); !errors.Is(err, ErrWalkOver) {
		t.Errorf("advanced when another one was under way: %v", err)
	}
	if err := proofs.Forget(ctx, []string{"p", "q"}); err != nil {
		t.Fatal(err)
	}
	if p, err = proofs.Read(ctx, "p"); err != nil || !cmp.Equal(p, Proof{Index: "p"}) {
		t.Errorf("forgotten: %+v, %v", p, err)
	}
}

// A doubt ends the walk under way, whose end would say nothing of it, and goes with the end of one
// that has begun since and could compare everything.
func TestUnprove(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	proofs, _ := newProofs(t)
	st := &State{Name: "p", Live: Version{Physical: "p-1"}}
	begin := func() Walk {
		t.Helper()
		p, err := proofs.Begin(ctx, st, 10)
		if err != nil {
			t.Fatal(err)
		}
		return p.Walk
	}
	w := begin()
	first, err := proofs.Unprove(ctx, st, "because")
	if err != nil || !first.IsUnproven() || !first.OwesWalk() || first.Walk.UnderWay() || first.Unproven.Why != "because" {
		t.Fatalf("unproven: %+v, %v", first, err)
	}
	if _, err := proofs.Finish(ctx, "p", &w); !errors.Is(err, ErrWalkOver) {
		t.Errorf("a walk of before came to its end: %v", err)
	}
	again, err := proofs.Unprove(ctx, st, "of that, too")
	if err != nil || again.Unproven.Why != "because; of that, too" || !again.Unproven.Since.Equal(first.Unproven.Since) || !again.Unproven.Noted.After(first.Unproven.Noted) {
		t.Fatalf("unproven again: %+v, %v", again, err)
	}
	w = begin()
	w.Undecided = 1
	p, err := proofs.Finish(ctx, "p", &w)
	if err != nil || !p.IsUnproven() || p.OwesWalk() {
		t.Errorf("not all could be compared: %+v, %v", p, err)
	}
	w = begin()
	if p, err = proofs.Finish(ctx, "p", &w); err != nil || p.IsUnproven() || p.Unproven != (Doubt{}) {
		t.Errorf("compared: %+v, %v", p, err)
	}

	// What is kept is bounded, however much comes.
	for i := range 100 {
		if p, err = proofs.Unprove(ctx, st, fmt.Sprintf("%d é\x00\xff %s", i, strings.Repeat("ü", 1000))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len([]rune(p.Unproven.Why)); n > maxDoubts || !strings.HasPrefix(p.Unproven.Why, "0 é ü") {
		t.Errorf("%d characters: %.100s", n, p.Unproven.Why)
	}
	before := p.Unproven.Why
	if p, err = proofs.Unprove(ctx, st, "0 é"); err != nil || p.Unproven.Why != before {
		t.Errorf("the same reason twice: %s, %v", p.Unproven.Why, err)
	}
}

// What is known of a physical index says nothing of the one that takes its place, but for a doubt
// that came while that was being filled.
func TestProofOfAnotherPhysicalIndex(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	proofs, db := newProofs(t)
	clock := func() (now time.Time) {
		t.Helper()
		if err := db.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
			t.Fatal(err)
		}
		return now
	}
	var st *State
	for _, test := range []struct {
		name     string
		started  func() State // calls unprove before or after the filling began
		unproven bool
	}{
		{"a doubt of before", func() State {
			if _, err := proofs.Unprove(ctx, st, "because"); err != nil {
				t.Fatal(err)
			}
			return State{Name: "p", Live: Version{Physical: "p-2"}, StartedAt: clock()}
		}, false},
		{"a doubt that came meanwhile", func() State {
			next := State{Name: "p", Live: Version{Physical: "p-3"}, StartedAt: clock()}
			if _, err := proofs.Unprove(ctx, st, "because"); err != nil {
				t.Fatal(err)
			}
			return next
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			st = &State{Name: "p", Live: Version{Physical: "p-1"}, StartedAt: clock()}
			p, err := proofs.Begin(ctx, st, 10)
			if err != nil {
				t.Fatal(err)
			}
			p.Walk.Rows = 7
			if _, err := proofs.Finish(ctx, "p", &p.Walk); err != nil {
				t.Fatal(err)
			}
			next := test.started()
			if p, err = proofs.Read(ctx, "p"); err != nil || !p.IsUnproven() || p.Last.Number == 0 {
				t.Fatalf("%+v, %v", p, err)
			}
			of := p.Of(&next)
			if of.IsUnproven() != test.unproven || of.Last.Number != 0 || of.Walk.UnderWay() || of.Physical != next.Live.Physical {
				t.Errorf("of the new one: %+v", of)
			}
			// The statement says the same.
			if p, err = proofs.Begin(ctx, &next, 10); err != nil {
				t.Fatal(err)
			}
			p.Walk = Walk{}
			if diff := cmp.Diff(of, p); diff != "" {
				t.Errorf("-Of +Begin:\n%s", diff)
			}
			if same := p.Of(&next); !cmp.Equal(same, p) {
				t.Errorf("of the same one: %+v", same)
			}
		})
	}
}

// A doubt about a physical index that took the place of another one is the first about that.
func TestUnproveAnotherPhysicalIndex(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	proofs, db := newProofs(t)
	st := &State{Name: "p", Live: Version{Physical: "p-1"}}
	if _, err := proofs.Begin(ctx, st, 10); err != nil {
		t.Fatal(err)
	}
	unprove := func(why, want string) Doubt {
		t.Helper()
		p, err := proofs.Unprove(ctx, st, why)
		if err != nil || p.Unproven.Why != want {
			t.Errorf("%s: %+v, %v; want %s", why, p, err, want)
		}
		return p.Unproven
	}
	unprove("one", "one")
	st.Live.Physical = "p-2"
	if err := db.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&st.StartedAt); err != nil {
		t.Fatal(err)
	}
	first := unprove("two", "two")
	if again := unprove("three", "two; three"); first.Since.Before(st.StartedAt) || !again.Since.Equal(first.Since) {
		t.Errorf("since %v, then %v", first.Since, again.Since)
	}
}
