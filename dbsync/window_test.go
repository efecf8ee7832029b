package dbsync_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
)

// hotKeys changes rows in every way, at every point of a window's life. The rows of a
// point are base to base+9.
func hotKeys(base int) string {
	return strings.NewReplacer("$0", fmt.Sprint(base), "$1", fmt.Sprint(base+1), "$2", fmt.Sprint(base+2), "$3", fmt.Sprint(base+3),
		"$4", fmt.Sprint(base+4), "$5", fmt.Sprint(base+5), "$6", fmt.Sprint(base+6), "$N", fmt.Sprint(base+1000)).Replace(`
		BEGIN; UPDATE t SET v = 'updated' WHERE id = $0; COMMIT;
		BEGIN; DELETE FROM t WHERE id = $1; COMMIT;
		BEGIN; DELETE FROM t WHERE id = $2; INSERT INTO t VALUES ($2, 'in again'); COMMIT;
		BEGIN; DELETE FROM t WHERE id = $3; COMMIT; BEGIN; INSERT INTO t VALUES ($3, 'in again later'); COMMIT;
		BEGIN; UPDATE t SET id = $N, v = 'moved' WHERE id = $4; COMMIT;
		BEGIN; DELETE FROM t WHERE id = $5; UPDATE t SET id = $5, v = 'moved in' WHERE id = $6; COMMIT;`)
}

// The store here keeps no versions: what a window hands on late would stay.
func TestWindowAgainstHotKeys(t *testing.T) {
	for _, way := range []string{"rows", "selection"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := newSyncer(t, newDatabase(t, table(59)), "t")
			s.store.blind = true
			if way == "selection" {
				s.MessageHandler = s.mirror
			}
			// A transaction that was open before the Syncer listened holds the snapshot back.
			old := newSession(t, s.db)
			old.exec("BEGIN", "SELECT pg_current_xact_id()")
			s.run(t)
			change := newSession(t, s.db)

			change.exec(hotKeys(10))
			g := shutGate(t, s.db, 1)
			window := s.window(t, s.selectT(t, g.query()))
			s.awaitLow(t, "")
			change.exec(hotKeys(20)) // before the snapshot
			old.exec("ROLLBACK")
			g.arrived()
			change.exec(hotKeys(30)) // before the rows are read
			l := s.lockHigh(t)
			g.open()
			l.arrived()
			change.exec(hotKeys(40)) // before the high watermark
			l.release()
			w := handed(t, window)
			change.exec(hotKeys(50))
			s.awaitStored(t, w)

			s.check(t, "t")
			// Of each seven rows touched the snapshot of the second point has five, in their new
			// form; the points after it have all of them, in the old form.
			if w.Dropped() != 5+7+7 {
				t.Errorf("%d rows were dropped of %d, want 19", w.Dropped(), w.Len())
			}
		})
	}
}

