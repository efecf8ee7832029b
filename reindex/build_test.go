package reindex

import (
	"testing"

	"tidemark/testenv"
)

// A crash after the alias has moved and before that is noted, and then a mapping that was
// edited: what the alias stands for must not be dropped as something half done.
func TestEditedMappingAfterTheAliasHasMoved(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	r.start(t, options{}).complete(t)
	st := r.state(t, "t")
	// As it was before it was noted.
	r.db.Exec(t, `UPDATE dbsync_ctrl.indices SET building = live, building_fingerprint = live_fingerprint, live = '', live_fingerprint = ''`)
	r.crashAll(t)

	r.indices = `PREFIXt: {table: t, fields: {v: {type: keyword}}}`
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	hold := proxy.Inject(testenv.Hold(0, testenv.Bulk))
	p := r.start(t, options{})
	if err := hold.Await(within(t, patience), 1); err != nil {
		t.Fatal(err)
	}
	if _, live := r.physical(t, "t"); live != st.Live.Physical {
		t.Errorf("while the new index is being built the alias stands for %q, want %s", live, st.Live.Physical)
	}
	hold.Lift()
	p.complete(t)
	r.check(t, "t")
	r.settled(t, "t")
}
