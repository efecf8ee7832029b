package reindex

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"tidemark/reindex/control"
)

// TestMissingDocument removes documents of the index that is being built: it must not get
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

	// At the start the index has an alarm, and the others go on; the next process begins anew.
	r.crashAll(t)
	o.rebuild = func(string) bool { return true }
	p = r.start(t, o)
	if err := p.backfilled(t); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := p.manager.failures(); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("the index has the alarm %v", err)
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