// What a window cannot tell row by row makes it read again.
func TestWindowIsReadAgain(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(100)), "t")
	s.store.blind = true
	s.MaxMessagesToRead = 500
	s.SetTrackerLimit(1000)
	s.run(t)
	s.db.Exec(t, "UPDATE t SET v = v WHERE id = 1") // the stream has described the table
	s.settle(t)
	token, key := "", 0
	again := func(t *testing.T, want bool, statements string) *dbsync.Window {
		t.Helper()
		key++
		g := shutGate(t, s.db, key)
		window := s.window(t, s.selectT(t, g.query()))
		token = s.awaitLow(t, token)
		g.arrived()
		l := s.lockHigh(t)
		g.open()
		l.arrived()
		s.db.Exec(t, statements)
		// The second reading, if there is one, stops at the gate.
		g.exec(fmt.Sprintf("SELECT pg_advisory_lock(%d)", g.key))
		l.release()
		if want {
			g.arrived()
			token = s.token(t)
		}
		g.open()
		w := s.stored(t, window)
		s.settle(t)
		if s.token(t)[:4] == "low:" {
			t.Error("the window is not closed")
		}
		return w
	}
	t.Run("update", func(t *testing.T) {
		again(t, false, "UPDATE t SET v = 'a' WHERE id = 2")
		s.check(t, "t")
	})
	t.Run("truncate", func(t *testing.T) {
		if w := again(t, true, "TRUNCATE t; INSERT INTO t VALUES (7, 'lonely')"); w.Len() != 1 {
			t.Errorf("the window has %d rows", w.Len())
		}
		s.check(t, "t")
	})
	t.Run("transaction too large to be remembered", func(t *testing.T) {
		if w := again(t, true, "INSERT INTO t SELECT i, 'many' FROM generate_series(10, 1510) i; DELETE FROM t WHERE id BETWEEN 10 AND 20"); w.Len() < 1000 {
			t.Errorf("the window has %d rows", w.Len())
		}
		s.check(t, "t")
	})
	t.Run("altered table", func(t *testing.T) {
		w := again(t, true, "ALTER TABLE t ADD COLUMN more int DEFAULT 5; UPDATE t SET v = 'b' WHERE id = 7")
		if len(w.Description.Columns) != 3 {
			t.Errorf("the window has %d columns, want the new one, too", len(w.Description.Columns))
		}
	})
}

// Rows may be known by columns that are not the replica identity: then a deletion does not
// say which row it was, and the window is read again.
func TestWindowByOtherKey(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(10)+"; ALTER TABLE t ADD COLUMN other int NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE; ALTER TABLE t REPLICA IDENTITY USING INDEX t_other_key"), "t")
	s.MessageHandler, s.Batcher = &handedRows{}, nil
	s.run(t)
	s.db.Exec(t, "UPDATE t SET v = v WHERE id = 1")
	s.settle(t)
	g := shutGate(t, s.db, 1)
	window := s.window(t, s.selectT(t, g.query()))
	g.arrived()
	s.db.Exec(t, "DELETE FROM t WHERE id = 5")
	g.open()
	if w := s.stored(t, window); w.Len()-w.Dropped() != 9 {
		t.Errorf("%d rows were handed on, want 9", w.Len()-w.Dropped())
	}
}

// handedRows takes the rows of windows and does nothing with them.
type handedRows struct{ dbsync.DefaultMessageHandler }

func (handedRows) HandleRow(*dbsync.Window, *pglogrepl.TupleData) error { return nil }

// A statement that rewrites a table leaves it empty for a snapshot taken before: the
// window must not take that for the truth.
func TestWindowOfRewrittenTable(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(100)), "t")
	s.run(t)
	other := newSession(t, s.db)
	other.exec("BEGIN", "ALTER TABLE t ALTER COLUMN v TYPE varchar(100), ALTER COLUMN id TYPE bigint", "ALTER TABLE t ALTER COLUMN id TYPE int")
	window := s.window(t, s.selectT(t, "SELECT id, v FROM t ORDER BY id"))
	await(t, "the select waits for the table", func() bool {
		return query[bool](t, s.db, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass)")
	})
	other.exec("COMMIT")
	if w := s.stored(t, window); w.Len() != 100 {
		t.Errorf("the window has %d rows of 100", w.Len())
	}
	s.check(t, "t")
}

// A transaction that was writing before its table was published is not in the stream, or
// not all of it.
func TestWindowWaitsForOldTransactions(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(3)+"; CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'before'), (2, 'before')"), "t")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := newSession(t, s.db)
	old.exec("BEGIN", "UPDATE u SET v = 'old transaction' WHERE id = 1", "INSERT INTO u VALUES (3, 'old transaction')")
	s.opts = append(s.opts, dbsync.ForTables("u"))
	s.open(t)
	s.mirror.table = "u"
	s.run(t)
	window := s.window(t, s.selectOf(t, "u", "SELECT * FROM u"))
	s.awaitLow(t, "")
	s.settle(t)
	// The watermark of settle has to be the last one: the window waits.
	if len(window) > 0 || s.token(t)[:5] != "mark:" {
		t.Error("the window did not wait for the transaction")
	}
	old.exec("COMMIT")
	if w := s.stored(t, window); w.Len() != 3 {
		t.Errorf("the window has %d rows", w.Len())
	}
	s.check(t, "u")
}

