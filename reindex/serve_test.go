package reindex

import (
	"strings"
	"testing"

	"tidemark/reindex/control"
)

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
	await(t, "two are backfilled at a time", func() bool {
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
