package indexer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// parse reads the indices of a mapping, as YAML, for a database.
func parse(t testing.TB, url, indices string) *mapping.Config {
	t.Helper()
	text := fmt.Sprintf("postgres: {url: %q}\nsearch: {urls: [\"http://localhost:9200\"]}\nindices:\n", url)
	for line := range strings.Lines(strings.Trim(indices, "\n")) {
		text += "  " + line
	}
	c, err := mapping.Parse("test.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A stream is a Syncer on a database of a test, with a Handler.
type stream struct {
	*dbsync.Syncer
	db      *testenv.Database
	config  *mapping.Config
	handler *Handler
	targets map[string]*Documents // by index
	done    chan error            // what Run returned
	ended   chan struct{}
}

// newStream makes the Syncer, but does not run it. Each index is written to under its own name. More tables may be
// published than the mapping has.
func newStream(t *testing.T, db *testenv.Database, indices string, more ...string) *stream {
	t.Helper()
	s := &stream{db: db, config: parse(t, db.URL, indices), targets: make(map[string]*Documents)}
	var documents []*Documents
	tables := more
	for _, ix := range s.config.Indices {
		d := &Documents{Index: ix}
		d.SetTargets(Target{Alias: ix.Name})
		s.targets[ix.Name] = d
		documents = append(documents, d)
	}
	known := make(catalog.Tables)
	for _, name := range s.config.Tables() {
		if !slices.Contains(tables, name.String()) {
			tables = append(tables, name.String())
		}
		table, err := catalog.LoadTable(t.Context(), db.DB, name.Schema, name.Name)
		if err != nil {
			t.Fatal(err)
		}
		known[name] = table
	}
	var err error
	s.Syncer, err = dbsync.NewSyncerContext(t.Context(), dbsync.WithPGConnStr(db.URL), dbsync.WithReplicationSlot(db.Unique("slot")),
		dbsync.ForTables(tables...), dbsync.WithLogger(searchtest.Logger(t)),
		dbsync.OnSlot(func(ctx context.Context) error { s.handler.Begin(ctx); return nil }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.handler = NewHandler(HandlerOptions{Syncer: s.Syncer, Documents: documents, Catalog: NewCatalog(known, dbsync.DEFAULT_DBSYNC_PUBNAME), Logger: searchtest.Logger(t)})
	s.MessageHandler = s.handler
	return s
}

// Messages of ours say that somebody changed the catalog, and in which transaction; others say
// nothing.
func TestAnnounced(t *testing.T) {
	var announced []uint32
	h := NewHandler(HandlerOptions{Catalog: NewCatalog(nil, ""), Announced: func(xid uint32) { announced = append(announced, xid) }})
	for _, message := range []pglogrepl.LogicalDecodingMessage{
		{Prefix: dbsync.CatalogPrefix, Transactional: true, Content: []byte("ALTER TABLE")},
		{Prefix: dbsync.CatalogPrefix, Content: []byte("ALTER TABLE")}, // not by an event trigger
		{Prefix: "dbsync", Transactional: true, Content: []byte("ALTER TABLE")},
		{Prefix: dbsync.CatalogPrefix, Transactional: true},
	} {
		if err := errors.Join(h.HandleBeginMessage(0, &pglogrepl.BeginMessage{Xid: uint32(10 + len(announced))}), h.HandleLogicalMessage(1, &message)); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(announced, []uint32{10, 11}) {
		t.Errorf("announced are changes of transactions %d, want 10 and 11", announced)
	}
	if err := NewHandler(HandlerOptions{}).HandleLogicalMessage(0, &pglogrepl.LogicalDecodingMessage{Prefix: dbsync.CatalogPrefix, Transactional: true}); err != nil {
		t.Error(err)
	}
}

// writeTo has batches written to a search server, by a client of their own.
func (s *stream) writeTo(t testing.TB, url string, o search.BulkOptions) *searchtest.Writer {
	t.Helper()
	client := searchtest.Connect(t, url)
	w := searchtest.NewWriter(t, client, o)
	s.handler.o.Writer = Direct{w.Bulk, client, searchtest.Logger(t)}
	s.Batcher = dbsync.OperationsOnly(s.handler)
	return w
}

// record has the operations collected until the test writes them with the handler's
// BatchOperations. It follows writeTo.
func (s *stream) record() *recorder {
	r := new(recorder)
	s.Batcher = dbsync.OperationsOnly(r)
	return r
}

// write writes operations as one batch.
func (s *stream) write(t testing.TB, ops []dbsync.Operation) {
	t.Helper()
	if err := s.handler.BatchOperations(searchtest.Within(t, 30*time.Second), dbsync.NewBatch(ops...)); err != nil {
		t.Fatal(err)
	}
}

// run runs the Syncer until stop or the test's end.
func (s *stream) run(t *testing.T) {
	t.Helper()
	done, ended := make(chan error, 1), make(chan struct{})
	s.done, s.ended = done, ended
	ctx := t.Context()
	go func() {
		defer close(ended)
		done <- s.Run(ctx)
	}()
	t.Cleanup(s.stop)
	for !s.IsRunning() {
		select {
		case <-ended:
			t.Fatalf("Run: %v", <-done)
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *stream) stop() {
	s.Stop()
	<-s.ended
}

// settle waits until everything that was committed is stored.
func (s *stream) settle(t *testing.T) {
	t.Helper()
	if err := s.Barrier(searchtest.Within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// A recorder takes batches in the place of a search server.
type recorder struct {
	mu  sync.Mutex
	ops []dbsync.Operation
}

func (r *recorder) BatchOperations(_ context.Context, batch *dbsync.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, op := range batch.Operations() {
		op.Body = bytes.Clone(op.Body) // the batch's storage is used again
		r.ops = append(r.ops, op)
	}
	return nil
}

// operations returns what came since it was last called.
func (r *recorder) operations() []dbsync.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	ops := r.ops
	r.ops = nil
	return ops
}

// take returns what came since it was last called, one line each.
func (r *recorder) take() []string {
	var lines []string
	for _, op := range r.operations() {
		lines = append(lines, operationText(op))
	}
	return lines
}

func operationText(op dbsync.Operation) string {
	where := op.Index + "/" + op.ID
	if op.Routing != "" {
		where += "@" + op.Routing
	}
	switch op.Kind {
	case dbsync.Truncate:
		return "truncate " + op.Index
	case dbsync.Delete:
		return "delete " + where
	case dbsync.Reread:
		return fmt.Sprintf("reread %s by %s", where, bytes.Join(op.Key, []byte(", ")))
	}
	return fmt.Sprintf("index %s %s", where, op.Body)
}

// large is a value that is kept outside of its row, in a column of STORAGE EXTERNAL.
const large = "repeat('x', 9000)"

func TestTranslate(t *testing.T) {
	xs := strings.Repeat("x", 9000)
	key := strings.Repeat("k", 2500)
	tests := []struct {
		name    string
		tables  string // SQL, before the slot is made
		indices string
		targets map[string][]string // of indices that are not written to under their own name
		offline string              // SQL, committed while nobody follows the slot
		changes []string            // SQL, each a transaction
		want    []string
	}{
		{
			name:    "insert",
			tables:  `CREATE TABLE insert_ (id int PRIMARY KEY, title text, price numeric(8,2))`,
			indices: `i1: {table: insert_}`,
			changes: []string{`INSERT INTO insert_ VALUES (7, 'a "quoted" title', 12.50), (8, NULL, NULL)`},
			want:    []string{`index i1/7 {"id":7,"title":"a \"quoted\" title","price":12.50}`, `index i1/8 {"id":8,"title":null,"price":null}`},
		}, {
			name:    "renamed and left out",
			tables:  `CREATE TABLE renamed (id int PRIMARY KEY, title text, secret text)`,
			indices: `i2: {table: renamed, fields: {name: {column: title}, secret: false}}`,
			changes: []string{`INSERT INTO renamed VALUES (7, 'a', 's')`},
			want:    []string{`index i2/7 {"id":7,"name":"a"}`},
		}, {
			name:    "update",
			tables:  `CREATE TABLE update_ (id int PRIMARY KEY, title text); INSERT INTO update_ VALUES (7, 'a')`,
			indices: `i3: {table: update_}`,
			changes: []string{`UPDATE update_ SET title = 'b'`},
			want:    []string{`index i3/7 {"id":7,"title":"b"}`},
		}, {
			name:    "changed key moves the document",
			tables:  `CREATE TABLE moved (id int PRIMARY KEY, title text); INSERT INTO moved VALUES (7, 'a')`,
			indices: `i4: {table: moved}`,
			changes: []string{`UPDATE moved SET id = 8`},
			want:    []string{`delete i4/7`, `index i4/8 {"id":8,"title":"a"}`},
		}, {
			name:    "keys that are handed on",
			tables:  `CREATE TABLE rotated (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text); ALTER TABLE rotated REPLICA IDENTITY FULL; INSERT INTO rotated VALUES (1, 'a'), (2, 'b')`,
			indices: `i5: {table: rotated}`,
			changes: []string{`UPDATE rotated SET id = 3 - id`},
			want:    []string{`reread i5/1 by 1`, `index i5/2 {"id":2,"v":"a"}`, `reread i5/2 by 2`, `index i5/1 {"id":1,"v":"b"}`},
		}, {
			name:    "keys that were handed on before they had to be one row's at once",
			tables:  `CREATE TABLE rotated_once (id int PRIMARY KEY DEFERRABLE, v text); ALTER TABLE rotated_once REPLICA IDENTITY FULL; INSERT INTO rotated_once VALUES (1, 'a'), (2, 'b')`,
			indices: `i38: {table: rotated_once}`,
			offline: `UPDATE rotated_once SET id = 3 - id; ALTER TABLE rotated_once DROP CONSTRAINT rotated_once_pkey; ALTER TABLE rotated_once ADD PRIMARY KEY (id)`,
			changes: []string{`UPDATE rotated_once SET id = 3 WHERE id = 1`},
			want:    []string{`reread i38/1 by 1`, `index i38/2 {"id":2,"v":"a"}`, `reread i38/2 by 2`, `index i38/1 {"id":1,"v":"b"}`, `delete i38/1`, `index i38/3 {"id":3,"v":"b"}`},
		}, {
			name:    "composite key, not in the order of the table",
			tables:  `CREATE TABLE composite (v int, b text, a int, PRIMARY KEY (a, b)); INSERT INTO composite VALUES (1, 'x|y', 7)`,
			indices: `i6: {table: composite}`,
			changes: []string{`UPDATE composite SET v = 2`, `UPDATE composite SET b = '~'`, `DELETE FROM composite`},
			want:    []string{`index i6/7|x~|y {"v":2,"b":"x|y","a":7}`, `delete i6/7|x~|y`, `index i6/7|~~ {"v":2,"b":"~","a":7}`, `delete i6/7|~~`},
		}, {
			name:    "delete with the key alone",
			tables:  `CREATE TABLE deleted (id int PRIMARY KEY, title text); INSERT INTO deleted VALUES (7, 'a')`,
			indices: `i7: {table: deleted}`,
			changes: []string{`DELETE FROM deleted`},
			want:    []string{`delete i7/7`},
		}, {
			name:    "delete with the whole row",
			tables:  `CREATE TABLE deleted_full (id int PRIMARY KEY, title text); ALTER TABLE deleted_full REPLICA IDENTITY FULL; INSERT INTO deleted_full VALUES (7, 'a')`,
			indices: `i8: {table: deleted_full}`,
			changes: []string{`DELETE FROM deleted_full`},
			want:    []string{`delete i8/7`},
		}, {
			name:    "delete by another unique index",
			tables:  `CREATE TABLE deleted_index (id int PRIMARY KEY, code text NOT NULL UNIQUE); ALTER TABLE deleted_index REPLICA IDENTITY USING INDEX deleted_index_code_key; INSERT INTO deleted_index VALUES (7, 'seven')`,
			indices: `i9: {table: deleted_index, id: [code]}`,
			changes: []string{`UPDATE deleted_index SET id = 8`, `DELETE FROM deleted_index`},
			want:    []string{`index i9/seven {"id":8,"code":"seven"}`, `delete i9/seven`},
		}, {
			name:    "routing, changed and NULL",
			tables:  `CREATE TABLE routed (id int PRIMARY KEY, tenant text); ALTER TABLE routed REPLICA IDENTITY FULL`,
			indices: `i10: {table: routed, routing: tenant}`,
			changes: []string{`INSERT INTO routed VALUES (7, 'x')`, `UPDATE routed SET tenant = 'y'`, `UPDATE routed SET tenant = NULL`, `UPDATE routed SET id = 8`, `DELETE FROM routed`},
			want: []string{`index i10/7@x {"id":7,"tenant":"x"}`,
				`delete i10/7@x`, `index i10/7@y {"id":7,"tenant":"y"}`,
				`delete i10/7@y`, `index i10/7 {"id":7,"tenant":null}`,
				`delete i10/7`, `index i10/8 {"id":8,"tenant":null}`,
				`delete i10/8`},
		}, {
			name:    "unchanged TOAST value: read the row again",
			tables:  `CREATE TABLE toast (id int PRIMARY KEY, v int, note text); ALTER TABLE toast ALTER note SET STORAGE EXTERNAL; INSERT INTO toast VALUES (7, 1, ` + large + `)`,
			indices: `i11: {table: toast}`,
			changes: []string{`UPDATE toast SET v = 2`, `UPDATE toast SET id = 8`, `UPDATE toast SET note = 'short'`},
			want:    []string{`reread i11/7 by 7`, `delete i11/7`, `reread i11/8 by 8`, `index i11/8 {"id":8,"v":2,"note":"short"}`},
		}, {
			name:    "unchanged TOAST value that no document needs",
			tables:  `CREATE TABLE toast_unused (id int PRIMARY KEY, v int, note text); ALTER TABLE toast_unused ALTER note SET STORAGE EXTERNAL; INSERT INTO toast_unused VALUES (7, 1, ` + large + `)`,
			indices: `i12: {table: toast_unused, fields: {note: false}}`,
			changes: []string{`UPDATE toast_unused SET v = 2`},
			want:    []string{`index i12/7 {"id":7,"v":2}`},
		}, {
			name:    "unchanged TOAST value from the old row",
			tables:  `CREATE TABLE toast_full (id int PRIMARY KEY, v int, note text); ALTER TABLE toast_full ALTER note SET STORAGE EXTERNAL; ALTER TABLE toast_full REPLICA IDENTITY FULL; INSERT INTO toast_full VALUES (7, 1, ` + large + `)`,
			indices: `i13: {table: toast_full}`,
			changes: []string{`UPDATE toast_full SET v = 2`, `UPDATE toast_full SET id = 8`},
			want: []string{`index i13/7 {"id":7,"v":2,"note":"` + xs + `"}`,
				`delete i13/7`, `index i13/8 {"id":8,"v":2,"note":"` + xs + `"}`},
		}, {
			name:    "key that is a TOAST value",
			tables:  `CREATE TABLE toast_key (id text PRIMARY KEY, v int); ALTER TABLE toast_key ALTER id SET STORAGE EXTERNAL; INSERT INTO toast_key VALUES (repeat('k', 2500), 1)`,
			indices: `i14: {table: toast_key}`,
			changes: []string{`UPDATE toast_key SET v = 2`, `DELETE FROM toast_key`},
			want: []string{`index i14/~sha256-c80d51d536a7793634986db94f8773d6feaad30f882436fc43f84494c44b2cda {"id":"` + key + `","v":2}`,
				`delete i14/~sha256-c80d51d536a7793634986db94f8773d6feaad30f882436fc43f84494c44b2cda`},
		}, {
			name:    "generated column: the log does not carry it",
			tables:  `CREATE TABLE generated_ (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED)`,
			indices: `i15: {table: generated_}`,
			changes: []string{`INSERT INTO generated_ VALUES (7, 1)`, `DELETE FROM generated_`},
			want:    []string{`reread i15/7 by 7`, `delete i15/7`},
		}, {
			name:    "column that was added after the change",
			tables:  `CREATE TABLE added (id int PRIMARY KEY, v int)`,
			indices: `i16: {table: added}`,
			offline: `INSERT INTO added VALUES (7, 1); ALTER TABLE added ADD COLUMN w int DEFAULT 5; INSERT INTO added VALUES (8, 2, 3)`,
			want:    []string{`reread i16/7 by 7`, `index i16/8 {"id":8,"v":2,"w":3}`},
		}, {
			name:    "column that was dropped after the change",
			tables:  `CREATE TABLE dropped (id int PRIMARY KEY, v int, w int)`,
			indices: `i17: {table: dropped, fields: {x: {column: w}}}`,
			offline: `INSERT INTO dropped VALUES (7, 1, 2); ALTER TABLE dropped DROP COLUMN w; INSERT INTO dropped VALUES (8, 2)`,
			want:    []string{`index i17/7 {"id":7,"v":1}`, `index i17/8 {"id":8,"v":2}`},
		}, {
			name:    "column that is added while the stream is followed",
			tables:  `CREATE TABLE added_now (id int PRIMARY KEY, v int)`,
			indices: `i18: {table: added_now}`,
			changes: []string{`INSERT INTO added_now VALUES (7, 1)`, `ALTER TABLE added_now ADD COLUMN w int`, `INSERT INTO added_now VALUES (8, 2, 3)`},
			want:    []string{`index i18/7 {"id":7,"v":1}`, `index i18/8 {"id":8,"v":2,"w":3}`},
		}, {
			name:    "two mappings on one table",
			tables:  `CREATE TABLE shared (id int PRIMARY KEY, code text NOT NULL UNIQUE, note text); ALTER TABLE shared ALTER note SET STORAGE EXTERNAL; ALTER TABLE shared REPLICA IDENTITY FULL`,
			indices: "i19: {table: shared, fields: {note: false}}\ni20: {table: shared, id: [code], fields: {\"*\": false, note: true}}",
			changes: []string{`INSERT INTO shared VALUES (7, 'seven', 'n')`, `UPDATE shared SET id = 8`, `UPDATE shared SET code = 'eight'`, `DELETE FROM shared`},
			want: []string{
				`index i19/7 {"id":7,"code":"seven"}`, `index i20/seven {"note":"n"}`,
				`delete i19/7`, `index i19/8 {"id":8,"code":"seven"}`, `index i20/seven {"note":"n"}`,
				`index i19/8 {"id":8,"code":"eight"}`, `delete i20/seven`, `index i20/eight {"note":"n"}`,
				`delete i19/8`, `delete i20/eight`,
			},
		}, {
			name:    "an index in use and one that is being built",
			tables:  `CREATE TABLE two_targets (id int PRIMARY KEY, v int, note text); ALTER TABLE two_targets ALTER note SET STORAGE EXTERNAL`,
			indices: `i21: {table: two_targets}`,
			targets: map[string][]string{"i21": {"old", "new"}},
			changes: []string{`INSERT INTO two_targets VALUES (7, 1, ` + large + `)`, `UPDATE two_targets SET v = 2`, `DELETE FROM two_targets`, `TRUNCATE two_targets`},
			want: []string{`index old/7 {"id":7,"v":1,"note":"` + xs + `"}`, `index new/7 {"id":7,"v":1,"note":"` + xs + `"}`,
				`reread old/7 by 7`, `reread new/7 by 7`, `delete old/7`, `delete new/7`, `truncate old`, `truncate new`},
		}, {
			name:    "TRUNCATE",
			tables:  `CREATE TABLE truncated (id int PRIMARY KEY); CREATE TABLE truncated_too (id int PRIMARY KEY REFERENCES truncated)`,
			indices: "i22: {table: truncated}\ni23: {table: truncated_too}",
			changes: []string{`INSERT INTO truncated VALUES (7)`, `TRUNCATE truncated CASCADE`, `INSERT INTO truncated VALUES (8)`},
			want:    []string{`index i22/7 {"id":7}`, `truncate i22`, `truncate i23`, `index i22/8 {"id":8}`},
		}, {
			name:    "partitions",
			tables:  `CREATE TABLE parted (id int, tenant text, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE TABLE parted1 PARTITION OF parted FOR VALUES FROM (0) TO (10); CREATE TABLE parted2 PARTITION OF parted FOR VALUES FROM (10) TO (20)`,
			indices: `i24: {table: parted}`,
			changes: []string{`INSERT INTO parted VALUES (7, 'x', 1)`, `UPDATE parted SET v = 2`, `UPDATE parted SET id = 17`, `DELETE FROM parted`},
			want: []string{`index i24/7 {"id":7,"tenant":"x","v":1}`, `index i24/7 {"id":7,"tenant":"x","v":2}`,
				`delete i24/7`, `index i24/17 {"id":17,"tenant":"x","v":2}`, `delete i24/17`},
		}, {
			name: "partitions that carry the whole row, under a table that does not",
			tables: `CREATE TABLE parted_full (id int, tenant text, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
				CREATE TABLE parted_full1 PARTITION OF parted_full FOR VALUES FROM (0) TO (10); ALTER TABLE parted_full1 REPLICA IDENTITY FULL`,
			indices: `i25: {table: parted_full, routing: tenant}`,
			changes: []string{`INSERT INTO parted_full VALUES (7, 'x', 1)`, `UPDATE parted_full SET tenant = 'y'`, `DELETE FROM parted_full`},
			want:    []string{`index i25/7@x {"id":7,"tenant":"x","v":1}`, `delete i25/7@x`, `index i25/7@y {"id":7,"tenant":"y","v":1}`, `delete i25/7@y`},
		}, {
			// Postgres takes neither updates nor deletes then.
			name:    "replica identity taken away and given back",
			tables:  `CREATE TABLE nothing (id int PRIMARY KEY)`,
			indices: `i27: {table: nothing}`,
			changes: []string{`ALTER TABLE nothing REPLICA IDENTITY NOTHING; INSERT INTO nothing VALUES (7)`, `ALTER TABLE nothing REPLICA IDENTITY DEFAULT; DELETE FROM nothing`},
			want:    []string{`index i27/7 {"id":7}`, `delete i27/7`},
		}, {
			name:    "names that need quotes",
			tables:  `CREATE SCHEMA "Sch ema"; CREATE TABLE "Sch ema"."Ta""ble" ("I.d" int PRIMARY KEY, "order" text)`,
			indices: `i26: {table: '"Sch ema"."Ta""ble"', fields: {id: {column: I.d}}}`,
			changes: []string{`INSERT INTO "Sch ema"."Ta""ble" VALUES (7, 'x')`},
			want:    []string{`index i26/7 {"id":7,"order":"x"}`},
		}, {
			name:    "table that no mapping names",
			tables:  `CREATE TABLE stranger (id int PRIMARY KEY, v int)`,
			changes: []string{`INSERT INTO stranger VALUES (1, 1)`, `UPDATE stranger SET id = 2`, `DELETE FROM stranger`, `TRUNCATE stranger`},
			want:    nil,
		},
	}

	db := testenv.NewDatabase(t)
	var indices, offline []string
	for _, test := range tests {
		db.Exec(t, test.tables)
		if test.indices != "" {
			indices = append(indices, test.indices)
		}
		if test.offline != "" {
			offline = append(offline, test.offline)
		}
	}
	s := newStream(t, db, strings.Join(indices, "\n"), "stranger")
	s.MaxMessagesToRead = 1 // so that nothing is compacted
	db.Exec(t, offline...)
	r := s.record()
	s.run(t)
	s.settle(t)
	caughtUp := r.take()

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for index, targets := range test.targets {
				var set []Target
				for _, alias := range targets {
					set = append(set, Target{Alias: alias})
				}
				s.targets[index].SetTargets(set...)
			}
			var got []string
			for _, line := range caughtUp {
				index, _, _ := strings.Cut(strings.Fields(line)[1], "/")
				if strings.HasPrefix(test.indices, index+":") {
					got = append(got, line)
				}
			}
			for _, change := range test.changes {
				db.Exec(t, change)
				s.settle(t)
				got = append(got, r.take()...)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("operations (-want +got):\n%s", diff)
			}
		})
	}
}

// What an operation carries besides the document.
func TestTranslateVersions(t *testing.T) {
	db := testenv.NewDatabase(t)
	db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	s := newStream(t, db, `t: {table: t}`)
	r := s.record()
	s.MaxMessagesToRead = 1
	s.run(t)
	db.Exec(t, `BEGIN; INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); COMMIT`, `INSERT INTO t VALUES (3)`)
	s.settle(t)
	ops := r.operations()
	a, b, c := ops[0], ops[1], ops[2]
	if a.Group != 0 || b.Group != 1 || c.Group != 0 {
		t.Errorf("groups of one change are %d and %d, that of another transaction is %d", a.Group, b.Group, c.Group)
	}
	if a.Version == 0 || a.Version != b.Version || a.Xid != b.Xid || a.Xid == 0 {
		t.Errorf("one transaction has versions %s and %s, xids %d and %d", a.Version, b.Version, a.Xid, b.Xid)
	}
	if c.Version <= b.Version || c.Xid == b.Xid {
		t.Errorf("a later transaction has version %s after %s, xid %d after %d", c.Version, b.Version, c.Xid, b.Xid)
	}
}

// A transaction with more changes than versions can tell apart is told of, once it has come whole.
func TestTied(t *testing.T) {
	db := testenv.NewDatabase(t)
	db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	s := newStream(t, db, `t: {table: t}`)
	s.record()
	s.MaxMessagesToRead = 1 // a group for each change
	tied := 0
	s.handler.o.Tied = func(context.Context) error {
		tied++
		return nil
	}
	s.run(t)
	for want, changes := range []int{search.MaxGroup + 1, search.MaxGroup + 2} {
		db.Exec(t, fmt.Sprintf(`INSERT INTO t SELECT i FROM generate_series(1, %d) i`, changes), `TRUNCATE t`)
		s.settle(t)
		s.stop()
		if tied != want {
			t.Errorf("after %d changes it was told %d times, want %d", changes, tied, want)
		}
		if want == 0 {
			s.run(t)
		}
	}
}

// What a TRUNCATE removes must not come back with the batch that has it.
func TestTruncateTakesThePlaceOfEarlierOperations(t *testing.T) {
	db := testenv.NewDatabase(t)
	db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; CREATE TABLE u (id int PRIMARY KEY)`)
	s := newStream(t, db, "t: {table: t}\nu: {table: u}")
	r := s.record()
	s.run(t)
	db.Exec(t, `BEGIN; INSERT INTO u VALUES (1); INSERT INTO t SELECT i, `+large+` FROM generate_series(1, 50) i; UPDATE t SET id = -id;
		TRUNCATE t; INSERT INTO t VALUES (7, 'x'); COMMIT`)
	s.settle(t)

	ops := r.operations()
	truncated := slices.IndexFunc(ops, func(op dbsync.Operation) bool { return op.Kind == dbsync.Truncate })
	var got []string
	for i, op := range ops {
		if i > truncated || op.Index == "u" {
			got = append(got, operationText(op))
		}
	}
	want := []string{`index t/7 {"id":7,"v":"x"}`, `index u/1 {"id":1}`}
	for i := 1; i <= 50; i++ { // another process may have sent them, and they come late
		want = append(want, fmt.Sprintf("delete t/%d", -i))
		if i != 7 {
			want = append(want, fmt.Sprintf("delete t/%d", i))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations after the truncation (-want +got):\n%s", diff)
	}
}

// startWithoutStandby starts a server that waits for a standby that does not exist, where a
// session asks for it.
func startWithoutStandby(t *testing.T) *testenv.Postgres {
	t.Helper()
	return testenv.StartPostgres(t, testenv.PostgresOptions{Settings: map[string]string{
		"synchronous_standby_names": "nobody", "synchronous_commit": "local"}})
}

// hang has a transaction wait in its commit: it is in the stream, and no snapshot shows it.
// It returns when somebody waits for it to be visible, who has looked since.
func hang(t *testing.T, db *testenv.Database, sql string) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	done := make(chan error, 1)
	go func() {
		_, err := conn.PgConn().Exec(context.WithoutCancel(t.Context()), `SET synchronous_commit = on; `+sql).ReadAll()
		done <- err
	}()
	ask := func(what, sql string) {
		t.Helper()
		ctx := searchtest.Within(t, 30*time.Second)
		for {
			var ok bool
			if err := db.DB.QueryRowContext(ctx, sql, conn.PgConn().PID()).Scan(&ok); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if ok {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("waited in vain: %s", what)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	ask("the commit hangs", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep')`)
	ask("a session has taken a snapshot since", `SELECT EXISTS (SELECT FROM pg_stat_activity r, pg_stat_activity c WHERE c.pid = $1
		AND r.datname = current_database() AND r.application_name = 'dbsync' AND r.backend_type = 'client backend'
		AND r.state_change > c.state_change AND r.query LIKE '%ROLLBACK%')`)
	return func() {
		t.Helper()
		if _, err := db.DB.ExecContext(t.Context(), `SELECT pg_cancel_backend($1)`, conn.PgConn().PID()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// The catalog shows what a transaction did to a table when its commit is visible, which
// is later than the stream has it.
func TestTranslateWaitsForTheCatalog(t *testing.T) {
	db := startWithoutStandby(t).NewDatabase(t)
	db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, v int)`)
	s := newStream(t, db, `t: {table: t}`)
	r := s.record()
	s.run(t)
	db.Exec(t, `INSERT INTO t VALUES (7, 1)`)
	s.settle(t)
	release := hang(t, db, `ALTER TABLE t ADD COLUMN w int; INSERT INTO t VALUES (8, 2, 3)`)
	release()
	s.settle(t)
	if diff := cmp.Diff([]string{`index t/7 {"id":7,"v":1}`, `index t/8 {"id":8,"v":2,"w":3}`}, r.take()); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

func TestTranslateStops(t *testing.T) {
	tests := []struct {
		name, change string
		want         string
	}{
		{"update without the key", `ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key; INSERT INTO t VALUES (1); UPDATE t SET id = 2`,
			`public.t was changed while column "id" was not in its replica identity, so it is not known which documents are gone; hint: ALTER TABLE public.t REPLICA IDENTITY FULL, drop the replication slot`},
		{"delete without the key", `ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key; INSERT INTO t VALUES (1); DELETE FROM t`,
			`hint: ALTER TABLE public.t REPLICA IDENTITY FULL, drop the replication slot, and start with on_slot_lost: reindex`},
		{"table gone", `INSERT INTO t VALUES (1); DROP TABLE t`, "table public.t is gone or was renamed; hint: give it its name back"},
		{"key column gone", `INSERT INTO t VALUES (1); ALTER TABLE t DROP COLUMN id`, "has no primary key"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := testenv.NewDatabase(t)
			db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE DEFAULT 'x')`)
			s := newStream(t, db, `t: {table: t}`)
			s.record()
			db.Exec(t, test.change)
			err := s.Run(searchtest.Within(t, 30*time.Second))
			if !dbsync.IsPermanent(err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Run: %v, want a permanent error with %q", err, test.want)
			}
		})
	}
}