// The next window is read while the rows of one are being stored, and windows on one
// table may overlap.
func TestWindowsOverlap(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(200)), "t")
	s.store.blind = true
	proceed := make(chan struct{})
	s.store.before = func(ctx context.Context, _ []dbsync.Operation) error {
		select {
		case <-proceed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.run(t)
	first := handed(t, s.window(t, s.selectT(t, "SELECT * FROM t WHERE id <= 100 ORDER BY id")))
	last, err := first.Last()
	if err != nil || len(last) != 1 || string(last[0]) != "100" {
		t.Errorf("the last row's key is %q, %v", last, err)
	}
	next := s.selectT(t, "SELECT * FROM t WHERE id > $1::int ORDER BY id")
	next.Args = last
	second := s.window(t, next)
	third := s.window(t, s.selectT(t, "SELECT * FROM t WHERE id BETWEEN 50 AND 150 ORDER BY id"))
	await(t, "the third window is read", func() bool { return s.token(t)[:5] == "high:" })
	s.db.Exec(t, "UPDATE t SET v = 'later' WHERE id % 10 = 0")
	if s.store.len() > 0 {
		t.Error("the first window is stored before the store has taken it")
	}
	close(proceed)
	s.awaitStored(t, first)
	s.stored(t, second)
	s.stored(t, third)
	s.check(t, "t")
}

// Several windows are open on one table at a time, each on a part of its key: each leaves out what the
// stream brought between its own watermarks, and nothing else, whichever ends first.
func TestWindowsOnPartsOfATable(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(200)), "t")
	s.store.blind = true
	s.run(t)
	s.db.Exec(t, "UPDATE t SET v = v WHERE id = 1") // the stream has described the table
	s.settle(t)
	// begin has a window read the rows that a condition has, and waits until it has its snapshot.
	begin := func(t *testing.T, key int, condition string) (*gate, <-chan result) {
		t.Helper()
		g := shutGate(t, s.db, key)
		window := s.window(t, s.selectT(t, strings.Replace(g.query(), "FROM gate, t", "FROM gate, t WHERE "+condition, 1)))
		g.arrived()
		return g, window
	}
	const lower, upper = "id <= 100", "id > 100"

	t.Run("changes", func(t *testing.T) {
		change := newSession(t, s.db)
		both := func(base int) { change.exec(hotKeys(base), hotKeys(base+100)) }
		first, low := begin(t, 1, lower)
		both(10)                                                                                                                    // before the second window
		change.exec("UPDATE t SET id = 300, v = 'moved up' WHERE id = 90", "UPDATE t SET id = -1, v = 'moved down' WHERE id = 190") // into the other's part
		second, high := begin(t, 2, upper)
		both(20)
		change.exec("UPDATE t SET id = 301, v = 'moved up' WHERE id = 91", "UPDATE t SET id = -2, v = 'moved down' WHERE id = 191")
		for range 3 { // all of that is visible by now, and each window needs another part of it
			s.bookkeeping(t)
		}
		second.open()
		w := s.stored(t, high)
		both(30)
		change.exec("UPDATE t SET id = 302, v = 'moved up' WHERE id = 92", "UPDATE t SET id = -3, v = 'moved down' WHERE id = 192")
		// Seven rows of its part that hotKeys changed, and one that left it: what was before is in its
		// snapshot, what comes later is newer than its rows.
		if w.Dropped() != 7+1 {
			t.Errorf("%d rows of the window that ended first were dropped of %d, want 8", w.Dropped(), w.Len())
		}
		first.open()
		if w := s.stored(t, low); w.Dropped() != 3*(7+1) {
			t.Errorf("%d rows of the window that ended last were dropped of %d, want 24", w.Dropped(), w.Len())
		}
		s.check(t, "t")
	})
	again := func(t *testing.T, statements string, check func(w *dbsync.Window)) {
		t.Helper()
		first, low := begin(t, 1, lower)
		second, high := begin(t, 2, upper)
		l := s.lockHigh(t)
		first.open()
		second.open()
		await(t, "the rows of both are read, and nobody has a lock on the table", func() bool {
			return query[int](t, s.db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
				AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO %dbsync_wmtable%'`) == 2
		})
		s.db.Exec(t, statements)
		l.release()
		check(s.stored(t, high))
		check(s.stored(t, low))
	}
	t.Run("truncate", func(t *testing.T) {
		again(t, "TRUNCATE t; INSERT INTO t VALUES (7, 'lonely'), (107, 'lonely')", func(w *dbsync.Window) {
			if w.Len() != 1 {
				t.Errorf("the window has %d rows, want the one after the TRUNCATE", w.Len())
			}
		})
		s.check(t, "t")
	})
	t.Run("altered table", func(t *testing.T) {
		again(t, "ALTER TABLE t ADD COLUMN more int DEFAULT 5; UPDATE t SET v = 'b' WHERE id = 7", func(w *dbsync.Window) {
			if len(w.Description.Columns) != 3 {
				t.Errorf("the window has %d columns, want the new one, too", len(w.Description.Columns))
			}
		})
	})
}

