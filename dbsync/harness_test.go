package dbsync_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/testenv"
)

func TestMain(m *testing.M) {
	// The tests wait for servers and for time to pass: more of them fit than there are
	// processors.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel != nil && parallel.Value.String() == parallel.DefValue {
		_ = parallel.Value.Set("8")
	}
	testenv.Main(m)
}

// patience bounds every wait of a test. It is far longer than anything takes.
const patience = 30 * time.Second

// newDatabase creates a database on the shared server, with the tables made by setup.
func newDatabase(t *testing.T, setup string) *testenv.Database {
	t.Helper()
	db := testenv.NewDatabase(t)
	db.Exec(t, setup)
	return db
}

// table makes table t with rows 1 to n.
func table(n int) string {
	return fmt.Sprintf("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, %d) i", n)
}

// await asks until cond holds: for what the server alone knows.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// receive waits for a value.
func receive[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
	}
	return v
}

// query reads one value.
func query[T any](t *testing.T, db *testenv.Database, sql string, args ...any) (v T) {
	t.Helper()
	if err := db.DB.QueryRowContext(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func lsn(t *testing.T, text string) pglogrepl.LSN {
	t.Helper()
	lsn, err := pglogrepl.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// logEnd is where the server's log ends.
func logEnd(t *testing.T, db *testenv.Database) pglogrepl.LSN {
	t.Helper()
	return lsn(t, query[string](t, db, "SELECT pg_current_wal_insert_lsn()::text"))
}

// A session is a connection of its own.
type session struct {
	t    *testing.T
	conn *pgx.Conn
}

func newSession(t *testing.T, db *testenv.Database) *session {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return &session{t, conn}
}

func (s *session) exec(statements ...string) {
	s.t.Helper()
	for _, sql := range statements {
		if _, err := s.conn.PgConn().Exec(s.t.Context(), sql).ReadAll(); err != nil {
			s.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// store is an index in memory, with the versions of a search server: an operation that
// is older than what is there changes nothing, also when what is there is a deletion.
type store struct {
	blind  bool                                                    // keeps no versions: the last write stays
	before func(ctx context.Context, ops []dbsync.Operation) error // may refuse a batch

	mu      sync.Mutex
	docs    map[string]dbsync.Operation // deletions too
	batches int
	changed chan struct{}
}

func newStore() *store {
	return &store{docs: make(map[string]dbsync.Operation), changed: make(chan struct{}, 1)}
}

func (s *store) BatchUpsert(string, []dbsync.StringMap) (any, error) { panic("not the fast path") }
func (s *store) BatchDelete(string, []string) (any, error)           { panic("not the fast path") }

func (s *store) BatchOperations(ctx context.Context, batch *dbsync.Batch) error {
	ops := batch.Operations()
	if s.before != nil {
		if err := s.before(ctx, ops); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	for _, op := range ops {
		if op.Kind == dbsync.Truncate {
			maps.DeleteFunc(s.docs, func(_ string, doc dbsync.Operation) bool {
				return doc.Index == op.Index && (s.blind || doc.Version <= op.Version)
			})
			continue
		}
		key := op.Index + "/" + op.ID
		if s.blind || op.Version >= s.docs[key].Version {
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
		if op.Index == table && op.Kind != dbsync.Delete {
			out[op.ID] = fmt.Sprint(op.Doc)
		}
	}
	return out
}

// value returns v of a document of table t.
func (s *store) value(id string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.docs["t/"+id].Doc["v"]
}

func (s *store) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.docs)
}

// mirror is a handler that makes a document of every row. It is no RowHandler.
type mirror struct {
	dbsync.DefaultMessageHandler
	syncer *dbsync.Syncer
	table  string // of rows that come by windows
	hook   func(event string) error

	refreshed atomic.Int64 // rows that came by windows
}

func (m *mirror) event(format string, args ...any) error {
	if m.hook == nil {
		return nil
	}
	return m.hook(fmt.Sprintf(format, args...))
}

func (m *mirror) HandleBeginMessage(idx int, msg *pglogrepl.BeginMessage) error {
	return m.event("begin %d", idx)
}

func (m *mirror) HandleCommitMessage(idx int, msg *pglogrepl.CommitMessage) error {
	return m.event("commit %d", idx)
}

func (m *mirror) HandleInsertMessage(idx int, msg *pglogrepl.InsertMessage, r *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	id, doc, _ := m.syncer.MessageToMap(msg.Tuple, r)
	m.syncer.MarkUpdated(r.RelationName, id, doc)
	return m.event("insert %d %s", idx, id)
}

func (m *mirror) HandleUpdateMessage(idx int, msg *pglogrepl.UpdateMessage, r *pglogrepl.RelationMessage, info *dbsync.PGTableInfo) error {
	id, doc, _ := m.syncer.MessageToMap(msg.NewTuple, r)
	if msg.OldTuple != nil {
		if old := info.GetRecordID(msg.OldTuple, r); old != id {
			m.syncer.MarkDeleted(r.RelationName, old)
		}
	}
	m.syncer.MarkUpdated(r.RelationName, id, doc)
	return m.event("update %d %s", idx, id)
}

func (m *mirror) HandleDeleteMessage(idx int, msg *pglogrepl.DeleteMessage, r *pglogrepl.RelationMessage, info *dbsync.PGTableInfo) error {
	id := info.GetRecordID(msg.OldTuple, r)
	m.syncer.MarkDeleted(r.RelationName, id)
	return m.event("delete %d %s", idx, id)
}

func (m *mirror) HandleTruncateMessage(idx int, _ *pglogrepl.TruncateMessage, tables []*pglogrepl.RelationMessage) error {
	for _, r := range tables {
		m.syncer.MarkTruncated(r.RelationName)
	}
	return m.event("truncate %d", idx)
}

func (m *mirror) HandleRefresh(key, value any) error {
	m.refreshed.Add(1)
	m.syncer.MarkUpdated(m.table, key.(string), value.(dbsync.StringMap))
	return m.event("refresh %v", key)
}

// rowMirror takes the rows of windows one by one.
type rowMirror struct{ *mirror }

func (m rowMirror) HandleRow(w *dbsync.Window, row *pglogrepl.TupleData) error {
	m.refreshed.Add(1)
	doc := make(dbsync.StringMap)
	id := ""
	for i, c := range w.Description.Columns {
		column := &dbsync.PGColumnInfo{ColumnName: c.Name, ColumnType: "text"}
		if c.Name == "id" {
			column.ColumnType, id = "integer", string(row.Columns[i].Data)
		}
		value, err := column.DecodeText(row.Columns[i].Data)
		if err != nil {
			return err
		}
		doc[c.Name] = value
	}
	m.syncer.MarkUpdated(m.table, id, doc)
	return m.event("row %s", id)
}

// syncer is one Syncer under test on a database of its own.
type syncer struct {
	*dbsync.Syncer
	db     *testenv.Database
	slot   string
	store  *store
	mirror *mirror
	opts   []dbsync.SyncerOpt
}

func newSyncer(t *testing.T, db *testenv.Database, tables ...string) *syncer {
	t.Helper()
	s := &syncer{db: db, store: newStore(), slot: db.Unique("slot")}
	s.opts = append(options(t, db, tables...), dbsync.WithReplicationSlot(s.slot))
	s.open(t)
	return s
}

// options are those of every Syncer under test, but for the slot's name.
func options(t *testing.T, db *testenv.Database, tables ...string) []dbsync.SyncerOpt {
	return []dbsync.SyncerOpt{dbsync.WithPGConnStr(db.URL), dbsync.WithReplicationSlot(db.Unique("slot")), dbsync.ForTables(tables...),
		dbsync.WithLogger(slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))}
}

// open makes the Syncer, as a new process would.
func (s *syncer) open(t *testing.T, more ...dbsync.SyncerOpt) {
	t.Helper()
	if err := s.tryOpen(t, more...); err != nil {
		t.Fatal(err)
	}
}

func (s *syncer) tryOpen(t *testing.T, more ...dbsync.SyncerOpt) error {
	t.Helper()
	made, err := dbsync.NewSyncerContext(t.Context(), append(s.opts[:len(s.opts):len(s.opts)], more...)...)
	if err != nil {
		return err
	}
	s.Syncer = made
	s.mirror = &mirror{syncer: made, table: "t"}
	s.MessageHandler, s.Batcher = rowMirror{s.mirror}, s.store
	t.Cleanup(func() { made.Close() })
	return nil
}

// start runs the Syncer and returns when it runs. What Run returns comes by the channel.
func (s *syncer) start(t *testing.T) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	ended := make(chan struct{})
	running := s.Syncer
	go func() {
		defer close(ended)
		done <- running.Run(t.Context())
	}()
	t.Cleanup(func() {
		running.Stop()
		<-ended
	})
	await(t, "Run has begun", func() bool { return running.IsRunning() || len(done) > 0 })
	return done
}

// run runs the Syncer until the test ends, which is how Run has to end, too.
func (s *syncer) run(t *testing.T) {
	t.Helper()
	done := s.start(t)
	running := s.Syncer
	t.Cleanup(func() {
		running.Stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// settle waits until everything committed is stored.
func (s *syncer) settle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
}

// check waits until everything committed is stored and compares the store with the table.
func (s *syncer) check(t *testing.T, table string) {
	t.Helper()
	s.settle(t)
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
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	got := s.store.rows(table)
	if maps.Equal(got, want) {
		return
	}
	t.Errorf("store of %s has %d documents, the table %d rows", table, len(got), len(want))
	shown := 0
	for id := range union(got, want) {
		if got[id] != want[id] {
			if shown++; shown > 20 {
				t.Error("…")
				break
			}
			t.Errorf("row %s: document %q, want %q", id, got[id], want[id])
		}
	}
}

func union(a, b map[string]string) map[string]string {
	both := maps.Clone(a)
	maps.Copy(both, b)
	return both
}

// confirmed is where the slot stands.
func (s *syncer) confirmed(t *testing.T) pglogrepl.LSN {
	t.Helper()
	return lsn(t, query[string](t, s.db, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", s.slot))
}

// inactive waits until the server has noticed that nobody uses the slot.
func (s *syncer) inactive(t *testing.T) {
	t.Helper()
	await(t, "the slot is free", func() bool {
		return !query[bool](t, s.db, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", s.slot)
	})
}

// terminate ends the server's process that serves the slot.
func (s *syncer) terminate(t *testing.T) {
	t.Helper()
	await(t, "the slot is in use", func() bool {
		return query[int](t, s.db, "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE slot_name = $1 AND active", s.slot) > 0
	})
}

// selectT is a window on table t.
func (s *syncer) selectT(t *testing.T, query string) dbsync.Select {
	t.Helper()
	return s.selectOf(t, "t", query)
}

func (s *syncer) selectOf(t *testing.T, table, sql string) dbsync.Select {
	t.Helper()
	return dbsync.Select{Relation: query[uint32](t, s.db, "SELECT $1::regclass::oid", table), Key: []string{"id"}, Query: sql}
}

// A result is what OpenWindow returned.
type result struct {
	*dbsync.Window
	err error
}

// window opens a window in the background.
func (s *syncer) window(t *testing.T, sel dbsync.Select) <-chan result {
	done := make(chan result, 1)
	running := s.Syncer
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w, err := running.OpenWindow(t.Context(), sel)
		done <- result{w, err}
	}()
	t.Cleanup(func() { <-ended })
	return done
}

// handed waits until a window's rows are handed on.
func handed(t *testing.T, c <-chan result) *dbsync.Window {
	t.Helper()
	w := receive(t, "the window", c)
	if w.err != nil {
		t.Fatal(w.err)
	}
	return w.Window
}

// stored waits until a window's rows are stored.
func (s *syncer) stored(t *testing.T, c <-chan result) *dbsync.Window {
	t.Helper()
	w := handed(t, c)
	s.awaitStored(t, w)
	return w
}

func (s *syncer) awaitStored(t *testing.T, w *dbsync.Window) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.AwaitStored(ctx, w); err != nil {
		t.Fatal(err)
	}
}

// awaitLow waits until a window has written a low watermark other than before.
func (s *syncer) awaitLow(t *testing.T, before string) (token string) {
	t.Helper()
	await(t, "a low watermark", func() bool {
		token = s.token(t)
		return len(token) > 4 && token[:4] == "low:" && token != before
	})
	return token
}

// token is the watermark written last.
func (s *syncer) token(t *testing.T) string {
	t.Helper()
	return query[string](t, s.db, "SELECT coalesce(max(token), '') FROM dbsync_ctrl.dbsync_wmtable WHERE slot = $1", s.slot)
}

// A gate holds selects back when their snapshot is taken and before they have read a row.
type gate struct {
	*session
	db  *testenv.Database
	key int
}

func shutGate(t *testing.T, db *testenv.Database, key int) *gate {
	t.Helper()
	g := &gate{newSession(t, db), db, key}
	g.exec(fmt.Sprintf("SELECT pg_advisory_lock(%d)", key))
	return g
}

// query is a select of all of t that waits at the gate.
func (g *gate) query() string {
	return fmt.Sprintf("WITH gate AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(%d)) SELECT t.* FROM gate, t ORDER BY id", g.key)
}

// arrived waits until a select waits at the gate.
func (g *gate) arrived() {
	g.t.Helper()
	await(g.t, "a select at the gate", func() bool {
		return query[bool](g.t, g.db, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = $1
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`, g.key)
	})
}

func (g *gate) open() {
	g.t.Helper()
	g.exec(fmt.Sprintf("SELECT pg_advisory_unlock(%d)", g.key))
}

// A highLock holds the high watermark of a window back, so that things can happen when
// its rows are read and before it.
type highLock struct {
	*session
	db *testenv.Database
}

// lockHigh is called when the low watermark is written.
func (s *syncer) lockHigh(t *testing.T) *highLock {
	t.Helper()
	l := &highLock{newSession(t, s.db), s.db}
	l.exec("BEGIN", "SELECT FROM dbsync_ctrl.dbsync_wmtable WHERE slot = '"+s.slot+"' FOR UPDATE")
	return l
}

// arrived waits until the rows are read.
func (l *highLock) arrived() {
	l.t.Helper()
	await(l.t, "the rows are read", func() bool {
		return query[bool](l.t, l.db, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
			AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO %dbsync_wmtable%')`)
	})
}

func (l *highLock) release() {
	l.t.Helper()
	l.exec("ROLLBACK")
}

// A hanging transaction has committed, and waits for a standby that does not answer: it
// is in the log, and no snapshot shows it.
type hanging struct {
	t    *testing.T
	db   *testenv.Database
	pid  uint32
	done chan error
}

// startWithoutStandby starts a server that waits for a standby that does not exist, where
// a session asks for it.
func startWithoutStandby(t *testing.T) *testenv.Postgres {
	t.Helper()
	return testenv.StartPostgres(t, testenv.PostgresOptions{Settings: map[string]string{
		"synchronous_standby_names": "nobody", "synchronous_commit": "local"}})
}

func hang(t *testing.T, db *testenv.Database, sql string) *hanging {
	t.Helper()
	s := newSession(t, db)
	s.exec("SET synchronous_commit = on")
	h := &hanging{t, db, s.conn.PgConn().PID(), make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := s.conn.PgConn().Exec(t.Context(), sql).ReadAll()
		h.done <- err
	}()
	t.Cleanup(func() {
		if _, err := db.DB.Exec("SELECT pg_cancel_backend($1)", h.pid); err != nil {
			t.Error(err)
		}
		<-ended
	})
	await(t, "the commit hangs", func() bool {
		if len(h.done) > 0 {
			t.Fatalf("%s did not hang: %v", sql, <-h.done)
		}
		return query[int](t, db, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'", h.pid) == 1
	})
	return h
}

// release ends the waiting: from now on snapshots show the transaction.
func (h *hanging) release() {
	h.t.Helper()
	if !query[bool](h.t, h.db, "SELECT pg_cancel_backend($1)", h.pid) {
		h.t.Fatal("the hanging session could not be woken")
	}
	if err := receive(h.t, "the hanging session", h.done); err != nil {
		h.t.Fatal(err)
	}
}

// errTransient is an error that repeating cures.
var errTransient = errors.New("not now")
