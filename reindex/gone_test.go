package reindex

import (
	"strings"
	"testing"
	"time"

	"tidemark/mapping/catalog"
)

// The index of a schema that went is dropped by the next process, also where the one before has seen that its tables
// are gone before it was to begin anew without them.
func TestIndexOfAGoneSchemaIsDropped(t *testing.T) {
	t.Parallel()
	const stays = `PREFIXo: {table: tenant_o.t}`
	r := newRig(t, "PREFIXt: {table: tenant_a.t}\n"+stays, `CREATE SCHEMA tenant_a`, `CREATE SCHEMA tenant_o`,
		`CREATE TABLE tenant_a.t (id int PRIMARY KEY)`, `CREATE TABLE tenant_o.t (id int PRIMARY KEY)`, `INSERT INTO tenant_a.t SELECT generate_series(1, 20)`)
	r.pattern = catalog.TableName{Schema: "tenant_*", Name: "t"}
	p := r.start(t, options{serve: true, partitions: 50 * time.Millisecond})
	p.complete(t)
	r.db.Exec(t, `DROP SCHEMA tenant_a CASCADE`)
	await(t, "the tables are known to be gone", func() bool {
		err := p.manager.failures()
		return err != nil && strings.Contains(err.Error(), "make the first schema")
	})
	p.crash()
	r.indices = stays
	p = r.start(t, options{})
	p.complete(t)
	if st := r.state(t, "t"); st != nil {
		t.Errorf("the control schema still has %+v", st)
	}
	if all, _ := r.physical(t, "t"); len(all) > 0 {
		t.Errorf("there is %v", all)
	}
}
