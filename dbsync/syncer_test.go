package dbsync_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"tidemark/dbsync"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// store is an index in memory, with the versions of a search server: an operation that
// is older than what is there changes nothing, also when what is there is a deletion.
type store struct {
	mu      sync.Mutex
	docs    map[string]dbsync.Operation // deletions too
	batches int
	before  func(ctx context.Context, ops []dbsync.Operation) error // may refuse a batch
	changed chan struct{}
}

func newStore() *store {
	return &store{docs: make(map[string]dbsync.Operation), changed: make(chan struct{}, 1)}
}

func (s *store) BatchUpsert(string, []dbsync.StringMap) (any, error) { panic("not the fast path") }
func (s *store) BatchDelete(string, []string) (any, error)           { panic("not the fast path") }

func (s *store) BatchOperations(ctx context.Context, ops []dbsync.Operation) error {
	if s.before != nil {
		if err := s.before(ctx, ops); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	for _, op := range ops {
		key := op.Index + "/" + op.ID
		if op.Version >= s.docs[key].Version {
			s.docs[key] = op
		}
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return nil
}

// rows returns the documents of a table as text by id.
func (s *store) rows(table string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]string)
	for _, op := range s.docs {
		if op.Index == table && !op.Delete {
			out[op.ID] = fmt.Sprint(op.Doc)
		}
	}
	return out
}

// mirror is a handler that makes a document of every row.
type mirror struct {
	dbsync.DefaultMessageHandler
	syncer *dbsync.Syncer
	table  string // of rows that come by windows
	rows   int    // that came by windows
	hook   func(kind string) error
}

func (m *mirror) mark(kind string, row *pglogrepl.TupleData, r *pglogrepl.RelationMessage) error {
	if m.hook != nil {
		if err := m.hook(kind); err != nil {
			return err
		}
	}
	id, doc, _ := m.syncer.MessageToMap(row, r)
	m.syncer.MarkUpdated(r.RelationName, id, doc)
	return nil
}

func (m *mirror) HandleInsertMessage(_ int, msg *pglogrepl.InsertMessage, r *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	return m.mark("insert", msg.Tuple, r)
}

func (m *mirror) HandleUpdateMessage(_ int, msg *pglogrepl.UpdateMessage, r *pglogrepl.RelationMessage, info *dbsync.PGTableInfo) error {
	if msg.OldTuple != nil {
		if id := info.GetRecordID(msg.OldTuple, r); id != info.GetRecordID(msg.NewTuple, r) {
			m.syncer.MarkDeleted(r.RelationName, id)
		}
	}
	return m.mark("update", msg.NewTuple, r)
}

func (m *mirror) HandleDeleteMessage(_ int, msg *pglogrepl.DeleteMessage, r *pglogrepl.RelationMessage, info *dbsync.PGTableInfo) error {
	m.syncer.MarkDeleted(r.RelationName, info.GetRecordID(msg.OldTuple, r))
	return nil
}

func (m *mirror) HandleRefresh(key, value any) error {
	m.rows++
	m.syncer.MarkUpdated(m.table, key.(string), value.(dbsync.StringMap))
	return nil
}

// syncer is one Syncer under test on a database of its own.
type syncer struct {
	*dbsync.Syncer
	db     *testenv.Database
	store  *store
	mirror *mirror
	opts   []dbsync.SyncerOpt
}

func newSyncer(t *testing.T, db *testenv.Database, tables ...string) *syncer {
	t.Helper()
	s := &syncer{db: db, store: newStore()}
	s.opts = []dbsync.SyncerOpt{dbsync.WithPGConnStr(db.URL), dbsync.WithReplicationSlot(db.Unique("slot")), dbsync.ForTables(tables...),
		dbsync.WithLogger(slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))}
	s.open(t)
	return s
}

// open makes the Syncer, as a new process would.
func (s *syncer) open(t *testing.T) {
	t.Helper()
	var err error
	if s.Syncer, err = dbsync.NewSyncer(s.opts...); err != nil {
		t.Fatal(err)
	}
	s.mirror = &mirror{syncer: s.Syncer, table: "t"}
	s.MessageHandler, s.Batcher = s.mirror, s.store
	t.Cleanup(func() { s.Close() })
}

