package indexer

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/mapping"
	"tidemark/testenv"
)

// With one shard, every routing leads to the same one: what removes the document of the old
// routing must not remove that of the new one, be it ready, read again, or in another
// request.
func TestRoutingOnTheSameShard(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		db := testenv.NewDatabase(t)
		db.Exec(t, `CREATE TABLE flat (id int PRIMARY KEY, tenant text, v text); ALTER TABLE flat REPLICA IDENTITY FULL`,
			`CREATE TABLE toast (id int PRIMARY KEY, tenant text NOT NULL, note text); ALTER TABLE toast ALTER note SET STORAGE EXTERNAL`,
			`CREATE UNIQUE INDEX routed ON toast (id, tenant); ALTER TABLE toast REPLICA IDENTITY USING INDEX routed`,
			`CREATE TABLE around (id int PRIMARY KEY, tenant text); ALTER TABLE around REPLICA IDENTITY FULL`,
			`INSERT INTO flat SELECT i, 't' || i % 7, 'v' FROM generate_series(1, 3000) i`, `INSERT INTO toast SELECT i, 't' || i % 7, `+large+` FROM generate_series(1, 30) i`,
			`INSERT INTO around SELECT id, tenant FROM toast`)
		s := newStream(t, db, "flat: {table: flat, routing: tenant}\ntoast: {table: toast, routing: tenant}\n"+
			"around: {table: around, routing: tenant, include: {v: {table: flat, on: {id: id}, value: v}}}")
		w := s.writeTo(t, engine.URL, search.BulkOptions{Documents: 500})
		check := func() {
			t.Helper()
			s.settle(t)
			testenv.CheckSynced(t, db, engine, s.targets["flat"].Targets()[0].Alias, "flat", testenv.WithRouting("tenant"))
			testenv.CheckSynced(t, db, engine, s.targets["toast"].Targets()[0].Alias, "toast", testenv.WithRouting("tenant"))
			testenv.CheckSynced(t, db, engine, s.targets["around"].Targets()[0].Alias, "around", testenv.WithRouting("tenant"), testenv.WithQuery(
				`SELECT id, tenant, json_build_object('id', id, 'tenant', tenant, 'v', (SELECT v FROM flat f WHERE f.id = a.id)) FROM around a`))
		}
		for _, name := range []string{"flat", "toast", "around"} {
			s.documentsOf(t, engine, name, loose)
		}
		s.run(t)
		db.Exec(t, `UPDATE flat SET v = 'first'`, `UPDATE toast SET note = note || 'x'`, `UPDATE around SET id = id`)
		check()
		db.Exec(t, `BEGIN; UPDATE flat SET tenant = 'x' || id % 5; UPDATE toast SET tenant = 'x' || id % 5; UPDATE around SET tenant = 'x' || id % 5; COMMIT`)
		check()
		// There and back, deleted and made anew, and given to another row.
		db.Exec(t, `BEGIN; UPDATE flat SET tenant = 'y' || tenant WHERE id < 100; UPDATE flat SET tenant = substr(tenant, 2) WHERE id < 100; UPDATE around SET tenant = 'y'; UPDATE flat SET v = 'second' WHERE id < 50; COMMIT`,
			`BEGIN; DELETE FROM flat WHERE id BETWEEN 200 AND 300; INSERT INTO flat SELECT i, NULL, 'anew' FROM generate_series(200, 300) i; COMMIT`,
			`BEGIN; DELETE FROM flat WHERE id BETWEEN 400 AND 499; UPDATE flat SET id = id - 100, tenant = 'z' WHERE id BETWEEN 500 AND 599; COMMIT`,
			`TRUNCATE toast; INSERT INTO toast SELECT i, 'anew', 'small' FROM generate_series(1, 30) i; UPDATE around SET tenant = NULL WHERE id < 5`)
		check()
		w.WantRefused(t)
	})
}

