package reindex

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/testenv"
)

// letters returns the reasons of the dead letters, by document.
func (p *process) letters(t *testing.T) map[string]string {
	t.Helper()
	all, err := p.dead.List(t.Context(), control.LetterFilter{}, 100, false)
	if err != nil {
		t.Fatal(err)
	}
	reasons := make(map[string]string)
	for _, l := range all {
		reasons[l.ID] = l.Reason
	}
	return reasons
}

// A backfill goes on past rows that Postgres can make no document of, whatever it says against them,
// and a comparison does. When the reason is gone, their dead letters can be retried.
func TestBackfillPassesBadRows(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, include: {cs: {table: c, on: {id: t}, value: n, where: "public.picky(n)"}}, reindex: {chunk: 40}}`,
		`CREATE FUNCTION picky(n text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
			IF n LIKE 'bad %' THEN RAISE EXCEPTION 'picky' USING ERRCODE = split_part(n, ' ', 2); END IF; RETURN true; END $$`,
		`CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE c (id int PRIMARY KEY, t int, n text); ALTER TABLE c REPLICA IDENTITY FULL; CREATE INDEX ON c (t)`,
		`INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i; INSERT INTO c SELECT i, i, 'good' FROM generate_series(1, 100) i`,
		`UPDATE c SET n = 'bad P0001' WHERE id IN (1, 40, 41, 100); UPDATE c SET n = 'bad 54000' WHERE id = 50; UPDATE c SET n = 'bad XX001' WHERE id = 60`)
	p := r.start(t, options{serve: true, verify: mapping.Verify{OnDifference: mapping.OnDifferenceRepair, RowsPerSecond: 1000}})
	p.complete(t)
	want := map[string]string{"1": "P0001", "40": "P0001", "41": "P0001", "100": "P0001", "50": "54000", "60": "XX001"}
	hasLetters := func(want map[string]string) {
		t.Helper()
		got := p.letters(t)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
			t.Errorf("dead letters of (-want +got):\n%s", diff)
		}
		for id, state := range want {
			if reason := got[id]; !strings.Contains(reason, "picky (SQLSTATE "+state+")") {
				t.Errorf("%s is refused because of %q, want %s", id, reason, state)
			}
		}
	}
	hasLetters(want)
	const documents = `SELECT id, json_build_object('id', id, 'v', v, 'cs', (SELECT json_agg(n) FROM c WHERE c.t = t.id)) FROM t`
	testenv.CheckSynced(t, r.db, r.search, r.prefix+"t", "t", testenv.WithQuery(documents+` WHERE id NOT IN (1, 40, 41, 50, 60, 100)`))

	// The comparison finds that they have no documents, and no others differ.
	if err := p.manager.unprove(t.Context(), p.manager.byName[r.prefix+"t"], "because"); err != nil {
		t.Fatal(err)
	}
	if of := r.compared(t, "t", 1); of.Last.Rows != 100 || of.Last.Found != 6 || of.Last.Repaired != 0 {
		t.Errorf("compared: %+v", of.Last)
	}
	hasLetters(want)

	retried, err := r.retry(t)
	if err != nil || retried.Refused != 6 {
		t.Errorf("retried before the fix: %+v, %v", retried, err)
	}
	r.db.Exec(t, `CREATE OR REPLACE FUNCTION picky(n text) RETURNS bool LANGUAGE sql AS 'SELECT true'`)
	if retried, err = r.retry(t); err != nil || retried.Kept != 0 || retried.Refused != 0 {
		t.Errorf("retried after the fix: %+v, %v", retried, err)
	}
	hasLetters(nil)
	testenv.CheckSynced(t, r.db, r.search, r.prefix+"t", "t", testenv.WithQuery(documents))
}

// A row of a related table whose documents cannot be found leaves nothing wrong for long: the index
// is compared with its tables, and says why.
func TestDoubtedIsCompared(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(100))
	p := r.start(t, options{serve: true, verify: mapping.Verify{OnDifference: mapping.OnDifferenceRepair, RowsPerSecond: 1000}})
	p.complete(t)
	r.differ(t)
	if err := p.manager.Doubted(t.Context(), p.documents[0], "no documents were found"); err != nil {
		t.Fatal(err)
	}
	if of := r.compared(t, "t", 1); of.IsUnproven() || of.Last.Repaired != 3 {
		t.Errorf("%+v", of)
	}
}
