package reindex

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// lax has an index take what is no number.
func (r *rig) lax(t *testing.T, index string) {
	t.Helper()
	status, answer, err := r.search.Do(t.Context(), http.MethodPut, "/"+r.prefix+index+"/_mapping", []byte(`{"properties":{"n":{"type":"integer","ignore_malformed":true}}}`))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d %s %v", status, answer, err)
	}
}

// retry retries the dead letters of the first index.
func (r *rig) retry(t *testing.T, rows ...int64) (*verify.Retried, error) {
	t.Helper()
	c := r.config(t)
	tables := make(catalog.Tables)
	for _, name := range c.Tables() {
		table, err := catalog.LoadTable(t.Context(), r.db.DB, name.Schema, name.Name)
		if err != nil {
			t.Fatal(err)
		}
		tables[name] = table
	}
	return verify.RetryLetters(within(t, patience), c.Indices[0], verify.RetryOptions{DB: r.db.DB, Schema: c.Postgres.ControlSchema, Slot: c.Postgres.Slot, Tables: tables, Rows: rows})
}

func TestRetryLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {tables: [{table: t, id: "t-{id}", fields: {n: {type: integer}}}, {table: u, id: "u-{a}-{b}", fields: {n: {type: integer}}}]}`,
		`CREATE TABLE t (id text PRIMARY KEY, n text); CREATE TABLE u (a int, b text, n text, PRIMARY KEY (a, b))`,
		`INSERT INTO t VALUES ('good', '1'), ('bad', 'x'), ('gone', 'x'), ('mended', 'x'), (repeat('long', 150), 'x'); INSERT INTO u VALUES (1, 'a-b', 'x'), (2, '', '2')`)
	r.start(t, options{serve: true}).complete(t)
	p := r.running[0]
	r.db.Exec(t, `DELETE FROM t WHERE id = 'gone'`, `UPDATE t SET n = '7' WHERE id = 'mended'`, `UPDATE u SET n = 'y' WHERE a = 1`)
	p.settle(t)
	expect := func(what string, want verify.Retried, rows ...int64) {
		t.Helper()
		got, err := r.retry(t, rows...)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if why := got.Why; (why != nil) != (want.Kept > 0) || why != nil && !strings.Contains(why.Error(), "tidemark verify "+r.prefix+"t --repair") {
			t.Errorf("%s: kept because of %v", what, why)
		}
		if got.Why = nil; *got != want {
			t.Errorf("%s: %+v, want %+v", what, *got, want)
		}
	}
	letters := func() (ids []string, rows []int64) {
		t.Helper()
		all, err := p.dead.List(t.Context(), control.LetterFilter{}, 100, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all {
			rows = append(rows, l.Row)
			if ids = append(ids, l.ID); strings.HasPrefix(l.ID, "t-~sha256-") {
				ids[len(ids)-1] = "hash"
			}
		}
		slices.Sort(ids)
		return ids, rows
	}
	hasLetters := func(want ...string) []int64 {
		t.Helper()
		ids, rows := letters()
		if !slices.Equal(ids, want) {
			t.Errorf("dead letters of %q, want %q", ids, want)
		}
		return rows
	}
	hasLetters("hash", "t-bad", "t-gone", "t-mended", "u-1-a-b", "u-1-a-b") // two versions of the last

	expect("another row", verify.Retried{}, 4711)
	expect("before the hint", verify.Retried{Letters: 6, Gone: 5, Refused: 2, Kept: 1})
	rows := hasLetters("hash", "t-bad", "u-1-a-b")
	r.lax(t, "t")
	expect("one of them", verify.Retried{Letters: 1, Gone: 1}, rows[1])
	expect("the others", verify.Retried{Letters: 2, Gone: 1, Kept: 1})
	hasLetters("hash")
	if doc, _ := r.document(t, r.prefix+"t", "t-gone"); doc != nil {
		t.Errorf("a document without a row: %v", doc)
	}
	for _, id := range []string{"t-bad", "t-mended", "u-1-a-b"} {
		if doc, _ := r.document(t, r.prefix+"t", id); doc == nil {
			t.Errorf("document %s is not there", id)
		}
	}

	// Where the instance cannot read rows again, their letters stay.
	letter := search.Refused{Err: &search.DocError{Status: 400}}
	letter.Operation.Index, letter.Operation.ID, letter.Operation.Version = search.WriteAlias(r.prefix+"t", r.state(t, "t").Live.Physical), "u-none-b", 1
	if err := p.dead.Keep(t.Context(), []search.Refused{letter}); err != nil {
		t.Fatal(err)
	}
	got, err := r.retry(t)
	if err != nil || got.Gone != 0 || got.Kept != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	hasLetters("hash", "u-none-b")
}

// TestRetryManyLetters has more of them than are looked at together, while rows change, and
// a process that crashes in between.
func TestRetryManyLetters(t *testing.T) {
	t.Parallel()
	const rows = 2500
	r := newRig(t, `PREFIXt: {table: t, fields: {n: {type: integer}}}`, `CREATE TABLE t (id int PRIMARY KEY, n text)`, fmt.Sprintf(`INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, %d) i`, rows))
	p := r.start(t, options{serve: true})
	p.complete(t)
	r.lax(t, "t")
	// Who has died between reading again and dropping leaves the letters.
	first, err := p.dead.List(t.Context(), control.LetterFilter{}, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	slot, err := verify.OpenSlot(t.Context(), verify.SlotOptions{DB: r.db.DB, Schema: mapping.DefaultControlSchema, Slot: r.config(t).Postgres.Slot})
	if err != nil {
		t.Fatal(err)
	}
	if why, err := slot.Reread(within(t, patience), r.config(t).Indices[0].Sources[0], [][]string{{first[0].ID}}); why != nil || err != nil {
		t.Fatal(why, err)
	}
	r.db.Exec(t, `UPDATE t SET n = 'later' WHERE id % 7 = 0`, `DELETE FROM t WHERE id % 11 = 0`)
	got, err := r.retry(t)
	if want := (verify.Retried{Letters: rows, Gone: rows}); err != nil || *got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	p.settle(t)
	r.check(t, "t")
	if n, err := p.dead.Counts(t.Context(), control.LetterFilter{}); err != nil || len(n) != 0 {
		t.Errorf("dead letters are left: %v, %v", n, err)
	}
}

func TestRetryLettersWhileRebuilding(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, `+slow+`}`, tableT, rowsT(200))
	if _, err := r.retry(t); err == nil {
		t.Error("there is no control schema, and no error")
	}
	p := r.start(t, options{serve: true})
	r.building(t, "t")
	if _, err := r.retry(t); err == nil || !strings.Contains(err.Error(), "the index is not complete yet") {
		t.Error(err)
	}
	p.complete(t)
	r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	r.building(t, "t")
	if _, err := r.retry(t); !errors.Is(err, verify.ErrBeingRebuilt) {
		t.Error(err)
	}
	p.crash()
}