// A model is a table and its documents. Rows whose ids begin with "b" have related rows in
// their documents, here one value for all of them.
type model struct {
	rows     map[string]row
	related  int
	oneShard bool // every routing leads to the same one
	simple   bool // the stream brings whole rows of the table without related ones, and no TRUNCATE

	documents map[place]stored // deletions, too, as long as their versions are remembered
	ops       []dbsync.Operation
	plain     *root
	included  *link
}

type row struct {
	routing string
	value   int
}

type place struct{ id, shard string }

type stored struct {
	version int64  // of commit, and whether it is stored
	body    string // "": deleted
}

func (m *model) body(id string) string {
	body := fmt.Sprintf(`{"id":%q,"v":%d}`, id, m.rows[id].value)
	if id[0] == 'b' {
		body = fmt.Sprintf(`{"id":%q,"v":%d,"related":%d}`, id, m.rows[id].value, m.related)
	}
	return body
}

func (m *model) place(id, routing string) place {
	if m.oneShard {
		routing = ""
	}
	return place{id, routing}
}

// write is what a search server does with an operation.
func (m *model) write(op dbsync.Operation) {
	at, version := m.place(op.ID, op.Routing), int64(op.Version)<<1
	if op.Body != nil {
		version++
	}
	if version >= m.documents[at].version {
		m.documents[at] = stored{version, string(op.Body)}
	}
}

// mark marks an operation of the transaction xid.
func (m *model) mark(xid uint32, op dbsync.Operation) {
	op.Index, op.Xid, op.Version = "i", xid, pglogrepl.LSN(xid)
	op.AwaitVisible = op.Kind == dbsync.Related || op.Kind <= dbsync.Truncate && strings.HasPrefix(op.ID, "b")
	m.ops = append(m.ops, op)
}

// store marks the document of a row as it is now.
func (m *model) store(t *rapid.T, xid uint32, id string) {
	op := dbsync.Operation{ID: id, Routing: m.rows[id].routing, Body: []byte(m.body(id))}
	switch {
	case id[0] == 'b':
		op.Kind, op.Body, op.Origin = dbsync.Reread, nil, m.included.root
	case !m.simple && rapid.Bool().Draw(t, "incomplete"):
		op.Kind, op.Body, op.Origin = dbsync.Reread, nil, m.plain
	}
	m.mark(xid, op)
}

// change makes one change of the transaction xid, and marks what a Handler marks for it.
func (m *model) change(t *rapid.T, xid uint32) {
	ids := []string{"a1", "a2", "a3", "b1", "b2"}
	changes := []string{"insert or update", "insert or update", "move", "move", "rename", "delete", "delete", "truncate", "related"}
	if m.simple {
		ids, changes = ids[:3], changes[:7]
	}
	id := rapid.SampledFrom(ids).Draw(t, "id")
	old, there := m.rows[id]
	switch what := rapid.SampledFrom(changes).Draw(t, "change"); {
	case what == "related":
		m.related++
		m.mark(xid, dbsync.Operation{Kind: dbsync.Related, Origin: m.included})
	case what == "truncate":
		for _, other := range ids {
			if other[0] == id[0] {
				delete(m.rows, other)
			}
		}
		m.mark(xid, dbsync.Operation{Kind: dbsync.Truncate, ID: id[:1]})
	case what == "insert or update" || !there:
		m.rows[id] = row{old.routing, old.value + 1}
		if !there {
			m.rows[id] = row{rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "routing"), int(xid) * 100}
		}
		m.store(t, xid, id)
	case what == "delete":
		delete(m.rows, id)
		m.mark(xid, dbsync.Operation{Kind: dbsync.Delete, ID: id, Routing: old.routing})
	case what == "move":
		m.rows[id] = row{rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "routing"), old.value}
		if m.rows[id].routing != old.routing {
			m.mark(xid, dbsync.Operation{Kind: dbsync.Delete, ID: id, Routing: old.routing})
		}
		m.store(t, xid, id)
	case what == "rename":
		other := rapid.SampledFrom(ids).Draw(t, "other id")
		if _, taken := m.rows[other]; taken || other[0] != id[0] {
			return
		}
		delete(m.rows, id)
		m.rows[other] = old
		m.mark(xid, dbsync.Operation{Kind: dbsync.Delete, ID: id, Routing: old.routing})
		m.store(t, xid, other)
	}
}