// A row that is larger than a window lets in ends its select, and the next ones have what they had.
func TestWindowOfLargeRow(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(3)+"; UPDATE t SET v = repeat('x', 300000) WHERE id = 2"), "t")
	s.run(t)
	sel := s.selectT(t, "SELECT * FROM t ORDER BY id")
	sel.MaxRowBytes = 100_000
	_, err := s.OpenWindow(t.Context(), sel)
	large, ok := errors.AsType[*dbsync.RowTooLargeError](err)
	if !ok || !dbsync.IsRowError(err) || large.Max != 100_000 || large.Bytes < 300_000 {
		t.Errorf("a row of 300,000 bytes where 100,000 are let in: %v", err)
	}
	sel.Query = "SELECT * FROM t WHERE id <> 2 ORDER BY id"
	s.stored(t, s.window(t, sel))
	sel.Query, sel.MaxRowBytes = "SELECT * FROM t ORDER BY id", 0 // over the same connection
	if w := s.stored(t, s.window(t, sel)); w.Len() != 3 || w.Bytes() < 300_000 {
		t.Errorf("without that bound: %d rows of %d bytes", w.Len(), w.Bytes())
	}
	s.check(t, "t")
}

func TestWindowBounds(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)+"; INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 10) i"), "t")
	s.run(t)
	sel := s.selectT(t, "SELECT * FROM t ORDER BY id")
	for _, test := range []struct{ bytes, rows int }{{0, 10}, {1, 1}, {1013, 1}, {3500, 3}, {1 << 20, 10}} {
		sel.MaxBytes = test.bytes
		w := s.stored(t, s.window(t, sel))
		if w.Len() != test.rows || w.Truncated() != (test.rows < 10) {
			t.Errorf("at most %d bytes: got %d rows, truncated %v, want %d", test.bytes, w.Len(), w.Truncated(), test.rows)
		}
	}
	if w := s.stored(t, s.window(t, s.selectT(t, "SELECT t.* FROM t, pg_sleep(0.05)"))); w.Took() < 50*time.Millisecond {
		t.Errorf("a statement that sleeps for 50 ms took %v", w.Took())
	}
	empty := s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t WHERE false")))
	if last, err := empty.Last(); empty.Len() != 0 || last != nil || err != nil {
		t.Errorf("an empty window has %d rows and ends at %q, %v", empty.Len(), last, err)
	}
}