// run runs the Syncer until the test ends, and returns when it runs.
func (s *syncer) run(t *testing.T) {
	t.Helper()
	done := make(chan error, 1)
	running := s.Syncer
	go func() { done <- running.Run(t.Context()) }()
	t.Cleanup(func() {
		running.Stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	for !running.IsRunning() {
		select {
		case err := <-done:
			t.Fatalf("Run: %v", err)
		default:
		}
	}
}

// check waits until everything committed is stored and compares the store with the table.
func (s *syncer) check(t *testing.T, table string) {
	t.Helper()
	if err := s.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	rows, err := s.db.DB.QueryContext(t.Context(), "SELECT id, v FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int32
		var v *string
		if err := rows.Scan(&id, &v); err != nil {
			t.Fatal(err)
		}
		doc := dbsync.StringMap{"id": id, "v": nil}
		if v != nil {
			doc["v"] = *v
		}
		want[fmt.Sprint(id)] = fmt.Sprint(doc)
	}
	if got := s.store.rows(table); !maps.Equal(got, want) {
		t.Errorf("store of %s has %d documents, table %d rows:\n got %.2000v\nwant %.2000v", table, len(got), len(want), got, want)
	}
}

func TestRun(t *testing.T) {
	db := testenv.NewDatabase(t)
	db.Exec(t, "CREATE TABLE t (id int PRIMARY KEY, v text)")
	s := newSyncer(t, db, "t")
	db.Exec(t, "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) i")
	s.run(t)
	db.Exec(t, "UPDATE t SET v = v || '!' WHERE id % 3 = 0", "UPDATE t SET id = -id WHERE id % 5 = 0", "DELETE FROM t WHERE id % 7 = 0")
	s.check(t, "t")
	db.Exec(t, "INSERT INTO t VALUES (5000, NULL)")
	s.check(t, "t")
}

func TestRunSpreadsLargeTransactions(t *testing.T) {
	db := testenv.NewDatabase(t)
	db.Exec(t, "CREATE TABLE t (id int PRIMARY KEY, v text)")
	s := newSyncer(t, db, "t")
	s.MaxMessagesToRead = 100
	s.run(t)
	db.Exec(t, "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i; UPDATE t SET v = id::text")
	s.check(t, "t")
	if s.store.batches < 100 {
		t.Errorf("%d batches, want one per 100 messages or more", s.store.batches)
	}
}

func TestRefresh(t *testing.T) {
	db := testenv.NewDatabase(t)
	db.Exec(t, "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) i")
	s := newSyncer(t, db, "t")
	if s.Refresh("SELECT * FROM t") {
		t.Error("Refresh of a Syncer that does not run returned true")
	}
	s.run(t)
	if s.Refresh("SELECT * FROM nothing") {
		t.Error("Refresh of a table that does not exist returned true")
	}
	if !s.Refresh("SELECT * FROM t WHERE id <= 600") {
		t.Fatal(s.Err())
	}
	for s.store.len() == 0 {
		select {
		case <-s.store.changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("no row came by the window: %v", s.Err())
		}
	}
	db.Exec(t, "UPDATE t SET v = v WHERE id > 600")
	s.check(t, "t")
	if s.mirror.rows != 600 {
		t.Errorf("%d rows came by the window, want 600", s.mirror.rows)
	}
}

func (s *store) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.docs)
}

func TestGetMessages(t *testing.T) {
	db := testenv.NewDatabase(t)
	db.Exec(t, "CREATE TABLE t (id int PRIMARY KEY, v text)")
	s := newSyncer(t, db, "t")
	get := func(n int, consume bool) string {
		t.Helper()
		msgs, err := s.GetMessages(n, consume, nil)
		if err != nil {
			t.Fatal(err)
		}
		kinds := ""
		for _, m := range msgs {
			kinds += string(m.Data[:1])
		}
		return kinds
	}
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got messages %q, want %q", got, want)
		}
	}
	want(get(10, false), "")
	db.Exec(t, "INSERT INTO t VALUES (1), (2)")
	want(get(100, false), "BRIIC")
	want(get(3, false), "BRI")
	want(get(100, false), "BRIIC")
	before := s.Position()
	if err := s.Forward(3); err != nil {
		t.Fatal(err)
	}
	want(get(100, false), "IC")
	if s.Position() != before {
		t.Error("the position moved inside a transaction")
	}
	want(get(100, true), "IC")
	if s.Position() <= before {
		t.Error("the position did not move at the end of the transaction")
	}
	want(get(100, false), "")
	if err := s.Forward(1); err == nil {
		t.Error("Forward beyond what was read gave no error")
	}
	db.Exec(t, "DELETE FROM t")
	want(get(100, true), "BDDC")

	// A new process starts where the last one ended.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "INSERT INTO t VALUES (3)")
	s.open(t)
	want(get(100, false), "BRIC")
}
