package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

func newFanOutTables(t *testing.T) (context.Context, *testenv.Database, *FanOuts) {
	t.Helper()
	ctx := context.WithoutCancel(searchtest.Within(t, time.Minute))
	db := newMigrated(t)
	return ctx, db, Open(db.DB, "ctrl", "mine").FanOuts()
}

var fanOutGroup = FanOutGroup{Index: "products", Physical: "products-1", Source: "public.p ", Path: `"public"."c"("c"="id")`}

func ask(t *testing.T, ctx context.Context, f *FanOuts, g FanOutGroup, keys ...[]string) {
	t.Helper()
	var asked []FanOut
	for _, key := range keys {
		asked = append(asked, FanOut{g, key})
	}
	if err := f.Ask(ctx, asked); err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T, ctx context.Context, f *FanOuts, g FanOutGroup, runner string) *FanOutPass {
	t.Helper()
	p, err := f.Begin(ctx, g, runner)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// related is how many rows there are in each group.
func related(t *testing.T, ctx context.Context, f *FanOuts) string {
	t.Helper()
	open, err := f.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, o := range open {
		found = append(found, fmt.Sprintf("%s %d", o.Physical, o.Related))
	}
	return strings.Join(found, ", ")
}

// TestFanOuts has rows asked for again and again: before a pass takes them they are one, and while it
// is under way they are one more.
func TestFanOuts(t *testing.T) {
	t.Parallel()
	ctx, _, f := newFanOutTables(t)
	odd := []string{`a"b\c{},`, "", "NULL"}
	for range 3 {
		ask(t, ctx, f, fanOutGroup, []string{"1"}, odd, []string{"1"})
	}
	other := fanOutGroup
	other.Physical = "products-2"
	ask(t, ctx, f, other, []string{"1"})
	if got := related(t, ctx, f); got != "products-1 2, products-2 1" {
		t.Errorf("asked for: %s", got)
	}
	p := begin(t, ctx, f, fanOutGroup, "a")
	if diff := cmp.Diff([][]string{odd, {"1"}}, p.Keys); diff != "" {
		if diff = cmp.Diff([][]string{{"1"}, odd}, p.Keys); diff != "" {
			t.Errorf("taken (-want +got):\n%s", diff)
		}
	}
	newest, err := f.Newest(ctx, "products-1")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		ask(t, ctx, f, fanOutGroup, []string{"1"}, []string{"2"})
	}
	p.Cursor, p.Stored = []string{"77", "x"}, 500
	if err := f.Advance(ctx, p); err != nil {
		t.Fatal(err)
	}
	// Another process goes on with what was taken, from there.
	q := begin(t, ctx, f, fanOutGroup, "b")
	if diff := cmp.Diff(p.Keys, q.Keys); diff != "" || q.Stored != 500 || fmt.Sprint(q.Cursor) != "[77 x]" {
		t.Errorf("went on with %+v\n%s", q, diff)
	}
	for what, err := range map[string]error{"advance": f.Advance(ctx, p), "end": f.End(ctx, p)} {
		if taken := (*TakenOverError)(nil); !errors.As(err, &taken) {
			t.Errorf("%s, of who had it before: %v", what, err)
		}
	}
	for range 2 { // an answer may be lost
		if err := f.End(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	if got := related(t, ctx, f); got != "products-2 1, products-1 2" {
		t.Errorf("after the pass: %s", got)
	}
	if left, _, err := f.Left(ctx, "products-1", newest); err != nil || left != 0 {
		t.Errorf("%d are left of what was asked for before the pass, %v", left, err)
	}
	q = begin(t, ctx, f, fanOutGroup, "b")
	if len(q.Keys) != 2 || q.Cursor != nil || q.Stored != 0 {
		t.Errorf("the next pass: %+v", q)
	}
	if err := f.End(ctx, q); err != nil {
		t.Fatal(err)
	}
	if q = begin(t, ctx, f, fanOutGroup, "b"); q != nil {
		t.Errorf("nothing is to be done, and there is %+v", q)
	}
	if err := f.Drop(ctx, other); err != nil || related(t, ctx, f) != "" {
		t.Errorf("after it was dropped: %s, %v", related(t, ctx, f), err)
	}
}

// TestFanOutsAreTakenInPart has more rows asked for than one pass takes, and every document of a source
// besides; and those of another slot, and of physical indices that are gone.
func TestFanOutsAreTakenInPart(t *testing.T) {
	t.Parallel()
	ctx, db, f := newFanOutTables(t)
	var keys [][]string
	for i := range maxTaken + 5 {
		keys = append(keys, []string{fmt.Sprint(i)})
	}
	ask(t, ctx, f, fanOutGroup, keys...)
	for _, want := range []int{maxTaken, 5} {
		p := begin(t, ctx, f, fanOutGroup, "a")
		if len(p.Keys) != want {
			t.Errorf("%d rows were taken, want %d", len(p.Keys), want)
		}
		if err := f.End(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	large := strings.Repeat("x", maxTakenBytes)
	ask(t, ctx, f, fanOutGroup, []string{large}, []string{large + "y"})
	if p := begin(t, ctx, f, fanOutGroup, "a"); len(p.Keys) != 1 {
		t.Errorf("%d rows were taken", len(p.Keys))
	}
	every := fanOutGroup
	every.Path = ""
	if err := f.Ask(ctx, []FanOut{{FanOutGroup: every}, {FanOutGroup: every}}); err != nil {
		t.Fatal(err)
	}
	if p := begin(t, ctx, f, every, "a"); p == nil || p.Keys != nil {
		t.Errorf("every document: %+v", p)
	}
	other := Open(db.DB, "ctrl", "other").FanOuts()
	if got := related(t, ctx, other); got != "" {
		t.Errorf("another slot has %s", got)
	}
	ask(t, ctx, other, fanOutGroup, []string{"1"})
	db.Exec(t, `INSERT INTO ctrl.indices (name, live, building) VALUES ('products', 'products-2', 'products-3'), ('gone', 'gone-1', '')`)
	for _, physical := range []string{"products-3", "gone-1"} {
		kept := fanOutGroup
		kept.Physical = physical
		ask(t, ctx, f, kept, []string{"1"})
		begin(t, ctx, f, kept, "a")
	}
	if err := f.Forget(ctx, []string{"products"}); err != nil || related(t, ctx, f) != "products-3 1" || related(t, ctx, other) != "products-1 1" {
		t.Errorf("after Forget %s, of another slot %s, %v", related(t, ctx, f), related(t, ctx, other), err)
	}
}

// TestFanOutsAtTheSameTime asks for rows while passes begin and end: none of them is lost.
func TestFanOutsAtTheSameTime(t *testing.T) {
	t.Parallel()
	ctx, _, f := newFanOutTables(t)
	var asking sync.WaitGroup
	asking.Go(func() {
		for i := range 200 {
			asked := []FanOut{{fanOutGroup, []string{fmt.Sprint(i)}}}
			for _, n := range rand.Perm(50) {
				asked = append(asked, FanOut{fanOutGroup, []string{fmt.Sprint(n)}})
			}
			if err := f.Ask(ctx, asked); err != nil {
				t.Error(err)
			}
		}
	})
	done := make(chan struct{})
	go func() { asking.Wait(); close(done) }()
	seen := make(map[string]bool)
	for last := false; ; {
		p := begin(t, ctx, f, fanOutGroup, "a")
		if p == nil {
			if last {
				break
			}
			select {
			case <-done:
				last = true
			default:
			}
			continue
		}
		for _, key := range p.Keys {
			seen[key[0]] = true
		}
		if err := f.End(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 200 {
		t.Errorf("%d of 200 rows came to a pass", len(seen))
	}
}