// apply does with a batch what a Handler does, up to a stage of it, each in any order.
func (m *model) apply(t *rapid.T, batch *dbsync.Batch, stages int) {
	s, err := sortBatch(batch)
	if err != nil {
		t.Fatal(err)
	}
	shuffled := func(ops []dbsync.Operation) []dbsync.Operation {
		if len(ops) == 0 {
			return nil
		}
		return rapid.Permutation(ops).Draw(t, "order")
	}
	stage := []func(){
		func() {
			for _, op := range s.truncations {
				for at, doc := range m.documents {
					if doc.body != "" && strings.HasPrefix(at.id, op.ID) && int64(op.Version)<<1 >= doc.version {
						m.documents[at] = stored{version: int64(op.Version) << 1}
					}
				}
			}
		},
		func() {
			for _, w := range s.rereads {
				m.reread(shuffled(w.direct), w)
			}
		},
		func() {
			for _, op := range shuffled(s.ready) {
				m.write(op)
			}
		},
	}
	for _, f := range stage[:stages] {
		f()
	}
	m.checkVisible(t, batch, s)
}

// reread reads from the table as it is now.
func (m *model) reread(direct []dbsync.Operation, w *rereads) {
	read := make(map[string]bool)
	for _, op := range direct {
		read[op.ID] = true
		if w.latest != nil && op.OlderThan(w.latest) {
			op.Version = w.latest.Version
		}
		if _, there := m.rows[op.ID]; there {
			op.Body = []byte(m.body(op.ID))
		}
		m.write(op)
	}
	for id, row := range m.rows {
		if len(w.lookups) > 0 && id[0] == 'b' && !read[id] {
			m.write(dbsync.Operation{ID: id, Routing: row.routing, Version: w.latest.Version, Body: []byte(m.body(id))})
		}
	}
}

// checkVisible makes sure that what is read shows what it must.
func (m *model) checkVisible(t *rapid.T, batch *dbsync.Batch, s *sorted) {
	awaits := slices.ContainsFunc(batch.Operations(), func(op dbsync.Operation) bool { return op.AwaitVisible })
	for _, op := range batch.Operations() {
		want := awaits || op.Kind == dbsync.Reread
		if want && !slices.Contains(s.visible, op.Xid) {
			t.Fatalf("transaction %d is not waited for: %v", op.Xid, s.visible)
		}
	}
}

// Whatever transactions bring, and in whatever order each stage is written, the documents are
// those of the table, also when the batch comes again after some of it was written.
func TestSortedBatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &root{source: new(mapping.Source)}
		m := &model{rows: make(map[string]row), documents: make(map[place]stored), oneShard: rapid.Bool().Draw(t, "one shard"), simple: rapid.Bool().Draw(t, "simple"),
			plain: new(root), included: &link{root: r, path: new(mapping.Path)}}
		xid := uint32(1)
		for range rapid.IntRange(1, 3).Draw(t, "batches") {
			m.ops = nil
			for range rapid.IntRange(1, 4).Draw(t, "transactions") {
				xid++
				for range rapid.IntRange(1, 6).Draw(t, "changes") {
					m.change(t, xid)
				}
			}
			batch := dbsync.NewBatch(m.ops...)
			before := slices.Clone(batch.Operations())
			m.apply(t, batch, rapid.IntRange(0, 3).Draw(t, "stages before an error"))
			m.apply(t, batch, 3)
			if !reflect.DeepEqual(before, batch.Operations()) {
				t.Fatal("the batch was changed")
			}
			got, want := make(map[place]string), make(map[place]string)
			for at, doc := range m.documents {
				if doc.body != "" {
					got[at] = doc.body
				}
			}
			for id, row := range m.rows {
				want[m.place(id, row.routing)] = m.body(id)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(place{})); diff != "" {
				t.Fatalf("documents (-want +got):\n%s", diff)
			}
		}
	})
}

