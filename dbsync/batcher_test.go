package dbsync_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
)

// mapBatcher is a Batcher as users of the first implementation have it. It writes down
// what it is asked for.
type mapBatcher struct {
	mu    sync.Mutex
	calls []string
	fail  int // so many calls fail
}

func (b *mapBatcher) call(format string, args ...any) (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail > 0 {
		b.fail--
		return nil, errTransient
	}
	b.calls = append(b.calls, fmt.Sprintf(format, args...))
	return nil, nil
}

func (b *mapBatcher) BatchUpsert(doctype string, docs []dbsync.StringMap) (any, error) {
	return b.call("upsert %s %v", doctype, docs)
}

func (b *mapBatcher) BatchDelete(doctype string, ids []string) (any, error) {
	return b.call("delete %s %v", doctype, ids)
}

// commitMarks marks documents when a transaction with rows of t commits.
type commitMarks struct {
	dbsync.DefaultMessageHandler
	mark func()
	rows int
}

func (h *commitMarks) HandleInsertMessage(int, *pglogrepl.InsertMessage, *pglogrepl.RelationMessage, *dbsync.PGTableInfo) error {
	h.rows++
	return nil
}

func (h *commitMarks) HandleCommitMessage(int, *pglogrepl.CommitMessage) error {
	if h.rows > 0 {
		h.mark()
		h.rows = 0
	}
	return nil
}

// The last mark of a document wins; each doctype gets one call of each kind, documents in
// the order of their first mark; after an error the whole batch comes again.
func TestBatcher(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	b := &mapBatcher{fail: 1}
	doc := func(v int) dbsync.StringMap { return dbsync.StringMap{"v": v} }
	s.Batcher, s.MessageHandler = b, &commitMarks{mark: func() {
		s.MarkUpdated("b", "1", doc(1))
		s.MarkUpdated("a", "1", doc(1))
		s.MarkUpdated("a", "2", doc(1))
		s.MarkDeleted("a", "1") // after the update
		s.MarkDeleted("a", "3")
		s.MarkUpdated("a", "3", doc(2)) // after the deletion
		s.MarkUpdated("a", "2", doc(3)) // in place of the first
		s.MarkDeleted("c", "1")
		s.MarkDeleted("c", "1")
	}}
	s.run(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1)")
	s.settle(t)
	want := []string{
		"upsert b [map[v:1]]",
		"upsert a [map[v:3] map[v:2]]", "delete a [1]",
		"delete c [1]",
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := strings.Join(b.calls, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// Without a Batcher the handler has stored what it got.
func TestWithoutBatcher(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.Batcher = nil
	s.run(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1)")
	end := logEnd(t, s.db)
	s.settle(t)
	await(t, "the slot moves", func() bool { return s.confirmed(t) >= end })
}

type origin string

func (o origin) String() string { return string(o) }

// Operations carry the commit's position and transaction; those that bring their own
// version keep it. A routing makes another document of the same ID.
func TestOperations(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	batches := make(chan []dbsync.Operation, 10)
	s.store.before = func(_ context.Context, ops []dbsync.Operation) error {
		batches <- append([]dbsync.Operation(nil), ops...)
		return nil
	}
	body := []byte(`{"v":1}`)
	s.MessageHandler = &commitMarks{mark: func() {
		s.MarkOperation(dbsync.Operation{Index: "gone", ID: "1"})
		s.MarkOperation(dbsync.Operation{Index: "i", ID: "1", Body: body})
		s.MarkOperation(dbsync.Operation{Kind: dbsync.Delete, Index: "i", ID: "1", Routing: "r"})
		s.MarkOperation(dbsync.Operation{Index: "i", ID: "2", Version: 5, Origin: origin("mine")})
		s.MarkTruncated("gone")
		s.MarkOperation(dbsync.Operation{Index: "gone", ID: "2"})
		clear(body) // the batch has a copy
	}}
	s.run(t)
	tx := newSession(t, s.db)
	tx.exec("BEGIN", "INSERT INTO t VALUES (1)")
	xid := query[uint32](t, s.db, "SELECT backend_xid::text::int8 FROM pg_stat_activity WHERE pid = $1", tx.conn.PgConn().PID())
	before := logEnd(t, s.db)
	tx.exec("COMMIT")
	after := logEnd(t, s.db)
	ops := receive(t, "a batch", batches)
	if len(ops) != 6 {
		t.Fatalf("the batch is %+v", ops)
	}
	for i, want := range []dbsync.Operation{
		{Index: "i", ID: "1"}, {Kind: dbsync.Delete, Index: "i", ID: "1", Routing: "r"}, {Index: "i", ID: "2", Origin: origin("mine")}, {Kind: dbsync.Truncate, Index: "gone"}, {Kind: dbsync.Delete, Index: "gone", ID: "1"}, {Index: "gone", ID: "2"},
	} {
		op := ops[i]
		if op.ID == "2" && op.Index == "i" {
			if op.Version != 5 || op.Xid != 0 {
				t.Errorf("operation %d has version %s of transaction %d, want its own", i, op.Version, op.Xid)
			}
		} else if op.Version < before || op.Version >= after || op.Xid != xid {
			t.Errorf("operation %d has version %s of transaction %d, want one from %s to %s of %d", i, op.Version, op.Xid, before, after, xid)
		}
		if i == 0 && string(op.Body) != `{"v":1}` {
			t.Errorf("the body is %q", op.Body)
		}
		op.Version, op.Xid, op.Body = 0, 0, nil
		if fmt.Sprint(op) != fmt.Sprint(want) {
			t.Errorf("operation %d is %+v, want %+v", i, op, want)
		}
	}
}

// A TRUNCATE cannot be done with maps: Run says so, instead of losing it.
func TestTruncateNeedsOperationBatcher(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(1)), "t")
	s.Batcher = new(mapBatcher)
	done := s.start(t)
	s.db.Exec(t, "TRUNCATE t")
	if err := receive(t, "Run ends", done); err == nil || !strings.Contains(err.Error(), "truncate") {
		t.Errorf("Run returned %v", err)
	}
}

func TestOperationsOnly(t *testing.T) {
	s := newStore()
	b := dbsync.OperationsOnly(s)
	if _, ok := b.(dbsync.OperationBatcher); !ok {
		t.Fatal("it is no OperationBatcher")
	}
	if _, err := b.BatchUpsert("t", []dbsync.StringMap{{"v": 1}}); err != nil {
		t.Error(err)
	}
	if _, err := b.BatchDelete("t", []string{"7"}); err != nil {
		t.Error(err)
	}
	if op := s.docs["t/7"]; op.Kind != dbsync.Delete {
		t.Errorf("got %+v", s.docs)
	}
}