func TestWindowRefused(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(3)), "t")
	if _, err := s.OpenWindow(t.Context(), s.selectT(t, "SELECT * FROM t")); !errors.Is(err, dbsync.ErrNotRunning) {
		t.Errorf("without Run: %v", err)
	}
	s.run(t)
	for query, reason := range map[string]string{
		"SELECT * FROM nothing":   `relation "nothing" does not exist`,
		"SELECT v FROM t":         "0 of the key's columns",
		"SELECT id, 1 / 0 FROM t": "division by zero",
		"SELEC":                   "syntax error",
	} {
		_, err := s.OpenWindow(t.Context(), s.selectT(t, query))
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got %v, want %s", query, err, reason)
		}
	}
	gone := s.selectT(t, "SELECT * FROM t")
	gone.Relation = 1
	if _, err := s.OpenWindow(t.Context(), gone); err == nil {
		t.Error("a window on a table that does not exist was opened")
	}
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
	s.check(t, "t")
}

// A window that is given up, and one whose Syncer stops, hand nothing on later.
func TestWindowGivenUp(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(3)), "t")
	done := s.start(t)
	g := shutGate(t, s.db, 1)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := s.OpenWindow(ctx, s.selectT(t, g.query()))
		gaveUp <- err
	}()
	g.arrived()
	cancel()
	if err := receive(t, "the window", gaveUp); !errors.Is(err, context.Canceled) {
		t.Errorf("a window that was given up: %v", err)
	}
	window := s.window(t, s.selectT(t, g.query()))
	g.arrived()
	s.Stop()
	if w := receive(t, "the window", window); w.err == nil {
		t.Error("the window of a Syncer that was stopped gave no error")
	}
	if err := receive(t, "Run", done); err != nil {
		t.Error(err)
	}
	if n := s.mirror.refreshed.Load(); n != 0 {
		t.Errorf("%d rows were handed on", n)
	}
}

// When a handler fails in the middle of a large transaction, what the transaction
// touched before stays known.
func TestWindowWithFailingHandler(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(300)), "t")
	s.store.blind = true
	s.MaxMessagesToRead = 50
	failed := false
	s.mirror.hook = func(event string) error {
		if strings.HasSuffix(event, " 250") && strings.HasPrefix(event, "update") && !failed {
			failed = true
			return errTransient
		}
		return nil
	}
	s.run(t)
	s.db.Exec(t, "UPDATE t SET v = v WHERE id = 1") // the stream has described the table
	s.settle(t)
	g := shutGate(t, s.db, 1)
	window := s.window(t, s.selectT(t, g.query()))
	g.arrived()
	s.db.Exec(t, "UPDATE t SET v = 'new' WHERE id IN (SELECT generate_series(1, 300))")
	g.open()
	if w := s.stored(t, window); w.Dropped() != 300 {
		t.Errorf("%d rows were dropped, want 300", w.Dropped())
	}
	if !failed {
		t.Error("the handler did not fail")
	}
	s.check(t, "t")
}

// commitFails counts the rows that it is handed, and fails at the first commit behind some.
type commitFails struct {
	dbsync.DefaultMessageHandler
	rows   int
	failed bool
}

func (c *commitFails) HandleRow(*dbsync.Window, *pglogrepl.TupleData) error { c.rows++; return nil }

func (c *commitFails) HandleCommitMessage(int, *pglogrepl.CommitMessage) error {
	if c.rows == 0 || c.failed {
		return nil
	}
	c.rows, c.failed = 0, true // what it has marked is gone
	return errTransient
}

// A handler that has all rows of a window may fail after them. They are not kept for that: the
// window is read again.
func TestWindowBeforeAFailure(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(100)), "t")
	h := new(commitFails)
	s.MessageHandler, s.Batcher = h, nil
	done := s.start(t)
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t ORDER BY id")))
	s.Stop()
	if err := receive(t, "Run", done); err != nil {
		t.Fatal(err)
	}
	if !h.failed || h.rows != 100 {
		t.Errorf("failed %t, and then %d rows were handed on, want 100", h.failed, h.rows)
	}
}

