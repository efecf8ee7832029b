package reindex

import (
	"net/http"
	"testing"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/reindex/verify"
)

// What makes an index be rebuilt at the start, and what does not.
func TestRebuildReasons(t *testing.T) {
	t.Parallel()
	const mapping = `PREFIXt: {table: t}`
	tests := []struct {
		name     string
		change   func(t *testing.T, r *rig, o *options)
		rebuilds bool
		drops    bool // the index that was in use is gone before the new one is complete
	}{
		{"nothing", func(*testing.T, *rig, *options) {}, false, false},
		{"asked for", func(_ *testing.T, r *rig, o *options) {
			o.rebuild = func(name string) bool { return name == r.prefix+"t" }
		}, true, false},
		{"another was asked for", func(_ *testing.T, r *rig, o *options) {
			o.rebuild = func(name string) bool { return name != r.prefix+"t" }
		}, false, false},
		{"edited mapping", func(_ *testing.T, r *rig, _ *options) {
			r.indices = `PREFIXt: {table: t, fields: {v: {type: keyword}}}`
		}, true, false},
		{"edited in what does not matter", func(_ *testing.T, r *rig, _ *options) {
			r.indices = `PREFIXt: {table: public.t, reindex: {chunk: 5}, fields: {v: true}}`
		}, false, false},
		{"new column", func(t *testing.T, r *rig, _ *options) { r.db.Exec(t, `ALTER TABLE t ADD COLUMN w int DEFAULT 7`) }, true, false},
		{"new slot", func(t *testing.T, r *rig, o *options) {
			r.db.Exec(t, `SELECT pg_drop_replication_slot('`+r.db.Unique("slot")+`')`, `UPDATE t SET v = 'missed'`)
			o.syncer = append(o.syncer, dbsync.WithNewSlot())
		}, true, false},
		{"table out of the publication for a while", func(t *testing.T, r *rig, _ *options) {
			r.db.Exec(t, `ALTER PUBLICATION dbsync_mypub DROP TABLE t`, `UPDATE t SET v = 'missed'`, `ALTER PUBLICATION dbsync_mypub ADD TABLE t`)
		}, true, false},
		{"table made again", func(t *testing.T, r *rig, _ *options) {
			r.db.Exec(t, `DROP TABLE t`, tableT, rowsT(10))
		}, true, false},
		{"index out of the mapping for a while", func(t *testing.T, r *rig, _ *options) {
			mapping := r.indices
			r.indices = `PREFIXother: {table: t}`
			other := r.start(t, options{})
			other.complete(t)
			r.db.Exec(t, `UPDATE t SET v = 'missed'`)
			other.settle(t)
			r.crashAll(t)
			r.indices = mapping
		}, true, false},
		{"physical index gone", func(t *testing.T, r *rig, _ *options) {
			_, live := r.physical(t, "t")
			r.put(t, http.MethodDelete, "/"+live, ``)
		}, true, true},
		{"write alias gone", func(t *testing.T, r *rig, _ *options) {
			_, live := r.physical(t, "t")
			r.put(t, http.MethodDelete, "/"+live+"/_alias/"+search.WriteAlias(r.prefix+"t", live), ``)
		}, true, false},
		{"state gone", func(t *testing.T, r *rig, _ *options) { r.db.Exec(t, `DELETE FROM dbsync_ctrl.indices`) }, true, false},
		{"alias gone", func(t *testing.T, r *rig, _ *options) {
			_, live := r.physical(t, "t")
			r.put(t, http.MethodDelete, "/"+live+"/_alias/"+r.prefix+"t", ``)
		}, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, mapping, tableT, rowsT(20))
			r.start(t, options{}).complete(t)
			r.crashAll(t)
			_, before := r.physical(t, "t")
			r.db.Exec(t, `UPDATE t SET v = 'while nobody looked' WHERE id = 7`)
			var o options
			test.change(t, r, &o)

			during := "not asked"
			o.begin = func(string, verify.Rows) { _, during = r.physical(t, "t") }
			p := r.start(t, o)
			p.complete(t)
			r.check(t, "t")
			r.settled(t, "t")
			_, after := r.physical(t, "t")
			if rebuilt := after != before; rebuilt != test.rebuilds {
				t.Errorf("the alias stood for %s and stands for %s", before, after)
			}
			if want := before; test.rebuilds && test.drops == (during == want) {
				t.Errorf("during the backfill the alias stood for %q", during)
			}

			// And not once more.
			r.crashAll(t)
			r.start(t, options{}).complete(t)
			if _, again := r.physical(t, "t"); again != after {
				t.Errorf("the next start has rebuilt it again: %s after %s", again, after)
			}
		})
	}
}