// A plain batch is not looked at, and what comes out of any other is as much as went in.
func TestSortedKeepsEveryOperation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := []dbsync.Kind{dbsync.Store, dbsync.Delete, dbsync.Refused, dbsync.Reread, dbsync.Truncate, dbsync.Related}
		plain, r := kinds[:3], &root{source: new(mapping.Source)}
		var ops []dbsync.Operation
		for range rapid.IntRange(0, 20).Draw(t, "operations") {
			op := dbsync.Operation{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Index: "i", ID: rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 1, 3, -1).Draw(t, "id")}
			switch op.Kind {
			case dbsync.Reread:
				op.Origin = r
			case dbsync.Related:
				op.ID, op.Origin = "", &link{root: r, path: new(mapping.Path)}
			}
			ops = append(ops, op)
		}
		batch := dbsync.NewBatch(ops...)
		s, err := sortBatch(batch)
		if err != nil {
			t.Fatal(err)
		}
		n := len(s.truncations) + len(s.ready)
		for _, w := range s.rereads {
			n += len(w.direct) + len(w.lookups)
		}
		if n != len(batch.Operations()) {
			t.Fatalf("%d operations of %d", n, len(batch.Operations()))
		}
		for _, op := range s.ready {
			if !slices.Contains(plain, op.Kind) {
				t.Fatalf("%s is ready", op.Kind)
			}
		}
		if all := len(s.ready) == n; batch.Plain() && !all {
			t.Fatalf("a plain batch has %d operations that are not ready", n-len(s.ready))
		}
	})
}

// Operations of somebody else are refused: what they stand for is not known.
func TestSortedRefusesForeignOperations(t *testing.T) {
	for _, op := range []dbsync.Operation{{Kind: dbsync.Reread, Index: "i", ID: "1"}, {Kind: dbsync.Related, Index: "i", Origin: new(root)}} {
		op.AwaitVisible = true
		if root, ok := op.Origin.(*root); ok {
			root.source = &mapping.Source{Index: &mapping.Index{Name: "products"}}
			root.source.Index.Sources = []*mapping.Source{root.source}
		}
		_, err := sortBatch(dbsync.NewBatch(op))
		if permanent := (*dbsync.PermanentError)(nil); !errors.As(err, &permanent) || !strings.Contains(err.Error(), op.Kind.String()+" i/") {
			t.Errorf("%s: %v, want a permanent error that names it", op.Kind, err)
		}
	}
}

// BenchmarkSortBatch sorts a batch as it comes to the Handler: of whole rows; of rows a quarter
// of which got another routing; of rows a quarter of which have to be read again.
func BenchmarkSortBatch(b *testing.B) {
	r := &root{source: new(mapping.Source)}
	for name, change := range map[string]func(i int, op *dbsync.Operation){
		"plain": func(int, *dbsync.Operation) {},
		"moved": func(i int, op *dbsync.Operation) {
			op.Routing = "now"
			if i%5 == 0 { // followed by what stores its document
				op.Kind, op.Routing = dbsync.Delete, "before"
			} else if i%5 == 1 {
				op.ID = fmt.Sprint(i - 1)
			}
		},
		"reread": func(i int, op *dbsync.Operation) {
			if i%4 == 0 {
				op.Kind, op.Origin = dbsync.Reread, r
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			ops := make([]dbsync.Operation, 8192)
			for i := range ops {
				ops[i] = dbsync.Operation{Index: "products-20260131T120000Z", ID: fmt.Sprint(i), Version: 1, Xid: uint32(1 + i/10), Body: []byte("{}")}
				change(i, &ops[i])
			}
			batch := dbsync.NewBatch(ops...)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := sortBatch(batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
