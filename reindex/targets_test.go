package reindex

import (
	"fmt"
	"testing"

	"tidemark/reindex/control"
	"tidemark/testenv"
)

// TestOldMapping edits a mapping. Until the new index is complete, the one in use gets
// documents of the mapping before, also of another process.
func TestOldMapping(t *testing.T) {
	t.Parallel()
	const edited = `PREFIXt: {table: t, fields: {v: false, w: {column: v}}%s}`
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(300))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	r.indices = fmt.Sprintf(edited, ", "+slow)
	// want are the fields of a document in the index in use and in the one that is being built.
	want := func(p *process, id, value string) {
		t.Helper()
		p.settle(t)
		st := r.state(t, "t")
		if doc, _ := r.document(t, st.Live.Physical, id); doc == nil || doc["v"] != value || doc["w"] != nil {
			t.Errorf("document %s of the index in use is %v", id, doc)
		}
		if doc, _ := r.document(t, st.Building.Physical, id); doc == nil || doc["w"] != value || doc["v"] != nil {
			t.Errorf("document %s of the index that is being built is %v", id, doc)
		}
	}
	for _, value := range []string{"first process", "second process"} {
		p := r.start(t, options{serve: true})
		r.building(t, "t")
		r.db.Exec(t, `INSERT INTO t VALUES (1000, '`+value+`') ON CONFLICT (id) DO UPDATE SET v = excluded.v`,
			`UPDATE t SET v = '`+value+`' WHERE id IN (3, 299)`, `DELETE FROM t WHERE id = 5`)
		for _, id := range []string{"1000", "3", "299"} {
			want(p, id, value)
		}
		if doc, _ := r.document(t, r.state(t, "t").Live.Physical, "5"); doc != nil {
			t.Errorf("a deleted row is in the index in use: %v", doc)
		}
		r.crashAll(t)
	}
	r.indices = fmt.Sprintf(edited, ", reindex: {chunk: 20}")
	p := r.start(t, options{serve: true})
	p.complete(t)
	r.settled(t, "t")
	after := testenv.WithQuery(`SELECT id, json_build_object('id', id, 'w', v) FROM t`)
	r.check(t, "t", after)

	// Later rebuilds of this process have nothing to do with the mapping before.
	id := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	for n := 0; !r.request(t, id).Ended(); n++ {
		r.db.Exec(t, fmt.Sprintf(`UPDATE t SET v = 'changed %d' WHERE id = 3`, n))
		p.settle(t)
		_, live := r.physical(t, "t")
		if doc, _ := r.document(t, live, "3"); doc != nil && doc["v"] != nil {
			t.Fatalf("the index in use gets %v", doc)
		}
	}
	r.ended(t, id, control.PhaseDone, "")
	p.settle(t)
	r.check(t, "t", after)
}

// TestOldMappingIsGone edits a mapping that reads a table which is not followed any more:
// the index in use gets documents of the edited one.
func TestOldMappingIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, include: {bs: {table: b, on: {id: t_id}, value: note}}}`, tableT, rowsT(300),
		`CREATE TABLE b (id int PRIMARY KEY, t_id int, note text)`, `ALTER TABLE b REPLICA IDENTITY FULL`, `CREATE INDEX ON b (t_id)`, `INSERT INTO b VALUES (1, 3, 'note')`)
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	r.indices = `PREFIXt: {table: t, ` + slow + `}`
	p := r.start(t, options{serve: true})
	st := r.building(t, "t")
	r.db.Exec(t, `UPDATE t SET v = 'changed' WHERE id = 3`)
	p.settle(t)
	for _, physical := range []string{st.Live.Physical, st.Building.Physical} {
		if doc, _ := r.document(t, physical, "3"); doc == nil || doc["v"] != "changed" || doc["bs"] != nil {
			t.Errorf("document of %s: %v", physical, doc)
		}
	}
	r.crashAll(t)
	r.indices = `PREFIXt: {table: t}`
	r.start(t, options{serve: true}).complete(t)
	r.check(t, "t")
}