// The connection breaks between the watermarks: what came between them comes again.
func TestWindowOverBrokenConnection(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(100)), "t")
	s.store.blind = true
	s.run(t)
	s.db.Exec(t, "UPDATE t SET v = v WHERE id = 1") // the stream has described the table
	s.settle(t)
	g := shutGate(t, s.db, 1)
	window := s.window(t, s.selectT(t, g.query()))
	g.arrived()
	s.db.Exec(t, "UPDATE t SET v = 'new' WHERE id <= 50")
	s.settle(t)
	s.terminate(t)
	s.settle(t) // it is connected again
	s.db.Exec(t, "UPDATE t SET v = 'newer' WHERE id BETWEEN 40 AND 60")
	g.open()
	if w := s.stored(t, window); w.Dropped() != 60 {
		t.Errorf("%d rows were dropped, want 60", w.Dropped())
	}
	s.check(t, "t")
}

// heirs takes the rows of windows on one table, and says that those of table c are rows of it.
type heirs struct {
	handedRows
	syncer *dbsync.Syncer
	parent uint32
}

func (h *heirs) HandleRelationMessage(_ int, msg *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	if msg.RelationName == "c" {
		h.syncer.Inherit(msg.RelationID, h.parent)
	}
	return nil
}

// A window on a table that is read with the rows of one that inherits from it leaves out what the
// stream brings of those.
func TestWindowOfInheritance(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(10)+"; CREATE TABLE c (more int, v text, id int PRIMARY KEY); ALTER TABLE c INHERIT t; INSERT INTO c SELECT i, 'c', 100 + i FROM generate_series(1, 10) i"), "t", "c")
	s.MessageHandler, s.Batcher = &heirs{syncer: s.Syncer, parent: query[uint32](t, s.db, "SELECT 't'::regclass::oid")}, nil
	s.run(t)
	for _, described := range []bool{false, true} {
		g := shutGate(t, s.db, 1)
		window := s.window(t, s.selectT(t, g.query()))
		g.arrived()
		s.db.Exec(t, "UPDATE t SET v = v WHERE id = 3", "UPDATE c SET v = 'new' WHERE id = 103", "UPDATE c SET id = id + 100 WHERE id = 104", "DELETE FROM c WHERE id = 105", "INSERT INTO c VALUES (1, 'x', 104), (1, 'x', 105)", "DELETE FROM c WHERE id > 200")
		g.open()
		w := s.stored(t, window)
		if described && (w.Len() != 20 || w.Dropped() != 4) {
			t.Errorf("%d rows of %d were left out, want 4 of 20", w.Dropped(), w.Len())
		}
		if !described && w.Len()-w.Dropped() != 20 { // the first description has it read again
			t.Errorf("%d rows of %d were left out, want none of 20", w.Dropped(), w.Len())
		}
	}
}

// What a window's select fails at is its caller's concern, at once: fewer rows may have no fault.
func TestWindowReturnsErrorsAtRows(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(3)+`;
		CREATE FUNCTION picky(i int, state text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
			IF i = 2 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = state; END IF; RETURN i; END $$`), "t")
	s.run(t)
	for state, want := range map[string]bool{"P0001": true, "54000": true, "53200": true, "XX001": true, "57014": true, "22012": true, "MY001": true, "42P01": false} {
		_, err := s.OpenWindow(t.Context(), s.selectT(t, "SELECT picky(id, '"+state+"') AS n, id, v FROM t ORDER BY id"))
		at, is := errors.AsType[*dbsync.RowError](err)
		if is != want || err == nil || !strings.Contains(err.Error(), "not this one") || dbsync.IsRowError(err) != want {
			t.Errorf("%s: %v, a RowError %t", state, err, is)
		}
		if pg := (*pgconn.PgError)(nil); is && (!errors.As(at, &pg) || pg.Code != state) {
			t.Errorf("%s: %v does not tell it", state, at)
		}
	}
	if got := s.Status().Troubles; len(got) > 0 {
		t.Errorf("troubles %+v", got)
	}
	handed(t, s.window(t, s.selectT(t, "SELECT id, v FROM t")))
	s.check(t, "t")
}
