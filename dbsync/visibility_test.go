package dbsync_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
)

// A commit is in the log, and streamed, before snapshots show it; with a standby that
// does not answer, for as long as that lasts. What was streamed must not be overwritten
// by the older row that a select still sees.
func TestCommitOrderIsNotVisibilityOrder(t *testing.T) {
	t.Parallel()
	server := startWithoutStandby(t)
	begin := func(t *testing.T) *syncer {
		t.Helper()
		db := server.NewDatabase(t)
		db.Exec(t, table(10))
		s := newSyncer(t, db, "t")
		s.run(t)
		s.settle(t) // it is connected: what begins now is not held back by the barrier
		return s
	}
	// hangStreamed has row 5 updated by a commit that hangs, and waits until the stream
	// has brought it.
	hangStreamed := func(t *testing.T, s *syncer) *hanging {
		t.Helper()
		h := hang(t, s.db, "UPDATE t SET v = 'new' WHERE id = 5; DELETE FROM t WHERE id = 6; UPDATE t SET id = 70 WHERE id = 7")
		await(t, "the stream has brought the commit", func() bool { return s.store.value("5") == "new" })
		if seen := query[string](t, s.db, "SELECT v FROM t WHERE id = 5"); seen != "v5" {
			t.Fatalf("a snapshot shows %q already", seen)
		}
		return h
	}
	// One at a time: a snapshot has the transactions of all databases of the server.
	all := "SELECT * FROM t ORDER BY id"

	// A window was open when the transaction was streamed, so its keys are known to a
	// later window, which leaves those rows out.
	t.Run("keys are known", func(t *testing.T) {
		s := begin(t)
		g := shutGate(t, s.db, 1)
		earlier := s.window(t, s.selectT(t, g.query()))
		g.arrived()
		h := hangStreamed(t, s)

		w := s.stored(t, s.window(t, s.selectT(t, all)))
		if w.Len() != 10 || w.Dropped() != 3 {
			t.Errorf("%d of %d rows were dropped, want 3 of 10", w.Dropped(), w.Len())
		}
		if got := s.store.value("5"); got != "new" {
			t.Errorf("the window brought back %q", got)
		}
		g.open()
		if w := s.stored(t, earlier); w.Dropped() != 3 {
			t.Errorf("%d rows were dropped, want 3", w.Dropped())
		}
		h.release()
		s.check(t, "t")
	})

	// The same, but what the transaction did went elsewhere than the rows of the later window: to
	// leave them out would lose them.
	t.Run("keys are known, and changes went elsewhere", func(t *testing.T) {
		s := begin(t)
		g := shutGate(t, s.db, 1)
		earlier := s.window(t, s.selectT(t, g.query()))
		g.arrived()
		h := hangStreamed(t, s)

		sel := s.selectT(t, all)
		sel.Since = s.Moment()
		window := s.window(t, sel)
		readings := make(map[string]bool)
		await(t, "it is read three times", func() bool {
			_, id, _ := strings.Cut(s.token(t), ":")
			readings[id] = true
			return len(readings) > 3 || len(window) > 0 // with what was before the first
		})
		if len(window) > 0 {
			t.Error("the window did not wait for the transaction")
		}
		h.release()
		if w := s.stored(t, window); w.Len() != 9 || w.Dropped() != 0 {
			t.Errorf("%d of %d rows were dropped, want 0 of 9", w.Dropped(), w.Len())
		}
		g.open()
		s.stored(t, earlier)
		s.check(t, "t")
	})

	// The transaction becomes visible while the window still reads by its older snapshot,
	// and the slot's bookkeeping sees that: it must not be forgotten for this window.
	t.Run("visible after the snapshot", func(t *testing.T) {
		s := begin(t)
		g := shutGate(t, s.db, 2)
		earlier := s.window(t, s.selectT(t, g.query()))
		g.arrived()
		h := hangStreamed(t, s)
		later := shutGate(t, s.db, 3)
		window := s.window(t, s.selectT(t, later.query()))
		later.arrived()
		g.open()
		s.stored(t, earlier)
		h.release()
		for range 2 { // the second one has begun after the release
			s.bookkeeping(t)
		}
		later.open()
		if w := s.stored(t, window); w.Dropped() != 3 {
			t.Errorf("%d rows were dropped, want 3", w.Dropped())
		}
		s.check(t, "t")
	})

	// Nobody asked for keys when the transaction was streamed: the window is read again,
	// until its snapshot shows the transaction.
	t.Run("keys are not known", func(t *testing.T) {
		s := begin(t)
		h := hangStreamed(t, s)
		window := s.window(t, s.selectT(t, all))
		readings := make(map[string]bool)
		await(t, "it is read three times", func() bool {
			_, id, _ := strings.Cut(s.token(t), ":")
			readings[id] = true
			return len(readings) > 3 // with what was before the first
		})
		if len(window) > 0 {
			t.Error("the window did not wait for the transaction")
		}
		h.release()
		if w := s.stored(t, window); w.Len() != 9 || w.Dropped() != 0 {
			t.Errorf("%d of %d rows were dropped, want 0 of 9", w.Dropped(), w.Len())
		}
		s.check(t, "t")
	})

	// The process that saw the commit in the stream, and confirmed it, is gone.
	t.Run("another process", func(t *testing.T) {
		s := begin(t)
		h := hangStreamed(t, s)
		s.store.mu.Lock()
		commit := s.store.docs["t/5"].Version // where the commit is, and not the end of the log: notes are written behind it
		s.store.mu.Unlock()
		s.settle(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s.inactive(t)
		if at := s.confirmed(t); at <= commit {
			t.Fatalf("the slot stands at %s, the commit is at %s", at, commit)
		}
		s.open(t)
		s.run(t)
		window := s.window(t, s.selectT(t, all))
		s.awaitLow(t, "")
		select {
		case w := <-window:
			t.Errorf("the window did not wait for the transaction: %v", w.err)
		case <-time.After(300 * time.Millisecond): // it would take 20
		}
		h.release()
		if w := s.stored(t, window); w.Len() != 9 {
			t.Errorf("the window has %d rows", w.Len())
		}
		s.check(t, "t")
	})

	// The same process stops and runs again; meanwhile the commit was read as raw messages,
	// which nobody remembers.
	t.Run("messages between two runs", func(t *testing.T) {
		s := begin(t)
		s.settle(t)
		s.Stop()
		h := hang(t, s.db, "UPDATE t SET v = 'new' WHERE id = 5")
		msgs, err := s.GetMessages(1000, true, nil)
		if err != nil || len(msgs) == 0 {
			t.Fatalf("got %d messages, %v", len(msgs), err)
		}
		s.run(t)
		window := s.window(t, s.selectT(t, all))
		s.awaitLow(t, "")
		select {
		case w := <-window:
			t.Errorf("the window did not wait for the transaction: %v", w.err)
		case <-time.After(300 * time.Millisecond):
		}
		h.release()
		s.stored(t, window)
		s.check(t, "t")
	})

	// Another process had the slot for a while, and read the commit.
	t.Run("slot was lent", func(t *testing.T) {
		s := begin(t)
		s.settle(t)
		s.bookkeeping(t)
		proxy := server.NewProxy(t)
		lender := &syncer{db: s.db, slot: s.slot, store: s.store, opts: append(s.opts[:len(s.opts):len(s.opts)], dbsync.WithPGConnStr(proxy.URL(s.db.URL)))}
		s.Stop()
		lender.open(t)
		lender.run(t)
		lender.settle(t)
		g := shutGate(t, s.db, 4)
		pending := lender.window(t, lender.selectT(t, g.query()))
		g.arrived()
		proxy.CutOff()
		s.open(t)
		s.run(t)
		h := hangStreamed(t, s)
		s.store.mu.Lock()
		commit := s.store.docs["t/5"].Version // where the commit is, and not the end of the log: notes are written behind it
		s.store.mu.Unlock()
		s.settle(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s.inactive(t)
		if at := s.confirmed(t); at <= commit {
			t.Fatalf("the slot stands at %s, the commit is at %s", at, commit)
		}
		g.open()
		proxy.Restore()
		await(t, "it has the slot again", func() bool { return lender.Status().Connected })
		before := s.token(t)
		window := lender.window(t, lender.selectT(t, all))
		lender.awaitLow(t, before)
		select {
		case w := <-window:
			t.Errorf("the window did not wait for the transaction: %v", w.err)
		case w := <-pending:
			t.Errorf("the window did not wait for the transaction: %v", w.err)
		case <-time.After(300 * time.Millisecond):
		}
		h.release()
		lender.stored(t, window)
		lender.stored(t, pending)
		lender.check(t, "t")
	})

	// The catalog, too, shows what a transaction did later than the stream has it.
	t.Run("altered table", func(t *testing.T) {
		s := begin(t)
		s.db.Exec(t, "UPDATE t SET v = 'old' WHERE id = 1") // the stream has described the table
		s.settle(t)
		h := hang(t, s.db, "ALTER TABLE t ADD COLUMN n int, ALTER COLUMN v TYPE int USING 1; UPDATE t SET n = 7 WHERE id = 5")
		doc := func() dbsync.StringMap {
			s.store.mu.Lock()
			defer s.store.mu.Unlock()
			return s.store.docs["t/5"].Doc
		}
		time.Sleep(100 * time.Millisecond) // for a catalog that is read too early
		h.release()
		await(t, "the change is stored", func() bool { return doc() != nil })
		if got := doc(); got["n"] != int32(7) || got["v"] != int32(1) {
			t.Errorf("the row is %#v", got)
		}
	})

	// A read by key counts only when it shows the transaction that asks for it.
	t.Run("read by key", func(t *testing.T) {
		s := begin(t)
		h := hangStreamed(t, s)
		xid := query[uint32](t, s.db, "SELECT backend_xid::text::int8 FROM pg_stat_activity WHERE pid = $1", h.pid)
		got := make(chan string, 1)
		go func() { got <- readVisible(t, s, xid) }()
		select {
		case v := <-got:
			t.Errorf("the read did not wait for the transaction: %s", v)
		case <-time.After(300 * time.Millisecond):
		}
		h.release()
		if v := receive(t, "the read", got); v != "new" {
			t.Errorf("the read gave %q", v)
		}
	})
}

// bookkeeping waits until the position was noted once more, with a snapshot.
func (s *syncer) bookkeeping(t *testing.T) {
	t.Helper()
	at := func() string {
		return query[string](t, s.db, "SELECT confirmed_at::text FROM dbsync_ctrl.dbsync_slots WHERE slot = $1", s.slot)
	}
	before := at()
	s.settle(t)
	await(t, "the position is noted", func() bool { return at() != before })
}

// readVisible reads v of row 5 in a snapshot that shows the transaction.
func readVisible(t *testing.T, s *syncer, xid uint32) (v string) {
	err := s.ReadVisible(t.Context(), []uint32{xid}, []string{"t"}, func(conn *pgconn.PgConn) error {
		result := conn.ExecParams(t.Context(), "SELECT v FROM t WHERE id = 5", nil, nil, nil, nil).Read()
		if result.Err == nil {
			v = string(result.Rows[0][0])
		}
		return result.Err
	})
	if err != nil {
		return err.Error()
	}
	return v
}
